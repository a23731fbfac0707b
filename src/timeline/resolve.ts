/**
 * From a text of the time grammar to the exact moment that it names.
 *
 * @module
 */
import { VarveError } from "../base/errors.ts";
import { formatTime, parseRfc3339 } from "../base/time.ts";
import type { MarkRow } from "../catalog/catalog.ts";
import type { Moments, MomentSearch } from "../catalog/moments.ts";
import type { Gap } from "../catalog/gaps.ts";
import type { PackedMoment } from "../catalog/packing.ts";
import type { GapInfo, Moment } from "../engine.ts";
import { parseTimeExpression, type TimeExpression } from "./time_grammar.ts";

/** Marks lie on the last microsecond of their millisecond, which may be just ahead of the clock. */
const MILLISECOND_US = 1000;

/** What a text is resolved against. */
export interface ResolveContext {
  /** Moments of the volume, all indexed. */
  readonly moments: Moments;
  /** Finds a mark. */
  readonly findMark: (name: string) => MarkRow | undefined;
  /** The present, in microseconds. */
  readonly nowUs: number;
  /** The appliance's time zone. */
  readonly zone: string;
}

/** A moment as it leaves the engine. */
export function momentInfo(moment: PackedMoment): Moment {
  return { time: formatTime(moment.timeUs, 6), seq: moment.seq };
}

/**
 * The moment that a text names. Throws `invalid` for a text outside the grammar, `not-found` for an unknown mark, and
 * `not-retained` with the moments around it when the exact one does not exist.
 */
export function resolveMoment(text: string, context: ResolveContext): Moment {
  const { moments, nowUs } = context;
  const expression = parse(text, context, "at");
  const newest = moments.newest();
  if (newest === undefined) throw new VarveError("not-retained", `find ${text}: the volume has no history`);
  const current = moments.current();
  const last = current.found ?? current.older;
  switch (expression.kind) {
    case "now":
      return found(text, current);
    case "mark": {
      const mark = context.findMark(expression.name);
      if (mark === undefined) {
        throw new VarveError("not-found", `find ${text}: no mark has that name`, {
          field: "at",
          hint: "List the marks with varve points VOLUME --kind mark.",
        });
      }
      return found(text, moments.atSeq(mark.seq));
    }
    case "seq":
      if (expression.seq > newest.seq) {
        throw missing(text, "it has not happened yet", last, undefined);
      }
      return found(text, moments.atSeq(expression.seq));
    case "time": {
      if (expression.us > Math.max(nowUs, newest.timeUs) + MILLISECOND_US) {
        throw missing(text, "it lies in the future", last, undefined);
      }
      // Up to three digits of a second name the whole millisecond: that is how points are listed.
      return found(text, moments.atTime(lastUsOf(text, expression.us)));
    }
  }
}

/** The last microsecond that a time given as text names. */
function lastUsOf(text: string, us: number): number {
  return /[.,]\d{4,}/.test(text) || us % MILLISECOND_US !== 0 ? us : us + MILLISECOND_US - 1;
}

/** A span of history, its ends included; what is left out does not bound it. Times are microseconds. */
export interface Span {
  /** Earliest sequence. */
  readonly fromSeq?: number;
  /** Earliest time. */
  readonly fromUs?: number;
  /** Latest sequence. */
  readonly toSeq?: number;
  /** Latest time. */
  readonly toUs?: number;
}

/** The span between two texts of the grammar; either may be left out. Throws as `resolveMoment`. */
export function spanOf(
  ends: { readonly from?: string; readonly to?: string },
  context: Omit<ResolveContext, "moments">,
): Span {
  const from = boundary("from", ends.from, context);
  const to = boundary("to", ends.to, context);
  return {
    ...(from.seq === undefined ? {} : { fromSeq: from.seq }),
    ...(from.us === undefined ? {} : { fromUs: from.us }),
    ...(to.seq === undefined ? {} : { toSeq: to.seq }),
    ...(to.us === undefined ? {} : { toUs: to.us }),
  };
}

/** Where a moment lies, seen from a span. */
export function placeInSpan(span: Span, moment: Moment): "before" | "within" | "after" {
  const { fromSeq = -Infinity, fromUs = -Infinity, toSeq = Infinity, toUs = Infinity } = span;
  const us = parseRfc3339(moment.time) ?? 0;
  if (moment.seq < fromSeq || us < fromUs) return "before";
  return moment.seq > toSeq || us > toUs ? "after" : "within";
}

/** The gaps that reach into a span. */
export function gapsWithin(gaps: readonly Gap[], span: Span): GapInfo[] {
  return gaps.filter(({ fromSeq, fromUs, toSeq = Infinity, toUs = Infinity }) =>
    toSeq > (span.fromSeq ?? -Infinity) && toUs > (span.fromUs ?? -Infinity) &&
    fromSeq < (span.toSeq ?? Infinity) && fromUs <= (span.toUs ?? Infinity)
  ).map(gapInfo);
}

/** A gap as it leaves the engine. */
export function gapInfo({ fromSeq, fromUs, toSeq, toUs }: Gap): GapInfo {
  return {
    from: { time: formatTime(fromUs, 6), seq: fromSeq },
    ...(toSeq === undefined || toUs === undefined ? {} : { to: { time: formatTime(toUs, 6), seq: toSeq } }),
    reason: "the storage of the history was full",
  };
}

function boundary(
  field: "from" | "to",
  text: string | undefined,
  context: Omit<ResolveContext, "moments">,
): { seq?: number; us?: number } {
  if (text === undefined) return {};
  const expression = parse(text, context, field);
  switch (expression.kind) {
    case "now":
      return { us: context.nowUs + MILLISECOND_US };
    case "seq":
      return { seq: expression.seq };
    case "time":
      return { us: field === "to" ? lastUsOf(text, expression.us) : expression.us };
    case "mark": {
      const mark = context.findMark(expression.name);
      if (mark === undefined) {
        throw new VarveError("not-found", `find ${text}: no mark has that name`, { field });
      }
      return { seq: mark.seq };
    }
  }
}

function parse(text: string, context: { nowUs: number; zone: string }, field: string): TimeExpression {
  try {
    return parseTimeExpression(text, context);
  } catch (thrown) {
    if (!(thrown instanceof VarveError)) throw thrown;
    throw new VarveError(thrown.code, thrown.message, {
      field,
      ...(thrown.hint === undefined ? {} : { hint: thrown.hint }),
    });
  }
}

function found(text: string, search: MomentSearch): Moment {
  if (search.found !== undefined) return momentInfo(search.found);
  const why = search.gap !== undefined
    ? inGap(search.gap)
    : search.older === undefined
    ? "it lies before the oldest retained moment"
    : "retention has thinned that exact moment away";
  throw missing(text, why, search.older, search.newer);
}

function inGap({ fromUs, toUs }: Gap): string {
  const span = toUs === undefined
    ? `began at ${formatTime(fromUs, 6)} and is still open`
    : `lasted from ${formatTime(fromUs, 6)} to ${formatTime(toUs, 6)}`;
  return `it lies in a gap of the history, which ${span}`;
}

function missing(
  text: string,
  why: string,
  older: PackedMoment | undefined,
  newer: PackedMoment | undefined,
): VarveError {
  const around = [
    ...(older === undefined
      ? []
      : [`the nearest older is ${formatTime(older.timeUs, 6)} (seq:${older.seq})`]),
    ...(newer === undefined
      ? []
      : [`the nearest newer is ${formatTime(newer.timeUs, 6)} (seq:${newer.seq})`]),
  ];
  return new VarveError("not-retained", `find ${text}: ${why}; ${around.join(", ")}`, {
    field: "at",
    hint: "Ask for one of the moments named here.",
    details: {
      ...(older === undefined ? {} : { older: momentInfo(older) }),
      ...(newer === undefined ? {} : { newer: momentInfo(newer) }),
    },
  });
}

/**
 * The points that people are shown: marks, flush boundaries, tiers, and the start of history.
 *
 * @module
 */
import { formatTime } from "../base/time.ts";
import type { MarkRow } from "../catalog/catalog.ts";
import { MOMENT_KINDS, type PackedMoment } from "../catalog/packing.ts";
import type { MarkInfo, PointInfo, RetentionPolicy } from "../engine.ts";
import { TierPicker } from "./retention.ts";

const MOMENTS_A_TURN = 1024;

/** What points are made from. */
export interface PointsInput {
  /** Moments of the span, ascending. */
  readonly moments: Iterable<PackedMoment>;
  /** Marks of the volume. */
  readonly marks: readonly MarkRow[];
  /** The policy, for its tiers. */
  readonly policy: RetentionPolicy;
  /** The present, in microseconds: an interval of a tier that has not ended yet has no point. */
  readonly nowUs: number;
  /** Kinds wanted. */
  readonly kinds: ReadonlySet<PointInfo["kind"]>;
}

/** A mark as it is shown. */
export function markInfo(mark: MarkRow): MarkInfo {
  return {
    time: formatTime(mark.timeUs, 6),
    seq: mark.seq,
    kind: "mark",
    name: mark.name,
    pinned: mark.pinned,
    ...(mark.note === undefined ? {} : { note: mark.note }),
  };
}

/**
 * The points of a span, ascending. A moment that is several things is shown as the first of: mark, created, tier, flush.
 * Yields now and then, so that a caller may take turns with other work.
 */
export function* listPoints(input: PointsInput): Generator<void, PointInfo[]> {
  const marks = new Map<number, MarkRow[]>();
  for (const mark of input.marks) {
    const same = marks.get(mark.seq);
    if (same === undefined) marks.set(mark.seq, [mark]);
    else same.push(mark);
  }
  const pickers = input.kinds.has("tier")
    ? input.policy.tiers.map((tier) => new TierPicker(tier, input.nowUs))
    : [];
  const tiers = new Map<number, { moment: PackedMoment; every: string }>();
  const found: PackedMoment[] = [];
  let taken = 0;
  for (const moment of input.moments) {
    if (++taken % MOMENTS_A_TURN === 0) yield;
    for (const picker of pickers) {
      const pick = picker.next(moment);
      if (pick !== undefined) tiers.set(pick.seq, { moment: pick, every: picker.tier.every });
    }
    const isFlush = moment.kind === MOMENT_KINDS.flush && input.kinds.has("flush");
    const isCreated = moment.kind === MOMENT_KINDS.created && input.kinds.has("created");
    if (isFlush || isCreated || (marks.has(moment.seq) && input.kinds.has("mark"))) found.push(moment);
  }
  for (const picker of pickers) {
    const last = picker.last(input.nowUs);
    if (last !== undefined) tiers.set(last.seq, { moment: last, every: picker.tier.every });
  }
  const listed = new Set(found.map((moment) => moment.seq));
  for (const { moment } of tiers.values()) if (!listed.has(moment.seq)) found.push(moment);
  found.sort((a, b) => a.seq - b.seq);

  return found.flatMap((moment): PointInfo[] => {
    const named = input.kinds.has("mark") ? marks.get(moment.seq) ?? [] : [];
    if (named.length > 0) return named.map(markInfo);
    const tier = tiers.get(moment.seq)?.every;
    const isCreated = moment.kind === MOMENT_KINDS.created && input.kinds.has("created");
    const kind = isCreated ? "created" : tier === undefined ? "flush" : "tier";
    return [{
      time: formatTime(moment.timeUs, 6),
      seq: moment.seq,
      kind,
      pinned: false,
      ...(tier === undefined ? {} : { tier }),
    }];
  });
}

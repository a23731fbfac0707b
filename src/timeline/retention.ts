/**
 * What a retention policy keeps. Pure: moments in, moments out.
 *
 * - Every sequence younger than `continuous` is kept, and the one that was current at that age.
 * - A tier keeps one moment of each interval of UTC: the last flush in it, or without one the last command.
 * - A pinned mark is kept for ever, any other until it is older than the longest span of the policy.
 * - A moment that something holds, such as a clone, is kept as long as it is held.
 *
 * @module
 */
import { parseDuration } from "../base/units.ts";
import { VarveError } from "../base/errors.ts";
import type { MarkRow } from "../catalog/catalog.ts";
import type { KeptMoment } from "../catalog/moments.ts";
import { MOMENT_KINDS, type PackedMoment } from "../catalog/packing.ts";
import type { RetentionPolicy, RetentionTier } from "../engine.ts";

/** The policy of a volume nobody has set one for. */
export const DEFAULT_POLICY: RetentionPolicy = {
  continuous: "24h",
  tiers: [{ every: "1h", for: "7d" }, { every: "1d", for: "30d" }],
};

/** What a policy may say of full storage. */
export const ON_FULL: readonly NonNullable<RetentionPolicy["onFull"]>[] = ["refuse", "passthrough"];

/** A duration of a policy in microseconds. */
export function durationUs(text: string, field: string): number {
  try {
    return parseDuration(text) * 1000;
  } catch (thrown) {
    if (!(thrown instanceof VarveError)) throw thrown;
    throw new VarveError("invalid", `${field}: ${thrown.message}`, {
      field,
      ...(thrown.hint === undefined ? {} : { hint: thrown.hint }),
    });
  }
}

/** Throws `invalid`, naming the field, unless a policy makes sense. */
export function checkPolicy(policy: RetentionPolicy): void {
  let previousUs = durationUs(policy.continuous, "continuous");
  for (const [index, tier] of policy.tiers.entries()) {
    const everyUs = durationUs(tier.every, `tiers[${index}].every`);
    const forUs = durationUs(tier.for, `tiers[${index}].for`);
    if (everyUs < 1_000_000) throw invalid(`tiers[${index}].every`, tier.every, "at least 1s");
    if (forUs < everyUs) {
      throw invalid(`tiers[${index}].for`, tier.for, `at least its interval, ${tier.every}`);
    }
    if (forUs <= previousUs) {
      throw invalid(
        `tiers[${index}].for`,
        tier.for,
        "longer than the span before it: tiers go from short to long",
      );
    }
    previousUs = forUs;
  }
  if (policy.grace !== undefined) durationUs(policy.grace, "grace");
  if (policy.maxBytes !== undefined && !(Number.isSafeInteger(policy.maxBytes) && policy.maxBytes > 0)) {
    throw invalid("maxBytes", String(policy.maxBytes), "a positive number of bytes");
  }
  if (policy.onFull !== undefined && !ON_FULL.includes(policy.onFull)) {
    throw invalid("onFull", String(policy.onFull), ON_FULL.join(" or "));
  }
}

function invalid(field: string, found: string, wanted: string): VarveError {
  return new VarveError("invalid", `check the policy: ${field} is ${found}, it must be ${wanted}`, { field });
}

/** Beginning of the interval of UTC in which a time lies, all in microseconds. */
export function intervalStartUs(timeUs: number, everyUs: number): number {
  return Math.floor(timeUs / everyUs) * everyUs;
}

/** One moment of each interval of a tier: the last flush in it, or without one the last moment. */
export class TierPicker<T extends PackedMoment = PackedMoment> {
  readonly tier: RetentionTier;
  readonly #everyUs: number;
  readonly #fromUs: number;
  #startUs = -Infinity;
  #best: T | undefined;

  /** Picks among moments not older than the tier keeps them, as of `nowUs`. */
  constructor(tier: RetentionTier, nowUs: number) {
    this.tier = tier;
    this.#everyUs = durationUs(tier.every, "every");
    this.#fromUs = nowUs - durationUs(tier.for, "for");
  }

  /** Takes the next moment, in ascending order; returns the pick of an interval that this moment has ended. */
  next(moment: T): T | undefined {
    if (moment.timeUs < this.#fromUs) return undefined;
    const startUs = intervalStartUs(moment.timeUs, this.#everyUs);
    const ended = startUs === this.#startUs ? undefined : this.#best;
    if (startUs !== this.#startUs) this.#best = undefined;
    this.#startUs = startUs;
    if (this.#best?.kind !== MOMENT_KINDS.flush || moment.kind === MOMENT_KINDS.flush) this.#best = moment;
    return ended;
  }

  /** The pick of the present interval so far. */
  get candidate(): T | undefined {
    return this.#best;
  }

  /** The pick of the last interval; `undefined` while the interval has not ended by `untilUs`. */
  last(untilUs = Infinity): T | undefined {
    return this.#startUs + this.#everyUs <= untilUs ? this.#best : undefined;
  }
}

/** What is left of a history under a policy. */
export interface RetentionOutcome {
  /** From this moment on every sequence is kept. */
  readonly base: PackedMoment;
  /** Single moments kept before it, ascending. */
  readonly kept: KeptMoment[];
  /** Sequences before it that are dropped. */
  readonly momentsLost: number;
  /** Marks and flush boundaries among them. */
  readonly pointsLost: number;
  /** Names of marks that are dropped. */
  readonly marksLost: string[];
}

/** What retention chooses from. */
export interface RetentionInput {
  /** Every moment there is, ascending. */
  readonly moments: Iterable<PackedMoment>;
  /** Those of them that stand alone already, ascending. */
  readonly kept: readonly KeptMoment[];
  /** Marks of the volume. */
  readonly marks: readonly MarkRow[];
  /** Sequences that something holds. Default: none. */
  readonly held?: ReadonlySet<number>;
  /** The policy. */
  readonly policy: RetentionPolicy;
  /** The time of the decision, in microseconds. */
  readonly nowUs: number;
}

/** Moments looked at between two turns. */
const TURN_MOMENTS = 1024;

/** Chooses what to keep; `undefined` when there is no moment at all. */
export function chooseKept(input: RetentionInput): RetentionOutcome | undefined {
  const choice = choosingKept(input);
  for (;;) {
    const step = choice.next();
    if (step.done) return step.value;
  }
}

/**
 * As `chooseKept`, yielding now and then, so that a caller may take turns with other work. Memory: what is kept and a
 * moment for each tier, however many there are to choose from.
 */
export function* choosingKept(input: RetentionInput): Generator<void, RetentionOutcome | undefined> {
  const horizonUs = input.nowUs - durationUs(input.policy.continuous, "continuous");
  const untilOfKept = new Map(input.kept.map((moment) => [moment.seq, moment.untilUs]));
  const chooser = new Chooser(input);
  let base: PackedMoment | undefined;
  let seen = 0;
  for (const moment of input.moments) {
    // `base` was current at the horizon: it is no older moment.
    if (base !== undefined && moment.timeUs > horizonUs) break;
    if (base !== undefined) chooser.add({ ...base, untilUs: untilOfKept.get(base.seq) ?? moment.timeUs });
    base = moment;
    if (++seen % TURN_MOMENTS === 0) yield;
  }
  return base === undefined ? undefined : chooser.finish(base);
}

/** Takes the moments before the base, one by one. */
class Chooser {
  readonly #marks: readonly MarkRow[];
  readonly #allMarkedSeqs: ReadonlySet<number>;
  /** Sequences of marks that are young enough, or pinned, and those that are held. */
  readonly #keptSeqs: ReadonlySet<number>;
  readonly #pickers: TierPicker<KeptMoment>[];
  readonly #kept = new Map<number, KeptMoment>();
  /** Sequences of marks among the moments. */
  readonly #markedSeqs: number[] = [];
  #moments = 0;
  #points = 0;

  constructor({ policy, marks, held = new Set(), nowUs }: RetentionInput) {
    const longestUs = policy.tiers.reduce(
      (max, tier) => Math.max(max, durationUs(tier.for, "for")),
      durationUs(policy.continuous, "continuous"),
    );
    this.#marks = marks;
    this.#allMarkedSeqs = new Set(marks.map((mark) => mark.seq));
    const keptMarks = marks.filter((mark) => mark.pinned || mark.timeUs >= nowUs - longestUs);
    this.#keptSeqs = new Set([...keptMarks.map((mark) => mark.seq), ...held]);
    this.#pickers = policy.tiers.map((tier) => new TierPicker<KeptMoment>(tier, nowUs));
  }

  add(moment: KeptMoment): void {
    this.#moments++;
    if (isPoint(moment)) this.#points++;
    if (this.#allMarkedSeqs.has(moment.seq)) this.#markedSeqs.push(moment.seq);
    if (this.#keptSeqs.has(moment.seq)) this.#kept.set(moment.seq, moment);
    for (const picker of this.#pickers) this.#keep(picker.next(moment));
  }

  #keep(pick: KeptMoment | undefined): void {
    if (pick !== undefined) this.#kept.set(pick.seq, pick);
  }

  finish(base: PackedMoment): RetentionOutcome {
    for (const picker of this.#pickers) this.#keep(picker.last());
    const kept = [...this.#kept.values()].sort((a, b) => a.seq - b.seq);
    const lostMarks = new Set(this.#markedSeqs.filter((seq) => !this.#kept.has(seq)));
    return {
      base,
      kept,
      momentsLost: this.#moments - kept.length,
      pointsLost: this.#points - kept.filter(isPoint).length,
      marksLost: this.#marks.filter((mark) => lostMarks.has(mark.seq)).map((mark) => mark.name),
    };
  }
}

function isPoint({ kind }: PackedMoment): boolean {
  return kind === MOMENT_KINDS.flush || kind === MOMENT_KINDS.mark;
}

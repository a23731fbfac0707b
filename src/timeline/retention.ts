/**
 * What a retention policy keeps. Pure: moments in, moments out.
 *
 * - Every sequence younger than `continuous` is kept, and the one that was current at that age.
 * - A tier keeps one moment of each interval of UTC: the last flush in it, or without one the last command.
 * - A pinned mark is kept for ever, any other until it is older than the longest span of the policy.
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

/** One moment of each interval of a tier: the last flush in it, or without one the last moment. */
export class TierPicker {
  readonly tier: RetentionTier;
  readonly #everyUs: number;
  readonly #fromUs: number;
  #bucket = -1;
  #best: PackedMoment | undefined;

  /** Picks among moments not older than the tier keeps them, as of `nowUs`. */
  constructor(tier: RetentionTier, nowUs: number) {
    this.tier = tier;
    this.#everyUs = durationUs(tier.every, "every");
    this.#fromUs = nowUs - durationUs(tier.for, "for");
  }

  /** Takes the next moment, in ascending order; returns the pick of an interval that this moment has ended. */
  next(moment: PackedMoment): PackedMoment | undefined {
    if (moment.timeUs < this.#fromUs) return undefined;
    const bucket = Math.floor(moment.timeUs / this.#everyUs);
    const ended = bucket === this.#bucket ? undefined : this.#best;
    if (bucket !== this.#bucket) this.#best = undefined;
    this.#bucket = bucket;
    if (this.#best?.kind !== MOMENT_KINDS.flush || moment.kind === MOMENT_KINDS.flush) this.#best = moment;
    return ended;
  }

  /** The pick of the last interval; `undefined` while the interval has not ended by `untilUs`. */
  last(untilUs = Infinity): PackedMoment | undefined {
    return (this.#bucket + 1) * this.#everyUs <= untilUs ? this.#best : undefined;
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
  /** The policy. */
  readonly policy: RetentionPolicy;
  /** The time of the decision, in microseconds. */
  readonly nowUs: number;
}

/** Chooses what to keep; `undefined` when there is no moment at all. */
export function chooseKept(input: RetentionInput): RetentionOutcome | undefined {
  const { policy, nowUs } = input;
  const continuousUs = durationUs(policy.continuous, "continuous");
  const horizonUs = nowUs - continuousUs;
  const longestUs = policy.tiers.reduce(
    (max, tier) => Math.max(max, durationUs(tier.for, "for")),
    continuousUs,
  );
  const untilOfKept = new Map(input.kept.map((moment) => [moment.seq, moment.untilUs]));
  const markedSeqs = new Set(
    input.marks.filter((mark) => mark.pinned || mark.timeUs >= nowUs - longestUs).map((mark) => mark.seq),
  );
  const pickers = policy.tiers.map((tier) => new TierPicker(tier, nowUs));

  let base: PackedMoment | undefined;
  const older: KeptMoment[] = [];
  for (const moment of input.moments) {
    if (base !== undefined) {
      older.push({ ...base, untilUs: untilOfKept.get(base.seq) ?? moment.timeUs });
      if (moment.timeUs > horizonUs) {
        // `base` was current at the horizon; it is no older moment.
        older.pop();
        break;
      }
    }
    base = moment;
  }
  if (base === undefined) return undefined;

  const chosen = new Set<number>();
  for (const picker of pickers) {
    for (const moment of older) {
      const pick = picker.next(moment);
      if (pick !== undefined) chosen.add(pick.seq);
    }
    const last = picker.last();
    if (last !== undefined) chosen.add(last.seq);
  }
  const isKept = (moment: PackedMoment) => chosen.has(moment.seq) || markedSeqs.has(moment.seq);
  const lost = older.filter((moment) => !isKept(moment));
  const lostSeqs = new Set(lost.map((moment) => moment.seq));
  return {
    base,
    kept: older.filter(isKept),
    momentsLost: lost.length,
    pointsLost: lost.filter(({ kind }) => kind === MOMENT_KINDS.flush || kind === MOMENT_KINDS.mark).length,
    marksLost: input.marks.filter((mark) => lostSeqs.has(mark.seq)).map((mark) => mark.name),
  };
}

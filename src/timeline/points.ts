/**
 * The points that people are shown: marks, flush boundaries, tiers, and the start of history.
 *
 * @module
 */
import { formatTime } from "../base/time.ts";
import type { MarkRow } from "../catalog/catalog.ts";
import { MOMENT_KINDS, type PackedMoment } from "../catalog/packing.ts";
import type { MarkInfo, PointInfo, RetentionPolicy } from "../engine.ts";
import { durationUs, intervalStartUs, TierPicker } from "./retention.ts";

const MOMENTS_A_TURN = 1024;

/** What points are made from. */
export interface PointsInput {
  /** Moments, ascending, from {@linkcode listingStart} on. */
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
 * From which time on moments have to be looked at for the points after a moment to come out as in a whole listing, in
 * microseconds: from the beginning of the intervals that it lies in. A flush is the pick so far of each of them.
 */
export function listingStart(
  after: Pick<PackedMoment, "timeUs" | "kind">,
  policy: RetentionPolicy,
  kinds: PointsInput["kinds"],
): number {
  if (after.kind === MOMENT_KINDS.flush || !kinds.has("tier")) return after.timeUs;
  return Math.min(
    after.timeUs,
    ...policy.tiers.map(({ every }) => intervalStartUs(after.timeUs, durationUs(every, "every"))),
  );
}

/**
 * Points, ascending, one after the other, with `undefined` now and then so that a caller may take turns with other work.
 * A moment that is several things is shown as the first of: mark, created, tier, flush. Memory: marks, and a thousand
 * moments, however many there are.
 */
export function* listPoints(input: PointsInput): Generator<PointInfo | undefined> {
  const listing = new Listing(input);
  let taken = 0;
  for (const moment of input.moments) {
    listing.take(moment);
    if (++taken % MOMENTS_A_TURN !== 0) continue;
    yield* listing.decided();
    yield undefined;
  }
  yield* listing.rest();
}

class Listing {
  readonly #input: PointsInput;
  readonly #marks = new Map<number, MarkRow[]>();
  readonly #pickers: TierPicker[];
  /** Moments that are points whatever the tiers pick, ascending. */
  #found: PackedMoment[] = [];
  /** Picks of intervals that have ended, by sequence. */
  readonly #picks = new Map<number, { moment: PackedMoment; every: string }>();
  #lastSeq = -1;

  constructor(input: PointsInput) {
    this.#input = input;
    for (const mark of input.kinds.has("mark") ? input.marks : []) {
      const same = this.#marks.get(mark.seq);
      if (same === undefined) this.#marks.set(mark.seq, [mark]);
      else same.push(mark);
    }
    this.#pickers = input.kinds.has("tier")
      ? input.policy.tiers.map((tier) => new TierPicker(tier, input.nowUs))
      : [];
  }

  take(moment: PackedMoment): void {
    const { kinds } = this.#input;
    for (const picker of this.#pickers) this.#pick(picker, picker.next(moment));
    const isFlush = moment.kind === MOMENT_KINDS.flush && kinds.has("flush");
    const isCreated = moment.kind === MOMENT_KINDS.created && kinds.has("created");
    if (isFlush || isCreated || this.#marks.has(moment.seq)) this.#found.push(moment);
    this.#lastSeq = moment.seq;
  }

  #pick({ tier: { every } }: TierPicker, moment: PackedMoment | undefined): void {
    if (moment !== undefined) this.#picks.set(moment.seq, { moment, every });
  }

  /** Points that no later moment can change any more. */
  decided(): Generator<PointInfo> {
    const open = this.#pickers.map((picker) => picker.candidate?.seq ?? Infinity);
    return this.#before(Math.min(this.#lastSeq + 1, ...open));
  }

  /** All that are left when there is no later moment. */
  rest(): Generator<PointInfo> {
    for (const picker of this.#pickers) this.#pick(picker, picker.last(this.#input.nowUs));
    return this.#before(Infinity);
  }

  *#before(endSeq: number): Generator<PointInfo> {
    const ready = this.#found.filter(({ seq }) => seq < endSeq);
    this.#found = this.#found.slice(ready.length);
    const listed = new Set(ready.map(({ seq }) => seq));
    const picks = [...this.#picks.values()].filter(({ moment }) => moment.seq < endSeq);
    for (const { moment } of picks) if (!listed.has(moment.seq)) ready.push(moment);
    ready.sort((a, b) => a.seq - b.seq);
    for (const moment of ready) yield* this.#infos(moment);
    for (const { moment } of picks) this.#picks.delete(moment.seq);
  }

  #infos(moment: PackedMoment): PointInfo[] {
    const marks = this.#marks.get(moment.seq);
    if (marks !== undefined) return marks.map(markInfo);
    const tier = this.#picks.get(moment.seq)?.every;
    const isCreated = moment.kind === MOMENT_KINDS.created && this.#input.kinds.has("created");
    return [{
      time: formatTime(moment.timeUs, 6),
      seq: moment.seq,
      kind: isCreated ? "created" : tier === undefined ? "flush" : "tier",
      pinned: false,
      ...(tier === undefined ? {} : { tier }),
    }];
  }
}

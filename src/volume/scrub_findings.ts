/**
 * What a scrub has found so far: damaged places, and the spans of sequences that cannot be read in full.
 *
 * Memory is bounded: places beyond a number are counted and not listed, spans beyond a number are joined.
 *
 * @module
 */
import type { ScrubPlace } from "../engine.ts";

/** Places listed at most. */
export const PLACES_MAX = 1000;
/** Spans kept apart at most. */
const SPANS_MAX = 4096;

/** Sets of sequences as sorted spans `[from, until)`. */
export class SeqSpans {
  #from: number[] = [];
  #until: number[] = [];
  #joined = false;

  /** Whether spans had to be joined, so that sequences between them are in the set too. */
  get joined(): boolean {
    return this.#joined;
  }

  /** Whether there is none. */
  get isEmpty(): boolean {
    return this.#from.length === 0;
  }

  /** Adds `[from, until)`; `until` may be infinite. */
  add(from: number, until: number): void {
    if (until <= from) return;
    const first = lowerBound(this.#until, from);
    let end = first;
    let low = from;
    let high = until;
    for (; end < this.#from.length && (this.#from[end] ?? Infinity) <= until; end++) {
      low = Math.min(low, this.#from[end] ?? low);
      high = Math.max(high, this.#until[end] ?? high);
    }
    this.#from.splice(first, end - first, low);
    this.#until.splice(first, end - first, high);
    if (this.#from.length > SPANS_MAX) this.#joinClosest();
  }

  #joinClosest(): void {
    this.#joined = true;
    let closest = 1;
    let gap = Infinity;
    for (let i = 1; i < this.#from.length; i++) {
      const here = (this.#from[i] ?? 0) - (this.#until[i - 1] ?? 0);
      if (here < gap) [closest, gap] = [i, here];
    }
    this.#from.splice(closest, 1);
    this.#until.splice(closest - 1, 1);
  }

  /** Whether a sequence is in the set. */
  has(seq: number): boolean {
    const index = lowerBound(this.#until, seq + 1);
    return (this.#from[index] ?? Infinity) <= seq;
  }

  /** The spans, ascending. */
  *[Symbol.iterator](): Generator<{ from: number; until: number }> {
    for (const [index, from] of this.#from.entries()) yield { from, until: this.#until[index] ?? from };
  }
}

/** Position of the first value that is at least `wanted`, in ascending values. */
function lowerBound(values: readonly number[], wanted: number): number {
  let low = 0;
  let high = values.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((values[middle] ?? Infinity) < wanted) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** A range of bytes of a file. */
export interface ByteRange {
  /** First byte. */
  readonly offset: number;
  /** Number of bytes. */
  readonly length: number;
}

/** A place as it is found, before anybody knows what it harms. */
export type FoundPlace = Omit<ScrubPlace, "blocks" | "harmless">;

/** Collects what a scrub finds. */
export class Findings {
  /** Damaged places, listed or not. */
  count = 0;
  /** Those listed. */
  readonly places: ScrubPlace[] = [];
  /** Sequences that cannot be read in full and that somebody can ask for. */
  readonly spans: SeqSpans = new SeqSpans();
  /** Segments with any damage. */
  readonly segments: Set<number> = new Set();
  /** Whether the recovery map is damaged. */
  mapDamaged = false;
  readonly #bySegment = new Map<number, ScrubPlace[]>();
  /** Segments with places that are not listed. */
  readonly #unlisted = new Set<number>();

  /** Adds a place. */
  add(found: FoundPlace): ScrubPlace {
    const place: ScrubPlace = { ...found, blocks: 0, harmless: true };
    this.count++;
    if (place.segment !== undefined) this.segments.add(place.segment);
    else this.mapDamaged = true;
    if (this.places.length < PLACES_MAX) this.#list(place);
    else if (place.segment !== undefined) this.#unlisted.add(place.segment);
    return place;
  }

  #list(place: ScrubPlace): void {
    this.places.push(place);
    if (place.segment === undefined) return;
    const same = this.#bySegment.get(place.segment);
    if (same === undefined) this.#bySegment.set(place.segment, [place]);
    else same.push(place);
  }

  /**
   * The place that explains why bytes of a segment cannot be read: one that overlaps any of `ranges`. Without one it is
   * made, as `found` tells, unless it may be among those not listed; then the answer is `undefined`.
   */
  explain(segment: number, ranges: readonly ByteRange[], found: FoundPlace): ScrubPlace | undefined {
    const known = this.#bySegment.get(segment)?.find((place) =>
      ranges.some((range) => overlap(range, { offset: place.offset ?? 0, length: place.length }))
    );
    if (known !== undefined) return known;
    return this.#unlisted.has(segment) ? undefined : this.add(found);
  }
}

function overlap(a: ByteRange, b: ByteRange): boolean {
  return a.offset < b.offset + b.length && b.offset < a.offset + a.length;
}

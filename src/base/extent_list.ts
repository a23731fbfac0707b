/**
 * Builds the answer to "what is where in this range" from left to right.
 *
 * @module
 */

/** A run of bytes of one kind. */
export interface KindExtent<K extends string> {
  /** First byte. */
  readonly offset: number;
  /** Number of bytes. */
  readonly length: number;
  /** What they are. */
  readonly kind: K;
}

/**
 * Extents of a range, in order and without gaps; neighbours differ in kind. Of a list that is limited to `max` the last
 * one still has its whole length, so that it is a prefix of the unlimited list.
 */
export class ExtentList<K extends string> {
  readonly #end: number;
  readonly #max: number;
  readonly #extents: { offset: number; length: number; kind: K }[] = [];
  #at: number;
  #full = false;

  /** An empty list of the range; at most `max` extents of it are kept. */
  constructor(offset: number, length: number, max = Infinity) {
    this.#at = offset;
    this.#end = offset + length;
    this.#max = max;
  }

  /** Where the next extent begins. */
  get at(): number {
    return this.#at;
  }

  /** Whether the range is covered, or the next extent would be one too many. */
  get isDone(): boolean {
    return this.#full || this.#at >= this.#end;
  }

  /** What was added, joined and cut to the range. */
  get extents(): KindExtent<K>[] {
    return this.#extents;
  }

  /** Says of everything from the last end up to `until` what it is. Nothing happens when that lies behind, or when done. */
  add(until: number, kind: K): void {
    const stop = Math.min(until, this.#end);
    if (stop <= this.#at || this.#full) return;
    const last = this.#extents.at(-1);
    if (last?.kind === kind) last.length = stop - last.offset;
    else if (this.#extents.length >= this.#max) {
      this.#full = true;
      return;
    } else this.#extents.push({ offset: this.#at, length: stop - this.#at, kind });
    this.#at = stop;
  }
}

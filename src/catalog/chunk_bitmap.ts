/**
 * A set of numbers from 0 on, a bit for each.
 *
 * @module
 */

const SET_BITS = Uint8Array.from({ length: 256 }, (_, byte) => {
  let count = 0;
  for (let rest = byte; rest > 0; rest >>>= 1) count += rest & 1;
  return count;
});

/** The set; number n is bit n % 8 of byte n / 8. */
export class ChunkBitmap {
  /** The bits; the caller of the constructor may keep them elsewhere. */
  readonly bytes: Uint8Array;

  /** A set in `bytes`, which hold eight numbers each. */
  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }

  /** Whether a number is in the set. */
  has(number: number): boolean {
    return ((this.bytes[number >>> 3] ?? 0) & (1 << (number & 7))) !== 0;
  }

  /** Adds the numbers from `from` up to, not including, `end`; returns how many are new. */
  add(from: number, end: number): number {
    let added = 0;
    let number = from;
    while (number < end) {
      const at = number >>> 3;
      if ((number & 7) === 0 && end - number >= 8) {
        added += 8 - (SET_BITS[this.bytes[at] ?? 0] ?? 0);
        this.bytes[at] = 0xff;
        number += 8;
        continue;
      }
      if (!this.has(number)) {
        this.bytes[at] = (this.bytes[at] ?? 0) | (1 << (number & 7));
        added++;
      }
      number++;
    }
    return added;
  }

  /** How many numbers from `from` up to, not including, `end` are in the set. */
  count(from: number, end: number): number {
    let count = 0;
    let number = from;
    while (number < end) {
      if ((number & 7) === 0 && end - number >= 8) {
        count += SET_BITS[this.bytes[number >>> 3] ?? 0] ?? 0;
        number += 8;
      } else if (this.has(number++)) count++;
    }
    return count;
  }

  /** The first number from `from` on that is in the set; `end` when there is none below it. */
  nextPresent(from: number, end: number): number {
    return this.#next(from, end, 0, true);
  }

  /** The first number from `from` on that is not in the set; `end` when there is none below it. */
  nextAbsent(from: number, end: number): number {
    return this.#next(from, end, 0xff, false);
  }

  #next(from: number, end: number, boring: number, wanted: boolean): number {
    let number = from;
    while (number < end) {
      if ((number & 7) === 0 && this.bytes[number >>> 3] === boring) number += 8;
      else if (this.has(number) === wanted) return number;
      else number++;
    }
    return end;
  }
}

/**
 * Rows of numbers in one array. The records of some seconds wait in such lists; as an object each they would outlive the
 * young generation of the garbage collector and fill the old one faster than it is swept.
 *
 * @module
 */
import type { PackedMoment } from "../catalog/packing.ts";
import type { MapExtent } from "../catalog/recovery_map.ts";

const CAPACITY_MIN = 64;

/** How a row becomes an object and back. */
export interface RowForm<T> {
  /** Numbers in a row. */
  readonly width: number;
  /** Puts a value's numbers at a place. */
  put(value: T, target: Float64Array, at: number): void;
  /** Makes a value of the numbers at a place. */
  take(source: Float64Array, at: number): T;
}

/** Extents, as the recovery map takes them. */
export const EXTENT_ROW: RowForm<MapExtent> = {
  width: 6,
  put(extent, target, at) {
    target[at] = extent.seq;
    target[at + 1] = extent.firstBlock;
    target[at + 2] = extent.blockCount;
    target[at + 3] = extent.segment;
    target[at + 4] = extent.recordOffset;
    target[at + 5] = extent.payloadBlock;
  },
  take: (source, at) => ({
    seq: source[at] ?? 0,
    firstBlock: source[at + 1] ?? 0,
    blockCount: source[at + 2] ?? 0,
    segment: source[at + 3] ?? 0,
    recordOffset: source[at + 4] ?? 0,
    payloadBlock: source[at + 5] ?? 0,
  }),
};

/** Blocks with bytes in extents, given as rows of {@linkcode EXTENT_ROW}. */
export function blocksOfExtents(rows: Float64Array): number {
  let blocks = 0;
  for (let at = 0; at < rows.length; at += EXTENT_ROW.width) {
    if (rows[at + 3] !== 0) blocks += rows[at + 2] ?? 0;
  }
  return blocks;
}

/** Moments. */
export const MOMENT_ROW: RowForm<PackedMoment> = {
  width: 3,
  put(moment, target, at) {
    target[at] = moment.seq;
    target[at + 1] = moment.timeUs;
    target[at + 2] = moment.kind;
  },
  take: (source, at) => ({ seq: source[at] ?? 0, timeUs: source[at + 1] ?? 0, kind: source[at + 2] ?? 0 }),
};

/** A list that grows at its end. */
export class NumberRows<T> implements Iterable<T> {
  readonly #form: RowForm<T>;
  #numbers: Float64Array;
  #length = 0;

  /** An empty list. */
  constructor(form: RowForm<T>) {
    this.#form = form;
    this.#numbers = new Float64Array(CAPACITY_MIN * form.width);
  }

  /** The list whose numbers are these; the array is taken over. */
  static of<T>(form: RowForm<T>, numbers: Float64Array): NumberRows<T> {
    const rows = new NumberRows(form);
    if (numbers.length === 0) return rows;
    rows.#numbers = numbers;
    rows.#length = numbers.length / form.width;
    return rows;
  }

  /** The numbers of all rows, in an array of their own. */
  toNumbers(): Float64Array {
    return this.#numbers.slice(0, this.#length * this.#form.width);
  }

  /** Number of rows. */
  get length(): number {
    return this.#length;
  }

  /** Adds a row at the end; returns its position. */
  push(value: T): number {
    const at = this.#length * this.#form.width;
    if (at === this.#numbers.length) {
      const larger = new Float64Array(at * 2);
      larger.set(this.#numbers);
      this.#numbers = larger;
    }
    this.#form.put(value, this.#numbers, at);
    return this.#length++;
  }

  /** The row at a position, as a new object; `undefined` beyond the ends. */
  at(index: number): T | undefined {
    if (index < 0 || index >= this.#length) return undefined;
    return this.#form.take(this.#numbers, index * this.#form.width);
  }

  /** Every row, in order. */
  *[Symbol.iterator](): Generator<T> {
    for (let index = 0; index < this.#length; index++) {
      yield this.#form.take(this.#numbers, index * this.#form.width);
    }
  }
}

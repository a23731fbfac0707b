/**
 * Where a compaction has carried the blocks of old segments.
 *
 * @module
 */
import type { PackedExtent } from "../catalog/packing.ts";
import { NumberRows, type RowForm } from "./number_rows.ts";

/** A run of blocks that was carried over, and the record that it has become. */
export interface MovedRun {
  /** The old segment, the record in it, and the first block in that record's payload. */
  readonly segment: number;
  readonly recordOffset: number;
  readonly payloadBlock: number;
  readonly blockCount: number;
  /** The new segment, and the record in it that holds nothing else. */
  readonly toSegment: number;
  readonly toOffset: number;
}

/** A moved run as a row of numbers. */
export const MOVED_RUN_ROW: RowForm<MovedRun> = {
  width: 6,
  put(run, target, at) {
    target[at] = run.segment;
    target[at + 1] = run.recordOffset;
    target[at + 2] = run.payloadBlock;
    target[at + 3] = run.blockCount;
    target[at + 4] = run.toSegment;
    target[at + 5] = run.toOffset;
  },
  take: (source, at) => ({
    segment: source[at] ?? 0,
    recordOffset: source[at + 1] ?? 0,
    payloadBlock: source[at + 2] ?? 0,
    blockCount: source[at + 3] ?? 0,
    toSegment: source[at + 4] ?? 0,
    toOffset: source[at + 5] ?? 0,
  }),
};

/** Moved runs, with a look-up. */
export class Relocations {
  readonly #runs: NumberRows<MovedRun>;

  /** Takes rows of {@linkcode MOVED_RUN_ROW}, ascending by segment, record and block. */
  constructor(numbers: Float64Array) {
    this.#runs = NumberRows.of(MOVED_RUN_ROW, numbers);
  }

  /** An extent in its new place; the very extent when it has not been moved. */
  move(extent: PackedExtent): PackedExtent {
    let low = 0;
    let high = this.#runs.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const run = this.#runs.at(middle);
      if (run !== undefined && endsBefore(run, extent)) low = middle + 1;
      else high = middle;
    }
    const run = this.#runs.at(low);
    if (run?.segment !== extent.segment || run.recordOffset !== extent.recordOffset) return extent;
    const from = extent.payloadBlock - run.payloadBlock;
    if (from < 0) return extent;
    if (from + extent.blockCount > run.blockCount) {
      throw new Error("a living version was carried over in part");
    }
    return { ...extent, segment: run.toSegment, recordOffset: run.toOffset, payloadBlock: from };
  }
}

function endsBefore(run: MovedRun, extent: PackedExtent): boolean {
  if (run.segment !== extent.segment) return run.segment < extent.segment;
  if (run.recordOffset !== extent.recordOffset) return run.recordOffset < extent.recordOffset;
  return run.payloadBlock + run.blockCount <= extent.payloadBlock;
}

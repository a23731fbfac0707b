/**
 * What fast commits changed, kept beside the blocks: whole inodes, ranges of files, names of directories.
 *
 * @module
 */
import type { GuestEntry } from "../guest.ts";
import type { Run } from "./extents.ts";

/** Names that changed in one directory. */
export interface DirectoryOverlay {
  /** The directory is new: what its blocks hold is not to be read. */
  fresh: boolean;
  /** From a name (each byte one character) to its entry, or to `undefined` when it was removed. */
  readonly names: Map<string, GuestEntry | undefined>;
}

/** All that fast commits changed in one file system. */
export class FastCommitOverlay {
  /** From an inode's number to its newest bytes. */
  readonly inodes: Map<number, Uint8Array> = new Map();
  /** From an inode's number to the ranges that were mapped anew. */
  readonly ranges: Map<number, RangeOverlay> = new Map();
  /** From a directory's inode number to its changed names. */
  readonly directories: Map<number, DirectoryOverlay> = new Map();
}

interface MappedRange {
  readonly start: number;
  readonly end: number;
  readonly physical: number | undefined;
}

/** Ranges of logical blocks that hide what the file's own map says; later ones hide earlier ones. */
export class RangeOverlay {
  /** Sorted, without overlaps. */
  readonly #ranges: MappedRange[] = [];

  /** Maps `count` blocks from `start`; `undefined` makes them read as zeroes. */
  set(start: number, count: number, physical: number | undefined): void {
    const end = start + count;
    const first = this.#firstEndingAfter(start);
    const pieces: MappedRange[] = [{ start, end, physical }];
    let next = first;
    for (; next < this.#ranges.length; next++) {
      const range = this.#ranges[next] as MappedRange;
      if (range.start >= end) break;
      if (range.start < start) pieces.unshift({ ...range, end: start });
      if (range.end > end) pieces.push({ start: end, end: range.end, physical: physicalAt(range, end) });
    }
    this.#ranges.splice(first, next - first, ...pieces);
  }

  /** The run a block lies in, or where the next range after it starts. */
  find(logical: number): { readonly run: Run } | { readonly nextStart: number } {
    const range = this.#ranges[this.#firstEndingAfter(logical)];
    if (range === undefined) return { nextStart: Infinity };
    if (range.start > logical) return { nextStart: range.start };
    return { run: { physical: physicalAt(range, logical), count: range.end - logical } };
  }

  #firstEndingAfter(logical: number): number {
    let low = 0;
    let high = this.#ranges.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#ranges[middle] as MappedRange).end <= logical) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

function physicalAt(range: MappedRange, logical: number): number | undefined {
  return range.physical === undefined ? undefined : range.physical + logical - range.start;
}

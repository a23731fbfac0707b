/**
 * The state of one region of a volume at one sequence: which bytes each block has.
 *
 * @module
 */
import { BLOCK_BYTES } from "../base/block_device.ts";
import type { PackedExtent } from "./packing.ts";

/** Size of a region in bytes: the unit in which the recovery map is kept and looked up. */
export const REGION_BYTES = 16 * 1024 * 1024;
/** Size of a region in blocks. */
export const REGION_BLOCKS: number = REGION_BYTES / BLOCK_BYTES;

/** Paints extents over one another in the order of their sequences and tells what is on top. */
export class RegionPainter {
  readonly #top = new Int32Array(REGION_BLOCKS).fill(-1);
  readonly #extents: PackedExtent[] = [];

  /** Lays an extent over what is there. */
  paint(extent: PackedExtent): void {
    const index = this.#extents.push(extent) - 1;
    this.#top.fill(index, extent.firstBlock, extent.firstBlock + extent.blockCount);
  }

  /** Lays a hole made at `seq` under everything newer and over everything older, across the whole region. */
  paintHole(seq: number): void {
    const hole = {
      seq,
      firstBlock: 0,
      blockCount: REGION_BLOCKS,
      segment: 0,
      recordOffset: 0,
      payloadBlock: 0,
    };
    const index = this.#extents.push(hole) - 1;
    for (let block = 0; block < REGION_BLOCKS; block++) {
      const extent = this.#extents[this.#top[block] ?? -1];
      if (extent === undefined || extent.seq < seq) this.#top[block] = index;
    }
  }

  /** What is on top, by block, without overlaps. Blocks never painted are left out; holes are not. */
  finish(): PackedExtent[] {
    const result: PackedExtent[] = [];
    for (let block = 0; block < REGION_BLOCKS;) {
      const index = this.#top[block] ?? -1;
      const first = block;
      while (block < REGION_BLOCKS && this.#top[block] === index) block++;
      const extent = this.#extents[index];
      if (extent === undefined) continue;
      result.push({
        seq: extent.seq,
        firstBlock: first,
        blockCount: block - first,
        segment: extent.segment,
        recordOffset: extent.recordOffset,
        payloadBlock: extent.segment === 0 ? 0 : extent.payloadBlock + (first - extent.firstBlock),
      });
    }
    return result;
  }
}

/** Position in sorted extents of the first that ends after `block`. */
export function findExtent(extents: readonly PackedExtent[], block: number): number {
  let low = 0;
  let high = extents.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const extent = extents[middle];
    if (extent !== undefined && extent.firstBlock + extent.blockCount <= block) low = middle + 1;
    else high = middle;
  }
  return low;
}

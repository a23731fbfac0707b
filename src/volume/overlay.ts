/**
 * What has been captured but is not yet in the primary: the newest place of each block, in the journal.
 *
 * @module
 */
import type { MapExtent } from "../catalog/recovery_map.ts";
import { EXTENT_ROW, NumberRows } from "./number_rows.ts";

/** Extents up to this many blocks are entered block by block; wider ones are few and searched in turn. */
const NARROW_HOLE_BLOCKS = 1024;
const NARROW_DATA_BLOCKS = 128;

/** An extent that was not entered block by block. */
interface WideExtent {
  readonly index: number;
  readonly firstBlock: number;
  readonly endBlock: number;
  readonly isHole: boolean;
}

/** Extents in the order of their sequences, with a look-up by block. */
export class Overlay {
  /** The extents, in order. A segment of 0 is a hole. */
  readonly extents: NumberRows<MapExtent> = new NumberRows(EXTENT_ROW);
  readonly #newest = new Map<number, number>();
  readonly #wide: WideExtent[] = [];
  #wideDataBlocks = 0;

  /** An overlay of extents that are in the order of their sequences. */
  static of(extents: Iterable<MapExtent>): Overlay {
    const overlay = new Overlay();
    for (const extent of extents) overlay.add(extent);
    return overlay;
  }

  /** Whether there is nothing in it. */
  get isEmpty(): boolean {
    return this.extents.length === 0;
  }

  /** Number of blocks, those of wide holes left out, and those counted again that a wide extent of data has replaced. */
  get blockCount(): number {
    return this.#newest.size + this.#wideDataBlocks;
  }

  /** Adds an extent that is newer than all before it. */
  add(extent: MapExtent): void {
    const index = this.extents.push(extent);
    const end = extent.firstBlock + extent.blockCount;
    const isHole = extent.segment === 0;
    if (extent.blockCount > (isHole ? NARROW_HOLE_BLOCKS : NARROW_DATA_BLOCKS)) {
      this.#wide.push({ index, firstBlock: extent.firstBlock, endBlock: end, isHole });
      if (!isHole) this.#wideDataBlocks += extent.blockCount;
      return;
    }
    for (let block = extent.firstBlock; block < end; block++) this.#newest.set(block, index);
  }

  /** The newest extent over a block, or `undefined`. */
  find(block: number): MapExtent | undefined {
    return this.extents.at(this.findIndex(block));
  }

  /** Position of the newest extent over a block, or -1. */
  findIndex(block: number): number {
    let newest = this.#newest.get(block) ?? -1;
    for (const { index, firstBlock, endBlock } of this.#wide) {
      if (index > newest && firstBlock <= block && block < endBlock) newest = index;
    }
    return newest;
  }

  /** What has to be brought to the primary, in order: what a later extent has replaced completely is left out. */
  remaining(): NumberRows<MapExtent> {
    const rows = new NumberRows<MapExtent>(EXTENT_ROW);
    for (let index = 0; index < this.extents.length; index++) {
      const extent = this.extents.at(index);
      if (extent === undefined) continue;
      const isReplaced = extent.blockCount === 1 && this.#newest.get(extent.firstBlock) !== index;
      if (!isReplaced) rows.push(extent);
    }
    return rows;
  }

  /**
   * Blocks of a range that were entered one by one or hold data, in no order and some more than once; walks the range or
   * the entries, whichever are fewer.
   */
  *blocksWithin(firstBlock: number, endBlock: number): Generator<number> {
    for (const wide of this.#wide) {
      if (wide.isHole) continue;
      const end = Math.min(endBlock, wide.endBlock);
      for (let block = Math.max(firstBlock, wide.firstBlock); block < end; block++) yield block;
    }
    if (endBlock - firstBlock <= this.#newest.size) {
      for (let block = firstBlock; block < endBlock; block++) if (this.#newest.has(block)) yield block;
    } else {
      for (const block of this.#newest.keys()) if (firstBlock <= block && block < endBlock) yield block;
    }
  }

  /** Holes that were not entered block by block and touch a range, whole, in no order. */
  wideHolesWithin(firstBlock: number, endBlock: number): { firstBlock: number; endBlock: number }[] {
    return this.#wide.filter((wide) =>
      wide.isHole && wide.firstBlock < endBlock && firstBlock < wide.endBlock
    );
  }
}

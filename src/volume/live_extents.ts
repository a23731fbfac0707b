/**
 * Where a live volume holds data, and where it certainly reads as zeroes.
 *
 * Three layers, the uppermost first: commands that a gap holds back, what is captured and not in the primary yet, and the
 * primary's own holes. "Data" is always right to say; a hole must be one for certain.
 *
 * @module
 */
import { BLOCK_BYTES, type Extent } from "../base/block_device.ts";
import { blockOf, blocksFor } from "../base/bytes.ts";
import { ExtentList } from "../base/extent_list.ts";
import type { Overlay } from "./overlay.ts";
import type { Primary } from "./primary.ts";

/**
 * Blocks looked up in the overlays at first; each further window is twice as wide. So a caller that wants few extents
 * pays for few blocks, and one that asks about a whole volume for a few passes over what the overlays have.
 */
const WINDOW_BLOCKS_MIN = 256;

/** What the extents are computed from. */
export interface LiveLayers {
  /** Ranges of commands that are held back: ascending by `offset`, possibly overlapping. They count as data. */
  readonly held: readonly { readonly offset: number; readonly length: number }[];
  /** What is captured and not in the primary yet, oldest first. */
  readonly overlays: readonly Overlay[];
  /** The live bytes beneath. */
  readonly primary: Primary;
}

/** As `BlockDevice.extents`, of a range that was checked. */
export function liveExtents(layers: LiveLayers, offset: number, length: number, max?: number): Extent[] {
  const list = new ExtentList<Extent["kind"]>(offset, length, max);
  for (const range of layers.held) {
    addCaptured(list, layers, Math.min(range.offset, offset + length));
    list.add(range.offset + range.length, "data");
    if (list.isDone) break;
  }
  addCaptured(list, layers, offset + length);
  return list.extents;
}

function addCaptured(list: ExtentList<Extent["kind"]>, layers: LiveLayers, until: number): void {
  for (let width = WINDOW_BLOCKS_MIN; list.at < until && !list.isDone; width *= 2) {
    const firstBlock = blockOf(list.at);
    const endBlock = Math.min(blocksFor(until), firstBlock + width);
    for (const piece of piecesOf(layers.overlays, firstBlock, endBlock)) {
      const end = Math.min(until, piece.endBlock * BLOCK_BYTES);
      if (piece.kind === "primary") addPrimary(list, layers.primary, end);
      else list.add(end, piece.kind);
      if (list.isDone) return;
    }
  }
}

/** Holes of the primary count in whole blocks; a block of which a part is data is data. */
function addPrimary(list: ExtentList<Extent["kind"]>, primary: Primary, until: number): void {
  while (list.at < until && !list.isDone) {
    const data = primary.seek(list.at, "data") ?? until;
    list.add(data >= until ? until : blockOf(data) * BLOCK_BYTES, "hole");
    if (data >= until) return;
    const hole = Math.max(data + 1, primary.seek(data, "hole") ?? until);
    list.add(Math.min(until, blocksFor(hole) * BLOCK_BYTES), "data");
  }
}

/** A run of blocks that begins where the one before it ended. */
interface Piece {
  readonly endBlock: number;
  /** What the newest overlay has there, or that none has anything. */
  readonly kind: Extent["kind"] | "primary";
}

/** Neighbours may be of one kind. Cost: blocks of the range or of the overlays, whichever are fewer, and wide holes. */
function* piecesOf(overlays: readonly Overlay[], firstBlock: number, endBlock: number): Generator<Piece> {
  const blocks = new Set<number>();
  const holes: { firstBlock: number; endBlock: number }[] = [];
  for (const overlay of overlays) {
    for (const block of overlay.blocksWithin(firstBlock, endBlock)) blocks.add(block);
    holes.push(...overlay.wideHolesWithin(firstBlock, endBlock));
  }
  holes.sort((a, b) => a.firstBlock - b.firstBlock);
  let at = firstBlock;
  let nextHole = 0;
  /** What lies between blocks that were entered one by one: wide holes, or nothing. */
  function* between(until: number): Generator<Piece> {
    while (at < until) {
      const hole = holes[nextHole];
      if (hole !== undefined && hole.endBlock <= at) {
        nextHole++;
        continue;
      }
      const isHole = hole !== undefined && hole.firstBlock <= at;
      at = Math.min(until, (isHole ? hole.endBlock : hole?.firstBlock) ?? until);
      yield { endBlock: at, kind: isHole ? "hole" : "primary" };
    }
  }
  for (const block of Float64Array.from(blocks).sort()) {
    yield* between(block);
    at = block + 1;
    yield { endBlock: at, kind: isHoleOnTop(overlays, block) ? "hole" : "data" };
  }
  yield* between(endBlock);
}

function isHoleOnTop(overlays: readonly Overlay[], block: number): boolean {
  for (let i = overlays.length - 1; i >= 0; i--) {
    const extent = overlays[i]?.find(block);
    if (extent !== undefined) return extent.segment === 0;
  }
  return false;
}

/**
 * The block pointers of ext2 and ext3: twelve direct ones, then trees of one, two and three levels.
 *
 * @module
 */
import { damaged, u32 } from "../_bytes.ts";
import type { BlockSource } from "./block_source.ts";
import type { Run } from "./extents.ts";
import { LOGICAL_BLOCK_END } from "./format.ts";
import type { Inode } from "./inode.ts";

const DIRECT = 12;

/** Finds the run that a logical block below 2^32 of an inode without an extent tree lies in. */
export function findIndirectRun(blocks: BlockSource, inode: Inode, logical: number): Run {
  if (logical < DIRECT) return runOf(inode.blockArea, logical, DIRECT, blocks, inode);
  const perBlock = blocks.blockBytes / 4;
  let index = logical - DIRECT;
  for (let levels = 1; levels <= 3; levels++) {
    const covered = perBlock ** levels;
    if (index < covered) return walk(blocks, inode, levels, index);
    index -= covered;
  }
  return { physical: undefined, count: LOGICAL_BLOCK_END - logical };
}

function walk(blocks: BlockSource, inode: Inode, levels: number, index: number): Run {
  const perBlock = blocks.blockBytes / 4;
  let pointer = u32(inode.blockArea, (DIRECT + levels - 1) * 4);
  let rest = index;
  for (let level = levels; level > 0; level--) {
    const covered = perBlock ** level;
    if (pointer === 0) return { physical: undefined, count: covered - rest };
    const table = blocks.block(pointer);
    const below = covered / perBlock;
    const at = Math.floor(rest / below);
    if (level === 1) return runOf(table, at, perBlock, blocks, inode);
    pointer = u32(table, at * 4);
    rest %= below;
  }
  throw new Error("unreachable: the lowest level returns");
}

/** Extends a run over the pointers of one table while they go on one by one, or stay zero. */
function runOf(table: Uint8Array, from: number, end: number, blocks: BlockSource, inode: Inode): Run {
  const first = u32(table, from * 4);
  let count = 1;
  while (from + count < end && u32(table, (from + count) * 4) === (first === 0 ? 0 : first + count)) count++;
  if (first + count > blocks.blockCount) {
    throw damaged(
      `reading the block pointers of inode ${inode.number}`,
      `block ${first} of ${blocks.blockCount}`,
    );
  }
  return { physical: first === 0 ? undefined : first, count };
}

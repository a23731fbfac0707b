/**
 * The extent tree of ext4: from a logical block to a run of physical ones.
 *
 * ```text
 * header   u16 magic, u16 entries, u16 max, u16 depth, u32 generation
 * index    u32 first logical block, u32 child low, u16 child high, u16 unused
 * leaf     u32 first logical block, u16 length, u16 start high, u32 start low
 * tail     u32 CRC-32C of what lies before it, after `max` entries; not in the root, which lies in the inode
 * ```
 *
 * @module
 */
import { damaged, u16, u32 } from "../_bytes.ts";
import type { BlockSource } from "./block_source.ts";
import { crc32c } from "./crc32c.ts";
import {
  EXTENT_DEPTH_MAX,
  EXTENT_ENTRY_BYTES,
  EXTENT_MAGIC,
  EXTENT_WRITTEN_MAX,
  LOGICAL_BLOCK_END,
} from "./format.ts";
import type { Inode } from "./inode.ts";

/** A run of logical blocks: `count` of them from the one asked for, at least 1. */
export interface Run {
  /** First physical block, or `undefined` when the run reads as zeroes (a hole, or unwritten). */
  readonly physical: number | undefined;
  /** Blocks in the run. */
  readonly count: number;
}

/** Finds the run that a logical block below 2^32 of an inode with an extent tree lies in. */
export function findExtentRun(blocks: BlockSource, checksums: boolean, inode: Inode, logical: number): Run {
  const fail = (found: string) => damaged(`reading the extent tree of inode ${inode.number}`, found);
  let node = inode.blockArea;
  checkNode(node, blocks, fail);
  let depth = u16(node, 6);
  if (depth > EXTENT_DEPTH_MAX) throw fail(`a depth of ${depth}`);
  let end = LOGICAL_BLOCK_END;
  while (true) {
    const at = lastAtOrBefore(node, logical);
    const nextStart = at + 1 < u16(node, 2) ? entryStart(node, at + 1) : LOGICAL_BLOCK_END;
    end = Math.min(end, nextStart);
    if (at < 0) return hole(logical, end, fail);
    const offset = EXTENT_ENTRY_BYTES * (at + 1);
    if (depth === 0) {
      const start = u32(node, offset);
      const length = u16(node, offset + 4);
      const written = length <= EXTENT_WRITTEN_MAX;
      const extentEnd = start + (written ? length : length - EXTENT_WRITTEN_MAX);
      if (logical >= extentEnd) return hole(logical, end, fail);
      return {
        physical: written ? leafStart(node, offset) + logical - start : undefined,
        count: extentEnd - logical,
      };
    }
    depth--;
    const child = u32(node, offset + 4) + u16(node, offset + 8) * 2 ** 32;
    node = blocks.checkedBlock(child, inode.number, (bytes) => {
      checkNode(bytes, blocks, fail);
      if (checksums) checkTail(bytes, inode.checksumSeed, fail);
    });
    if (u16(node, 6) !== depth) throw fail(`a node of depth ${u16(node, 6)} where ${depth} belongs`);
  }
}

function hole(logical: number, end: number, fail: (found: string) => Error): Run {
  if (end <= logical) throw fail("a child that starts after its parent says");
  return { physical: undefined, count: end - logical };
}

function entryStart(node: Uint8Array, index: number): number {
  return u32(node, EXTENT_ENTRY_BYTES * (index + 1));
}

function leafStart(node: Uint8Array, offset: number): number {
  return u32(node, offset + 8) + u16(node, offset + 6) * 2 ** 32;
}

/** Index of the last entry that starts at or before a logical block, -1 for none. */
function lastAtOrBefore(node: Uint8Array, logical: number): number {
  let low = 0;
  let high = u16(node, 2);
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (entryStart(node, middle) <= logical) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

/** Entries are sorted, do not overlap, and point into the file system. */
function checkNode(node: Uint8Array, blocks: BlockSource, fail: (found: string) => Error): void {
  if (u16(node, 0) !== EXTENT_MAGIC) throw fail("a node without its magic number");
  const entries = u16(node, 2);
  const max = u16(node, 4);
  const leaf = u16(node, 6) === 0;
  if (entries > max || (max + 1) * EXTENT_ENTRY_BYTES > node.length || (entries === 0 && !leaf)) {
    throw fail(`a node with ${entries} entries of ${max}`);
  }
  let end = 0;
  for (let at = EXTENT_ENTRY_BYTES; at <= entries * EXTENT_ENTRY_BYTES; at += EXTENT_ENTRY_BYTES) {
    const start = u32(node, at);
    const length = leaf ? u16(node, at + 4) : 1;
    const count = length > EXTENT_WRITTEN_MAX ? length - EXTENT_WRITTEN_MAX : length;
    if (start < end || count === 0 || start + count > LOGICAL_BLOCK_END) {
      throw fail(`an entry of ${count} blocks at ${start} after block ${end}`);
    }
    end = start + count;
    if (leaf && leafStart(node, at) + count > blocks.blockCount) {
      throw fail(`blocks from ${leafStart(node, at)} of ${blocks.blockCount}`);
    }
  }
}

function checkTail(node: Uint8Array, seed: number, fail: (found: string) => Error): void {
  const tail = EXTENT_ENTRY_BYTES * (u16(node, 4) + 1);
  if (crc32c(seed, node, 0, Math.min(tail, node.length)) !== u32(node, tail)) {
    throw fail("a node whose checksum does not match");
  }
}

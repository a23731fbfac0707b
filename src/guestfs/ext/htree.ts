/**
 * The index of a large directory: a tree of hashes over its blocks.
 *
 * ```text
 * root     records "." and "..", then u32 0, u8 hash, u8 8, u8 levels, u8 0, then entries
 * node     one record over the whole block, then entries
 * entries  u16 limit, u16 count, u32 block; then u32 hash, u32 block, `count` - 1 times
 * ```
 * A set lowest bit of a hash says that names of that hash began in the block before.
 *
 * @module
 */
import { damaged, u16, u32, u8 } from "../_bytes.ts";
import { directoryBlock, indexStart } from "./directory_block.ts";
import { INCOMPAT, INODE_FLAG } from "./format.ts";
import { directoryHash, HASH_TEA, HASH_UNSIGNED } from "./htree_hash.ts";
import type { Inode } from "./inode.ts";
import type { ExtVolume } from "./volume.ts";

/** Blocks in which one hash may go on; a directory of equal hashes beyond this is damaged. */
const LEAVES_MAX = 65536;

/** A place in a node: its entries start at `start`, the one taken is `at`. */
interface Frame {
  readonly node: Uint8Array;
  readonly start: number;
  readonly count: number;
  at: number;
}

/**
 * The logical blocks in which a name may lie, by the index, or `undefined` when the index cannot be used and
 * every block has to be searched: its form is not known, or names hash by a key, or the superblock does not say how
 * bytes are hashed. Where case is not told apart it is the folded name that counts.
 */
export function candidateLeaves(
  volume: ExtVolume,
  directory: Inode,
  name: Uint8Array,
): Iterable<number> | undefined {
  const { hashUnsigned, hashSeed, incompat, blockBytes } = volume.superblock;
  if ((directory.flags & INODE_FLAG.encrypted) !== 0) return undefined;
  const blockCount = Math.ceil(directory.sizeBytes / blockBytes);
  const root = nodeAt(volume, directory, 0, blockCount);
  const levels = u8(root, 30);
  if (indexStart(root) !== 32 || levels > ((incompat & INCOMPAT.largeDir) !== 0 ? 2 : 1)) return undefined;
  const stored = u8(root, 28);
  if (stored <= HASH_TEA && hashUnsigned === undefined) return undefined;
  const version = stored <= HASH_TEA && hashUnsigned === true ? stored + HASH_UNSIGNED : stored;
  const hash = directoryHash(name, version, hashSeed);
  if (hash === undefined) return undefined;
  return leavesOf(volume, directory, root, levels, hash, blockCount);
}

function* leavesOf(
  volume: ExtVolume,
  directory: Inode,
  root: Uint8Array,
  levels: number,
  hash: number,
  blockCount: number,
): Generator<number> {
  const frames = [frameOf(root, directory, hash)];
  const descend = () => {
    while (frames.length <= levels) {
      const node = nodeAt(volume, directory, childOf(frames.at(-1) as Frame), blockCount);
      frames.push(frameOf(node, directory, hash));
    }
  };
  descend();
  for (let leaves = 0; leaves < LEAVES_MAX; leaves++) {
    yield childOf(frames.at(-1) as Frame);
    while (frames.length > 0 && isLast(frames.at(-1) as Frame)) frames.pop();
    const frame = frames.at(-1);
    if (frame === undefined) return;
    frame.at++;
    if ((u32(frame.node, frame.start + 8 * frame.at) & ~1) >>> 0 !== hash) return;
    descend();
  }
  throw damaged(`searching directory ${directory.number}`, "an index of too many equal hashes");
}

function nodeAt(volume: ExtVolume, directory: Inode, logical: number, blockCount: number): Uint8Array {
  const physical = logical < blockCount ? volume.findRun(directory, logical).physical : undefined;
  if (physical === undefined) {
    throw damaged(`searching directory ${directory.number}`, `its index leads to block ${logical}, a hole`);
  }
  return directoryBlock(volume, directory, logical, physical);
}

/** Opens a node at the last entry that is not above the hash; the first entry stands for all that is below. */
function frameOf(node: Uint8Array, directory: Inode, hash: number): Frame {
  const start = indexStart(node);
  const count = start === undefined ? 0 : u16(node, start + 2);
  if (
    start === undefined || count < 1 || count > u16(node, start) ||
    start + 8 * count > node.length
  ) {
    throw damaged(`searching directory ${directory.number}`, `an index node with ${count} entries`);
  }
  let low = 1;
  let high = count;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (u32(node, start + 8 * middle) <= hash) low = middle + 1;
    else high = middle;
  }
  return { node, start, count, at: low - 1 };
}

function isLast(frame: Frame): boolean {
  return frame.at + 1 >= frame.count;
}

function childOf(frame: Frame): number {
  return u32(frame.node, frame.start + 8 * frame.at + 4) & 0x0fffffff;
}

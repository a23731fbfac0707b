/**
 * From a block of a file to a block of the device: extents in the inode, or a tree of them.
 *
 * ```text
 * record, 128 bits   1 unwritten, 54 first block of the file, 52 block address, 21 number of blocks
 * root in the inode  u16 level, u16 records, keys of u64, pointers of u64 from half of the room on
 * block of the tree  magic, u16 level, u16 records, left and right neighbour, (version 5: proof), then as the root, or records
 * ```
 *
 * @module
 */
import { VarveError } from "../../base/errors.ts";
import { damaged, u16be, u32be, u64be } from "../_bytes.ts";
import { BMBT_HEADER, FORK_FORMAT, MAGIC } from "./format.ts";
import type { Fork } from "./inode.ts";
import type { XfsVolume } from "./volume.ts";

const RECORD_BYTES = 16;
const HEADER_BYTES = { v4: 24, v5: 72 } as const;
const LEVELS_MAX = 12;
/** Blocks beyond what any file can have. */
const FILE_BLOCKS_END = 2 ** 54;
/** Extents that a file with unfinished changes may have: they are all read then. */
const LISTED_MAX = 500_000;

/** A run of blocks of a file. */
export interface Extent {
  /** First block, counted in the file. */
  readonly start: number;
  readonly count: number;
  /** Block address on the device. */
  readonly address: number;
  /** Allocated, but reads as zeroes. */
  readonly unwritten: boolean;
}

/** The run that a block of a file lies in, from that block on. */
export interface Run {
  /** Byte of the device, or `undefined` for what reads as zeroes. */
  readonly offset: number | undefined;
  readonly count: number;
}

/** Extents of a leaf or an inode are parsed once. */
const PARSED = new WeakMap<Uint8Array, readonly Extent[]>();
/** Extents of forks with unfinished changes. */
const CHANGED = new WeakMap<Fork, readonly Extent[]>();

/** Finds the run of a fork that begins at block `logical`. */
export function findRun(volume: XfsVolume, fork: Fork, logical: number): Run {
  const { extents, limit } = leafFor(volume, fork, logical);
  let low = 0;
  let high = extents.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const extent = extents[middle];
    if (extent !== undefined && extent.start + extent.count <= logical) low = middle + 1;
    else high = middle;
  }
  const extent = extents[low];
  if (extent === undefined || extent.start > logical) {
    return { offset: undefined, count: (extent?.start ?? limit) - logical };
  }
  const within = logical - extent.start;
  const count = extent.count - within;
  if (extent.unwritten) return { offset: undefined, count };
  const offset = volume.blockOffset(extent.address, extent.count) + within * volume.superblock.blockBytes;
  return { offset, count };
}

/** The extents of the one leaf that can have `logical`, and the block where another leaf begins. */
function leafFor(
  volume: XfsVolume,
  fork: Fork,
  logical: number,
): { extents: readonly Extent[]; limit: number } {
  if (logical >= FILE_BLOCKS_END) return { extents: [], limit: Number.MAX_SAFE_INTEGER };
  if (!fork.attributes && volume.pending.mappings.has(fork.owner)) {
    return { extents: changedExtents(volume, fork), limit: FILE_BLOCKS_END };
  }
  return storedLeaf(volume, fork, logical);
}

function storedLeaf(
  volume: XfsVolume,
  fork: Fork,
  logical: number,
): { extents: readonly Extent[]; limit: number } {
  const fail = (found: string) => damaged(`reading the extents of inode ${fork.owner}`, found);
  if (fork.format === FORK_FORMAT.extents) {
    return { extents: inlineExtents(fork), limit: FILE_BLOCKS_END };
  }
  if (fork.format !== FORK_FORMAT.btree) throw fail(`they have format ${fork.format}`);
  let level = u16be(fork.bytes, 0);
  if (level === 0 || level > LEVELS_MAX) throw fail(`${level} levels`);
  let node: TreeNode = {
    bytes: fork.bytes,
    records: u16be(fork.bytes, 2),
    keys: 4,
    room: Math.floor((fork.bytes.length - 4) / RECORD_BYTES),
  };
  let limit = FILE_BLOCKS_END;
  for (;;) {
    const child = childFor(node, logical, fail);
    limit = Math.min(limit, child.limit);
    level--;
    node = treeBlock(volume, fork, child.address, level);
    if (level === 0) break;
  }
  let extents = PARSED.get(node.bytes);
  if (extents === undefined) {
    extents = parseExtents(node.bytes, node.keys, node.records, fork.owner);
    PARSED.set(node.bytes, extents);
  }
  const last = extents.at(-1);
  if (last !== undefined && last.start + last.count > limit) throw fail("a leaf reaches into the next");
  return { extents, limit };
}

interface TreeNode {
  readonly bytes: Uint8Array;
  readonly records: number;
  /** Where keys, or the records of a leaf, begin. */
  readonly keys: number;
  /** Records there is room for. */
  readonly room: number;
}

/** The last child whose key is not beyond `logical` (or the first), and the key of the one behind it. */
function childFor(
  { bytes, records, keys, room }: TreeNode,
  logical: number,
  fail: (found: string) => VarveError,
): { address: number; limit: number } {
  if (records === 0 || records > room) throw fail(`${records} records where ${room} have room`);
  let low = 0;
  let high = records - 1;
  while (low < high) {
    const middle = (low + high + 1) >>> 1;
    if (u64be(bytes, keys + middle * 8) <= logical) low = middle;
    else high = middle - 1;
  }
  const limit = low + 1 < records ? u64be(bytes, keys + (low + 1) * 8) : FILE_BLOCKS_END;
  if (limit <= logical) throw fail("keys out of order");
  return { address: u64be(bytes, keys + (room + low) * 8), limit };
}

function treeBlock(volume: XfsVolume, fork: Fork, address: number, level: number): TreeNode {
  const { superblock: { blockBytes, v5 }, metadata, pending } = volume;
  const offset = volume.blockOffset(address, 1);
  const bytes = metadata.block(offset, blockBytes);
  const keys = v5 ? HEADER_BYTES.v5 : HEADER_BYTES.v4;
  const room = Math.floor((blockBytes - keys) / RECORD_BYTES);
  const records = u16be(bytes, 6);
  const fail = (found: string) => damaged(`reading the extents of inode ${fork.owner}`, found);
  metadata.checkOnce(bytes, fork.owner, () => {
    if (u32be(bytes, 0) !== (v5 ? MAGIC.bmbt.v5 : MAGIC.bmbt.v4)) throw fail("a magic number is wrong");
    // A swap of two files' extents leaves the owner behind for the replay of the log to correct.
    const owner = pending.ownersChanged.has(fork.owner) && v5 ? u64be(bytes, BMBT_HEADER.owner) : fork.owner;
    volume.proveBlock(bytes, BMBT_HEADER, { offset, owner, what: "a block of extents" });
  });
  if (u16be(bytes, 4) !== level || records === 0 || records > room) {
    throw fail(`level ${u16be(bytes, 4)} with ${records} records where level ${level} should be`);
  }
  return { bytes, records, keys, room };
}

function inlineExtents(fork: Fork): readonly Extent[] {
  let extents = PARSED.get(fork.bytes);
  if (extents === undefined) {
    if (fork.extents * RECORD_BYTES > fork.bytes.length) {
      throw damaged(
        `reading the extents of inode ${fork.owner}`,
        `${fork.extents} in ${fork.bytes.length} bytes`,
      );
    }
    extents = parseExtents(fork.bytes, 0, fork.extents, fork.owner);
    PARSED.set(fork.bytes, extents);
  }
  return extents;
}

/** Parses records, which must be in order and may not overlap. */
function parseExtents(bytes: Uint8Array, at: number, count: number, owner: number): readonly Extent[] {
  const extents: Extent[] = [];
  let end = 0;
  for (let index = 0; index < count; index++) {
    const record = at + index * RECORD_BYTES;
    const [first, second, third, fourth] = [0, 4, 8, 12].map((field) => u32be(bytes, record + field));
    if (first === undefined || second === undefined || third === undefined || fourth === undefined) break;
    const extent: Extent = {
      unwritten: first >= 2 ** 31,
      start: first % 2 ** 31 * 2 ** 23 + (second >>> 9),
      address: (second & 0x1ff) * 2 ** 43 + third * 2 ** 11 + (fourth >>> 21),
      count: fourth & 0x1fffff,
    };
    if (extent.count === 0 || extent.start < end || extent.start >= FILE_BLOCKS_END) {
      throw damaged(`reading the extents of inode ${owner}`, "they are out of order");
    }
    end = extent.start + extent.count;
    extents.push(extent);
  }
  return extents;
}

/** Every extent of a fork, in order; `unsupported` when there are too many to keep. */
function allExtents(volume: XfsVolume, fork: Fork): Extent[] {
  const all: Extent[] = [];
  let visited = 0;
  for (let at = 0; at < FILE_BLOCKS_END;) {
    const { extents, limit } = storedLeaf(volume, fork, at);
    for (const extent of extents) if (extent.start >= at) all.push(extent);
    visited += extents.length;
    if (visited > LISTED_MAX) {
      throw new VarveError(
        "unsupported",
        `reading inode ${fork.owner}: too many extents to finish its changes`,
      );
    }
    at = limit;
  }
  return all;
}

/** The extents as they are once the changes that the log announced are done. */
function changedExtents(volume: XfsVolume, fork: Fork): readonly Extent[] {
  const known = CHANGED.get(fork);
  if (known !== undefined) return known;
  let extents = allExtents(volume, fork);
  for (const { map, start, count, address, unwritten } of volume.pending.mappings.get(fork.owner) ?? []) {
    extents = extents.flatMap((extent) => without(extent, start, start + count));
    if (map) extents.push({ start, count, address, unwritten });
    extents.sort((left, right) => left.start - right.start);
  }
  CHANGED.set(fork, extents);
  return extents;
}

/** What is left of an extent when a range of the file is taken out. */
function without(extent: Extent, from: number, to: number): Extent[] {
  const end = extent.start + extent.count;
  const parts: Extent[] = [];
  if (extent.start < from) parts.push({ ...extent, count: Math.min(end, from) - extent.start });
  if (end > to) {
    const skipped = Math.max(0, to - extent.start);
    parts.push({
      ...extent,
      start: extent.start + skipped,
      address: extent.address + skipped,
      count: extent.count - skipped,
    });
  }
  return parts;
}

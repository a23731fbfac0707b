/**
 * Fast commits: short logical records that follow the last transaction of a journal.
 *
 * ```text
 * every record   u16 tag, u16 length, then `length` bytes; a record never crosses a block
 * head           u32 features, u32 transaction
 * inode          u32 inode, its bytes
 * add range      u32 inode, an extent (u32 logical, u16 length, u16 start high, u32 start low)
 * delete range   u32 inode, u32 logical, u32 blocks
 * create, link, unlink   u32 parent, u32 inode, name
 * tail           u32 transaction, u32 CRC-32C of everything since the head, to the end of the block
 * ```
 *
 * Records up to the last valid tail count; the kernel promised nobody what comes after it. Source: the
 * kernel's `fs/ext4/fast_commit.h`.
 *
 * @module
 */
import { damaged, latin1, slice, u16, u32 } from "../_bytes.ts";
import { VarveError } from "../../base/errors.ts";
import { crc32c } from "./crc32c.ts";
import { findInDirectory } from "./directory.ts";
import type { DirectoryOverlay } from "./fast_commit_overlay.ts";
import { RangeOverlay } from "./fast_commit_overlay.ts";
import {
  EXTENT_ENTRY_BYTES,
  EXTENT_MAGIC,
  EXTENT_WRITTEN_MAX,
  INODE,
  INODE_BLOCK_BYTES,
  INODE_FLAG,
} from "./format.ts";
import type { ExtVolume } from "./volume.ts";

const TAG = {
  addRange: 1,
  deleteRange: 2,
  create: 3,
  link: 4,
  unlink: 5,
  inode: 6,
  pad: 7,
  tail: 8,
  head: 9,
} as const;

/** Blocks of fast commits that one replay takes: four times what the largest usual journal sets aside. */
const BLOCKS_MAX = 16384;
const RECORD_HEADER_BYTES = 4;
const TYPE_MASK = 0xf000;
const TYPE_DIRECTORY = 0x4000;

/** One record that is to be replayed. */
export interface FastCommitTag {
  /** Kind of record. */
  readonly tag: number;
  /** Its value. */
  readonly value: Uint8Array;
}

/** Where fast commits lie in the log, and the transaction that they must belong to. */
export interface FastCommitArea {
  readonly first: number;
  /** One past the last block. */
  readonly end: number;
  readonly transaction: number;
}

/** Reads the records of all complete fast commits; `read` gives a block that stays as it is. */
export function readFastCommits(
  read: (position: number) => Uint8Array,
  area: FastCommitArea,
): FastCommitTag[] {
  const complete: FastCommitTag[] = [];
  let pending: FastCommitTag[] = [];
  let sum = 0;
  for (let position = area.first; position < area.end; position++) {
    if (position - area.first >= BLOCKS_MAX) {
      throw new VarveError("unsupported", "replaying fast commits: there are too many");
    }
    const block = read(position);
    for (let at = 0; at + RECORD_HEADER_BYTES <= block.length;) {
      const tag = u16(block, at);
      const end = at + RECORD_HEADER_BYTES + u16(block, at + 2);
      if (end > block.length) return complete;
      const value = block.subarray(at + RECORD_HEADER_BYTES, end);
      switch (tag) {
        case TAG.head:
          if (value.length < 8 || u32(value, 4) !== area.transaction) return complete;
          if (u32(value, 0) !== 0) {
            throw new VarveError("unsupported", "replaying fast commits: they use unknown features");
          }
          sum = crc32c(sum, block, at, end);
          break;
        case TAG.tail:
          if (value.length < 8 || u32(value, 0) !== area.transaction) return complete;
          if (crc32c(sum, block, at, at + RECORD_HEADER_BYTES + 4) !== u32(value, 4)) return complete;
          for (const record of pending) complete.push(record);
          pending = [];
          sum = 0;
          break;
        case TAG.addRange:
        case TAG.deleteRange:
        case TAG.create:
        case TAG.link:
        case TAG.unlink:
        case TAG.inode:
        case TAG.pad:
          sum = crc32c(sum, block, at, end);
          if (tag !== TAG.pad) pending.push({ tag, value });
          break;
        default:
          return complete;
      }
      at = end;
    }
  }
  return complete;
}

/** Applies records in order to what the volume keeps beside its blocks. */
export function applyFastCommits(volume: ExtVolume, tags: readonly FastCommitTag[]): void {
  for (const { tag, value } of tags) {
    switch (tag) {
      case TAG.inode:
        applyInode(volume, u32(value, 0), value.subarray(4));
        break;
      case TAG.addRange: {
        const length = u16(value, 8);
        const written = length <= EXTENT_WRITTEN_MAX;
        const physical = u32(value, 12) + u16(value, 10) * 2 ** 32;
        mapRange(volume, u32(value, 0), u32(value, 4), {
          count: written ? length : length - EXTENT_WRITTEN_MAX,
          physical: written ? physical : undefined,
        });
        break;
      }
      case TAG.deleteRange:
        mapRange(volume, u32(value, 0), u32(value, 4), { count: u32(value, 8), physical: undefined });
        break;
      case TAG.unlink:
        applyUnlink(volume, u32(value, 0), slice(value, 8, value.length));
        break;
      default:
        applyLink(volume, u32(value, 0), u32(value, 4), slice(value, 8, value.length), tag === TAG.create);
        break;
    }
  }
}

/** Takes over an inode, but not the root of its extent tree: ranges say how that changed. */
function applyInode(volume: ExtVolume, number: number, newer: Uint8Array): void {
  const raw = volume.inodes.raw(number).slice();
  if (newer.length > raw.length || newer.length < INODE.generation) {
    throw damaged("replaying fast commits", `an inode of ${newer.length} bytes`);
  }
  const oldBlock = raw.slice(INODE.block, INODE.block + INODE_BLOCK_BYTES);
  raw.set(newer);
  if ((u32(raw, INODE.flags) & INODE_FLAG.extents) !== 0) {
    raw.set(u16(oldBlock, 0) === EXTENT_MAGIC ? oldBlock : emptyExtentRoot(), INODE.block);
  }
  volume.newer.inodes.set(number, raw);
  volume.inodes.forget(number);
}

function emptyExtentRoot(): Uint8Array {
  const root = new Uint8Array(INODE_BLOCK_BYTES);
  const view = new DataView(root.buffer);
  view.setUint16(0, EXTENT_MAGIC, true);
  view.setUint16(4, INODE_BLOCK_BYTES / EXTENT_ENTRY_BYTES - 1, true);
  return root;
}

function mapRange(
  volume: ExtVolume,
  number: number,
  start: number,
  range: { count: number; physical: number | undefined },
): void {
  if (range.count === 0) return;
  if (range.physical !== undefined && range.physical + range.count > volume.superblock.blockCount) {
    throw damaged("replaying fast commits", `blocks from ${range.physical} are outside the file system`);
  }
  let overlay = volume.newer.ranges.get(number);
  if (overlay === undefined) volume.newer.ranges.set(number, overlay = new RangeOverlay());
  overlay.set(start, range.count, range.physical);
}

function namesOf(volume: ExtVolume, directory: number): DirectoryOverlay {
  const known = volume.newer.directories.get(directory);
  if (known !== undefined) return known;
  const overlay: DirectoryOverlay = { fresh: false, names: new Map() };
  volume.newer.directories.set(directory, overlay);
  return overlay;
}

function applyLink(
  volume: ExtVolume,
  parent: number,
  number: number,
  name: Uint8Array,
  created: boolean,
): void {
  const raw = volume.inodes.raw(number);
  if (created && (u16(raw, INODE.mode) & TYPE_MASK) === TYPE_DIRECTORY) {
    // The blocks of a new directory are not part of a fast commit: it starts empty.
    namesOf(volume, number).fresh = true;
  }
  if (!created && findInDirectory(volume, volume.inodes.get(parent), name) === undefined) {
    addLinks(volume, number, 1);
  }
  namesOf(volume, parent).names.set(latin1(name), { name: name.slice(), inode: number, type: undefined });
}

function applyUnlink(volume: ExtVolume, parent: number, name: Uint8Array): void {
  const number = findInDirectory(volume, volume.inodes.get(parent), name);
  if (number === undefined) return;
  namesOf(volume, parent).names.set(latin1(name), undefined);
  addLinks(volume, number, -1);
}

function addLinks(volume: ExtVolume, number: number, change: number): void {
  const raw = volume.inodes.raw(number).slice();
  const links = Math.max(0, u16(raw, INODE.links) + change);
  raw[INODE.links] = links;
  raw[INODE.links + 1] = links >>> 8;
  volume.newer.inodes.set(number, raw);
  volume.inodes.forget(number);
}

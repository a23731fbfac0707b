/**
 * Directories: listing them, and finding a name through the hashes.
 *
 * The blocks of entries begin at byte 0 of the directory's content, the index of hashes at 32 GiB: one leaf, or nodes
 * that lead to leaves. A place is counted in units of 8 bytes of the content.
 *
 * @module
 */
import { VarveError } from "../../base/errors.ts";
import { damaged, equalBytes, u16be, u32be } from "../_bytes.ts";
import type { GuestEntry } from "../guest.ts";
import {
  blockLeaf,
  dataEntries,
  type DirectoryBlock,
  entryAt,
  inlineEntries,
  readDaBlock,
} from "./directory_block.ts";
import { findRun } from "./extents.ts";
import { FORK_FORMAT } from "./format.ts";
import type { Inode } from "./inode.ts";
import { foldCase, hashFoldedName, hashName } from "./name_hash.ts";
import type { XfsVolume } from "./volume.ts";

const LEAF_BYTE = 2 ** 35;
const PLACE_UNIT = 8;
const LEVELS_MAX = 8;
/** Names that one listing gives. */
const ENTRIES_MAX = 4_000_000;

/** Every name but `.` and `..`. */
export function listDirectory(volume: XfsVolume, inode: Inode): GuestEntry[] {
  if (inode.data.format === FORK_FORMAT.local) return [...inlineEntries(volume, inode)].map(ownName);
  const entries: GuestEntry[] = [];
  for (const block of dataBlocks(volume, inode)) {
    for (const entry of dataEntries(volume, block)) {
      if (!isDots(entry.name)) entries.push(ownName(entry));
    }
    if (entries.length > ENTRIES_MAX) {
      throw new VarveError("unsupported", `reading directory ${inode.number}: over ${ENTRIES_MAX} names`);
    }
  }
  return entries;
}

function ownName({ name, inode, type }: GuestEntry): GuestEntry {
  return { name: name.slice(), inode, type };
}

function isDots(name: Uint8Array): boolean {
  return name.length <= 2 && name.every((byte) => byte === 0x2e);
}

function* dataBlocks(volume: XfsVolume, inode: Inode): Generator<DirectoryBlock> {
  const { blockBytes, directoryBlockBytes: length } = volume.superblock;
  const { stat: { sizeBytes } } = inode;
  if (sizeBytes > LEAF_BYTE) throw damaged(`reading directory ${inode.number}`, `${sizeBytes} bytes`);
  const step = length / blockBytes;
  const end = Math.ceil(sizeBytes / blockBytes);
  let room = Math.ceil(volume.superblock.blocks / step);
  for (let logical = 0; logical < end;) {
    const block = readDaBlock(volume, inode, { logical, length, attributes: false }, ["dirBlock", "dirData"]);
    if (block !== undefined) {
      if (--room < 0) {
        throw damaged(`reading directory ${inode.number}`, "more blocks than the file system has");
      }
      yield block;
      logical += step;
    } else {
      const { count } = findRun(volume, inode.data, logical);
      logical += Math.max(step, Math.floor(count / step) * step);
    }
  }
}

/** The inode of a name, or `undefined`. */
export function findInDirectory(volume: XfsVolume, inode: Inode, name: Uint8Array): number | undefined {
  if (name.length === 0 || isDots(name)) return undefined;
  const { asciiCi } = volume.superblock;
  const same = asciiCi ? equalFolded : equalBytes;
  if (inode.data.format === FORK_FORMAT.local) {
    for (const entry of inlineEntries(volume, inode)) if (same(entry.name, name)) return entry.inode;
    return undefined;
  }
  const wanted = asciiCi ? hashFoldedName(name) : hashName(name);
  for (const { block, at } of candidates(volume, inode, wanted)) {
    const entry = entryAt(volume, block, at);
    if (same(entry.name, name)) return entry.inode;
  }
  return undefined;
}

function equalFolded(left: Uint8Array, right: Uint8Array): boolean {
  return equalBytes(left.map(foldCase), right.map(foldCase));
}

/** The entries whose hash is that one. */
function* candidates(
  volume: XfsVolume,
  inode: Inode,
  hash: number,
): Generator<{ block: DirectoryBlock; at: number }> {
  const { directoryBlockBytes: length, blockBytes } = volume.superblock;
  for (const { bytes, at, count } of leaves(volume, inode, hash)) {
    if (at + count * 8 > bytes.length) {
      throw damaged(`reading directory ${inode.number}`, `${count} hashes in a leaf`);
    }
    for (let index = firstNotBelow(bytes, at, count, hash); index < count; index++) {
      if (u32be(bytes, at + index * 8) !== hash) break;
      const place = u32be(bytes, at + index * 8 + 4) * PLACE_UNIT;
      if (place === 0) continue;
      const logical = Math.floor(place / length) * (length / blockBytes);
      const block = readDaBlock(volume, inode, { logical, length, attributes: false }, [
        "dirBlock",
        "dirData",
      ]);
      if (block === undefined) throw damaged(`reading directory ${inode.number}`, "a hash leads to a hole");
      yield { block, at: place % length };
    }
  }
}

interface Hashes {
  readonly bytes: Uint8Array;
  readonly at: number;
  readonly count: number;
}

/** The lists of hashes that may have this one, in order. */
function* leaves(volume: XfsVolume, inode: Inode, hash: number): Generator<Hashes> {
  const { directoryBlockBytes: length, blockBytes, v5 } = volume.superblock;
  if (inode.stat.sizeBytes === length) {
    const whole = readDaBlock(volume, inode, { logical: 0, length, attributes: false }, [
      "dirBlock",
      "dirData",
    ]);
    if (whole?.kind === "dirBlock") {
      yield { bytes: whole.bytes, ...blockLeaf(whole) };
      return;
    }
  }
  let place = { logical: LEAF_BYTE / blockBytes, length, attributes: false };
  for (let depth = 0; depth <= LEVELS_MAX; depth++) {
    const block = readDaBlock(volume, inode, place, ["node", "dirLeaf", "dirLeafOfNode"]);
    if (block === undefined) throw damaged(`reading directory ${inode.number}`, "a leaf is a hole");
    if (block.kind === "node") {
      const child = childOf(block.bytes, v5, hash);
      if (child === undefined) return;
      place = { ...place, logical: child };
      continue;
    }
    yield* leafAndNext(volume, inode, block, hash);
    return;
  }
  throw damaged(`reading directory ${inode.number}`, "its index is too deep");
}

/** A leaf, and those behind it as long as they begin with the hash that the last one ended with. */
function* leafAndNext(
  volume: XfsVolume,
  inode: Inode,
  first: DirectoryBlock,
  hash: number,
): Generator<Hashes> {
  const { directoryBlockBytes: length, v5 } = volume.superblock;
  const at = v5 ? 64 : 16;
  const seen = new Set<number>();
  for (let block = first;;) {
    const count = u16be(block.bytes, v5 ? 56 : 12);
    yield { bytes: block.bytes, at, count };
    const next = u32be(block.bytes, 0);
    if (block.kind === "dirLeaf" || next === 0 || count === 0) return;
    if (u32be(block.bytes, at + (count - 1) * 8) > hash) return;
    if (seen.has(next)) throw damaged(`reading directory ${inode.number}`, "its leaves form a ring");
    seen.add(next);
    const following = readDaBlock(volume, inode, { logical: next, length, attributes: false }, [
      "dirLeafOfNode",
    ]);
    if (following === undefined) throw damaged(`reading directory ${inode.number}`, "a leaf is a hole");
    if (u32be(following.bytes, at) > hash) return;
    block = following;
  }
}

/** The child of a node that has the first hash not below the wanted one; `undefined` beyond the last. */
export function childOf(bytes: Uint8Array, v5: boolean, hash: number): number | undefined {
  const count = u16be(bytes, v5 ? 56 : 12);
  const at = v5 ? 64 : 16;
  if (at + count * 8 > bytes.length) throw damaged("reading a node", `${count} entries`);
  const index = firstNotBelow(bytes, at, count, hash);
  return index === count ? undefined : u32be(bytes, at + index * 8 + 4);
}

/** The first of the sorted entries, 8 bytes each, whose hash is not below the wanted one. */
function firstNotBelow(bytes: Uint8Array, at: number, count: number, hash: number): number {
  let low = 0;
  let high = count;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (u32be(bytes, at + middle * 8) < hash) low = middle + 1;
    else high = middle;
  }
  return low;
}

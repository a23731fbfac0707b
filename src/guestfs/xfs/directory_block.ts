/**
 * Blocks of directories with their proofs, and the entries in them.
 *
 * ```text
 * in the inode   u8 entries, u8 of which with wide numbers, parent; an entry: u8 length, u16 place, name, (u8 type), number
 * data block     header, then entries and gaps on multiples of 8
 *   entry        u64 inode, u8 length, name, (u8 type), padding, u16 own place
 *   gap          u16 0xffff, u16 length, …, u16 own place
 * block form     one data block; at its end hash and place of each entry, then u32 count, u32 stale
 * ```
 *
 * @module
 */
import { damaged, slice, u16be, u32be, u64be, u8 } from "../_bytes.ts";
import type { GuestEntry, GuestFileType } from "../guest.ts";
import { findRun } from "./extents.ts";
import { DA_HEADER, DIR_HEADER, MAGIC } from "./format.ts";
import type { Inode } from "./inode.ts";
import type { XfsVolume } from "./volume.ts";

const DATA_HEADER_BYTES = { v4: 16, v5: 64 } as const;
const GAP = 0xffff;
const LEAF_ENTRY_BYTES = 8;

const TYPES: readonly (GuestFileType | undefined)[] = [
  undefined,
  "file",
  "directory",
  "character",
  "block",
  "fifo",
  "socket",
  "symlink",
];

/** A block of a directory. */
export interface DirectoryBlock {
  readonly bytes: Uint8Array;
  /** Its magic number, as version 4 has it. */
  readonly kind: "dirBlock" | "dirData" | "dirLeaf" | "dirLeafOfNode" | "node" | "attrLeaf";
}

/** An entry, with `.` and `..`. */
export interface RawEntry extends GuestEntry {
  /** Where it begins in its block. */
  readonly at: number;
}

/**
 * Reads the block of a fork that begins at its block `logical` and has `length` bytes; it must be of one of the kinds.
 * `undefined` for a hole.
 */
export function readDaBlock(
  volume: XfsVolume,
  inode: Inode,
  place: { readonly logical: number; readonly length: number; readonly attributes: boolean },
  kinds: readonly DirectoryBlock["kind"][],
): DirectoryBlock | undefined {
  const { metadata, superblock: { v5, blockBytes } } = volume;
  const { logical, length, attributes } = place;
  const fork = attributes ? inode.attributes : inode.data;
  const what = attributes ? "an attribute block" : "a directory block";
  const fail = (found: string) => damaged(`reading ${what} of inode ${inode.number}`, found);
  if (fork === undefined) throw fail("it has no attributes");
  const run = findRun(volume, fork, logical);
  if (run.offset === undefined) return undefined;
  const pieces = run.count * blockBytes >= length ? undefined : piecesOf(volume, inode, logical, length);
  const bytes = pieces === undefined ? metadata.block(run.offset, length) : gather(volume, pieces);
  const kind = kinds.find((each) => magicOf(bytes, each) === MAGIC[each][v5 ? "v5" : "v4"]);
  if (kind === undefined) throw fail("its magic number is wrong");
  const offset = run.offset;
  metadata.checkOnce(bytes, inode.number, () => {
    const header = hasDirectoryHeader(kind) ? DIR_HEADER : DA_HEADER;
    const replayed = (pieces ?? []).some((piece) => metadata.replayed(piece, blockBytes)) ||
      metadata.replayed(offset, pieces === undefined ? length : blockBytes);
    volume.proveBlock(bytes, header, { offset, owner: inode.number, what, replayed });
  });
  return { bytes, kind };
}

function hasDirectoryHeader(kind: DirectoryBlock["kind"]): boolean {
  return kind === "dirBlock" || kind === "dirData";
}

/** The magic number where blocks of a kind have it. */
function magicOf(bytes: Uint8Array, kind: DirectoryBlock["kind"]): number {
  return hasDirectoryHeader(kind) ? u32be(bytes, 0) : u16be(bytes, 8);
}

/** Where the blocks lie of a directory block in pieces. */
function piecesOf(volume: XfsVolume, inode: Inode, logical: number, length: number): number[] {
  return Array.from({ length: length / volume.superblock.blockBytes }, (_, index) => {
    const { offset } = findRun(volume, inode.data, logical + index);
    if (offset === undefined) {
      throw damaged(`reading a directory block of inode ${inode.number}`, "it has a hole");
    }
    return offset;
  });
}

function gather(volume: XfsVolume, pieces: readonly number[]): Uint8Array {
  const { blockBytes } = volume.superblock;
  const bytes = new Uint8Array(pieces.length * blockBytes);
  for (const [index, offset] of pieces.entries()) {
    bytes.set(volume.metadata.block(offset, blockBytes), index * blockBytes);
  }
  return bytes;
}

/** Bytes before the first entry of a data block. */
export function dataHeaderBytes(volume: XfsVolume): number {
  return volume.superblock.v5 ? DATA_HEADER_BYTES.v5 : DATA_HEADER_BYTES.v4;
}

/** Where the entries of a data block end. */
function dataEnd({ bytes, kind }: DirectoryBlock): number {
  if (kind !== "dirBlock") return bytes.length;
  return bytes.length - 8 - u32be(bytes, bytes.length - 8) * LEAF_ENTRY_BYTES;
}

/** The list of hashes and places at the end of a directory of one block. */
export function blockLeaf(block: DirectoryBlock): { at: number; count: number } {
  const at = dataEnd(block);
  if (at < 0) throw damaged("reading a directory block", "it counts more names than it has room for");
  return { at, count: u32be(block.bytes, block.bytes.length - 8) };
}

/** The entry that begins at `at` of a block. */
export function entryAt(volume: XfsVolume, { bytes }: DirectoryBlock, at: number): RawEntry {
  const length = u8(bytes, at + 8);
  const name = slice(bytes, at + 9, at + 9 + length);
  const type = volume.superblock.fileTypes ? TYPES[u8(bytes, at + 9 + length)] : undefined;
  const tag = at + entryBytes(volume, length) - 2;
  if (length === 0 || u16be(bytes, tag) !== at) throw damaged("reading a directory entry", "it is damaged");
  return { at, name, inode: u64be(bytes, at), type };
}

function entryBytes(volume: XfsVolume, nameBytes: number): number {
  return Math.ceil((11 + nameBytes + (volume.superblock.fileTypes ? 1 : 0)) / 8) * 8;
}

/** The entries of a data block, in order. */
export function* dataEntries(volume: XfsVolume, block: DirectoryBlock): Generator<RawEntry> {
  const end = blockEnd(block);
  for (let at = dataHeaderBytes(volume); at < end;) {
    if (u16be(block.bytes, at) === GAP) {
      const length = u16be(block.bytes, at + 2);
      if (length < 8 || length % 8 !== 0 || at + length > end) {
        throw damaged("reading a directory block", `a gap of ${length} bytes`);
      }
      at += length;
      continue;
    }
    const entry = entryAt(volume, block, at);
    at += entryBytes(volume, entry.name.length);
    if (at > end) throw damaged("reading a directory block", "its last entry has no room");
    yield entry;
  }
}

function blockEnd(block: DirectoryBlock): number {
  return block.kind === "dirBlock" ? blockLeaf(block).at : block.bytes.length;
}

/** The entries of a directory within its inode. */
export function* inlineEntries(volume: XfsVolume, inode: Inode): Generator<GuestEntry> {
  const { data: { bytes }, stat: { sizeBytes } } = inode;
  const tried = `reading directory ${inode.number}`;
  if (sizeBytes > bytes.length) throw damaged(tried, `${sizeBytes} bytes within the inode`);
  const wide = u8(bytes, 1) > 0;
  const count = u8(bytes, 0);
  const numberBytes = wide ? 8 : 4;
  const typeBytes = volume.superblock.fileTypes ? 1 : 0;
  let at = 2 + numberBytes;
  for (let index = 0; index < count; index++) {
    const length = u8(bytes, at);
    const name = slice(bytes, at + 3, at + 3 + length);
    const type = typeBytes === 0 ? undefined : TYPES[u8(bytes, at + 3 + length)];
    const number = at + 3 + length + typeBytes;
    at = number + numberBytes;
    if (length === 0 || at > sizeBytes) throw damaged(tried, "an entry is damaged");
    yield { name, inode: wide ? u64be(bytes, number) : u32be(bytes, number), type };
  }
}

/**
 * Inodes: found through the group descriptors, checked, parsed and kept in a bounded cache.
 *
 * @module
 */
import { VarveError } from "../../base/errors.ts";
import { damaged, slice, u16, u32 } from "../_bytes.ts";
import { ByteLru } from "../_lru.ts";
import type { GuestFileType, GuestStat } from "../guest.ts";
import type { BlockSource } from "./block_source.ts";
import { crc32c, crc32cNumber } from "./crc32c.ts";
import {
  INCOMPAT,
  INODE,
  INODE_BASE_BYTES,
  INODE_BLOCK_BYTES,
  INODE_FLAG,
  RO_COMPAT,
  ROOT_INODE,
} from "./format.ts";
import type { GroupTable } from "./group_table.ts";
import type { Superblock } from "./superblock.ts";

/** An inode as the readers use it: what `stat` shows, and where content and attributes lie. */
export interface Inode {
  /** Its number. */
  readonly number: number;
  /** Kind of file. */
  readonly type: GuestFileType;
  /** Size in bytes. */
  readonly sizeBytes: number;
  /** What others may see of it. */
  readonly stat: GuestStat;
  /** `i_flags`. */
  readonly flags: number;
  /** `i_block`: 60 bytes whose meaning depends on the flags and the type. */
  readonly blockArea: Uint8Array;
  /** Block of extended attributes, 0 for none. */
  readonly xattrBlock: number;
  /** The bytes after the fixed fields, where small extended attributes lie. */
  readonly body: Uint8Array;
  /** Start of the CRC-32C of everything that belongs to this inode. */
  readonly checksumSeed: number;
  /** The inode as it lies on disk. */
  readonly raw: Uint8Array;
}

const CACHE_BYTES = 8 * 1024 * 1024;
/** What a parsed inode takes beside its bytes, roughly. */
const PARSED_BYTES = 512;
const NO_CHECKSUM = new Uint8Array(2);

const TYPES: ReadonlyMap<number, GuestFileType> = new Map([
  [0x1000, "fifo"],
  [0x2000, "character"],
  [0x4000, "directory"],
  [0x6000, "block"],
  [0x8000, "file"],
  [0xa000, "symlink"],
  [0xc000, "socket"],
]);

/** Reads inodes by number; those that a fast commit holds newer come from `newer`, in the raw form. */
export class InodeTable {
  readonly #superblock: Superblock;
  readonly #groups: GroupTable;
  readonly #blocks: BlockSource;
  readonly #newer: ReadonlyMap<number, Uint8Array>;
  readonly #cache = new ByteLru<Inode>(CACHE_BYTES);

  /** Reads through `blocks`. */
  constructor(
    superblock: Superblock,
    groups: GroupTable,
    blocks: BlockSource,
    newer: ReadonlyMap<number, Uint8Array>,
  ) {
    this.#superblock = superblock;
    this.#groups = groups;
    this.#blocks = blocks;
    this.#newer = newer;
  }

  /** An inode that a name may lead to. Throws `not-found` when it is free or reserved, `damaged`,
   * and `invalid` when it is no whole number. */
  get(number: number): Inode {
    if (!Number.isInteger(number)) throw new VarveError("invalid", `reading inode ${number}: not a number`);
    const reserved = number < this.#superblock.firstInode && number !== ROOT_INODE;
    if (reserved) throw new VarveError("not-found", `reading inode ${number}: it is reserved`);
    const inode = this.getAny(number);
    if ((inode.flags & INODE_FLAG.eaInode) !== 0) {
      throw damaged(`reading inode ${number}`, "it holds an attribute of another inode");
    }
    return inode;
  }

  /** Any inode, those of the journal and of large attributes too. */
  getAny(number: number): Inode {
    const cached = this.#cache.get(number);
    if (cached !== undefined) return cached;
    const raw = this.raw(number);
    const inode = parseInode(number, raw, this.#superblock, !this.#newer.has(number));
    this.#cache.set(number, inode, raw.length + PARSED_BYTES);
    return inode;
  }

  /** A copy of the bytes of an inode, newest first. */
  raw(number: number): Uint8Array {
    const { inodeCount, inodesPerGroup, inodeBytes, blockBytes } = this.#superblock;
    if (number < 1 || number > inodeCount) {
      throw new VarveError("not-found", `reading inode ${number}: there are ${inodeCount}`);
    }
    const newer = this.#newer.get(number);
    if (newer !== undefined) return newer;
    const index = number - 1;
    const offset = (index % inodesPerGroup) * inodeBytes;
    const table = this.#groups.inodeTable(Math.floor(index / inodesPerGroup));
    const block = this.#blocks.block(table + Math.floor(offset / blockBytes));
    return block.slice(offset % blockBytes, offset % blockBytes + inodeBytes);
  }

  /** Forgets a parsed inode because its newer form changed. */
  forget(number: number): void {
    this.#cache.delete(number);
  }
}

function parseInode(number: number, raw: Uint8Array, superblock: Superblock, verify: boolean): Inode {
  const mode = u16(raw, INODE.mode);
  const links = u16(raw, INODE.links);
  if (links === 0) throw new VarveError("not-found", `reading inode ${number}: it is free`);
  const extraSize = raw.length > INODE_BASE_BYTES ? u16(raw, INODE.extraSize) : 0;
  if (INODE_BASE_BYTES + extraSize > raw.length || (extraSize & 3) !== 0) {
    throw damaged(`reading inode ${number}`, `${extraSize} bytes of extra fields`);
  }
  const checksumSeed = crc32cNumber(
    crc32cNumber(superblock.checksumSeed, number),
    u32(raw, INODE.generation),
  );
  if (verify && superblock.checksums && !inodeChecksumHolds(raw, extraSize, checksumSeed)) {
    throw damaged(`reading inode ${number}`, "its checksum does not match");
  }
  const type = TYPES.get(mode & 0xf000);
  if (type === undefined) {
    throw damaged(`reading inode ${number}`, `file type 0x${(mode >> 12).toString(16)}`);
  }

  const flags = u32(raw, INODE.flags);
  const blockArea = slice(raw, INODE.block, INODE.block + INODE_BLOCK_BYTES);
  const largeSize = type === "file" || (superblock.incompat & INCOMPAT.largeDir) !== 0;
  const sizeBytes = u32(raw, INODE.sizeLow) + (largeSize ? u32(raw, INODE.sizeHigh) * 2 ** 32 : 0);
  if (!Number.isSafeInteger(sizeBytes)) throw damaged(`reading inode ${number}`, `a size of ${sizeBytes}`);
  const time = (at: number, extra: number): bigint => {
    const kept = extra + 4 <= INODE_BASE_BYTES + extraSize;
    return inodeTime(u32(raw, at), kept ? u32(raw, extra) : 0);
  };
  const born = INODE.bornExtra + 4 <= INODE_BASE_BYTES + extraSize;
  const stat: GuestStat = {
    inode: number,
    type,
    mode: mode & 0xfff,
    uid: u16(raw, INODE.uidLow) + u16(raw, INODE.uidHigh) * 65536,
    gid: u16(raw, INODE.gidLow) + u16(raw, INODE.gidHigh) * 65536,
    links,
    sizeBytes,
    blocks512: blocks512Of(raw, type, flags, sizeBytes, superblock),
    rdev: type === "block" || type === "character" ? deviceOf(blockArea) : 0,
    accessedNs: time(INODE.accessed, INODE.accessedExtra),
    modifiedNs: time(INODE.modified, INODE.modifiedExtra),
    changedNs: time(INODE.changed, INODE.changedExtra),
    ...(born ? { bornNs: time(INODE.born, INODE.bornExtra) } : {}),
  };
  return {
    number,
    type,
    sizeBytes,
    stat,
    flags,
    blockArea,
    xattrBlock: u32(raw, INODE.xattrBlockLow) +
      ((superblock.incompat & INCOMPAT.bits64) !== 0 ? u16(raw, INODE.xattrBlockHigh) * 2 ** 32 : 0),
    body: raw.subarray(Math.min(raw.length, INODE_BASE_BYTES + extraSize)),
    checksumSeed,
    raw,
  };
}

/** The low 16 bits of the checksum always exist, the high ones where the extra fields reach that far. */
function inodeChecksumHolds(raw: Uint8Array, extraSize: number, seed: number): boolean {
  let sum = crc32c(seed, raw, 0, INODE.checksumLow);
  sum = crc32c(sum, NO_CHECKSUM);
  sum = crc32c(sum, raw, INODE.checksumLow + 2, Math.min(raw.length, INODE.checksumHigh));
  const stored = u16(raw, INODE.checksumLow);
  if (raw.length === INODE_BASE_BYTES) return (sum & 0xffff) === stored;
  const wide = INODE.checksumHigh + 2 <= INODE_BASE_BYTES + extraSize;
  if (wide) sum = crc32c(sum, NO_CHECKSUM);
  sum = crc32c(sum, raw, INODE.checksumHigh + (wide ? 2 : 0));
  return wide ? sum === (stored | (u16(raw, INODE.checksumHigh) << 16)) >>> 0 : (sum & 0xffff) === stored;
}

/** 32 signed bits of seconds; the extra field adds two bits above them, and 30 bits of nanoseconds. */
function inodeTime(seconds: number, extra: number): bigint {
  const wide = (seconds | 0) + (extra & 3) * 2 ** 32;
  return BigInt(wide) * 1_000_000_000n + BigInt(extra >>> 2);
}

function blocks512Of(
  raw: Uint8Array,
  type: GuestFileType,
  flags: number,
  sizeBytes: number,
  superblock: Superblock,
): number {
  const huge = (superblock.roCompat & RO_COMPAT.hugeFile) !== 0;
  let blocks = u32(raw, INODE.blocksLow) + (huge ? u16(raw, INODE.blocksHigh) * 2 ** 32 : 0);
  if (huge && (flags & INODE_FLAG.hugeFile) !== 0) blocks *= superblock.blockBytes / 512;
  // The kernel shows inline content as taking space, lest tools take the file for a hole.
  if (type === "file" && (flags & INODE_FLAG.inlineData) !== 0) blocks += Math.ceil(sizeBytes / 512);
  return blocks;
}

/** Old form: 8 bits each in the first word. New form: 12 bits of major and 20 of minor in the second. */
function deviceOf(blockArea: Uint8Array): number {
  const old = u32(blockArea, 0);
  return old !== 0 ? old & 0xffff : u32(blockArea, 4);
}

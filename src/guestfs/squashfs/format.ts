/**
 * The on-disk format of SquashFS 4.0: field offsets, flags and types, in one place.
 *
 * All numbers are little-endian. Source: the kernel's `Documentation/filesystems/squashfs.rst` and
 * `fs/squashfs/squashfs_fs.h`, and the "Squashfs Binary Format" description.
 *
 * ```text
 * superblock, [compressor options], data blocks and fragments, inode table, directory table, fragment table,
 * [export table], id table, [attribute table]
 * ```
 * Tables of inodes, directories and attributes are streams of metadata blocks: u16 bytes on disk (the top bit: stored as they
 * are), content of up to 8 KiB. A position in them is the block's place on disk, from the start of the table, times 65536 plus
 * the offset in its content. The other tables have an index of u64 places of their metadata blocks.
 *
 * @module
 */
import type { GuestFileType } from "../guest.ts";

/** "hsqs". */
export const SQUASHFS_MAGIC = 0x73717368;
/** Bytes of the superblock. */
export const SUPERBLOCK_BYTES = 96;

/** Field offsets within the superblock. */
export const SB = {
  inodes: 4,
  modified: 8,
  blockBytes: 12,
  fragments: 16,
  compressor: 20,
  blockLog: 22,
  flags: 24,
  ids: 26,
  major: 28,
  minor: 30,
  root: 32,
  bytesUsed: 40,
  idTable: 48,
  xattrTable: 56,
  inodeTable: 64,
  directoryTable: 72,
  fragmentTable: 80,
  exportTable: 88,
} as const;

/** Bytes of a metadata block's content. */
export const METADATA_BYTES = 8192;
/** Set in the u16 before a metadata block that is stored as it is. */
export const METADATA_STORED = 0x8000;
/** Set in the u32 length of a data block or fragment that is stored as it is; the length is the rest of 24 bits. */
export const DATA_STORED = 1 << 24;
/** The place of a table that is not there, in the two halves of its u64. */
export const NO_TABLE_HALF = 0xffffffff;
/** The number of a fragment or of attributes that are not there. */
export const NONE = 0xffffffff;

/** Types of inodes; those of the extended forms are 7 more. */
export const TYPES: ReadonlyMap<number, GuestFileType> = new Map([
  [1, "directory"],
  [2, "file"],
  [3, "symlink"],
  [4, "block"],
  [5, "character"],
  [6, "fifo"],
  [7, "socket"],
]);
/** What an extended form's type exceeds that of the basic one by. */
export const EXTENDED = 7;

/** A directory's size counts so many bytes for `.` and `..`, which are not stored. */
export const DIRECTORY_EXTRA_BYTES = 3;
/** Entries behind one header of a directory. */
export const DIRECTORY_RUN_MAX = 256;
/** Prefixes of attributes' names. */
export const XATTR_PREFIXES: readonly string[] = ["user.", "trusted.", "security."];
/** Set in the type of an attribute whose value is a position where it lies. */
export const XATTR_ELSEWHERE = 0x100;

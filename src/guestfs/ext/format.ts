/**
 * The on-disk format of ext2, ext3 and ext4: feature bits, flags and field offsets, in one place.
 *
 * All numbers are little-endian; the journal (see `journal.ts`) is big-endian. Source: the kernel's
 * `Documentation/filesystems/ext4/` and `fs/ext4/ext4.h`.
 *
 * ```text
 * byte 1024       superblock, 1024 bytes
 * next block      group descriptors, 32 or 64 bytes each (or spread over the groups with meta_bg)
 * per group       [superblock copy, descriptors] block bitmap, inode bitmap, inode table, data
 * ```
 *
 * @module
 */

/** Byte offset and length of the superblock. */
export const SUPERBLOCK_OFFSET = 1024;
/** Length of the superblock in bytes. */
export const SUPERBLOCK_BYTES = 1024;
/** `s_magic`. */
export const EXT_MAGIC = 0xef53;

/** Field offsets within the superblock. */
export const SB = {
  inodesCount: 0x0,
  blocksCountLow: 0x4,
  freeBlocksLow: 0xc,
  freeInodes: 0x10,
  firstDataBlock: 0x14,
  logBlockSize: 0x18,
  logClusterSize: 0x1c,
  blocksPerGroup: 0x20,
  inodesPerGroup: 0x28,
  magic: 0x38,
  revision: 0x4c,
  firstInode: 0x54,
  inodeSize: 0x58,
  compat: 0x5c,
  incompat: 0x60,
  roCompat: 0x64,
  uuid: 0x68,
  label: 0x78,
  reservedDescriptorBlocks: 0xce,
  journalInode: 0xe0,
  hashSeed: 0xec,
  descriptorSize: 0xfe,
  firstMetaGroup: 0x104,
  blocksCountHigh: 0x150,
  freeBlocksHigh: 0x158,
  flags: 0x160,
  overheadClusters: 0x248,
  backupGroups: 0x24c,
  checksumSeed: 0x270,
  encoding: 0x27c,
  checksum: 0x3fc,
} as const;

/** `s_flags`: names are hashed as signed characters, or as unsigned ones. */
export const SB_FLAG = { signedHash: 1, unsignedHash: 2 } as const;

/** `s_feature_compat`. */
export const COMPAT = {
  hasJournal: 0x4,
  dirIndex: 0x20,
  sparseSuper2: 0x200,
  fastCommit: 0x400,
} as const;

/** `s_feature_incompat`. */
export const INCOMPAT = {
  fileType: 0x2,
  recover: 0x4,
  journalDevice: 0x8,
  metaBg: 0x10,
  extents: 0x40,
  bits64: 0x80,
  mmp: 0x100,
  flexBg: 0x200,
  eaInode: 0x400,
  checksumSeed: 0x2000,
  largeDir: 0x4000,
  inlineData: 0x8000,
  encrypt: 0x10000,
  casefold: 0x20000,
} as const;

/** `s_feature_ro_compat`. */
export const RO_COMPAT = {
  sparseSuper: 0x1,
  largeFile: 0x2,
  btreeDir: 0x4,
  hugeFile: 0x8,
  descriptorChecksum: 0x10,
  bigAlloc: 0x200,
  metadataChecksum: 0x400,
} as const;

/** Field offsets within a group descriptor. */
export const GROUP = {
  inodeTableLow: 0x8,
  freeBlocksLow: 0xc,
  freeInodesLow: 0xe,
  checksum: 0x1e,
  inodeTableHigh: 0x28,
  freeBlocksHigh: 0x2c,
  freeInodesHigh: 0x2e,
} as const;

/** Field offsets within an inode. */
export const INODE = {
  mode: 0x0,
  uidLow: 0x2,
  sizeLow: 0x4,
  accessed: 0x8,
  changed: 0xc,
  modified: 0x10,
  gidLow: 0x18,
  links: 0x1a,
  blocksLow: 0x1c,
  flags: 0x20,
  version: 0x24,
  block: 0x28,
  generation: 0x64,
  xattrBlockLow: 0x68,
  sizeHigh: 0x6c,
  blocksHigh: 0x74,
  xattrBlockHigh: 0x76,
  uidHigh: 0x78,
  gidHigh: 0x7a,
  checksumLow: 0x7c,
  extraSize: 0x80,
  checksumHigh: 0x82,
  changedExtra: 0x84,
  modifiedExtra: 0x88,
  accessedExtra: 0x8c,
  born: 0x90,
  bornExtra: 0x94,
} as const;

/** Bytes of `i_block`: block pointers, the root of the extent tree, a short symlink, or inline data. */
export const INODE_BLOCK_BYTES = 60;
/** Bytes of the inode that every revision has; `i_extra_isize` counts from here. */
export const INODE_BASE_BYTES = 128;
/** Inode of the root directory. */
export const ROOT_INODE = 2;

/** `i_flags`. */
export const INODE_FLAG = {
  encrypted: 0x800,
  indexed: 0x1000,
  hugeFile: 0x40000,
  extents: 0x80000,
  eaInode: 0x200000,
  inlineData: 0x10000000,
  casefold: 0x40000000,
} as const;

/** The first logical block that no file can have. */
export const LOGICAL_BLOCK_END = 2 ** 32;

/** `eh_magic` of a node of an extent tree. */
export const EXTENT_MAGIC = 0xf30a;
/** Bytes of the header and of each entry in a node of an extent tree. */
export const EXTENT_ENTRY_BYTES = 12;
/** No extent tree is deeper than this. */
export const EXTENT_DEPTH_MAX = 5;
/** `ee_len` above this means an unwritten extent of `ee_len` less this many blocks. */
export const EXTENT_WRITTEN_MAX = 32768;

/** Bytes of the fixed part of a directory entry. */
export const DIRENT_HEADER_BYTES = 8;
/** Bytes of the checksum tail of a directory block, shaped as an unused entry. */
export const DIRENT_TAIL_BYTES = 12;
/** `file_type` of the checksum tail. */
export const DIRENT_TAIL_TYPE = 0xde;

/** Magic of extended attributes, in the inode and in a block. */
export const XATTR_MAGIC = 0xea020000;
/** Bytes of the header of an attribute block. */
export const XATTR_BLOCK_HEADER_BYTES = 32;
/** Offset of `h_checksum` within that header. */
export const XATTR_BLOCK_CHECKSUM = 0x10;
/** Bytes of the fixed part of an attribute entry. */
export const XATTR_ENTRY_BYTES = 16;
/** No attribute is longer than this (`XATTR_SIZE_MAX`). */
export const XATTR_VALUE_BYTES_MAX = 65536;

/**
 * The disk format of btrfs: offsets, widths and numbers, as the kernel's documentation of the btrfs on-disk format and
 * `include/uapi/linux/btrfs_tree.h` give them. Everything is little-endian.
 *
 * @module
 */

/** Where the first superblock lies; the kernel mounts by this one. */
export const SUPERBLOCK_OFFSET = 0x10000;
/** Bytes of a superblock. */
export const SUPERBLOCK_BYTES = 4096;
/** The magic number, as characters. */
export const BTRFS_MAGIC = "_BHRfS_M";
/** Bytes in front of everything that has a checksum. */
export const CHECKSUM_BYTES = 32;

/** Offsets within the superblock. */
export const SB = {
  fsid: 0x20,
  bytenr: 0x30,
  magic: 0x40,
  generation: 0x48,
  root: 0x50,
  chunkRoot: 0x58,
  logRoot: 0x60,
  totalBytes: 0x70,
  bytesUsed: 0x78,
  rootDirectory: 0x80,
  deviceCount: 0x88,
  sectorBytes: 0x90,
  nodeBytes: 0x94,
  systemChunksBytes: 0xa0,
  chunkRootGeneration: 0xa4,
  roCompat: 0xb4,
  incompat: 0xbc,
  checksumType: 0xc4,
  rootLevel: 0xc6,
  chunkRootLevel: 0xc7,
  logRootLevel: 0xc8,
  deviceId: 0xc9,
  label: 0x12b,
  metadataUuid: 0x23b,
  systemChunks: 0x32b,
} as const;

/** Bytes that the superblock has for the chunks of the chunk tree itself. */
export const SYSTEM_CHUNKS_BYTES_MAX = 2048;
/** Bytes of the label. */
export const LABEL_BYTES = 256;

/** Features that a reader must know. */
export const INCOMPAT = {
  mixedBackref: 1,
  defaultSubvolume: 2,
  mixedGroups: 4,
  compressLzo: 8,
  compressZstd: 16,
  bigMetadata: 32,
  extendedIref: 64,
  raid56: 128,
  skinnyMetadata: 256,
  noHoles: 512,
  metadataUuid: 1024,
  raid1c34: 2048,
  zoned: 4096,
  extentTreeV2: 8192,
  raidStripeTree: 16384,
  simpleQuota: 65536,
} as const;

/** Features that a writer must know: free-space tree, its being valid, verity, block-group tree. */
export const RO_COMPAT_KNOWN = 0b1111;

/** Offsets within the header of a tree block. */
export const HEADER = {
  fsid: 32,
  bytenr: 48,
  generation: 80,
  owner: 88,
  count: 96,
  level: 100,
} as const;
/** Bytes of that header. */
export const HEADER_BYTES = 101;
/** Bytes of a key: u64 object, u8 type, u64 offset. */
export const KEY_BYTES = 17;
/** Bytes of an item of a leaf: its key, u32 offset and u32 size of its data. */
export const ITEM_BYTES = 25;
/** Bytes of a pointer of a node: the child's first key, u64 address, u64 generation. */
export const POINTER_BYTES = 33;
/** Levels that a tree may have. */
export const LEVELS_MAX = 8;

/** Types of keys. */
export const TYPE = {
  inodeItem: 1,
  inodeRef: 12,
  inodeExtref: 13,
  xattr: 24,
  directoryLogIndex: 72,
  directoryItem: 84,
  directoryIndex: 96,
  extentData: 108,
  extentChecksum: 128,
  rootItem: 132,
  rootRef: 156,
  chunk: 228,
} as const;

/** Largest u64 as a folded number (see `key.ts`). */
export const FOLDED_MAX = 2 ** 53 - 1;

/** Numbers of trees and other fixed objects; those that are negative in the specification are folded (see `key.ts`). */
export const OBJECT = {
  rootTree: 1,
  chunkTree: 3,
  topSubvolume: 5,
  checksumTree: 7,
  firstFree: 256,
  treeLog: FOLDED_MAX - 5,
  extentChecksums: FOLDED_MAX - 9,
  lastFree: FOLDED_MAX - 255,
  chunks: 256,
} as const;

/** Bytes of an inode item, and the offsets within. Times are s64 seconds and u32 nanoseconds. */
export const INODE = {
  bytes: 160,
  generation: 0,
  size: 16,
  takenBytes: 24,
  links: 40,
  uid: 44,
  gid: 48,
  mode: 52,
  device: 56,
  flags: 64,
  accessed: 112,
  changed: 124,
  modified: 136,
  born: 148,
} as const;

/** Flag of an inode whose data have no checksums. */
export const INODE_NO_CHECKSUMS = 1;

/** Offsets within a root item. */
export const ROOT = {
  generation: 160,
  directory: 168,
  bytenr: 176,
  references: 216,
  level: 238,
  bytes: 239,
} as const;

/** Offsets within a file extent item; inline data begin at `inline`. */
export const EXTENT = {
  ramBytes: 8,
  compression: 16,
  encryption: 17,
  otherEncoding: 18,
  type: 20,
  inline: 21,
  bytenr: 21,
  storedBytes: 29,
  offset: 37,
  length: 45,
  bytes: 53,
} as const;

/** Kinds of file extents. */
export const EXTENT_TYPE = { inline: 0, regular: 1, preallocated: 2 } as const;
/** How a file extent is compressed. */
export const COMPRESSION = { none: 0, zlib: 1, lzo: 2, zstd: 3 } as const;
/** Bytes that a compressed extent holds at most, before and after. */
export const COMPRESSED_BYTES_MAX = 128 * 1024;

/** Offsets within a directory entry, an attribute included; the name and then the value begin at `name`. */
export const ENTRY = { location: 0, dataLength: 25, nameLength: 27, type: 29, name: 30 } as const;
/** Longest name. */
export const NAME_BYTES_MAX = 255;

/** Offsets within a chunk item. */
export const CHUNK = { length: 0, type: 24, stripeCount: 44, stripes: 48 } as const;
/** Bytes of a stripe: u64 device, u64 offset, its uuid. */
export const STRIPE_BYTES = 32;
/** Flags of a chunk: what it holds, and its profile. */
export const CHUNK_TYPE = {
  data: 1,
  raid0: 8,
  raid1: 16,
  dup: 32,
  raid10: 64,
  raid5: 128,
  raid6: 256,
  raid1c3: 512,
  raid1c4: 1024,
} as const;

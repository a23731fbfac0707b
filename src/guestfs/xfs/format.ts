/**
 * Numbers of the XFS format on disk. Source: "XFS Algorithms & Data Structures", 3rd edition, and for what came
 * later the format headers of Linux. Everything on disk is big-endian but for checksums; the items within the log
 * are in the byte order of the machine that wrote it.
 *
 * @module
 */

/** Unit of disk addresses within metadata and of the log. */
export const SECTOR_BYTES = 512;

/** `XFSB`. */
export const SB_MAGIC = 0x58465342;

/** `IN`. */
export const INODE_MAGIC = 0x494e;

/** Bits of `sb_versionnum`. */
export const VERSION = { logV2: 0x400, dirV2: 0x2000, asciiCi: 0x4000, moreBits: 0x8000 } as const;

/** Bits of `sb_features2`. */
export const FEATURES2 = { lazyCount: 0x2, fileType: 0x200 } as const;

/** Bits of `sb_features_incompat`. */
export const INCOMPAT = {
  fileType: 0x1,
  sparseInodes: 0x2,
  metaUuid: 0x4,
  bigTime: 0x8,
  needsRepair: 0x10,
  manyExtents: 0x20,
  exchangeRange: 0x40,
  parentPointers: 0x80,
} as const;

/** Bits of `sb_features_ro_compat`. */
export const RO_COMPAT = { finobt: 0x1, rmapbt: 0x2, reflink: 0x4, inobtCount: 0x8 } as const;

/** `di_format` and `di_aformat`. */
export const FORK_FORMAT = { device: 0, local: 1, extents: 2, btree: 3 } as const;

/** Bit of `di_flags`: the content lies on the realtime device. */
export const DIFLAG_REALTIME = 0x1;

/** Bits of `di_flags2`. */
export const DIFLAG2 = { bigTime: 0x8, manyExtents: 0x10 } as const;

/** Offsets within an inode on disk. */
export const DI = {
  magic: 0,
  mode: 2,
  version: 4,
  format: 5,
  oldLinks: 6,
  uid: 8,
  gid: 12,
  links: 16,
  projectLow: 20,
  projectHigh: 22,
  manyExtents: 24,
  flushIteration: 30,
  accessed: 32,
  modified: 40,
  changed: 48,
  size: 56,
  blocks: 64,
  extentSize: 72,
  extents: 76,
  attrExtents: 80,
  forkOffset: 82,
  attrFormat: 83,
  dmEventMask: 84,
  dmState: 88,
  flags: 90,
  generation: 92,
  nextUnlinked: 96,
  crc: 100,
  changeCount: 104,
  lsn: 112,
  flags2: 120,
  cowExtentSize: 128,
  born: 144,
  number: 152,
  uuid: 160,
} as const;

/** Bytes before the forks: of inodes of version 1 and 2, and of version 3. */
export const INODE_CORE_BYTES = { v2: 100, v3: 176 } as const;

/** Where a block of version 5 keeps its checksum, disk address, owner, uuid and log sequence number. */
export interface BlockHeader {
  readonly crc: number;
  readonly address: number;
  readonly lsn: number;
  readonly uuid: number;
  readonly owner: number;
}

/** Blocks of directories with entries, and of free space in directories. */
export const DIR_HEADER: BlockHeader = { crc: 4, address: 8, lsn: 16, uuid: 24, owner: 40 };
/** Leaves and nodes of directories and attributes. */
export const DA_HEADER: BlockHeader = { crc: 12, address: 16, lsn: 24, uuid: 32, owner: 48 };
/** Blocks of the tree of extents. */
export const BMBT_HEADER: BlockHeader = { crc: 64, address: 24, lsn: 32, uuid: 40, owner: 56 };
/** Blocks of symlinks and of attribute values. */
export const REMOTE_HEADER: BlockHeader = { crc: 12, address: 40, lsn: 48, uuid: 16, owner: 32 };
/** Bytes of {@linkcode REMOTE_HEADER}. */
export const REMOTE_HEADER_BYTES = 56;

/** Magic numbers of blocks, for version 4 and version 5. */
export const MAGIC = {
  dirBlock: { v4: 0x58443242, v5: 0x58444233 },
  dirData: { v4: 0x58443244, v5: 0x58444433 },
  dirLeaf: { v4: 0xd2f1, v5: 0x3df1 },
  dirLeafOfNode: { v4: 0xd2ff, v5: 0x3dff },
  node: { v4: 0xfebe, v5: 0x3ebe },
  attrLeaf: { v4: 0xfbee, v5: 0x3bee },
  bmbt: { v4: 0x424d4150, v5: 0x424d4133 },
} as const;

/** `XSLM`, in blocks of symlinks of version 5. */
export const SYMLINK_MAGIC = 0x58534c4d;
/** `XARM`, in blocks of attribute values of version 5. */
export const ATTR_REMOTE_MAGIC = 0x5841524d;
/** `XAGF`. */
export const AGF_MAGIC = 0x58414746;
/** `XAGI`. */
export const AGI_MAGIC = 0x58414749;

/**
 * The superblock: checked once here, trusted by everything else.
 *
 * @module
 */
import { VarveError } from "../../base/errors.ts";
import { damaged, u16, u32, u8 } from "../_bytes.ts";
import { crc32c } from "./crc32c.ts";
import { COMPAT, EXT_MAGIC, INCOMPAT, RO_COMPAT, SB, SB_FLAG } from "./format.ts";

/** What the readers need of the superblock, in units as named; every geometry value is within sane bounds. */
export interface Superblock {
  /** Bytes of a block: 1024 to 65536. */
  readonly blockBytes: number;
  /** Blocks in a cluster: 1 without bigalloc. */
  readonly clusterBlocks: number;
  /** Blocks of the file system; they lie within the device. */
  readonly blockCount: number;
  /** First block of group 0: 1 with blocks of 1 KiB, else 0. */
  readonly firstDataBlock: number;
  readonly blocksPerGroup: number;
  readonly groupCount: number;
  readonly inodesPerGroup: number;
  readonly inodeCount: number;
  readonly inodeBytes: number;
  /** First inode that is not reserved. */
  readonly firstInode: number;
  readonly descriptorBytes: number;
  readonly reservedDescriptorBlocks: number;
  /** First group of blocks of descriptors that is laid out by meta_bg. */
  readonly firstMetaGroup: number;
  readonly backupGroups: readonly [number, number];
  readonly compat: number;
  readonly incompat: number;
  readonly roCompat: number;
  readonly uuid: Uint8Array;
  readonly label: string;
  /** Inode of the journal, 0 when it lies on another device. */
  readonly journalInode: number;
  readonly hashSeed: readonly number[];
  /** Whether names are hashed as unsigned characters; `undefined` when the superblock does not say. */
  readonly hashUnsigned: boolean | undefined;
  /** `metadata_csum`: every structure carries a CRC-32C. */
  readonly checksums: boolean;
  /** Start of every CRC-32C but the superblock's own. */
  readonly checksumSeed: number;
  /** `s_overhead_clusters`, 0 when it was not computed. */
  readonly overheadClusters: number;
  readonly freeBlocks: number;
  readonly freeInodes: number;
  /** `s_encoding` of names that do not tell upper from lower case, or `undefined` without such. */
  readonly encoding: number | undefined;
}

const INCOMPAT_KNOWN = Object.values(INCOMPAT).reduce((all, bit) => all | bit, 0);

/** Features of ext3; anything beyond makes it ext4. */
const EXT3_INCOMPAT = INCOMPAT.fileType | INCOMPAT.recover | INCOMPAT.metaBg;
const EXT3_RO_COMPAT = RO_COMPAT.sparseSuper | RO_COMPAT.largeFile | RO_COMPAT.btreeDir;

/**
 * Parses and checks the 1024 bytes of a superblock on a device of `deviceBytes`. Throws `damaged` when the
 * geometry or the checksum is wrong, `unsupported` for a feature that Varve does not know.
 */
export function parseSuperblock(bytes: Uint8Array, deviceBytes: number): Superblock {
  const fail = (found: string) => damaged("reading the superblock", found);
  if (u16(bytes, SB.magic) !== EXT_MAGIC) throw fail("its magic number is missing");
  const dynamic = u32(bytes, SB.revision) >= 1;
  const compat = dynamic ? u32(bytes, SB.compat) : 0;
  const incompat = dynamic ? u32(bytes, SB.incompat) : 0;
  const roCompat = dynamic ? u32(bytes, SB.roCompat) : 0;
  const checksums = (roCompat & RO_COMPAT.metadataChecksum) !== 0;
  if (checksums && crc32c(0xffffffff, bytes, 0, SB.checksum) !== u32(bytes, SB.checksum)) {
    throw fail("its checksum does not match");
  }
  refuseFeatures(incompat);

  const logBlock = u32(bytes, SB.logBlockSize);
  if (logBlock > 6) throw fail(`a block size of 2^${logBlock + 10} bytes`);
  const blockBytes = 1024 << logBlock;
  const bits64 = (incompat & INCOMPAT.bits64) !== 0;
  const blockCount = u32(bytes, SB.blocksCountLow) +
    (bits64 ? u32(bytes, SB.blocksCountHigh) * 2 ** 32 : 0);
  if (blockCount > Math.floor(deviceBytes / blockBytes)) {
    throw fail(`${blockCount} blocks of ${blockBytes} bytes on a device of ${deviceBytes} bytes`);
  }
  const clusterBlocks = (roCompat & RO_COMPAT.bigAlloc) === 0
    ? 1
    : 2 ** (u32(bytes, SB.logClusterSize) - logBlock);
  if (!(clusterBlocks >= 1 && clusterBlocks <= 2 ** 19)) throw fail(`clusters of ${clusterBlocks} blocks`);
  const firstDataBlock = u32(bytes, SB.firstDataBlock);
  if (firstDataBlock > 1 || firstDataBlock >= blockCount) throw fail(`first data block ${firstDataBlock}`);
  const blocksPerGroup = u32(bytes, SB.blocksPerGroup);
  if (blocksPerGroup < 8 || blocksPerGroup > blockBytes * 8 * clusterBlocks) {
    throw fail(`${blocksPerGroup} blocks in a group`);
  }
  const inodeBytes = dynamic ? u16(bytes, SB.inodeSize) : 128;
  if (inodeBytes < 128 || inodeBytes > blockBytes || (inodeBytes & (inodeBytes - 1)) !== 0) {
    throw fail(`inodes of ${inodeBytes} bytes`);
  }
  const inodesPerGroup = u32(bytes, SB.inodesPerGroup);
  if (inodesPerGroup < 1 || inodesPerGroup > blockBytes * 8) {
    throw fail(`${inodesPerGroup} inodes in a group`);
  }
  const groupCount = Math.ceil((blockCount - firstDataBlock) / blocksPerGroup);
  const inodeCount = u32(bytes, SB.inodesCount);
  if (inodeCount !== groupCount * inodesPerGroup) {
    throw fail(`${inodeCount} inodes in ${groupCount} groups of ${inodesPerGroup}`);
  }
  const descriptorBytes = bits64 ? u16(bytes, SB.descriptorSize) : 32;
  const descriptorMin = bits64 ? 64 : 32;
  if (
    descriptorBytes < descriptorMin || descriptorBytes > 1024 ||
    (descriptorBytes & (descriptorBytes - 1)) !== 0
  ) {
    throw fail(`group descriptors of ${descriptorBytes} bytes`);
  }
  const uuid = bytes.slice(SB.uuid, SB.uuid + 16);
  const flags = u32(bytes, SB.flags);
  return {
    blockBytes,
    clusterBlocks,
    blockCount,
    firstDataBlock,
    blocksPerGroup,
    groupCount,
    inodesPerGroup,
    inodeCount,
    inodeBytes,
    firstInode: dynamic ? u32(bytes, SB.firstInode) : 11,
    descriptorBytes,
    reservedDescriptorBlocks: u16(bytes, SB.reservedDescriptorBlocks),
    firstMetaGroup: u32(bytes, SB.firstMetaGroup),
    backupGroups: [u32(bytes, SB.backupGroups), u32(bytes, SB.backupGroups + 4)],
    compat,
    incompat,
    roCompat,
    uuid,
    label: labelOf(bytes),
    journalInode: u32(bytes, SB.journalInode),
    hashSeed: [0, 4, 8, 12].map((at) => u32(bytes, SB.hashSeed + at)),
    hashUnsigned: (flags & SB_FLAG.unsignedHash) !== 0
      ? true
      : (flags & SB_FLAG.signedHash) !== 0
      ? false
      : undefined,
    checksums,
    checksumSeed: (incompat & INCOMPAT.checksumSeed) !== 0
      ? u32(bytes, SB.checksumSeed)
      : crc32c(0xffffffff, uuid),
    overheadClusters: u32(bytes, SB.overheadClusters),
    freeBlocks: u32(bytes, SB.freeBlocksLow) + (bits64 ? u32(bytes, SB.freeBlocksHigh) * 2 ** 32 : 0),
    freeInodes: u32(bytes, SB.freeInodes),
    encoding: (incompat & INCOMPAT.casefold) !== 0 ? u16(bytes, SB.encoding) : undefined,
  };
}

/** The name that people use for a file system with these features. */
export function extKind(superblock: Superblock): "ext2" | "ext3" | "ext4" {
  const { compat, incompat, roCompat } = superblock;
  if ((incompat & ~EXT3_INCOMPAT) !== 0 || (roCompat & ~EXT3_RO_COMPAT) !== 0) return "ext4";
  return (compat & COMPAT.hasJournal) !== 0 ? "ext3" : "ext2";
}

function refuseFeatures(incompat: number): void {
  if ((incompat & INCOMPAT.journalDevice) !== 0) {
    throw new VarveError("unsupported", "opening an ext file system: this is the journal of another one");
  }
  const unknown = (incompat & ~INCOMPAT_KNOWN) >>> 0;
  if (unknown !== 0) {
    throw new VarveError(
      "unsupported",
      `opening an ext file system: it uses features that Varve does not know (0x${unknown.toString(16)})`,
    );
  }
}

function labelOf(bytes: Uint8Array): string {
  let length = 0;
  while (length < 16 && u8(bytes, SB.label + length) !== 0) length++;
  return new TextDecoder().decode(bytes.subarray(SB.label, SB.label + length));
}

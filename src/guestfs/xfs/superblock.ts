/**
 * The superblock of XFS: geometry and features.
 *
 * @module
 */
import type { BlockDevice } from "../../base/block_device.ts";
import { VarveError } from "../../base/errors.ts";
import { damaged, u16be, u32be, u64be, u8 } from "../_bytes.ts";
import { checksumMatches } from "./checksum.ts";
import { FEATURES2, INCOMPAT, RO_COMPAT, SB_MAGIC, VERSION } from "./format.ts";
import type { SectorOverlay } from "./sector_overlay.ts";

/** Bytes with fields; the checksum covers a whole sector of the file system. */
const SUPERBLOCK_BYTES = 512;

const SECTOR_BYTES_MAX = 32768;
const CRC_OFFSET = 224;
const KNOWN_INCOMPAT = Object.values(INCOMPAT).reduce((sum, bit) => sum | bit, 0);
const KNOWN_RO_COMPAT = Object.values(RO_COMPAT).reduce((sum, bit) => sum | bit, 0);
/** `XFS_SB_FEAT_INCOMPAT_LOG_XATTRS`: attribute intents may stand in the log. */
const KNOWN_LOG_INCOMPAT = 0x1;

/** What a reader needs of the superblock. Blocks are those of the file system. */
export interface Superblock {
  /** Version 5: checksums, and everything says where and whose it is. */
  readonly v5: boolean;
  readonly blockBytes: number;
  readonly blocks: number;
  /** Identity of the file system in its metadata, and in its log (before a change of the one that users see). */
  readonly metaUuid: Uint8Array;
  readonly uuid: Uint8Array;
  readonly label: string;
  /** First block of the log as an address with a group, 0 when the log lies on another device. */
  readonly logStart: number;
  readonly logBlocks: number;
  readonly logV2: boolean;
  readonly rootInode: number;
  readonly groupBlocks: number;
  readonly groups: number;
  readonly sectorBytes: number;
  readonly inodeBytes: number;
  readonly inodesPerBlockLog: number;
  readonly groupBlocksLog: number;
  readonly inodeAlignBlocks: number;
  readonly inodesMaxPercent: number;
  readonly directoryBlockBytes: number;
  /** Directory entries carry the type of file. */
  readonly fileTypes: boolean;
  /** Names are the same when they differ only in the case of ASCII letters. */
  readonly asciiCi: boolean;
  readonly manyExtents: boolean;
  readonly roCompat: number;
  /** Features that only matter when the log has to be replayed and that Varve does not know; 0 for none. */
  readonly unknownForReplay: number;
  readonly inodes: number;
  readonly freeInodes: number;
}

/** Reads the superblock as the overlay of the log shows it. See {@linkcode parseSuperblock}. */
export function readSuperblock(device: BlockDevice, overlay: SectorOverlay): Superblock {
  const first = new Uint8Array(SUPERBLOCK_BYTES);
  device.read(0, first);
  const sectorBytes = Math.min(
    Math.max(u16be(first, 102), SUPERBLOCK_BYTES),
    SECTOR_BYTES_MAX,
    device.sizeBytes,
  );
  const bytes = new Uint8Array(sectorBytes);
  device.read(0, bytes);
  return parseSuperblock(bytes, device.sizeBytes, overlay.patch(0, bytes));
}

function refuse(found: string): VarveError {
  return new VarveError("unsupported", `opening an XFS file system: ${found}`);
}

function hex(bits: number): string {
  return `0x${(bits >>> 0).toString(16)}`;
}

/**
 * Parses and checks the superblock in `bytes`, a whole sector of the file system. Where the log changed it, it was
 * `replayed`, and its checksum is no longer its own. Throws `damaged`, and `unsupported` for unknown features.
 */
export function parseSuperblock(bytes: Uint8Array, deviceBytes: number, replayed: boolean): Superblock {
  const fail = (found: string) => damaged("reading the superblock", found);
  if (u32be(bytes, 0) !== SB_MAGIC) throw fail("its magic number is wrong");
  const version = u16be(bytes, 100);
  const v5 = (version & 0xf) === 5;
  if (!v5 && (version & 0xf) !== 4) throw refuse(`it is of version ${version & 0xf}`);
  if ((version & VERSION.dirV2) === 0) throw refuse("its directories are of the first version");
  const moreBits = (version & VERSION.moreBits) !== 0;
  const features2 = moreBits || v5 ? u32be(bytes, 200) : 0;
  const incompat = v5 ? u32be(bytes, 216) : 0;
  const roCompat = v5 ? u32be(bytes, 212) : 0;
  const logIncompat = v5 ? u32be(bytes, 220) : 0;
  if (v5) {
    const sector = u16be(bytes, 102);
    if (sector < SUPERBLOCK_BYTES || sector > bytes.length) throw fail(`sectors of ${sector} bytes`);
    if (!replayed && !checksumMatches(bytes.subarray(0, sector), CRC_OFFSET)) {
      throw fail("its checksum does not match");
    }
  }
  const unknown = (incompat & ~KNOWN_INCOMPAT) >>> 0;
  if (unknown !== 0) throw refuse(`it has features that Varve does not know (incompat ${hex(unknown)})`);
  if ((incompat & INCOMPAT.needsRepair) !== 0) throw fail("it is marked as in need of xfs_repair");
  if (u8(bytes, 126) !== 0) throw fail("it was never finished by mkfs");
  const superblock: Superblock = {
    v5,
    blockBytes: u32be(bytes, 4),
    blocks: u64be(bytes, 8),
    uuid: bytes.slice(32, 48),
    metaUuid: (incompat & INCOMPAT.metaUuid) !== 0 ? bytes.slice(248, 264) : bytes.slice(32, 48),
    label: labelOf(bytes.subarray(108, 120)),
    logStart: u64be(bytes, 48),
    logBlocks: u32be(bytes, 96),
    logV2: (version & VERSION.logV2) !== 0,
    rootInode: u64be(bytes, 56),
    groupBlocks: u32be(bytes, 84),
    groups: u32be(bytes, 88),
    sectorBytes: u16be(bytes, 102),
    inodeBytes: u16be(bytes, 104),
    inodesPerBlockLog: u8(bytes, 123),
    groupBlocksLog: u8(bytes, 124),
    inodeAlignBlocks: u32be(bytes, 180),
    inodesMaxPercent: u8(bytes, 127),
    directoryBlockBytes: u32be(bytes, 4) * 2 ** (u8(bytes, 192) & 0x1f),
    fileTypes: (incompat & INCOMPAT.fileType) !== 0 || (!v5 && (features2 & FEATURES2.fileType) !== 0),
    asciiCi: (version & VERSION.asciiCi) !== 0,
    manyExtents: (incompat & INCOMPAT.manyExtents) !== 0,
    roCompat,
    unknownForReplay: ((roCompat & ~KNOWN_RO_COMPAT) | (logIncompat & ~KNOWN_LOG_INCOMPAT)) >>> 0,
    inodes: u64be(bytes, 128),
    freeInodes: u64be(bytes, 136),
  };
  checkGeometry(superblock, bytes, deviceBytes);
  return superblock;
}

function checkGeometry(superblock: Superblock, bytes: Uint8Array, deviceBytes: number): void {
  const fail = (found: string) => damaged("reading the superblock", found);
  const { blockBytes, inodeBytes, groups, groupBlocks, groupBlocksLog, blocks, directoryBlockBytes, v5 } =
    superblock;
  if (blockBytes < 512 || blockBytes > 65536 || 2 ** u8(bytes, 120) !== blockBytes) {
    throw fail(`blocks of ${blockBytes} bytes`);
  }
  if (superblock.sectorBytes < 512 || superblock.sectorBytes > 32768) {
    throw fail(`sectors of ${superblock.sectorBytes} bytes`);
  }
  if (
    inodeBytes < (v5 ? 512 : 256) || inodeBytes > 2048 || inodeBytes > blockBytes ||
    2 ** u8(bytes, 122) !== inodeBytes || 2 ** superblock.inodesPerBlockLog * inodeBytes !== blockBytes
  ) throw fail(`inodes of ${inodeBytes} bytes`);
  if (directoryBlockBytes > 65536) throw fail(`directory blocks of ${directoryBlockBytes} bytes`);
  if (
    groups === 0 || groupBlocksLog > 31 || groupBlocks > 2 ** groupBlocksLog || groupBlocks < 16 ||
    blocks > groups * groupBlocks || blocks <= (groups - 1) * groupBlocks
  ) throw fail(`${blocks} blocks in ${groups} groups of ${groupBlocks}`);
  if (blocks * blockBytes > deviceBytes) {
    throw fail(`${blocks} blocks of ${blockBytes} bytes on a device of ${deviceBytes} bytes`);
  }
}

function labelOf(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  return new TextDecoder().decode(end < 0 ? bytes : bytes.subarray(0, end));
}

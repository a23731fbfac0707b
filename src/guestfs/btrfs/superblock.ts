/**
 * The superblock: checked once here, trusted by everything else.
 *
 * @module
 */
import type { BlockDevice } from "../../base/block_device.ts";
import { VarveError } from "../../base/errors.ts";
import { damaged, latin1, slice, u16, u32, u8 } from "../_bytes.ts";
import { type Checksum, checksumOf } from "./checksum.ts";
import {
  BTRFS_MAGIC,
  CHECKSUM_BYTES,
  INCOMPAT,
  LABEL_BYTES,
  LEVELS_MAX,
  RO_COMPAT_KNOWN,
  SB,
  SUPERBLOCK_BYTES,
  SUPERBLOCK_OFFSET,
  SYSTEM_CHUNKS_BYTES_MAX,
} from "./format.ts";
import { amount } from "./key.ts";

/** Where the root block of a tree lies, and what its header must say. */
export interface RootPointer {
  /** Logical address. */
  readonly bytenr: number;
  readonly level: number;
  readonly generation: number;
}

/** What the readers need of the superblock. */
export interface Superblock {
  /** The id that every tree block carries. */
  readonly metadataId: Uint8Array;
  readonly label: string;
  /** Number of the last transaction that was committed. */
  readonly generation: number;
  readonly rootTree: RootPointer;
  readonly chunkTree: RootPointer;
  /** The tree of log trees, if something was synced after the last commit. */
  readonly logTree: RootPointer | undefined;
  readonly totalBytes: number;
  readonly usedBytes: number;
  /** Object of the root tree that names the default subvolume. */
  readonly rootDirectory: number;
  readonly sectorBytes: number;
  readonly nodeBytes: number;
  readonly noHoles: boolean;
  readonly checksum: Checksum;
  /** This device's number among those of the file system. */
  readonly deviceId: number;
  readonly systemChunks: Uint8Array;
}

const REFUSED: readonly [number, string][] = [
  [INCOMPAT.zoned, "zoned"],
  [INCOMPAT.extentTreeV2, "extent-tree-v2"],
  [INCOMPAT.raidStripeTree, "raid-stripe-tree"],
];
const INCOMPAT_KNOWN = Object.values(INCOMPAT).reduce((all, bit) => all | bit, 0);

/** Whether a device carries the magic number in its first superblock. */
export function looksLikeBtrfs(device: BlockDevice): boolean {
  if (device.sizeBytes < SUPERBLOCK_OFFSET + SUPERBLOCK_BYTES) return false;
  const bytes = new Uint8Array(BTRFS_MAGIC.length);
  device.read(SUPERBLOCK_OFFSET + SB.magic, bytes);
  return latin1(bytes) === BTRFS_MAGIC;
}

/**
 * Reads and checks the first superblock, as a mount does; its copies may be older. Throws `damaged`, and `unsupported`
 * for features that are not known.
 */
export function readSuperblock(device: BlockDevice): Superblock {
  const bytes = new Uint8Array(SUPERBLOCK_BYTES);
  device.read(SUPERBLOCK_OFFSET, bytes);
  const fail = (found: string) => damaged("reading the superblock", found);
  if (latin1(slice(bytes, SB.magic, SB.magic + BTRFS_MAGIC.length)) !== BTRFS_MAGIC) {
    throw fail("its magic number is missing");
  }
  const checksum = checksumOf(u16(bytes, SB.checksumType));
  if (!checksum.matches(bytes.subarray(CHECKSUM_BYTES), bytes)) throw fail("its checksum does not match");
  if (amount(bytes, SB.bytenr) !== SUPERBLOCK_OFFSET) throw fail("it belongs to another place");
  const incompat = readFeatures(bytes);

  const sectorBytes = powerOfTwo(u32(bytes, SB.sectorBytes), 512, 65536);
  const nodeBytes = powerOfTwo(u32(bytes, SB.nodeBytes), 4096, 65536);
  if (sectorBytes === undefined) throw fail(`sectors of ${u32(bytes, SB.sectorBytes)} bytes`);
  if (nodeBytes === undefined || nodeBytes < sectorBytes) {
    throw fail(`tree blocks of ${u32(bytes, SB.nodeBytes)} bytes`);
  }
  const systemBytes = u32(bytes, SB.systemChunksBytes);
  if (systemBytes > SYSTEM_CHUNKS_BYTES_MAX) throw fail(`${systemBytes} bytes of system chunks`);
  const pointer = (address: number, levelAt: number, generation: number): RootPointer => {
    const [bytenr, level] = [amount(bytes, address), u8(bytes, levelAt)];
    if (level >= LEVELS_MAX || bytenr % sectorBytes !== 0) {
      throw fail(`a tree of level ${level} at ${bytenr}`);
    }
    return { bytenr, level, generation };
  };
  const generation = amount(bytes, SB.generation);
  const logged = amount(bytes, SB.logRoot) !== 0;
  if (logged && (u32(bytes, SB.roCompat) & ~RO_COMPAT_KNOWN) !== 0) {
    throw new VarveError(
      "unsupported",
      "replaying the log: the file system has features that Varve does not know",
    );
  }
  const metadataIdAt = (incompat & INCOMPAT.metadataUuid) !== 0 ? SB.metadataUuid : SB.fsid;
  const label = slice(bytes, SB.label, SB.label + LABEL_BYTES);
  const labelEnd = label.indexOf(0);
  return {
    metadataId: slice(bytes, metadataIdAt, metadataIdAt + 16),
    label: new TextDecoder().decode(labelEnd < 0 ? label : label.subarray(0, labelEnd)),
    generation,
    rootTree: pointer(SB.root, SB.rootLevel, generation),
    chunkTree: pointer(SB.chunkRoot, SB.chunkRootLevel, amount(bytes, SB.chunkRootGeneration)),
    logTree: logged ? pointer(SB.logRoot, SB.logRootLevel, generation + 1) : undefined,
    totalBytes: amount(bytes, SB.totalBytes),
    usedBytes: amount(bytes, SB.bytesUsed),
    rootDirectory: amount(bytes, SB.rootDirectory),
    sectorBytes,
    nodeBytes,
    noHoles: (incompat & INCOMPAT.noHoles) !== 0,
    checksum,
    deviceId: amount(bytes, SB.deviceId),
    systemChunks: slice(bytes, SB.systemChunks, SB.systemChunks + systemBytes),
  };
}

/** The low features that must be known; throws `unsupported` when one is not. */
function readFeatures(bytes: Uint8Array): number {
  const low = u32(bytes, SB.incompat);
  const refused = REFUSED.filter(([bit]) => (low & bit) !== 0).map(([, name]) => name);
  const unknown = low & ~INCOMPAT_KNOWN;
  const high = u32(bytes, SB.incompat + 4);
  if (unknown !== 0 || high !== 0) {
    refused.push(`unknown bits 0x${(high * 2 ** 32 + (unknown >>> 0)).toString(16)}`);
  }
  if (refused.length > 0) {
    throw new VarveError(
      "unsupported",
      `opening a btrfs file system: it has the feature ${refused.join(", ")}`,
    );
  }
  return low;
}

function powerOfTwo(value: number, least: number, most: number): number | undefined {
  return value >= least && value <= most && (value & (value - 1)) === 0 ? value : undefined;
}

/**
 * The boot sector: how large everything is, and where `$MFT` begins.
 *
 * @module
 */
import { damaged, latin1, u16, u32, u64, u8 } from "../_bytes.ts";

/** Bytes of the boot sector that matter. */
export const BOOT_SECTOR_BYTES = 512;

const CLUSTER_BYTES_MAX = 2 * 1024 * 1024;
const RECORD_BYTES_MAX = 65_536;

/** Sizes and places that hold for the whole volume. */
export interface Geometry {
  /** Bytes of a sector, 256 to 4096. */
  readonly sectorBytes: number;
  /** Bytes of a cluster, up to 2 MiB. */
  readonly clusterBytes: number;
  /** Whole clusters of the volume. */
  readonly clusterCount: number;
  /** Bytes of a record of `$MFT`. */
  readonly recordBytes: number;
  /** Where `$MFT` begins, in bytes. */
  readonly mftOffset: number;
  /** Where the copy of its first records begins, in bytes. */
  readonly mirrorOffset: number;
}

/** Whether these bytes begin as an NTFS volume does. */
export function hasNtfsMagic(bytes: Uint8Array): boolean {
  return latin1(bytes.subarray(3, 11)) === "NTFS    ";
}

/** Reads the boot sector of a device of `deviceBytes`. Throws `damaged` when its numbers contradict each other or the device. */
export function parseBootSector(bytes: Uint8Array, deviceBytes: number): Geometry {
  const fail = (found: string) => damaged("reading the NTFS boot sector", found);
  if (!hasNtfsMagic(bytes)) throw fail("its magic is missing");
  const sectorBytes = u16(bytes, 0x0b);
  if (!isPowerOfTwo(sectorBytes, 256, 4096)) throw fail(`sectors of ${sectorBytes} bytes`);
  const perCluster = u8(bytes, 0x0d);
  // Above 128 it is the negative logarithm of the number.
  const clusterBytes = sectorBytes * (perCluster > 128 ? 2 ** (256 - perCluster) : perCluster);
  if (!isPowerOfTwo(clusterBytes, sectorBytes, CLUSTER_BYTES_MAX)) {
    throw fail(`clusters of ${clusterBytes} bytes`);
  }
  const sectors = u64(bytes, 0x28);
  if (sectors * sectorBytes > deviceBytes) {
    throw fail(`${sectors} sectors of ${sectorBytes} bytes on a device of ${deviceBytes} bytes`);
  }
  const clusterCount = Math.floor(sectors * sectorBytes / clusterBytes);
  const perRecord = (u32(bytes, 0x40) << 24) >> 24;
  const recordBytes = perRecord < 0 ? 2 ** -perRecord : perRecord * clusterBytes;
  if (!isPowerOfTwo(recordBytes, 512, RECORD_BYTES_MAX)) throw fail(`file records of ${recordBytes} bytes`);
  const place = (at: number, what: string) => {
    const cluster = u64(bytes, at);
    if (cluster * clusterBytes + recordBytes > clusterCount * clusterBytes) {
      throw fail(`${what} begins in cluster ${cluster} of ${clusterCount}`);
    }
    return cluster * clusterBytes;
  };
  return {
    sectorBytes,
    clusterBytes,
    clusterCount,
    recordBytes,
    mftOffset: place(0x30, "$MFT"),
    mirrorOffset: place(0x38, "$MFTMirr"),
  };
}

function isPowerOfTwo(value: number, min: number, max: number): boolean {
  return value >= min && value <= max && Number.isInteger(Math.log2(value));
}

/**
 * The boot region of exFAT. Source: Microsoft's "exFAT file system specification", section 3.
 *
 * ```text
 * sector 0     0 u8[3] eb 76 90   3 u8[8] "EXFAT   "   11 u8[53] zeroes   72 u64 sectors   80 u32 first sector of the FAT
 *             84 u32 its sectors   88 u32 first sector of the clusters   92 u32 clusters   96 u32 first cluster of the root
 *            104 u16 revision   106 u16 flags: bit 0 second FAT and bitmap are active   108 u8 log2 bytes of a sector
 *            109 u8 log2 sectors of a cluster   110 u8 FATs   112 u8 per cent in use   510 u16 0xaa55
 * sectors 1-10 code and parameters
 * sector 11    u32 checksum of the sectors before it, again and again
 * ```
 *
 * @module
 */
import type { BlockDevice } from "../../base/block_device.ts";
import { VarveError } from "../../base/errors.ts";
import { damaged, isZero, latin1, u16, u32, u64, u8 } from "../_bytes.ts";
import { FIRST_CLUSTER } from "../fat/fat_table.ts";

/** Bytes of the boot sector that mean something, whatever the size of a sector. */
export const BOOT_BYTES = 512;
const BOOT_SECTORS = 11;
const FAT_SECTOR_MIN = 24;
const CLUSTERS_MAX = 2 ** 32 - 11;
const CLUSTER_BYTES_LOG_MAX = 25;
const FLAG_SECOND_ACTIVE = 1;
/** These bytes change while the volume is in use, so the checksum leaves them out: flags, and per cent in use. */
const UNCHECKED = [106, 107, 112];

/** Where everything lies, in bytes from the start of the device. */
export interface ExfatGeometry {
  /** First byte of the FAT that counts. */
  readonly fatOffset: number;
  /** First byte of the first cluster. */
  readonly heapOffset: number;
  /** Bytes of a cluster. */
  readonly clusterBytes: number;
  /** Number of clusters. */
  readonly clusterCount: number;
  /** First cluster of the root directory. */
  readonly rootCluster: number;
  /** Which of two allocation bitmaps counts. */
  readonly bitmap: 0 | 1;
  /** How full the guest noted it to be, in per cent, or `undefined`. */
  readonly percentInUse: number | undefined;
}

/** Whether a boot sector has the name of exFAT. */
export function namesExfat(boot: Uint8Array): boolean {
  return latin1(boot.subarray(3, 11)) === "EXFAT   ";
}

/** Reads and checks the boot region. Throws `damaged`, and `unsupported` for a revision after 1. */
export function readBootRegion(device: BlockDevice): ExfatGeometry {
  const boot = new Uint8Array(BOOT_BYTES);
  need(device.sizeBytes >= BOOT_BYTES, `the device has ${device.sizeBytes} bytes`);
  device.read(0, boot);
  need(namesExfat(boot) && isZero(boot.subarray(11, 64)), "it is none of exFAT");
  need(u16(boot, 510) === 0xaa55, "it does not end in 55 aa");
  const sectorLog = u8(boot, 108);
  const clusterLog = sectorLog + u8(boot, 109);
  need(sectorLog >= 9 && sectorLog <= 12, `sectors of 2^${sectorLog} bytes`);
  need(clusterLog <= CLUSTER_BYTES_LOG_MAX, `clusters of 2^${clusterLog} bytes`);
  const sectorBytes = 2 ** sectorLog;
  checkSum(device, sectorBytes);
  const revision = u16(boot, 104);
  if (revision >>> 8 !== 1) {
    throw new VarveError(
      "unsupported",
      `opening an exFAT file system: revision ${revision >>> 8}.${revision & 255}`,
    );
  }
  return parseBoot(boot, device, { sectorBytes, clusterBytes: 2 ** clusterLog });
}

function parseBoot(
  boot: Uint8Array,
  device: BlockDevice,
  { sectorBytes, clusterBytes }: { readonly sectorBytes: number; readonly clusterBytes: number },
): ExfatGeometry {
  const sectors = u64(boot, 72);
  const [fatSector, fatSectors, heapSector] = [u32(boot, 80), u32(boot, 84), u32(boot, 88)];
  const [clusterCount, rootCluster] = [u32(boot, 92), u32(boot, 96)];
  const fats = u8(boot, 110);
  const percent = u8(boot, 112);
  need(fats === 1 || fats === 2, `${fats} FATs`);
  need(clusterCount > 0 && clusterCount <= CLUSTERS_MAX, `${clusterCount} clusters`);
  need(fatSector >= FAT_SECTOR_MIN, `a FAT at sector ${fatSector}`);
  need(fatSectors * sectorBytes >= (clusterCount + FIRST_CLUSTER) * 4, `a FAT of ${fatSectors} sectors`);
  need(fatSector + fats * fatSectors <= heapSector, `clusters at sector ${heapSector}, within the FAT`);
  const heapOffset = heapSector * sectorBytes;
  need(
    heapOffset + clusterCount * clusterBytes <= sectors * sectorBytes,
    `${clusterCount} clusters of ${clusterBytes} bytes in ${sectors} sectors`,
  );
  need(heapOffset <= device.sizeBytes, `clusters at ${heapOffset} of ${device.sizeBytes} bytes`);
  need(
    rootCluster >= FIRST_CLUSTER && rootCluster < FIRST_CLUSTER + clusterCount,
    `a root directory in cluster ${rootCluster}`,
  );
  const second = fats === 2 && (u16(boot, 106) & FLAG_SECOND_ACTIVE) !== 0;
  return {
    fatOffset: (fatSector + (second ? fatSectors : 0)) * sectorBytes,
    heapOffset,
    clusterBytes,
    clusterCount,
    rootCluster,
    bitmap: second ? 1 : 0,
    percentInUse: percent <= 100 ? percent : undefined,
  };
}

function checkSum(device: BlockDevice, sectorBytes: number): void {
  const length = (BOOT_SECTORS + 1) * sectorBytes;
  need(device.sizeBytes >= length, `the device has ${device.sizeBytes} bytes`);
  const region = new Uint8Array(length);
  device.read(0, region);
  let sum = 0;
  for (let at = 0; at < BOOT_SECTORS * sectorBytes; at++) {
    if (!UNCHECKED.includes(at)) sum = checksumStep32(sum, region[at] ?? 0);
  }
  for (let at = BOOT_SECTORS * sectorBytes; at < length; at += 4) {
    need(u32(region, at) === sum, "its checksum does not match");
  }
}

/** A checksum of 32 bits after one more byte. */
export function checksumStep32(sum: number, byte: number): number {
  return (((sum & 1) << 31) + (sum >>> 1) + byte) >>> 0;
}

function need(holds: boolean, found: string): void {
  if (!holds) throw damaged("reading the boot region of an exFAT file system", found);
}

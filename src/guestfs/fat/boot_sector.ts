/**
 * The boot sector of FAT12, FAT16 and FAT32. Source: Microsoft's "FAT: General Overview of On-Disk Format" 1.03.
 *
 * ```text
 *  11 u16 bytes of a sector   13 u8 sectors of a cluster   14 u16 sectors before the first FAT   16 u8 FATs
 *  17 u16 entries of the root directory   19 u16 sectors, or 0   21 u8 medium   22 u16 sectors of a FAT, or 0
 *  32 u32 sectors, when 19 is 0
 *  FAT12, FAT16: 38 u8 0x29: there is a label   43 u8[11] label   54 u8[8] type, which means nothing
 *  FAT32: 36 u32 sectors of a FAT   40 u16 flags: bits 0-3 active FAT, bit 7: no other is kept up   42 u16 version
 *         44 u32 first cluster of the root directory   48 u16 sector of the FSInfo
 *         66 u8 0x29: there is a label   71 u8[11] label   82 u8[8] type
 * 510 u16 0xaa55, though not on all
 * ```
 *
 * Then come the FATs, the root directory of FAT12 and FAT16, and the clusters.
 *
 * @module
 */
import type { BlockDevice } from "../../base/block_device.ts";
import { VarveError } from "../../base/errors.ts";
import { damaged, latin1, u16, u32, u8 } from "../_bytes.ts";
import { FatTable, FIRST_CLUSTER } from "./fat_table.ts";
import { decodeCodePage } from "./name.ts";

/** Bytes of the boot sector that mean something. */
export const BOOT_BYTES = 512;
/** Bytes of an entry of a directory. */
export const ENTRY_BYTES = 32;
const FAT12_CLUSTERS_MAX = 4084;
const FAT16_CLUSTERS_MAX = 65_524;
/** Clusters have 28 bits, and the highest numbers are marks. */
const FAT32_CLUSTERS_MAX = 0x0ffffff5;
const MIRRORING_OFF = 0x80;

/** Which of the three formats it is. */
export type FatKind = "fat12" | "fat16" | "fat32";

/** Where everything lies, in bytes from the start of the device. */
export interface FatGeometry {
  /** The format. */
  readonly kind: FatKind;
  /** First byte of the FAT that counts. */
  readonly fatOffset: number;
  /** The root directory: an area of its own, or the first cluster of its chain. */
  readonly root: { readonly offset: number; readonly length: number } | { readonly cluster: number };
  /** First byte of the first cluster. */
  readonly heapOffset: number;
  /** Bytes of a cluster. */
  readonly clusterBytes: number;
  /** Number of clusters. */
  readonly clusterCount: number;
  /** Where FAT32 keeps the number of free clusters. */
  readonly infoOffset: number | undefined;
  /** The label that the boot sector gives, or an empty string. */
  readonly label: string;
}

/** Whether a boot sector says by name that it is FAT; many do, though none need. */
export function namesFat(boot: Uint8Array): boolean {
  const marked = u16(boot, 510) === 0xaa55 || startsWithJump(boot);
  return marked && (latin1(boot.subarray(82, 90)) === "FAT32   " ||
    ["FAT12   ", "FAT16   ", "FAT     "].includes(latin1(boot.subarray(54, 62))));
}

/** Whether a boot sector without a name makes sense as that of FAT. */
export function couldBeFat(boot: Uint8Array, device: BlockDevice): boolean {
  if (u16(boot, 510) !== 0xaa55 && !startsWithJump(boot)) return false;
  try {
    parseBootSector(boot, device);
    return true;
  } catch (thrown) {
    if (thrown instanceof VarveError) return false;
    throw thrown;
  }
}

function startsWithJump(boot: Uint8Array): boolean {
  return (u8(boot, 0) === 0xeb && u8(boot, 2) === 0x90) || u8(boot, 0) === 0xe9;
}

/**
 * Checks a boot sector of {@linkcode BOOT_BYTES}. Throws `damaged` when it contradicts itself or its tables do not lie on the device,
 * `unsupported` for a version of FAT32 that nobody has seen.
 */
export function parseBootSector(boot: Uint8Array, device: BlockDevice): FatGeometry {
  const sectorBytes = u16(boot, 11);
  const clusterSectors = u8(boot, 13);
  const reserved = u16(boot, 14);
  const fats = u8(boot, 16);
  const rootEntries = u16(boot, 17);
  const medium = u8(boot, 21);
  need([512, 1024, 2048, 4096].includes(sectorBytes), `sectors of ${sectorBytes} bytes`);
  need(isPowerOfTwo(clusterSectors), `clusters of ${clusterSectors} sectors`);
  need(reserved > 0, "no sector before the first FAT");
  need(fats > 0, "no FAT");
  need(medium === 0xf0 || medium >= 0xf8, `medium ${medium}`);

  const isFat32 = u16(boot, 22) === 0;
  const fatSectors = isFat32 ? u32(boot, 36) : u16(boot, 22);
  need(fatSectors > 0, "a FAT without sectors");
  const total = u16(boot, 19) === 0 ? u32(boot, 32) : u16(boot, 19);
  const rootSectors = Math.ceil(rootEntries * ENTRY_BYTES / sectorBytes);
  const firstRoot = reserved + fats * fatSectors;
  const firstData = firstRoot + rootSectors;
  need(firstData < total, `${firstData} of ${total} sectors before the clusters`);
  need((rootEntries === 0) === isFat32, `a root directory of ${rootEntries} entries`);

  // The number of clusters tells FAT12 from FAT16, nothing else; it is also bounded by what the FAT has room for.
  const wanted = Math.floor((total - firstData) / clusterSectors);
  const kind = isFat32 ? "fat32" : wanted <= FAT12_CLUSTERS_MAX ? "fat12" : "fat16";
  const most = kind === "fat12"
    ? FAT12_CLUSTERS_MAX
    : kind === "fat16"
    ? FAT16_CLUSTERS_MAX
    : FAT32_CLUSTERS_MAX;
  need(wanted > 0 && wanted <= most, `${wanted} clusters`);
  const bits = kind === "fat12" ? 12 : kind === "fat16" ? 16 : 32;
  const room = Math.floor(fatSectors * sectorBytes * 8 / bits) - FIRST_CLUSTER;
  const clusterCount = Math.min(wanted, room);

  const active = isFat32 ? activeFat(boot, fats) : 0;
  const fatOffset = (reserved + active * fatSectors) * sectorBytes;
  const place = { width: widthOf(kind), clusterCount };
  const tablesEnd = Math.max(firstData * sectorBytes, fatOffset + FatTable.bytesOf(place));
  need(tablesEnd <= device.sizeBytes, `tables up to ${tablesEnd} of ${device.sizeBytes} bytes`);
  return {
    kind,
    fatOffset,
    root: isFat32
      ? { cluster: rootCluster(boot, clusterCount) }
      : { offset: firstRoot * sectorBytes, length: rootEntries * ENTRY_BYTES },
    heapOffset: firstData * sectorBytes,
    clusterBytes: clusterSectors * sectorBytes,
    clusterCount,
    infoOffset: isFat32 ? infoOffset(boot, sectorBytes, reserved) : undefined,
    label: labelOf(boot, isFat32 ? 66 : 38),
  };
}

/** Bits of an entry of the FAT that count. */
export function widthOf(kind: FatKind): 12 | 16 | 28 {
  return kind === "fat12" ? 12 : kind === "fat16" ? 16 : 28;
}

/** A label of 11 bytes as text. */
export function decodeLabel(bytes: Uint8Array): string {
  return decodeCodePage(bytes[0] === 0x05 ? Uint8Array.of(0xe5, ...bytes.subarray(1)) : bytes)
    .replace(/[ \0]+$/, "");
}

function activeFat(boot: Uint8Array, fats: number): number {
  const version = u16(boot, 42);
  if (version !== 0) {
    throw new VarveError("unsupported", `opening a FAT file system: version ${version} of FAT32`);
  }
  const flags = u16(boot, 40);
  const active = (flags & MIRRORING_OFF) === 0 ? 0 : flags & 15;
  need(active < fats, `active FAT ${active} of ${fats}`);
  return active;
}

function rootCluster(boot: Uint8Array, clusterCount: number): number {
  const cluster = u32(boot, 44);
  need(
    cluster >= FIRST_CLUSTER && cluster < FIRST_CLUSTER + clusterCount,
    `a root directory in cluster ${cluster}`,
  );
  return cluster;
}

function infoOffset(boot: Uint8Array, sectorBytes: number, reserved: number): number | undefined {
  const sector = u16(boot, 48);
  return sector > 0 && sector < reserved ? sector * sectorBytes : undefined;
}

function labelOf(boot: Uint8Array, at: number): string {
  if (u8(boot, at) !== 0x29) return "";
  const label = decodeLabel(boot.subarray(at + 5, at + 16));
  return label === "NO NAME" ? "" : label;
}

function isPowerOfTwo(value: number): boolean {
  return value > 0 && (value & (value - 1)) === 0;
}

function need(holds: boolean, found: string): void {
  if (!holds) throw damaged("reading the boot sector of a FAT file system", found);
}

/**
 * Partition tables: MBR with logical partitions, and GPT with its backup.
 *
 * ```text
 * MBR   byte 446: four entries of u8 status, u8[3], u8 type, u8[3], u32 start, u32 sectors; byte 510: 55 aa
 * GPT   sector 1: "EFI PART", u32 revision, u32 header bytes, u32 CRC-32, u32, u64 own sector, u64 backup's
 *       sector, u64 first, u64 last usable, u8[16], u64 entries' sector, u32 entries, u32 entry bytes, u32 CRC-32
 *       entry: u8[16] type (zero: unused), u8[16] id, u64 first sector, u64 last sector, …
 * ```
 *
 * A GPT may count in sectors of 512 or 4096 bytes, an MBR is taken to count in 512. Partitions are numbered as
 * Linux does: by their slot in the table, logical ones from 5 on.
 *
 * @module
 */
import { crc32 } from "node:zlib";
import type { BlockDevice } from "../base/block_device.ts";
import { damaged, isZero, latin1, u16, u32, u64, u8 } from "./_bytes.ts";

/** One partition as its table describes it; it may reach beyond the device. */
export interface PartitionEntry {
  /** `p1`, `p2`, … */
  readonly name: string;
  /** First byte. */
  readonly offset: number;
  /** Length in bytes. */
  readonly length: number;
}

/** A partition table that was found. */
export interface PartitionTable {
  /** Which kind. */
  readonly table: "mbr" | "gpt";
  /** Its partitions, in the order of their numbers; an extended partition is not one of them. */
  readonly entries: readonly PartitionEntry[];
}

const SECTOR_BYTES = 512;
const GPT_SECTOR_BYTES = [512, 4096];
const GPT_ENTRIES_BYTES_MAX = 1024 * 1024;
const MBR_ENTRIES = 446;
const MBR_ENTRY_BYTES = 16;
const TYPE_GPT_PROTECTIVE = 0xee;
const TYPES_EXTENDED = [0x05, 0x0f, 0x85];
const FIRST_LOGICAL = 5;
const LOGICAL_MAX = 128;

interface MbrEntry {
  readonly status: number;
  readonly type: number;
  readonly start: number;
  readonly sectors: number;
}

/**
 * Reads the partition table of a device, or `undefined` when there is none. A boot sector of a file system
 * ends in 55 aa too, so every entry must make sense. An MBR without any entry counts as a table: the caller
 * looks for a file system first. Throws `damaged` when both copies of a GPT are.
 */
export function readPartitionTable(device: BlockDevice): PartitionTable | undefined {
  const entries = readMbr(device, 0);
  if (entries === undefined) return undefined;
  if (entries.some((entry) => entry.type === TYPE_GPT_PROTECTIVE)) {
    for (const sectorBytes of GPT_SECTOR_BYTES) {
      const gpt = readGpt(device, sectorBytes);
      if (gpt !== undefined) return { table: "gpt", entries: gpt };
    }
    throw damaged("reading the partition table", "both copies of the GPT are damaged");
  }
  const used = entries.filter((entry) => entry.type !== 0);
  const sectors = Math.floor(device.sizeBytes / SECTOR_BYTES);
  const sane = entries.every((entry) => entry.status === 0 || entry.status === 0x80) &&
    used.every((entry) => entry.start > 0 && entry.start < sectors && entry.sectors > 0) &&
    !used.some((entry) => used.some((other) => other !== entry && overlap(entry, other)));
  return sane ? { table: "mbr", entries: partitionsOf(device, entries) } : undefined;
}

function readMbr(device: BlockDevice, sector: number): MbrEntry[] | undefined {
  if ((sector + 1) * SECTOR_BYTES > device.sizeBytes) return undefined;
  const bytes = new Uint8Array(SECTOR_BYTES);
  device.read(sector * SECTOR_BYTES, bytes);
  if (u16(bytes, 510) !== 0xaa55) return undefined;
  return [0, 1, 2, 3].map((index) => {
    const at = MBR_ENTRIES + index * MBR_ENTRY_BYTES;
    return {
      status: u8(bytes, at),
      type: u8(bytes, at + 4),
      start: u32(bytes, at + 8),
      sectors: u32(bytes, at + 12),
    };
  });
}

function overlap(left: MbrEntry, right: MbrEntry): boolean {
  return left.start < right.start + right.sectors && right.start < left.start + left.sectors;
}

function partitionsOf(device: BlockDevice, entries: readonly MbrEntry[]): PartitionEntry[] {
  const partitions: PartitionEntry[] = [];
  const logical: PartitionEntry[] = [];
  for (const [index, entry] of entries.entries()) {
    if (entry.type === 0) continue;
    if (TYPES_EXTENDED.includes(entry.type)) {
      logical.push(...logicalPartitions(device, entry.start, FIRST_LOGICAL + logical.length));
    } else {
      partitions.push(entryOf(index + 1, entry.start, entry.sectors, SECTOR_BYTES));
    }
  }
  return [...partitions, ...logical];
}

/** Follows the chain of tables in an extended partition: each has one partition and leads to the next table. */
function logicalPartitions(device: BlockDevice, extended: number, firstNumber: number): PartitionEntry[] {
  const partitions: PartitionEntry[] = [];
  const seen = new Set<number>();
  let sector: number | undefined = extended;
  while (sector !== undefined && !seen.has(sector) && seen.size < LOGICAL_MAX) {
    seen.add(sector);
    const table: number = sector;
    const entries = readMbr(device, table) ?? [];
    sector = undefined;
    for (const entry of entries) {
      if (TYPES_EXTENDED.includes(entry.type)) sector ??= extended + entry.start;
      else if (entry.type !== 0 && entry.sectors > 0) {
        partitions.push(
          entryOf(firstNumber + partitions.length, table + entry.start, entry.sectors, SECTOR_BYTES),
        );
      }
    }
  }
  return partitions;
}

/** Reads the first header, or the one in the last sector when the first is damaged. */
function readGpt(device: BlockDevice, sectorBytes: number): PartitionEntry[] | undefined {
  const last = Math.floor(device.sizeBytes / sectorBytes) - 1;
  return readGptAt(device, sectorBytes, 1) ?? readGptAt(device, sectorBytes, last);
}

function readGptAt(device: BlockDevice, sectorBytes: number, sector: number): PartitionEntry[] | undefined {
  if (sector < 1 || (sector + 1) * sectorBytes > device.sizeBytes) return undefined;
  const header = new Uint8Array(sectorBytes);
  device.read(sector * sectorBytes, header);
  const headerBytes = u32(header, 12);
  if (
    latin1(header.subarray(0, 8)) !== "EFI PART" || headerBytes < 92 || headerBytes > sectorBytes ||
    u32(header, 24) !== sector || u32(header, 28) !== 0
  ) return undefined;
  const stored = u32(header, 16);
  header.fill(0, 16, 20);
  if (crc32(header.subarray(0, headerBytes)) !== stored) return undefined;

  const count = u32(header, 80);
  const entryBytes = u32(header, 84);
  const length = count * entryBytes;
  if (entryBytes < 128 || length > GPT_ENTRIES_BYTES_MAX || u32(header, 76) >= 2 ** 16) return undefined;
  const offset = u64(header, 72) * sectorBytes;
  if (offset + length > device.sizeBytes) return undefined;
  const entries = new Uint8Array(length);
  device.read(offset, entries);
  if (crc32(entries) !== u32(header, 88)) return undefined;
  return gptEntries(entries, entryBytes, sectorBytes);
}

function gptEntries(entries: Uint8Array, entryBytes: number, sectorBytes: number): PartitionEntry[] {
  const partitions: PartitionEntry[] = [];
  for (let at = 0; at < entries.length; at += entryBytes) {
    if (isZero(entries.subarray(at, at + 16))) continue;
    const first = u64(entries, at + 32);
    const last = u64(entries, at + 40);
    if (first < 1 || last < first) continue;
    partitions.push(entryOf(at / entryBytes + 1, first, last - first + 1, sectorBytes));
  }
  return partitions;
}

function entryOf(number: number, start: number, sectors: number, sectorBytes: number): PartitionEntry {
  return { name: `p${number}`, offset: start * sectorBytes, length: sectors * sectorBytes };
}

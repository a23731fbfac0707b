/**
 * Members of Linux' software RAID (md).
 *
 * ```text
 * 1.x    u32 a92b4efc, u32 1, u32 features, …; byte 72: i32 level, u32 layout, u64 sectors used of the member,
 *        u32 chunk, u32 members; byte 128: u64 first sector of the data, u64 sectors for it; byte 160: u32 device
 *        number; byte 216: u32 checksum, u32 roles; byte 256: u16 role of each device number
 * 0.90   u32 a92b4efc, u32 0, u32 90, …; byte 28: i32 level
 * ```
 * 1.1 lies at the start, 1.2 at 4 KiB, 1.0 within the last 12 KiB, 0.90 in the last 64 KiB, so that for these two the
 * data begin where the member does. Sectors are of 512 bytes. Source: the kernel's `uapi/linux/raid/md_p.h`.
 *
 * @module
 */
import type { BlockDevice } from "../base/block_device.ts";
import { latin1, u16, u32, u64 } from "./_bytes.ts";
import type { DiskPiece } from "./guest.ts";

/** A member of a RAID whose metadata lie before its data. */
export interface RaidMember {
  /** Where the whole content of the array lies on the member; `undefined` when it is not to be had from this one. */
  readonly data: DiskPiece | undefined;
  /** What it is, such as `a member of an md RAID5 (metadata 1.2)`. */
  readonly what: string;
}

const SECTOR_BYTES = 512;
const MAGIC = "\xfc\x4e\x2b\xa9";
const SUPERBLOCK_BYTES = 4096;
const ROLES = 256;
const LEVEL_MIRROR = 1;
/** `feature_map`: the member is being rebuilt; the array is being reshaped; this is a journal of another member. */
const RECOVERING = 0x2;
const RESHAPING = 0x4;
const JOURNAL = 0x200;

/** Recognises a member of metadata 1.1 and 1.2 by a superblock whose checksum holds; else `undefined`. */
export function findRaidMember(device: BlockDevice): RaidMember | undefined {
  for (const [offset, version] of [[0, "1.1"], [4096, "1.2"]] as const) {
    const superblock = readSuperblock(device, offset);
    if (superblock !== undefined) return memberOf(superblock, version, device.sizeBytes);
  }
  return undefined;
}

/** What carries the magic number of md at an offset: its level and metadata version as they stand there. */
export function describeRaid(device: BlockDevice, offset: number): string {
  const bytes = new Uint8Array(Math.min(ROLES, device.sizeBytes - offset));
  device.read(offset, bytes);
  if (bytes.length < ROLES) return "a member of an md RAID";
  if (u32(bytes, 4) === 0) return whatOf(u32(bytes, 28) | 0, `0.${u32(bytes, 8)}`);
  return whatOf(u32(bytes, 72) | 0, offset === 0 ? "1.1" : offset === 4096 ? "1.2" : "1.0");
}

function readSuperblock(device: BlockDevice, offset: number): Uint8Array | undefined {
  if (offset + SUPERBLOCK_BYTES > device.sizeBytes) return undefined;
  const bytes = new Uint8Array(SUPERBLOCK_BYTES);
  device.read(offset, bytes);
  if (latin1(bytes.subarray(0, 4)) !== MAGIC || u32(bytes, 4) !== 1) return undefined;
  if (u64(bytes, 144) * SECTOR_BYTES !== offset) return undefined;
  const length = ROLES + u32(bytes, 220) * 2;
  return length <= bytes.length && checksum(bytes.subarray(0, length)) === u32(bytes, 216)
    ? bytes
    : undefined;
}

function memberOf(superblock: Uint8Array, version: string, deviceBytes: number): RaidMember {
  const what = whatOf(u32(superblock, 72) | 0, version);
  const device = u32(superblock, 160);
  const role = device < u32(superblock, 220) ? u16(superblock, ROLES + device * 2) : 0xffff;
  const offset = u64(superblock, 128) * SECTOR_BYTES;
  const length = Math.min(u64(superblock, 80), u64(superblock, 136)) * SECTOR_BYTES;
  const whole = (u32(superblock, 72) | 0) === LEVEL_MIRROR && role < u32(superblock, 92) &&
    (u32(superblock, 8) & (RECOVERING | RESHAPING | JOURNAL)) === 0;
  const inside = length > 0 && offset + length <= deviceBytes;
  return { what, data: whole && inside ? { offset, length } : undefined };
}

function whatOf(level: number, version: string): string {
  const name = level === -1 ? "linear array" : level >= 0 && level <= 10 ? `RAID${level}` : "RAID";
  return `a member of an md ${name} (metadata ${version})`;
}

/** The sum of all 32-bit words but the checksum itself, its carries added again. */
function checksum(bytes: Uint8Array): number {
  let sum = 0;
  let at = 0;
  for (; at + 4 <= bytes.length; at += 4) if (at !== 216) sum += u32(bytes, at);
  if (at + 2 <= bytes.length) sum += u16(bytes, at);
  return (sum % 2 ** 32 + Math.floor(sum / 2 ** 32)) % 2 ** 32;
}

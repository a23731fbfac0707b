/**
 * Directory records of ISO 9660.
 *
 * ```text
 * u8 length, u8 blocks of attributes before the content, u32+u32 block, u32+u32 bytes, u8[7] time, u8 flags,
 * u8 unit and u8 gap of interleaved content, u16+u16 volume, u8 length of the name, name, padding to 2, system use
 * ```
 * A record does not cross a sector; zeroes go on to the next one. A record's offset on the device is its inode number, but for
 * directories: theirs is that of their own first record, `.`, to which every way leads.
 *
 * @module
 */
import { VarveError } from "../../base/errors.ts";
import { damaged, u32, u8 } from "../_bytes.ts";
import type { IsoVolume } from "./volume.ts";

/** One record. */
export interface IsoRecord {
  /** Offset on the device in bytes. */
  readonly offset: number;
  /** Offset of the content in bytes. */
  readonly content: number;
  readonly sizeBytes: number;
  readonly timeNs: bigint;
  readonly directory: boolean;
  /** More of the file's content follows in the next record. */
  readonly continued: boolean;
  /** Belongs to the file of the same name as a second content, which is not shown. */
  readonly associated: boolean;
  readonly interleaved: boolean;
  /** The name as it is stored; `.` and `..` are one byte of 0 and 1. */
  readonly name: Uint8Array;
  readonly systemUse: Uint8Array;
}

const SECTOR_BYTES = 2048;
const HEADER_BYTES = 33;
const FLAG_DIRECTORY = 2;
const FLAG_ASSOCIATED = 4;
const FLAG_CONTINUED = 0x80;

/** The record at an offset. Throws `damaged`. */
export function recordAt(volume: IsoVolume, offset: number): IsoRecord {
  const fail = (found: string) => damaged(`reading the directory record at ${offset}`, found);
  const length = u8(volume.chunks.bytes(offset, 1), 0);
  if (length < HEADER_BYTES + 1 || (offset % SECTOR_BYTES) + length > SECTOR_BYTES) {
    throw fail(`${length} bytes`);
  }
  const bytes = volume.chunks.bytes(offset, length);
  const nameBytes = u8(bytes, 32);
  const nameEnd = HEADER_BYTES + nameBytes;
  if (nameBytes === 0 || nameEnd > length) throw fail(`a name of ${nameBytes} bytes in ${length}`);
  const flags = u8(bytes, 25);
  return {
    offset,
    content: (u32(bytes, 2) + u8(bytes, 1)) * volume.blockBytes,
    sizeBytes: u32(bytes, 10),
    timeNs: shortTime(bytes.subarray(18, 25)),
    directory: (flags & FLAG_DIRECTORY) !== 0,
    continued: (flags & FLAG_CONTINUED) !== 0,
    associated: (flags & FLAG_ASSOCIATED) !== 0,
    interleaved: u8(bytes, 26) !== 0 || u8(bytes, 27) !== 0,
    name: bytes.subarray(HEADER_BYTES, nameEnd),
    systemUse: bytes.subarray(Math.min(length, nameEnd + (nameBytes % 2 === 0 ? 1 : 0))),
  };
}

/** The records from an offset up to `end`, without the empty ends of sectors. Throws `damaged`. */
export function* recordsFrom(volume: IsoVolume, offset: number, end: number): Generator<IsoRecord> {
  for (let at = offset; at < end;) {
    const length = u8(volume.chunks.bytes(at, 1), 0);
    if (length === 0) {
      at = (Math.floor(at / SECTOR_BYTES) + 1) * SECTOR_BYTES;
      continue;
    }
    const record = recordAt(volume, at);
    at += length;
    if (at > end) throw damaged("reading a directory", "a record beyond its end");
    yield record;
  }
}

/** The first record of a directory, its own. Throws `not-found` when no directory can begin there. */
export function ownRecord(volume: IsoVolume, offset: number): IsoRecord {
  const record = recordAt(volume, offset);
  if (record.name.length === 1 && record.name[0] === 0 && record.directory) return record;
  throw damaged(`reading the directory at ${offset}`, "it does not begin with itself");
}

/** Checks an inode number from outside before it is taken for an offset. Throws `invalid` and `not-found`. */
export function checkInode(volume: IsoVolume, inode: number): void {
  if (!Number.isSafeInteger(inode)) throw new VarveError("invalid", `reading inode ${inode}`);
  if (inode < 1 || inode >= volume.chunks.device.sizeBytes) {
    throw new VarveError(
      "not-found",
      `reading inode ${inode}: the device has ${volume.chunks.device.sizeBytes} bytes`,
    );
  }
}

/** A time of seven bytes: years since 1900, month, day, hour, minute, second, quarters of an hour east of Greenwich. */
export function shortTime(bytes: Uint8Array): bigint {
  const at = (index: number) => u8(bytes, index);
  if (at(1) === 0) return 0n;
  return timeOf(1900 + at(0), at(1), at(2), at(3), at(4), at(5), at(6)) * 1_000_000_000n;
}

/** A time of seventeen bytes: sixteen digits of year, month, day, hour, minute, second and hundredths, then as above. */
export function longTime(bytes: Uint8Array): bigint {
  const digits = (from: number, count: number) => {
    let value = 0;
    for (let at = from; at < from + count; at++) value = value * 10 + (u8(bytes, at) % 16) % 10;
    return value;
  };
  if (digits(4, 2) === 0) return 0n;
  const seconds = timeOf(
    digits(0, 4),
    digits(4, 2),
    digits(6, 2),
    digits(8, 2),
    digits(10, 2),
    digits(12, 2),
    u8(bytes, 16),
  );
  return seconds * 1_000_000_000n + BigInt(digits(14, 2)) * 10_000_000n;
}

/** Seconds since 1970. */
function timeOf(
  year: number,
  month: number,
  day: number,
  hour: number,
  minute: number,
  second: number,
  zone: number,
): bigint {
  const quarters = (zone << 24) >> 24;
  const seconds = Date.UTC(year, month - 1, day, hour, minute, second) / 1000;
  // Zones reach from -48 to 52 quarters; what lies outside is nonsense that some writers leave there.
  return BigInt(Math.trunc(seconds)) - (quarters >= -52 && quarters <= 52 ? BigInt(quarters) * 900n : 0n);
}

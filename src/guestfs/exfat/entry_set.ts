/**
 * Directories of exFAT: a file is a set of entries. Source: Microsoft's "exFAT file system specification", sections 6 and 7.
 *
 * ```text
 * file    0 u8 0x85   1 u8 entries that follow   2 u16 checksum   4 u16 attributes   8 u32 creation   12 u32 change   16 u32 access
 *        20 u8 10 ms of creation   21 u8 of change   22 u8 UTC offsets of creation   23 u8 of change   24 u8 of access
 * stream  0 u8 0xc0   1 u8 flags: 1 it may have clusters, 2 they lie one behind the other   3 u8 units of the name
 *         8 u64 valid length   20 u32 first cluster   24 u64 length
 * name    0 u8 0xc1   2 u16[15]
 *
 * type    bit 7 in use, bit 6 follows another, bit 5 may be passed over; 0 ends the directory
 * time    u16 time and u16 date of DOS
 * offset  bit 7: it is known; bits 0-6 signed quarters of an hour that the time is ahead of UTC
 * ```
 *
 * @module
 */
import type { VarveError } from "../../base/errors.ts";
import { damaged, u16, u32, u64, u8 } from "../_bytes.ts";
import type { DirectoryPiece } from "../fat/cluster_heap.ts";
import { ATTRIBUTE } from "../fat/directory.ts";
import { dosTimeNs } from "../fat/dos_time.ts";
import { decodeUnits } from "../fat/name.ts";

/** Bytes of an entry. */
export const ENTRY_BYTES = 32;
/** Types of entries. */
export const ENTRY_TYPE = {
  end: 0x00,
  bitmap: 0x81,
  upCase: 0x82,
  label: 0x83,
  file: 0x85,
  stream: 0xc0,
  name: 0xc1,
} as const;
const SECONDARY = 0xc0;
const NAME_UNITS = 15;
const FLAG_POSSIBLE = 0x01;
const FLAG_CONTIGUOUS = 0x02;
const NS_PER_QUARTER = 15n * 60n * 1_000_000_000n;

/** What a set says of its file. */
export interface FileSet {
  /** The name. */
  readonly name: string;
  /** Whether it is a directory. */
  readonly directory: boolean;
  /** Whether it must not be written. */
  readonly readOnly: boolean;
  /** First cluster; meaningless when `sizeBytes` is 0. */
  readonly cluster: number;
  /** Whether the clusters lie one behind the other, without the FAT. */
  readonly contiguous: boolean;
  /** Size in bytes. */
  readonly sizeBytes: number;
  /** Bytes that were written; those up to the size are zeroes. */
  readonly validBytes: number;
  readonly accessedNs: bigint;
  readonly modifiedNs: bigint;
  readonly bornNs: bigint;
}

/** A set of entries as it lies in a directory. */
export interface RawSet {
  /** Where its first entry lies on the device. */
  readonly offset: number;
  /** Its entries. */
  readonly bytes: Uint8Array;
}

/**
 * The sets of files in a directory, in its order; other entries are given to `onOther`. A set that is not followed by what it
 * must be is passed over and told to `onDamage`.
 */
export function* setsIn(
  pieces: Iterable<DirectoryPiece>,
  onDamage: (damage: VarveError) => void,
  onOther: (entry: Uint8Array) => void = () => {},
): Generator<RawSet> {
  let set: { offset: number; bytes: Uint8Array; have: number } | undefined;
  const broken = (offset: number) =>
    onDamage(damaged("reading a directory", `the entries of the file at ${offset} are not complete`));
  for (const { offset, bytes } of pieces) {
    for (let at = 0; at < bytes.length; at += ENTRY_BYTES) {
      const entry = bytes.subarray(at, at + ENTRY_BYTES);
      const type = u8(entry, 0);
      if (set !== undefined) {
        if ((type & SECONDARY) === SECONDARY) {
          set.bytes.set(entry, set.have);
          set.have += ENTRY_BYTES;
          if (set.have < set.bytes.length) continue;
          yield { offset: set.offset, bytes: set.bytes };
          set = undefined;
          continue;
        }
        broken(set.offset);
        set = undefined;
      }
      if (type === ENTRY_TYPE.end) return;
      if (type !== ENTRY_TYPE.file) {
        onOther(entry);
        continue;
      }
      const length = (1 + u8(entry, 1)) * ENTRY_BYTES;
      if (length < 3 * ENTRY_BYTES) {
        broken(offset + at);
        continue;
      }
      set = { offset: offset + at, bytes: new Uint8Array(length), have: ENTRY_BYTES };
      set.bytes.set(entry);
    }
  }
  if (set !== undefined) broken(set.offset);
}

/** The name and kind that a set gives, also when its checksum does not match. Throws `damaged` when there is no name. */
export function nameOf({ offset, bytes }: RawSet): { readonly name: string; readonly directory: boolean } {
  const units = u8(bytes, ENTRY_BYTES + 3);
  const names = Math.ceil(units / NAME_UNITS);
  const fits = u8(bytes, ENTRY_BYTES) === ENTRY_TYPE.stream && units > 0 &&
    (2 + names) * ENTRY_BYTES <= bytes.length;
  let name = "";
  for (let part = 0; fits && part < names; part++) {
    const at = (2 + part) * ENTRY_BYTES;
    if (u8(bytes, at) !== ENTRY_TYPE.name) break;
    name += decodeUnits(bytes, at + 2, Math.min(NAME_UNITS, units - part * NAME_UNITS));
  }
  if (name.length !== units || name === "" || name === "." || name === "..") {
    throw damaged("reading a directory", `the file at ${offset} has no name`);
  }
  return { name, directory: (u16(bytes, 4) & ATTRIBUTE.directory) !== 0 };
}

/** Checks and decodes a set. Throws `damaged` when its checksum does not match or it contradicts itself. */
export function parseSet(set: RawSet): FileSet {
  const { offset, bytes } = set;
  if (checksum16(bytes) !== u16(bytes, 2)) {
    throw damaged("reading a file's entries", `the checksum of those at ${offset} does not match`);
  }
  const { name, directory } = nameOf(set);
  const flags = u8(bytes, ENTRY_BYTES + 1);
  const validBytes = u64(bytes, ENTRY_BYTES + 8);
  const sizeBytes = u64(bytes, ENTRY_BYTES + 24);
  if (validBytes > sizeBytes) {
    throw damaged("reading a file's entries", `${validBytes} of ${sizeBytes} bytes are valid`);
  }
  if (sizeBytes > 0 && (flags & FLAG_POSSIBLE) === 0) {
    throw damaged("reading a file's entries", `${sizeBytes} bytes, though it has no clusters`);
  }
  return {
    name,
    directory,
    readOnly: (u16(bytes, 4) & ATTRIBUTE.readOnly) !== 0,
    cluster: u32(bytes, ENTRY_BYTES + 20),
    contiguous: (flags & FLAG_CONTIGUOUS) !== 0,
    sizeBytes,
    validBytes,
    bornNs: timeNs(bytes, 8, u8(bytes, 20), u8(bytes, 22)),
    modifiedNs: timeNs(bytes, 12, u8(bytes, 21), u8(bytes, 23)),
    accessedNs: timeNs(bytes, 16, 0, u8(bytes, 24)),
  };
}

/** A time without a known offset is taken as UTC. */
function timeNs(bytes: Uint8Array, at: number, hundredths: number, offset: number): bigint {
  const local = dosTimeNs(u16(bytes, at + 2), u16(bytes, at), hundredths);
  if ((offset & 0x80) === 0) return local;
  const quarters = (offset & 0x7f) - ((offset & 0x40) === 0 ? 0 : 0x80);
  return local - BigInt(quarters) * NS_PER_QUARTER;
}

/** Sum of a set, without the field that holds it. */
function checksum16(bytes: Uint8Array): number {
  let sum = 0;
  for (let at = 0; at < bytes.length; at++) {
    if (at === 2 || at === 3) continue;
    sum = (((sum & 1) << 15) + (sum >>> 1) + (bytes[at] ?? 0)) & 0xffff;
  }
  return sum;
}

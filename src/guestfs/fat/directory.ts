/**
 * Directories of FAT. Source: Microsoft's "FAT: General Overview of On-Disk Format" 1.03; the flags for lower case are those of
 * Windows NT.
 *
 * ```text
 * entry      0 u8[11] short name, blank padded: 0x00 ends the directory, 0xe5 deleted, 0x05 stands for 0xe5
 *           11 u8 attributes   12 u8 lower case: 8 name, 16 extension   13 u8 creation in 10 ms   14 u16 its time   16 u16 its date
 *           18 u16 date of access   20 u16 cluster, high half (FAT32)   22 u16 time of change   24 u16 its date
 *           26 u16 cluster, low half   28 u32 size
 * long name  0 u8 number, from 1 on, plus 0x40 in the last   1 u16[5]   11 u8 15   13 u8 sum of the short name   14 u16[6]   28 u16[2]
 *            its entries stand before that of the file, the last one first
 * ```
 *
 * @module
 */
import { latin1, u16, u32, u8 } from "../_bytes.ts";
import { decodeLabel, ENTRY_BYTES } from "./boot_sector.ts";
import type { DirectoryPiece } from "./cluster_heap.ts";
import { dosTimeNs } from "./dos_time.ts";
import { decodeCodePage, decodeUnits } from "./name.ts";

/** Attribute bits of FAT and exFAT. */
export const ATTRIBUTE = { readOnly: 0x01, label: 0x08, directory: 0x10 } as const;
const ATTRIBUTES_LONG_NAME = 0x0f;
const ATTRIBUTES_MASK = 0x3f;
const DELETED = 0xe5;
const LAST_PART = 0x40;
const PART_UNITS = 13;
const PARTS_MAX = 20;
const LOWER_NAME = 0x08;
const LOWER_EXTENSION = 0x10;
const DOT = latin1(new TextEncoder().encode(".          "));
const DOT_DOT = latin1(new TextEncoder().encode("..         "));

/** What an entry says of its file. */
export interface FatEntry {
  /** Whether it is a directory. */
  readonly directory: boolean;
  /** Whether it must not be written. */
  readonly readOnly: boolean;
  /** First cluster, 0 for none. */
  readonly cluster: number;
  /** Size in bytes; 0 for directories. */
  readonly sizeBytes: number;
  readonly accessedNs: bigint;
  readonly modifiedNs: bigint;
  /** Creation, where the guest noted it. */
  readonly bornNs: bigint | undefined;
}

/** A name in a directory. */
export interface FatName {
  /** The long name, or the short one where there is none. */
  readonly name: string;
  /** The short name, where there is a long one. */
  readonly alias: string | undefined;
  /** Where the entry lies on the device. */
  readonly offset: number;
  /** Whether it is that of a directory. */
  readonly directory: boolean;
}

/** Decodes an entry, or `undefined` when it stands for no file. `wide` tells that clusters have an upper half. */
export function parseEntry(bytes: Uint8Array, wide: boolean): FatEntry | undefined {
  const attributes = u8(bytes, 11);
  const first = u8(bytes, 0);
  if (first === 0 || first === DELETED || (attributes & ATTRIBUTE.label) !== 0) return undefined;
  const directory = (attributes & ATTRIBUTE.directory) !== 0;
  const modifiedNs = dosTimeNs(u16(bytes, 24), u16(bytes, 22));
  const [accessed, born] = [u16(bytes, 18), u16(bytes, 16)];
  return {
    directory,
    readOnly: (attributes & ATTRIBUTE.readOnly) !== 0,
    cluster: (wide ? u16(bytes, 20) * 65_536 : 0) + u16(bytes, 26),
    sizeBytes: directory ? 0 : u32(bytes, 28),
    accessedNs: accessed === 0 ? modifiedNs : dosTimeNs(accessed, 0),
    modifiedNs,
    bornNs: born === 0 ? undefined : dosTimeNs(born, u16(bytes, 14), u8(bytes, 13)),
  };
}

/** The names in a directory, in its order, without `.`, `..` and the label. */
export function* namesIn(pieces: Iterable<DirectoryPiece>): Generator<FatName> {
  const long = new LongName();
  for (const { offset, entry } of entriesIn(pieces)) {
    const attributes = u8(entry, 11);
    if ((attributes & ATTRIBUTES_MASK) === ATTRIBUTES_LONG_NAME) {
      long.take(entry);
      continue;
    }
    const longName = long.of(entry);
    long.forget();
    if (u8(entry, 0) === DELETED || (attributes & ATTRIBUTE.label) !== 0) continue;
    const raw = latin1(entry.subarray(0, 11));
    if (raw === DOT || raw === DOT_DOT) continue;
    const short = shortName(entry);
    const name = longName ?? short;
    if (name === "" || name === "." || name === "..") continue;
    const directory = (attributes & ATTRIBUTE.directory) !== 0;
    yield { name, alias: longName === undefined ? undefined : short, offset, directory };
  }
}

/** The label that the root directory holds, if any. */
export function labelIn(pieces: Iterable<DirectoryPiece>): string | undefined {
  for (const { entry } of entriesIn(pieces)) {
    const attributes = u8(entry, 11) & ATTRIBUTES_MASK;
    if (attributes === ATTRIBUTES_LONG_NAME || u8(entry, 0) === DELETED) continue;
    if ((attributes & ATTRIBUTE.label) !== 0 && (attributes & ATTRIBUTE.directory) === 0) {
      return decodeLabel(entry.subarray(0, 11));
    }
  }
  return undefined;
}

function* entriesIn(pieces: Iterable<DirectoryPiece>): Generator<{ offset: number; entry: Uint8Array }> {
  for (const { offset, bytes } of pieces) {
    for (let at = 0; at < bytes.length; at += ENTRY_BYTES) {
      if (bytes[at] === 0) return;
      yield { offset: offset + at, entry: bytes.subarray(at, at + ENTRY_BYTES) };
    }
  }
}

function shortName(entry: Uint8Array): string {
  const raw = entry.slice(0, 11);
  if (raw[0] === 0x05) raw[0] = 0xe5;
  const flags = u8(entry, 12);
  const part = (from: number, to: number, lower: number) => {
    const text = decodeCodePage(raw.subarray(from, to)).replace(/ +$/, "");
    return (flags & lower) === 0 ? text : text.toLowerCase();
  };
  const [base, extension] = [part(0, 8, LOWER_NAME), part(8, 11, LOWER_EXTENSION)];
  return extension === "" ? base : `${base}.${extension}`;
}

/** Sum of the eleven bytes of a short name that ties a long name to it. */
function sumOf(entry: Uint8Array): number {
  let sum = 0;
  for (let at = 0; at < 11; at++) sum = ((sum >>> 1) + (sum << 7) + u8(entry, at)) & 0xff;
  return sum;
}

/** Gathers the parts of a long name; parts that do not fit together are as if there were none. */
class LongName {
  readonly #units = new Uint8Array(2 * PART_UNITS * PARTS_MAX);
  /** Number of parts, and the one that came last; 0 for none. */
  #parts = 0;
  #last = 0;
  #sum = 0;

  take(entry: Uint8Array): void {
    const mark = u8(entry, 0);
    const number = mark & (LAST_PART - 1);
    if ((mark & 0x80) !== 0 || number === 0 || number > PARTS_MAX) return this.forget();
    if ((mark & LAST_PART) !== 0) {
      this.#parts = number;
      this.#sum = u8(entry, 13);
      this.#units.fill(0);
    } else if (number !== this.#last - 1 || u8(entry, 13) !== this.#sum) return this.forget();
    this.#last = number;
    const at = (number - 1) * PART_UNITS * 2;
    this.#units.set(entry.subarray(1, 11), at);
    this.#units.set(entry.subarray(14, 26), at + 10);
    this.#units.set(entry.subarray(28, 32), at + 22);
  }

  forget(): void {
    this.#parts = 0;
    this.#last = 0;
  }

  /** The name that stands before the entry of a file, if it is whole and meant for it. */
  of(entry: Uint8Array): string | undefined {
    if (this.#last !== 1 || sumOf(entry) !== this.#sum) return undefined;
    const name = decodeUnits(this.#units, 0, this.#parts * PART_UNITS);
    const end = name.indexOf("\0");
    const found = end < 0 ? name : name.slice(0, end);
    return found === "" || found === "." || found === ".." ? undefined : found;
  }
}

/**
 * Directory entries, which attributes are too, and the references from an inode back to its names.
 *
 * ```text
 * entry               key of 17 bytes, u64 transaction, u16 length of the value, u16 length of the name, u8 type, name, value
 * reference           u64 index, u16 length, name; the directory is the offset of the item's key
 * extended reference  u64 directory, u64 index, u16 length, name
 * ```
 *
 * An item may hold several of them, one behind the other.
 *
 * @module
 */
import { damaged, equalBytes, slice, u16, u8 } from "../_bytes.ts";
import { crc32c } from "../ext/crc32c.ts";
import { ENTRY, NAME_BYTES_MAX, TYPE } from "./format.ts";
import { amount, type Key, keyAt } from "./key.ts";

/** One entry of an item. */
export interface Entry {
  /** What it leads to. */
  readonly location: Key;
  /** Type of file, as a number of the directory format. */
  readonly type: number;
  readonly name: Uint8Array;
  /** The value of an attribute. */
  readonly value: Uint8Array;
  /** Where it lies within the item. */
  readonly start: number;
  readonly end: number;
}

/** One name of an inode. */
export interface Reference {
  readonly directory: number;
  readonly index: number;
  readonly name: Uint8Array;
  /** Where it lies within the item. */
  readonly start: number;
  readonly end: number;
}

/** Bytes of a reference in front of its name. */
export const REFERENCE_BYTES = 10;
const EXTENDED_REFERENCE_BYTES = 18;

/** The hash of a name that directory entries and attributes are found by. */
export function nameHash(name: Uint8Array): number {
  return crc32c(0xfffffffe, name);
}

/** The hash of a name and its directory that extended references are found by. */
export function extendedReferenceHash(directory: number, name: Uint8Array): number {
  return crc32c(directory % 2 ** 32, name);
}

/** The entries of an item; throws `damaged`. */
export function parseEntries(item: Uint8Array): Entry[] {
  const entries: Entry[] = [];
  for (let start = 0; start < item.length;) {
    const nameLength = u16(item, start + ENTRY.nameLength);
    if (nameLength === 0 || nameLength > NAME_BYTES_MAX) {
      throw damaged("reading a directory", `a name of ${nameLength} bytes`);
    }
    const valueStart = start + ENTRY.name + nameLength;
    const end = valueStart + u16(item, start + ENTRY.dataLength);
    entries.push({
      location: keyAt(item, start + ENTRY.location),
      type: u8(item, start + ENTRY.type),
      name: slice(item, start + ENTRY.name, valueStart),
      value: slice(item, valueStart, end),
      start,
      end,
    });
    start = end;
  }
  return entries;
}

/** The entry of a name, if an item has it. */
export function findEntry(item: Uint8Array | undefined, name: Uint8Array): Entry | undefined {
  return item === undefined ? undefined : parseEntries(item).find((entry) => equalBytes(entry.name, name));
}

/** The references of an item of an inode with the given type and offset of its key; throws `damaged`. */
export function parseReferences(item: Uint8Array, type: number, offset: number): Reference[] {
  const references: Reference[] = [];
  const extended = type === TYPE.inodeExtref;
  for (let start = 0; start < item.length;) {
    const indexAt = start + (extended ? 8 : 0);
    const nameAt = start + (extended ? EXTENDED_REFERENCE_BYTES : REFERENCE_BYTES);
    const end = nameAt + u16(item, indexAt + 8);
    references.push({
      directory: extended ? amount(item, start) : offset,
      index: amount(item, indexAt),
      name: slice(item, nameAt, end),
      start,
      end,
    });
    start = end;
  }
  return references;
}

/** An item without the bytes from `start` to `end`; `undefined` when nothing is left. */
export function without(
  item: Uint8Array,
  { start, end }: { readonly start: number; readonly end: number },
): Uint8Array | undefined {
  if (end - start === item.length) return undefined;
  const rest = new Uint8Array(item.length - (end - start));
  rest.set(item.subarray(0, start));
  rest.set(item.subarray(end), start);
  return rest;
}

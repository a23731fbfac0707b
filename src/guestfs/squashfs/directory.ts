/**
 * Entries of a directory, in the order of their bytes, and the index of a large one.
 *
 * ```text
 * header  u32 entries - 1, u32 block of their inodes, u32 number
 * entry   u16 offset of the inode, i16 its number less that of the header, u16 type, u16 length of the name - 1, name
 * index   u32 offset of a header from the directory's start, u32 block of it in the directory table, u32 length - 1, name
 * ```
 *
 * @module
 */
import { VarveError } from "../../base/errors.ts";
import { damaged, u16, u32 } from "../_bytes.ts";
import type { GuestEntry } from "../guest.ts";
import { DIRECTORY_EXTRA_BYTES, DIRECTORY_RUN_MAX, METADATA_BYTES, TYPES } from "./format.ts";
import type { DirectoryPlace } from "./inode.ts";
import type { MetadataBlocks, MetadataCursor } from "./metadata.ts";

const HEADER_BYTES = 12;
const ENTRY_BYTES = 8;
const NAME_BYTES_MAX = 256;
/** Entries that one directory may have; each is kept in memory while it is listed. */
const ENTRIES_MAX = 4_000_000;

/** What the entries of a directory are read from. */
export interface DirectorySource {
  readonly metadata: MetadataBlocks;
  /** Start of the directory table. */
  readonly table: number;
  /** Number of inodes. */
  readonly inodes: number;
}

/** All entries of a directory. Throws `damaged`. */
export function listDirectory(source: DirectorySource, place: DirectoryPlace): GuestEntry[] {
  const entries: GuestEntry[] = [];
  for (
    const entry of entriesOf(
      source,
      source.metadata.cursor(place.position),
      place.sizeBytes - DIRECTORY_EXTRA_BYTES,
    )
  ) {
    if (entries.length === ENTRIES_MAX) {
      throw new VarveError("unsupported", `reading a directory: it has more than ${ENTRIES_MAX} entries`);
    }
    entries.push({ ...entry, name: entry.name.slice() });
  }
  return entries;
}

/** The inode behind a name, or `undefined`; begins at the last place of the index that is not behind the name. */
export function findInDirectory(
  source: DirectorySource,
  place: DirectoryPlace,
  name: Uint8Array,
): number | undefined {
  let position = place.position;
  let from = 0;
  const index = source.metadata.cursor(place.index);
  for (let count = 0; count < place.indexEntries; count++) {
    const entry = index.read(HEADER_BYTES);
    const first = readName(index, u32(entry, 8));
    if (compare(first, name) > 0) break;
    from = u32(entry, 0);
    position = {
      block: source.table + u32(entry, 4),
      offset: (place.position.offset + from) % METADATA_BYTES,
    };
  }
  const left = place.sizeBytes - DIRECTORY_EXTRA_BYTES - from;
  for (const entry of entriesOf(source, source.metadata.cursor(position), left)) {
    const order = compare(entry.name, name);
    if (order === 0) return entry.inode;
    if (order > 0) return undefined;
  }
  return undefined;
}

function* entriesOf(
  source: DirectorySource,
  cursor: MetadataCursor,
  sizeBytes: number,
): Generator<GuestEntry> {
  const fail = (found: string) => damaged("reading a directory", found);
  for (let left = sizeBytes; left > 0;) {
    const header = cursor.read(HEADER_BYTES);
    const count = u32(header, 0) + 1;
    const base = u32(header, 8);
    if (count > DIRECTORY_RUN_MAX) throw fail(`${count} entries behind one header`);
    left -= HEADER_BYTES;
    for (let index = 0; index < count; index++) {
      const entry = cursor.read(ENTRY_BYTES);
      const inode = base + ((u16(entry, 2) << 16) >> 16);
      const name = readName(cursor, u16(entry, 6));
      if (inode < 1 || inode > source.inodes) throw fail(`inode ${inode} of ${source.inodes}`);
      if (name.includes(0) || name.includes(0x2f) || isDots(name)) throw fail("a name that no file may have");
      left -= ENTRY_BYTES + name.length;
      if (left < 0) throw fail("entries beyond its end");
      yield { name, inode, type: TYPES.get(u16(entry, 4)) };
    }
  }
}

function readName(cursor: MetadataCursor, lengthLessOne: number): Uint8Array {
  if (lengthLessOne >= NAME_BYTES_MAX) {
    throw damaged("reading a directory", `a name of ${lengthLessOne + 1} bytes`);
  }
  return cursor.read(lengthLessOne + 1);
}

function isDots(name: Uint8Array): boolean {
  return name.length <= 2 && name.every((byte) => byte === 0x2e);
}

function compare(left: Uint8Array, right: Uint8Array): number {
  const length = Math.min(left.length, right.length);
  for (let at = 0; at < length; at++) {
    const difference = (left[at] as number) - (right[at] as number);
    if (difference !== 0) return difference;
  }
  return left.length - right.length;
}

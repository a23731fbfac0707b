/**
 * Extended attributes.
 *
 * ```text
 * table      u64 start of the attributes, u32 lists, u32 unused, then an index of blocks of
 * list       u64 position, u32 attributes, u32 bytes
 * attribute  u16 type, u16 length, name without its prefix; u32 length, value (or u32 8, u64 position of another such)
 * ```
 *
 * @module
 */
import { damaged, u16, u32, u64 } from "../_bytes.ts";
import type { ChunkReader } from "../_chunks.ts";
import type { GuestXattr } from "../guest.ts";
import { XATTR_ELSEWHERE, XATTR_PREFIXES } from "./format.ts";
import type { MetadataBlocks, MetadataCursor } from "./metadata.ts";

const TABLE_BYTES = 16;
const LIST_BYTES = 16;
const VALUE_BYTES_MAX = 65536;
const NAME_BYTES_MAX = 255;
/** Attributes of one inode, and the bytes of all their names and values. */
const LIST_MAX = 65536;
const TOTAL_BYTES_MAX = 16 * 1024 * 1024;

/** Where attributes are read from. */
export interface XattrSource {
  readonly chunks: ChunkReader;
  readonly metadata: MetadataBlocks;
  /** Place of the table. */
  readonly table: number;
}

/** Bytes that the attributes of a number take, as the image counts them. Throws `damaged`. */
export function xattrBytes(source: XattrSource, number: number): number {
  return u32(listOf(source, number), 12);
}

/** One list in the table. */
function listOf({ chunks, metadata, table }: XattrSource, number: number): Uint8Array {
  const lists = u32(chunks.bytes(table, TABLE_BYTES), 8);
  if (number >= lists) throw damaged("reading attributes", `list ${number} of ${lists}`);
  return metadata.entry(table + TABLE_BYTES, number, LIST_BYTES);
}

/** The attributes of a number. Throws `damaged`. */
export function readXattrs(source: XattrSource, number: number): GuestXattr[] {
  const fail = (found: string) => damaged("reading attributes", found);
  const list = listOf(source, number);
  const start = u64(source.chunks.bytes(source.table, TABLE_BYTES), 0);
  const at = (position: number) =>
    source.metadata.cursor({ block: start + Math.floor(position / 65536), offset: position % 65536 });
  const count = u32(list, 8);
  if (count > LIST_MAX) throw fail(`${count} in one list`);
  const cursor = at(u64(list, 0));
  const found: GuestXattr[] = [];
  let total = 0;
  for (let index = 0; index < count; index++) {
    const key = cursor.read(4);
    const prefix = XATTR_PREFIXES[u16(key, 0) & 0xff];
    const nameBytes = u16(key, 2);
    if (nameBytes > NAME_BYTES_MAX) throw fail(`a name of ${nameBytes} bytes`);
    const name = cursor.read(nameBytes);
    const stored = readValue(cursor);
    const value = (u16(key, 0) & XATTR_ELSEWHERE) === 0 ? stored : readValue(at(u64(stored, 0)));
    total += nameBytes + value.length;
    if (total > TOTAL_BYTES_MAX) throw fail(`more than ${TOTAL_BYTES_MAX} bytes`);
    // The kernel does not show attributes of other prefixes either.
    if (prefix === undefined) continue;
    const full = new Uint8Array(prefix.length + nameBytes);
    new TextEncoder().encodeInto(prefix, full);
    full.set(name, prefix.length);
    found.push({ name: full, value: value.slice() });
  }
  return found;
}

function readValue(cursor: MetadataCursor): Uint8Array {
  const length = u32(cursor.read(4), 0);
  if (length > VALUE_BYTES_MAX) throw damaged("reading attributes", `a value of ${length} bytes`);
  return cursor.read(length);
}

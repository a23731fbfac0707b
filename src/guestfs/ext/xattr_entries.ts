/**
 * Entries of extended attributes, as they lie in an inode and in a block.
 *
 * ```text
 * u8 name length, u8 prefix, u16 value offset, u32 value inode, u32 value size, u32 hash, name, padding to 4
 * ```
 * Entries end at four zero bytes; values lie at the other end of the same bytes, or in an inode of their own.
 *
 * @module
 */
import { damaged, slice, u16, u32, u8 } from "../_bytes.ts";
import { XATTR_ENTRY_BYTES, XATTR_MAGIC, XATTR_VALUE_BYTES_MAX } from "./format.ts";
import type { Inode } from "./inode.ts";

/** One entry: where its value lies, not yet read when that is another inode. */
export interface XattrEntry {
  /** `e_name_index`: stands for the part of the name before the dot, or for all of it. */
  readonly prefix: number;
  /** What follows the prefix. */
  readonly name: Uint8Array;
  /** The value, or `undefined` when it lies in `valueInode`. */
  readonly value: Uint8Array | undefined;
  /** Inode that holds a large value, 0 for none. */
  readonly valueInode: number;
  /** Length of the value in bytes. */
  readonly valueBytes: number;
}

/** `e_name_index` of attributes that only the file system itself uses, such as `system.data`. */
export const XATTR_PREFIX_SYSTEM = 7;

/** The entries from `from` on; value offsets count from the start of `bytes`. */
export function parseXattrEntries(bytes: Uint8Array, from: number, owner: number): XattrEntry[] {
  const entries: XattrEntry[] = [];
  for (let at = from; u32(bytes, at) !== 0;) {
    const nameStart = at + XATTR_ENTRY_BYTES;
    const nameEnd = nameStart + u8(bytes, at);
    const valueInode = u32(bytes, at + 4);
    const valueBytes = u32(bytes, at + 8);
    if (valueBytes > XATTR_VALUE_BYTES_MAX) {
      throw damaged(`reading the attributes of inode ${owner}`, `a value of ${valueBytes} bytes`);
    }
    const offset = u16(bytes, at + 2);
    entries.push({
      prefix: u8(bytes, at + 1),
      name: slice(bytes, nameStart, nameEnd),
      value: valueInode === 0 ? slice(bytes, offset, offset + valueBytes) : undefined,
      valueInode,
      valueBytes,
    });
    at = (nameEnd + 3) & ~3;
  }
  return entries;
}

/** The entries within an inode itself; none when it has no room or no magic number there. */
export function inodeXattrEntries(inode: Inode): XattrEntry[] {
  const { body } = inode;
  if (body.length < 8 || u32(body, 0) !== XATTR_MAGIC) return [];
  return parseXattrEntries(body.subarray(4), 0, inode.number);
}

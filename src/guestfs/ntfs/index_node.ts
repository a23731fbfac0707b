/**
 * One node of a directory's tree of names: the index root in the record, or a block of the index allocation.
 *
 * ```text
 * index header: first entry u32 | end of entries u32 | room u32 | flags u8
 * entry:        file reference u64 | length u16 | key length u16 | flags u16 | 0 u16 | key, a $FILE_NAME | … | child VCN u64
 * ```
 *
 * @module
 */
import { damaged, u16, u32, u64, u8 } from "../_bytes.ts";
import { readReference } from "./attribute.ts";
import type { FileReference } from "./format.ts";
import { readUtf16 } from "./names.ts";

const ENTRY_HEADER_BYTES = 0x10;
const HAS_CHILD = 1;
const IS_END = 2;

/** One name, or the end of a node. */
export interface IndexEntry {
  /** The node with all names between this one and the one before, or `undefined`. */
  readonly child: number | undefined;
  /** What the name says; `undefined` at the end. */
  readonly key: IndexKey | undefined;
}

/** A name in a directory. */
export interface IndexKey {
  readonly name: string;
  readonly reference: FileReference;
  /** Bits of `FILE_FLAG`. */
  readonly flags: number;
  /** Which names may share the directory with it: `NAMESPACE_DOS`, or others that don't matter here. */
  readonly namespace: number;
}

/** A node. */
export interface IndexNode {
  /** The directory that it is a part of. */
  readonly directory: number;
  /** Its number there; -1 for the root. */
  readonly vcn: number;
  /** Its names in order, and the end. */
  readonly entries: readonly IndexEntry[];
}

/** Reads the node whose index header is at `header`. Throws `damaged` when it doesn't fit its bytes. */
export function parseIndexNode(
  bytes: Uint8Array,
  { header, directory, vcn }: { readonly header: number; readonly directory: number; readonly vcn: number },
): IndexNode {
  const fail = (found: string) => damaged(`reading directory ${directory}`, found);
  const end = header + u32(bytes, header + 4);
  if (end > bytes.length) throw fail(`a node of ${end} bytes in ${bytes.length}`);
  const entries: IndexEntry[] = [];
  for (let at = header + u32(bytes, header);;) {
    const length = at + ENTRY_HEADER_BYTES <= end ? u16(bytes, at + 8) : 0;
    if (length < ENTRY_HEADER_BYTES || length % 8 !== 0 || at + length > end) {
      throw fail(`an entry of ${length} bytes at ${at} of ${end}`);
    }
    const entry = bytes.subarray(at, at + length);
    const flags = u16(entry, 12);
    const child = (flags & HAS_CHILD) !== 0 ? u64(entry, length - 8) : undefined;
    const isEnd = (flags & IS_END) !== 0;
    entries.push({ child, key: isEnd ? undefined : parseKey(entry) });
    if (isEnd) return { directory, vcn, entries };
    at += length;
  }
}

function parseKey(entry: Uint8Array): IndexKey {
  const key = entry.subarray(ENTRY_HEADER_BYTES);
  return {
    name: readUtf16(key, 0x42, u8(key, 0x40)),
    reference: readReference(entry, 0),
    flags: u32(key, 0x38),
    namespace: u8(key, 0x41),
  };
}

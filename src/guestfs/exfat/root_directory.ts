/**
 * What the root directory of exFAT holds besides files. Source: Microsoft's "exFAT file system specification", sections 7.1-7.3.
 *
 * ```text
 * bitmap   0 u8 0x81   1 u8 bit 0: it belongs to the second FAT   20 u32 first cluster   24 u64 length
 * up-case  0 u8 0x82   4 u32 checksum   20 u32 first cluster   24 u64 length
 * label    0 u8 0x83   1 u8 units   2 u16[11]
 * ```
 *
 * @module
 */
import { u32, u64, u8 } from "../_bytes.ts";
import type { DirectoryPiece } from "../fat/cluster_heap.ts";
import { decodeUnits } from "../fat/name.ts";
import { ENTRY_TYPE, setsIn } from "./entry_set.ts";

const LABEL_UNITS_MAX = 11;

/** A table that lies in clusters. */
export interface TablePlace {
  readonly cluster: number;
  readonly length: number;
  /** Checksum, where the entry has one. */
  readonly checksum: number;
}

/** What was found. */
export interface RootFacts {
  readonly label: string;
  /** The bitmaps of the first and of the second FAT. */
  readonly bitmaps: readonly [TablePlace | undefined, TablePlace | undefined];
  readonly upCase: TablePlace | undefined;
}

/** Looks for the label and the tables. Throws `damaged` when the directory cannot be read. */
export function readRootFacts(pieces: Iterable<DirectoryPiece>): RootFacts {
  let label = "";
  let upCase: TablePlace | undefined;
  const bitmaps: [TablePlace | undefined, TablePlace | undefined] = [undefined, undefined];
  const take = (entry: Uint8Array) => {
    const type = u8(entry, 0);
    if (type === ENTRY_TYPE.label) {
      label = decodeUnits(entry, 2, Math.min(u8(entry, 1), LABEL_UNITS_MAX));
    } else if (type === ENTRY_TYPE.upCase) upCase ??= placeOf(entry);
    else if (type === ENTRY_TYPE.bitmap) {
      const which = u8(entry, 1) & 1;
      bitmaps[which === 0 ? 0 : 1] ??= placeOf(entry);
    }
  };
  // Files are none of its business, nor is what is wrong with them.
  const files = setsIn(pieces, () => {}, take);
  while (files.next().done !== true);
  return { label, bitmaps, upCase };
}

function placeOf(entry: Uint8Array): TablePlace {
  return { checksum: u32(entry, 4), cluster: u32(entry, 20), length: u64(entry, 24) };
}

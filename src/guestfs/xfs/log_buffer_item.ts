/**
 * Items of the log that change pieces of a block of metadata.
 *
 * ```text
 * first region   u16 type, u16 regions, u16 flags, u16 length in sectors, u64 sector, u32 words, a bit for each 128 bytes
 * others         each the bytes of a run of bits, or of the first part of one
 * ```
 *
 * @module
 */
import { damaged, equalBytes, u16, u16be, u32, u32be, u64 } from "../_bytes.ts";
import { AGF_MAGIC, AGI_MAGIC, type BlockHeader, BMBT_HEADER } from "./format.ts";
import {
  DA_HEADER,
  DIR_HEADER,
  MAGIC,
  REMOTE_HEADER,
  SB_MAGIC,
  SECTOR_BYTES,
  SYMLINK_MAGIC,
} from "./format.ts";
import type { Lsn } from "./log_record.ts";
import type { LogItem } from "./log_transactions.ts";

const PIECE_BYTES = 128;
const BUFFER_SECTORS_MAX = 256;
const MAP = 20;

/** Bits of the flags. */
export const BUFFER_FLAG = { inodes: 0x1, cancel: 0x2, quotas: 0x1c } as const;

/** What an item says of the buffer that it changes. */
export interface BufferItem {
  readonly flags: number;
  readonly sector: number;
  readonly sectors: number;
  readonly words: number;
  readonly item: LogItem;
}

/** Parses the first region. */
export function parseBufferItem(item: LogItem): BufferItem {
  const head = item.regions[0] ?? new Uint8Array();
  const words = u32(head, 16);
  if (MAP + words * 4 > head.length) {
    throw damaged("reading the log", `a buffer whose map has ${words} words`);
  }
  return { flags: u16(head, 4), sectors: u16(head, 6), sector: u64(head, 8), words, item };
}

/** Checks that a buffer is one that can be, before it is read. */
export function checkBuffer({ sector, sectors }: BufferItem, deviceBytes: number): void {
  if (sectors === 0 || sectors > BUFFER_SECTORS_MAX || (sector + sectors) * SECTOR_BYTES > deviceBytes) {
    throw damaged("replaying the log", `a buffer of ${sectors} sectors at sector ${sector}`);
  }
}

/** Puts the logged pieces into a buffer, and tells each range that was changed. */
export function applyBufferItem(
  { item: { regions }, words }: BufferItem,
  target: Uint8Array,
  changed: (from: number, to: number) => void,
): void {
  const map = regions[0] ?? new Uint8Array();
  const isSet = (bit: number) => (u32(map, MAP + (bit >>> 5) * 4) >>> (bit & 31)) % 2 === 1;
  let index = 1;
  for (let bit = 0; bit < words * 32;) {
    if (!isSet(bit)) {
      bit++;
      continue;
    }
    let end = bit + 1;
    while (end < words * 32 && isSet(end)) end++;
    const region = regions[index++];
    // A run may be logged in several regions: this one has its first part, the rest is a run of its own.
    const pieces = Math.min(end - bit, Math.floor((region?.length ?? 0) / PIECE_BYTES));
    const from = bit * PIECE_BYTES;
    const to = from + pieces * PIECE_BYTES;
    if (region === undefined || pieces === 0 || to > target.length) {
      throw damaged("replaying the log", "a buffer's map does not fit its pieces");
    }
    target.set(region.subarray(0, to - from), from);
    changed(from, to);
    bit += pieces;
  }
  if (index !== regions.length) throw damaged("replaying the log", "a buffer has more pieces than its map");
}

/** Where blocks of version 5 keep the place in the log that they are as new as, by their first four bytes. */
const BY_WORD: ReadonlyMap<number, Pick<BlockHeader, "lsn" | "uuid">> = new Map([
  // Trees of free space, of inodes, of owners and of shared blocks.
  ...["AB3B", "AB3C", "IAB3", "FIB3", "RMB3", "R3FC"].map((name) =>
    [word(name), { lsn: 24, uuid: 32 }] as const
  ),
  [MAGIC.bmbt.v5, BMBT_HEADER],
  [AGF_MAGIC, { lsn: 208, uuid: 64 }],
  [word("XAFL"), { lsn: 24, uuid: 8 }],
  [AGI_MAGIC, { lsn: 320, uuid: 296 }],
  [SYMLINK_MAGIC, REMOTE_HEADER],
  ...[MAGIC.dirBlock.v5, MAGIC.dirData.v5, word("XDF3")].map((magic) => [magic, DIR_HEADER] as const),
]);

const DA_MAGICS: readonly number[] = [MAGIC.dirLeaf, MAGIC.dirLeafOfNode, MAGIC.node, MAGIC.attrLeaf]
  .map(({ v5 }) => v5);

const SB_LSN = 240;

function word(text: string): number {
  return [...text].reduce((sum, character) => sum * 256 + character.charCodeAt(0), 0);
}

/**
 * The place in the log that a buffer is as new as; `undefined` for those that do not tell, which are replayed always:
 * inodes tell it one by one, values of attributes are written before they are logged, and what has another
 * uuid is what the block was before.
 */
export function bufferLsn(bytes: Uint8Array, metaUuid: Uint8Array): Lsn | undefined {
  const magic = u32be(bytes, 0);
  if (magic === SB_MAGIC) return lsnAt(bytes, SB_LSN);
  const header = BY_WORD.get(magic) ?? (DA_MAGICS.includes(u16be(bytes, 8)) ? DA_HEADER : undefined);
  if (header === undefined) return undefined;
  const uuid = bytes.subarray(header.uuid, header.uuid + 16);
  return equalBytes(uuid, metaUuid) ? lsnAt(bytes, header.lsn) : undefined;
}

/** A place in the log as metadata keeps it; `undefined` when it has none yet. */
export function lsnAt(bytes: Uint8Array, at: number): Lsn | undefined {
  const lsn = (BigInt(u32be(bytes, at)) << 32n) + BigInt(u32be(bytes, at + 4));
  return lsn === 0n || lsn === 0xffff_ffff_ffff_ffffn ? undefined : lsn;
}

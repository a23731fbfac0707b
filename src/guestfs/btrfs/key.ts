/**
 * Keys of tree items, and the folding of their 64-bit numbers into exact JavaScript numbers.
 *
 * Two kinds of 64-bit numbers occur in btrfs: small ones, and those that are negative when read as signed. Folding keeps
 * the unsigned order: below 2^52 a number stays, from 2^64 - 2^52 on it moves to 2^52 and above, and everything between
 * (hashes in trees that are not read here) becomes {@linkcode BETWEEN}, which lies between both.
 *
 * @module
 */
import { damaged, u32, u8 } from "../_bytes.ts";

/** What every number becomes that is neither small nor negative. */
export const BETWEEN = 2 ** 52 - 0.5;

const NEGATIVE_HIGH = 0xfff00000;

/** The place of an item in a tree: ordered by object, type, offset; the numbers are folded. */
export interface Key {
  readonly objectid: number;
  readonly type: number;
  readonly offset: number;
}

/** An unsigned 64-bit number, folded. */
export function folded(bytes: Uint8Array, at: number): number {
  const high = u32(bytes, at + 4);
  if (high < 2 ** 20) return high * 2 ** 32 + u32(bytes, at);
  return high >= NEGATIVE_HIGH ? (high - NEGATIVE_HIGH) * 2 ** 32 + u32(bytes, at) + 2 ** 52 : BETWEEN;
}

/** An unsigned 64-bit number that counts something: 2^52 and above is `damaged`. */
export function amount(bytes: Uint8Array, at: number): number {
  const value = folded(bytes, at);
  if (value >= BETWEEN) throw damaged("reading a 64-bit field of a btrfs file system", "it exceeds 2^52");
  return value;
}

/** Reads a key of 17 bytes. */
export function keyAt(bytes: Uint8Array, at: number): Key {
  return { objectid: folded(bytes, at), type: u8(bytes, at + 8), offset: folded(bytes, at + 9) };
}

/** Negative, zero or positive, as `left` comes before, with or after `right`. */
export function compareKeys(left: Key, right: Key): number {
  return left.objectid - right.objectid || left.type - right.type || left.offset - right.offset;
}

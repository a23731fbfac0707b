/**
 * The hash by which directories are sorted.
 *
 * @module
 */

function rotate(value: number, bits: number): number {
  return (value << bits) | (value >>> (32 - bits));
}

/** The hash of a name, unsigned: seven bits a character, four characters a step. */
export function hashName(name: Uint8Array): number {
  let hash = 0;
  let at = 0;
  const byte = (index: number) => name[index] ?? 0;
  for (; at + 4 <= name.length; at += 4) {
    hash = (byte(at) << 21) ^ (byte(at + 1) << 14) ^ (byte(at + 2) << 7) ^ byte(at + 3) ^ rotate(hash, 28);
  }
  const rest = name.length - at;
  let tail = 0;
  for (; at < name.length; at++) tail = (tail << 7) ^ byte(at);
  return (rest === 0 ? hash : tail ^ rotate(hash, 7 * rest)) >>> 0;
}

/** The hash where case does not count. */
export function hashFoldedName(name: Uint8Array): number {
  let hash = 0;
  for (const byte of name) hash = foldCase(byte) ^ rotate(hash, 7);
  return hash >>> 0;
}

/** Lower case of a character, as Linux has it for these directories: ASCII, and the letters of ISO 8859-1. */
export function foldCase(byte: number): number {
  const upper = (byte >= 0x41 && byte <= 0x5a) || (byte >= 0xc0 && byte <= 0xde && byte !== 0xd7);
  return upper ? byte + 32 : byte;
}

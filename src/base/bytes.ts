/**
 * Small helpers on bytes and on alignment.
 *
 * @module
 */
import { BLOCK_BYTES } from "./block_device.ts";
import { VarveError } from "./errors.ts";

/** A block of zeroes; never written to. */
export const ZERO_BLOCK: Uint8Array = new Uint8Array(BLOCK_BYTES);

/** The block that holds a byte. */
export function blockOf(offset: number): number {
  return Math.floor(offset / BLOCK_BYTES);
}

/** How many blocks are needed to hold so many bytes. */
export function blocksFor(bytes: number): number {
  return Math.ceil(bytes / BLOCK_BYTES);
}

/** Throws `out-of-range` unless `[offset, offset + length)` lies within a device of `sizeBytes`. */
export function checkRange(tried: string, offset: number, length: number, sizeBytes: number): void {
  if (
    !Number.isSafeInteger(offset) || !Number.isSafeInteger(length) || offset < 0 || length < 0 ||
    offset + length > sizeBytes
  ) {
    throw new VarveError(
      "out-of-range",
      `${tried} ${length} bytes at ${offset}: the device ends at ${sizeBytes}`,
    );
  }
}

/** Whether every byte is zero. */
export function isZero(bytes: Uint8Array): boolean {
  let at = 0;
  const misaligned = (8 - (bytes.byteOffset & 7)) & 7;
  for (; at < Math.min(misaligned, bytes.length); at++) if (bytes[at] !== 0) return false;
  const wordCount = (bytes.length - at) >> 3;
  if (wordCount > 0) {
    const words = new BigUint64Array(bytes.buffer, bytes.byteOffset + at, wordCount);
    for (let i = 0; i < wordCount; i++) if (words[i] !== 0n) return false;
    at += wordCount * 8;
  }
  for (; at < bytes.length; at++) if (bytes[at] !== 0) return false;
  return true;
}

/** Lower-case hexadecimal of bytes. */
export function toHex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Bytes of lower- or upper-case hexadecimal; the length must be even. */
export function fromHex(text: string): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(text.length >> 1);
  for (let i = 0; i < bytes.length; i++) bytes[i] = parseInt(text.slice(2 * i, 2 * i + 2), 16);
  return bytes;
}

/**
 * Bounds-checked readers for numbers in bytes that may be hostile: whatever lies outside the given bytes is
 * `damaged`, never a `RangeError`, and a 64-bit value that no real structure holds is `damaged` too.
 */
import { VarveError } from "../base/errors.ts";

/** A `damaged` error: the structure that was read, and what was found in it. */
export function damaged(tried: string, found: string): VarveError {
  return new VarveError("damaged", `${tried}: ${found}`);
}

function check(bytes: Uint8Array, at: number, width: number): void {
  if (at < 0 || at + width > bytes.length) {
    throw damaged(
      "reading a field of the guest's file system",
      `offset ${at} is outside its ${bytes.length} bytes`,
    );
  }
}

/** Unsigned byte. */
export function u8(bytes: Uint8Array, at: number): number {
  check(bytes, at, 1);
  return bytes[at] as number;
}

/** Unsigned 16 bits, little-endian. */
export function u16(bytes: Uint8Array, at: number): number {
  check(bytes, at, 2);
  return (bytes[at] as number) | ((bytes[at + 1] as number) << 8);
}

/** Unsigned 32 bits, little-endian. */
export function u32(bytes: Uint8Array, at: number): number {
  check(bytes, at, 4);
  return ((bytes[at] as number) | ((bytes[at + 1] as number) << 8) | ((bytes[at + 2] as number) << 16) |
    ((bytes[at + 3] as number) << 24)) >>> 0;
}

/** Unsigned 64 bits, little-endian; above 2^53 - 1 it is `damaged`. */
export function u64(bytes: Uint8Array, at: number): number {
  return safe(u32(bytes, at + 4), u32(bytes, at));
}

/** Unsigned 32 bits, big-endian. */
export function u32be(bytes: Uint8Array, at: number): number {
  check(bytes, at, 4);
  return ((bytes[at + 3] as number) | ((bytes[at + 2] as number) << 8) | ((bytes[at + 1] as number) << 16) |
    ((bytes[at] as number) << 24)) >>> 0;
}

/** Unsigned 16 bits, big-endian. */
export function u16be(bytes: Uint8Array, at: number): number {
  check(bytes, at, 2);
  return (bytes[at + 1] as number) | ((bytes[at] as number) << 8);
}

/** Unsigned 64 bits, big-endian; above 2^53 - 1 it is `damaged`. */
export function u64be(bytes: Uint8Array, at: number): number {
  return safe(u32be(bytes, at), u32be(bytes, at + 4));
}

/** The bytes from `from` up to `to`, without a copy; outside it is `damaged`. */
export function slice(bytes: Uint8Array, from: number, to: number): Uint8Array {
  check(bytes, from, to - from);
  if (to < from) throw damaged("reading a field of the guest's file system", "its length is negative");
  return bytes.subarray(from, to);
}

/** Whether every byte is zero. */
export function isZero(bytes: Uint8Array): boolean {
  for (let at = 0; at < bytes.length; at++) {
    if (bytes[at] !== 0) return false;
  }
  return true;
}

/** Whether two runs of bytes are the same. */
export function equalBytes(left: Uint8Array, right: Uint8Array): boolean {
  if (left.length !== right.length) return false;
  for (let at = 0; at < left.length; at++) {
    if (left[at] !== right[at]) return false;
  }
  return true;
}

/** Each byte as one character of the same code, so that names of any bytes can be keys of a map. */
export function latin1(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return text;
}

function safe(high: number, low: number): number {
  if (high >= 2 ** 21) {
    throw damaged("reading a 64-bit field of the guest's file system", "it exceeds 2^53");
  }
  return high * 2 ** 32 + low;
}

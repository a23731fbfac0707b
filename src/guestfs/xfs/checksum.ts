/**
 * Checksums of metadata: CRC-32C over the whole structure with its own field as zeroes, stored little-endian.
 *
 * @module
 */
import { u32 } from "../_bytes.ts";
import { crc32c } from "../ext/crc32c.ts";

const ZEROES = new Uint8Array(4);

/** The checksum of `bytes` whose own place is at `at`. */
export function checksumOf(bytes: Uint8Array, at: number): number {
  const before = crc32c(crc32c(0xffffffff, bytes, 0, at), ZEROES);
  return ~crc32c(before, bytes, at + 4) >>> 0;
}

/** Whether the checksum at `at` is that of `bytes`. */
export function checksumMatches(bytes: Uint8Array, at: number): boolean {
  return u32(bytes, at) === checksumOf(bytes, at);
}

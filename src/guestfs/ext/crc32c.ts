/**
 * CRC-32C (Castagnoli, reflected polynomial 0x82f63b78) as ext4 and jbd2 use it: the bare register, with no
 * inversion before or after, so that the result of one call is the seed of the next.
 *
 * @module
 */

const POLYNOMIAL = 0x82f63b78;

/** Eight tables in a row, for eight bytes a step: number k holds the effect of a byte that k more bytes follow. */
const TABLES = makeTables();

function makeTables(): Int32Array {
  const tables = new Int32Array(8 * 256);
  for (let byte = 0; byte < 256; byte++) {
    let register = byte;
    for (let bit = 0; bit < 8; bit++) {
      register = (register & 1) === 0 ? register >>> 1 : (register >>> 1) ^ POLYNOMIAL;
    }
    tables[byte] = register;
  }
  for (let at = 256; at < tables.length; at++) {
    const previous = tables[at - 256] as number;
    tables[at] = (tables[previous & 0xff] as number) ^ (previous >>> 8);
  }
  return tables;
}

/** Continues the register `seed` over `bytes` from `from` up to `to`; returns it unsigned. */
export function crc32c(seed: number, bytes: Uint8Array, from = 0, to: number = bytes.length): number {
  let register = seed;
  let at = from;
  for (; at + 8 <= to; at += 8) {
    const low = register ^ ((bytes[at] as number) | ((bytes[at + 1] as number) << 8) |
      ((bytes[at + 2] as number) << 16) | ((bytes[at + 3] as number) << 24));
    register = (TABLES[1792 + (low & 0xff)] as number) ^ (TABLES[1536 + ((low >>> 8) & 0xff)] as number) ^
      (TABLES[1280 + ((low >>> 16) & 0xff)] as number) ^ (TABLES[1024 + (low >>> 24)] as number) ^
      (TABLES[768 + (bytes[at + 4] as number)] as number) ^
      (TABLES[512 + (bytes[at + 5] as number)] as number) ^
      (TABLES[256 + (bytes[at + 6] as number)] as number) ^ (TABLES[bytes[at + 7] as number] as number);
  }
  for (; at < to; at++) {
    register = (TABLES[(register ^ (bytes[at] as number)) & 0xff] as number) ^ (register >>> 8);
  }
  return register >>> 0;
}

/** Continues the register over a 32-bit number in little-endian order. */
export function crc32cNumber(seed: number, value: number): number {
  let register = seed;
  for (let shift = 0; shift < 32; shift += 8) {
    register = (TABLES[(register ^ (value >>> shift)) & 0xff] as number) ^ (register >>> 8);
  }
  return register >>> 0;
}

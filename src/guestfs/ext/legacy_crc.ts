/**
 * The two older checksums of the ext family, both as bare registers: CRC-16 of group descriptors
 * (`gdt_csum`), and the big-endian CRC-32 of journals with the first kind of checksum.
 *
 * @module
 */

/** CRC-16 with the reflected polynomial 0xa001. */
export function crc16(seed: number, bytes: Uint8Array): number {
  let register = seed;
  for (const byte of bytes) {
    register ^= byte;
    for (let bit = 0; bit < 8; bit++) {
      register = (register & 1) === 0 ? register >>> 1 : (register >>> 1) ^ 0xa001;
    }
  }
  return register;
}

const BIG_ENDIAN_TABLE = Int32Array.from({ length: 256 }, (_, byte) => {
  let register = byte << 24;
  for (let bit = 0; bit < 8; bit++) register = register < 0 ? (register << 1) ^ 0x04c11db7 : register << 1;
  return register;
});

/** CRC-32 with the polynomial 0x04c11db7, highest bit first. */
export function crc32BigEndian(seed: number, bytes: Uint8Array): number {
  let register = seed;
  for (let at = 0; at < bytes.length; at++) {
    register = (register << 8) ^
      (BIG_ENDIAN_TABLE[((register >>> 24) ^ (bytes[at] as number)) & 0xff] as number);
  }
  return register >>> 0;
}

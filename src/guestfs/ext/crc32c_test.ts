import { equal } from "node:assert/strict";
import fc from "fast-check";
import { crc32c, crc32cNumber } from "./crc32c.ts";
import { crc16, crc32BigEndian } from "./legacy_crc.ts";

const DIGITS = new TextEncoder().encode("123456789");

function naive(seed: number, bytes: Uint8Array): number {
  let register = seed;
  for (const byte of bytes) {
    register ^= byte;
    for (let bit = 0; bit < 8; bit++) register = (register >>> 1) ^ (register & 1 ? 0x82f63b78 : 0);
  }
  return register >>> 0;
}

Deno.test("crc32c: gives the published value of the check digits", () => {
  equal((crc32c(0xffffffff, DIGITS) ^ 0xffffffff) >>> 0, 0xe3069283);
});

Deno.test("crc32c: agrees with the bit-by-bit form on any bytes, seed and split", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 70 }), fc.nat(0xffffffff), fc.nat(70), (bytes, seed, cut) => {
      const split = Math.min(cut, bytes.length);
      equal(crc32c(seed, bytes), naive(seed, bytes));
      equal(crc32c(crc32c(seed, bytes, 0, split), bytes, split), naive(seed, bytes));
    }),
  );
});

Deno.test("crc32c: a number counts as its four bytes, lowest first", () => {
  fc.assert(fc.property(fc.nat(0xffffffff), fc.nat(0xffffffff), (seed, value) => {
    const bytes = Uint8Array.of(value, value >>> 8, value >>> 16, value >>> 24);
    equal(crc32cNumber(seed, value), naive(seed, bytes));
  }));
});

Deno.test("crc16: gives the published value of the check digits", () => {
  equal(crc16(0xffff, DIGITS), 0x4b37);
});

Deno.test("crc32 in big-endian order: gives the published value of the check digits", () => {
  equal(crc32BigEndian(0xffffffff, DIGITS), 0x0376e6e7);
});

import fc from "fast-check";
import assert from "node:assert/strict";
import { concat, infoData, request, u16, u32, u64, utf8 } from "./_testing.ts";
import {
  decodeInfoRequest,
  decodeRequest,
  decodeString,
  encodeInfoExport,
  encodeSimpleReply,
  encodeString,
  type NbdRequest,
} from "./protocol.ts";

function decode(bytes: Uint8Array): NbdRequest | undefined {
  const found: NbdRequest = { flags: 0, type: 0, cookieHigh: 0, cookieLow: 0, offset: 0, length: 0 };
  return decodeRequest(new DataView(bytes.buffer), 0, found) ? found : undefined;
}

const uint16 = fc.nat(0xffff);
const uint32 = fc.nat(0xffff_ffff);
const uint64 = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });

Deno.test("protocol: requests are read field by field", () => {
  fc.assert(fc.property(uint16, uint16, uint64, uint64, uint32, (flags, type, cookie, offset, length) => {
    assert.deepEqual(decode(request({ flags, type, cookie, offset, length })), {
      flags,
      type,
      cookieHigh: Number(cookie >> 32n),
      cookieLow: Number(cookie & 0xffff_ffffn),
      offset: Number(offset),
      length,
    });
  }));
  assert.equal(decode(request({ magic: 0x25609514 })), undefined);
});

Deno.test("protocol: replies and sizes are written as 64-bit fields", () => {
  fc.assert(fc.property(uint32, uint64, fc.maxSafeNat(), uint16, (error, cookie, sizeBytes, flags) => {
    const bytes = new Uint8Array(17);
    encodeSimpleReply(
      new DataView(bytes.buffer),
      1,
      error,
      Number(cookie >> 32n),
      Number(cookie & 0xffff_ffffn),
    );
    assert.deepEqual(bytes, concat(Uint8Array.of(0), u32(0x67446698), u32(error), u64(cookie)));
    assert.deepEqual(encodeInfoExport(sizeBytes, flags), concat(u16(0), u64(BigInt(sizeBytes)), u16(flags)));
  }));
});

Deno.test("protocol: what INFO and GO carry is read, or refused without a crash", () => {
  const kinds = fc.uniqueArray(uint16);
  fc.assert(fc.property(fc.string({ unit: "grapheme" }), kinds, (name, wanted) => {
    const found = decodeInfoRequest(infoData(name, wanted));
    assert.deepEqual(found, { name: utf8(name), kinds: new Set(wanted) });
  }));
  fc.assert(fc.property(fc.uint8Array({ maxLength: 40 }), (bytes) => {
    const found = decodeInfoRequest(bytes);
    assert.ok(found === undefined || 6 + found.name.length <= bytes.length);
  }));
});

Deno.test("protocol: strings are at most 4096 bytes of UTF-8 without NUL", () => {
  fc.assert(fc.property(fc.string({ unit: "binary", maxLength: 50 }), (text) => {
    const bytes = encodeString(text.repeat(100));
    assert.ok(bytes.length <= 4096);
    assert.notEqual(decodeString(bytes), undefined);
  }));
  assert.equal(decodeString(encodeString("a\0b ä")), "ab ä");
  assert.equal(decodeString(utf8("\uFEFFx")), "\uFEFFx");
  for (const bytes of [new Uint8Array(4097).fill(0x20), Uint8Array.of(0), Uint8Array.of(0xc3)]) {
    assert.equal(decodeString(bytes), undefined);
  }
});

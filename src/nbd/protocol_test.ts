import fc from "fast-check";
import assert from "node:assert/strict";
import { concat, extendedRequest, infoData, metaData, request, u16, u32, u64, utf8 } from "./_testing.ts";
import {
  decodeExtendedRequest,
  decodeRequest,
  emptyRequest,
  encodeSimpleReply,
  type NbdRequest,
} from "./_message_format.ts";
import {
  decodeInfoRequest,
  decodeMetaRequest,
  decodeString,
  encodeInfoExport,
  encodeString,
} from "./_option_format.ts";

function decode(bytes: Uint8Array): NbdRequest | undefined {
  const found = emptyRequest();
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
      offsetHigh: Number(offset >> 32n),
      offsetLow: Number(offset & 0xffff_ffffn),
      offset: Number(offset),
      length,
    });
  }));
  assert.equal(decode(request({ magic: 0x25609514 })), undefined);
});

Deno.test("protocol: replies and sizes are written as 64-bit fields", () => {
  fc.assert(fc.property(uint32, uint64, fc.maxSafeNat(), uint16, (error, cookie, sizeBytes, flags) => {
    const bytes = new Uint8Array(17);
    encodeSimpleReply(new DataView(bytes.buffer), 1, error, {
      cookieHigh: Number(cookie >> 32n),
      cookieLow: Number(cookie & 0xffff_ffffn),
      offsetHigh: 0,
      offsetLow: 0,
    });
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

Deno.test("protocol: extended requests have a length of 64 bits", () => {
  fc.assert(fc.property(uint16, uint64, uint64, uint64, (flags, cookie, offset, length) => {
    const bytes = extendedRequest({ type: 7, flags, cookie, offset, length });
    const found = emptyRequest();
    assert.ok(decodeExtendedRequest(new DataView(bytes.buffer), 0, found));
    assert.deepEqual(
      [found.type, found.flags, found.offset, found.length],
      [7, flags, Number(offset), Number(length)],
    );
    assert.equal(
      (BigInt(found.offsetHigh) << 32n) + BigInt(found.offsetLow),
      offset,
      "the offset that a reply repeats",
    );
    assert.ok(!decodeRequest(new DataView(bytes.buffer), 0, found));
  }));
});

Deno.test("protocol: what asks for metadata contexts is read, or refused without a crash", () => {
  const text = fc.string({ unit: "grapheme" });
  fc.assert(fc.property(text, fc.array(text), (name, queries) => {
    assert.deepEqual(decodeMetaRequest(metaData(name, queries)), {
      name: utf8(name),
      queries: queries.map(utf8),
    });
  }));
  fc.assert(fc.property(fc.uint8Array({ maxLength: 40 }), fc.nat(3), (bytes, at) => {
    bytes.fill(0, 0, at);
    const found = decodeMetaRequest(bytes);
    if (found === undefined) return;
    const queryBytes = found.queries.reduce((sum, query) => sum + 4 + query.length, 0);
    assert.equal(8 + found.name.length + queryBytes, bytes.length);
  }));
  assert.equal(decodeMetaRequest(concat(metaData("a", ["b:"]), u16(0))), undefined);
  assert.equal(decodeMetaRequest(concat(u32(0), u32(0xffff_ffff))), undefined);
});

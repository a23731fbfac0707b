import assert from "node:assert/strict";
import { crc32 } from "node:zlib";
import fc from "fast-check";
import { BLOCK_BYTES } from "../base/block_device.ts";
import { toHex } from "../base/bytes.ts";
import {
  decodeRecordHeader,
  decodeSegmentHeader,
  encodeBlockRecord,
  encodeRecordHeader,
  encodeSegmentHeader,
  isCommand,
  isText,
  MAX_PAYLOAD_BYTES,
  parseSegmentFileName,
  RECORD_FUA,
  RECORD_HEAD,
  RECORD_HEADER_BYTES,
  RECORD_KINDS,
  RECORD_PARTIAL,
  RECORD_TAIL,
  recordBytes,
  type RecordHeader,
  type RecordKind,
  SEGMENT_COMPACTED,
  segmentFileName,
  type SegmentHeader,
} from "./format.ts";

const KINDS = Object.keys(RECORD_KINDS) as RecordKind[];
const numbers = fc.maxSafeNat();
const words = fc.nat({ max: 0xffff_ffff });

const segmentHeaders: fc.Arbitrary<SegmentHeader> = fc.record({
  flags: words,
  volumeId: fc.uint8Array({ minLength: 16, maxLength: 16 }).map(toHex),
  segment: numbers,
  previousSeq: numbers,
  previousBaseline: words,
  createdUs: numbers,
}, { noNullPrototype: true });

const recordHeaders: fc.Arbitrary<RecordHeader> = fc.record({
  kind: fc.constantFrom(...KINDS),
  flags: fc.nat({ max: 255 }),
  seq: numbers,
  timeUs: numbers,
  offset: numbers,
  length: numbers,
  firstBlock: numbers,
  payloadBytes: fc.nat({ max: MAX_PAYLOAD_BYTES / BLOCK_BYTES }).map((blocks) => blocks * BLOCK_BYTES),
  client: words,
  bodyChecksum: words,
}, { noNullPrototype: true });

function encoded(header: RecordHeader, segment: number): Uint8Array {
  const bytes = new Uint8Array(RECORD_HEADER_BYTES);
  encodeRecordHeader(header, segment, bytes, 0);
  return bytes;
}

const SEGMENT: SegmentHeader = {
  flags: SEGMENT_COMPACTED,
  volumeId: "00112233445566778899aabbccddeeff",
  segment: 3,
  previousSeq: 2 ** 40 + 1,
  previousBaseline: 0,
  createdUs: 1_700_000_000_000_000,
};

/** A record of a kind with a body, as it lies in segment 3. */
function goldenRecord(kind: RecordKind): Uint8Array[] {
  const header = {
    kind,
    flags: {
      write: RECORD_FUA,
      trim: RECORD_HEAD | RECORD_TAIL,
      zero: 0,
      baseline: RECORD_PARTIAL,
      flush: 0,
      mark: 0,
      meta: 0,
    }[kind],
    seq: 2 ** 40 + 2,
    timeUs: 1_700_000_000_000_001,
    offset: 0x1234_5678_9abc,
    length: 5000,
    firstBlock: 0x1_2345_6789,
    client: 7,
  };
  if (!isText(kind)) {
    const blocks = { write: 2, trim: 2, zero: 0, baseline: 1, flush: 0 }[kind as "write"] ?? 0;
    const payload = new Uint8Array(blocks * BLOCK_BYTES).fill(0x5a, 0, BLOCK_BYTES).fill(0xa5, BLOCK_BYTES);
    return encodeBlockRecord(header, 3, payload);
  }
  const text = new TextEncoder().encode('{"é":1}');
  const record = { ...header, payloadBytes: text.length, bodyChecksum: crc32(text) };
  return [encoded(record, 3), text];
}

Deno.test("a segment header comes back as it was, for any numbers up to 2^53 - 1", () => {
  fc.assert(fc.property(segmentHeaders, (header) => {
    assert.deepEqual(decodeSegmentHeader(encodeSegmentHeader(header)), header);
  }));
});

Deno.test("a record header comes back as it was, for any numbers up to 2^53 - 1, anywhere in a buffer", () => {
  fc.assert(
    fc.property(
      recordHeaders,
      numbers,
      fc.nat({ max: 40 }),
      fc.nat({ max: 8 }),
      (header, segment, at, start) => {
        const bytes = new Uint8Array(start + at + RECORD_HEADER_BYTES).subarray(start);
        encodeRecordHeader(header, segment, bytes, at);
        assert.deepEqual(decodeRecordHeader(bytes, at, segment), header);
      },
    ),
  );
});

Deno.test("every flipped bit of a segment header is detected", () => {
  const whole = encodeSegmentHeader(SEGMENT);
  for (let bit = 0; bit < whole.length * 8; bit++) {
    const bytes = whole.slice();
    bytes[bit >> 3] = (bytes[bit >> 3] ?? 0) ^ 1 << (bit & 7);
    assert.equal(decodeSegmentHeader(bytes), undefined, `bit ${bit}`);
  }
});

Deno.test("every flipped bit of a record header is detected", () => {
  fc.assert(
    fc.property(recordHeaders, words, (header, segment) => {
      const whole = encoded(header, segment);
      for (let bit = 0; bit < whole.length * 8; bit++) {
        const bytes = whole.slice();
        bytes[bit >> 3] = (bytes[bit >> 3] ?? 0) ^ 1 << (bit & 7);
        assert.equal(decodeRecordHeader(bytes, 0, segment), undefined, `bit ${bit}`);
      }
    }),
    { numRuns: 5 },
  );
});

Deno.test("a record header is valid in its own segment alone, and never when it is cut short", () => {
  fc.assert(fc.property(recordHeaders, words, words, (header, segment, other) => {
    const bytes = encoded(header, segment);
    if (other !== segment) assert.equal(decodeRecordHeader(bytes, 0, other), undefined);
    assert.equal(decodeRecordHeader(bytes.subarray(0, RECORD_HEADER_BYTES - 1), 0, segment), undefined);
    assert.equal(decodeRecordHeader(bytes, 1, segment), undefined);
  }));
  assert.equal(decodeSegmentHeader(encodeSegmentHeader(SEGMENT).subarray(0, 63)), undefined);
});

/** Bytes of a header with fields replaced and the checksum made right again. */
function forged(whole: Uint8Array, seed: number, change: (view: DataView) => void): Uint8Array {
  const bytes = whole.slice();
  const view = new DataView(bytes.buffer);
  change(view);
  view.setUint32(60, crc32(bytes.subarray(0, 60), seed), true);
  return bytes;
}

Deno.test("a segment of another version is refused as unsupported", () => {
  for (const version of [0, 2, 0xffff_ffff]) {
    const bytes = forged(encodeSegmentHeader(SEGMENT), 0, (view) => view.setUint32(8, version, true));
    assert.throws(
      () => decodeSegmentHeader(bytes),
      { name: "VarveError", code: "unsupported" },
      `${version}`,
    );
  }
});

Deno.test("a record that no writer makes is none, even when its checksum is right", () => {
  const whole = encoded(
    {
      kind: "write",
      flags: 0,
      seq: 1,
      timeUs: 1,
      offset: 0,
      length: 1,
      firstBlock: 0,
      payloadBytes: 0,
      client: 0,
      bodyChecksum: 0,
    },
    9,
  );
  const cases: [string, (view: DataView) => void][] = [
    ["unknown kind", (view) => view.setUint8(4, 99)],
    ["kind 0", (view) => view.setUint8(4, 0)],
    ["unknown encoding", (view) => view.setUint16(6, 1, true)],
    ["a payload beyond the limit", (view) => view.setUint32(48, MAX_PAYLOAD_BYTES + BLOCK_BYTES, true)],
    ["a payload that is no whole number of blocks", (view) => view.setUint32(48, BLOCK_BYTES + 1, true)],
  ];
  assert.ok(decodeRecordHeader(forged(whole, 9, () => {}), 0, 9) !== undefined);
  for (const [what, change] of cases) {
    assert.equal(decodeRecordHeader(forged(whole, 9, change), 0, 9), undefined, what);
  }
});

Deno.test("segment files are named so that names sort as numbers do", () => {
  assert.equal(segmentFileName(1), "000000000001.seg");
  assert.ok(segmentFileName(99) < segmentFileName(100));
  fc.assert(fc.property(fc.nat({ max: 999_999_999 }), (segment) => {
    assert.equal(parseSegmentFileName(segmentFileName(segment)), segment);
  }));
  for (const name of ["1.seg", "000000000001.seg.tmp", "x000000000001.seg", "000000000001.dropped", ""]) {
    assert.equal(parseSegmentFileName(name), undefined, name);
  }
});

Deno.test("only what a host or a person orders takes a sequence", () => {
  assert.deepEqual(KINDS.filter(isCommand), ["write", "trim", "zero", "flush", "mark"]);
  assert.deepEqual(KINDS.filter(isText), ["mark", "meta"]);
});

const GOLDEN_SEGMENT =
  "5641525645534547010000000100000000112233445566778899aabbccddeeff03000000000000000100000000010000" +
  "00401e18240a0600000000001468024f";

/** Header and, of a record with blocks, table of checksums; of a record with text, the text. */
const GOLDEN_RECORDS: Record<RecordKind, string> = {
  write: "5652454301010000020000000001000001401e18240a0600bc9a78563412000088130000000000008967452301000000" +
    "0020000007000000d4aa6f226afc1305dd51d57cc6369d4a",
  trim: "56524543020c0000020000000001000001401e18240a0600bc9a78563412000088130000000000008967452301000000" +
    "0020000007000000d4aa6f228229cd42dd51d57cc6369d4a",
  zero: "5652454303000000020000000001000001401e18240a0600bc9a78563412000088130000000000008967452301000000" +
    "000000000700000000000000f7277ad0",
  flush: "5652454304000000020000000001000001401e18240a0600bc9a78563412000088130000000000008967452301000000" +
    "000000000700000000000000d25c9180",
  mark: "5652454305000000020000000001000001401e18240a0600bc9a78563412000088130000000000008967452301000000" +
    "080000000700000027e65fed30dd1ae87b22c3a9223a317d",
  meta: "5652454306000000020000000001000001401e18240a0600bc9a78563412000088130000000000008967452301000000" +
    "080000000700000027e65fed49e9a5ce7b22c3a9223a317d",
  baseline:
    "5652454307020000020000000001000001401e18240a0600bc9a78563412000088130000000000008967452301000000" +
    "001000000700000092f6f83da9cbd26edd51d57c",
};

Deno.test("the format is frozen: a segment header and a record of each kind have these very bytes", () => {
  assert.equal(toHex(encodeSegmentHeader(SEGMENT)), GOLDEN_SEGMENT);
  for (const kind of KINDS) {
    const [head = new Uint8Array(), body = new Uint8Array()] = goldenRecord(kind);
    assert.equal(toHex(isText(kind) ? Uint8Array.of(...head, ...body) : head), GOLDEN_RECORDS[kind], kind);
    const header = decodeRecordHeader(head, 0, 3);
    assert.ok(header !== undefined, kind);
    assert.equal(recordBytes(header), head.length + body.length, kind);
  }
});

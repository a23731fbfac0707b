import assert from "node:assert/strict";
import { BLOCK_BYTES } from "../base/block_device.ts";
import {
  encodeBlockRecord,
  encodeSegmentHeader,
  RECORD_HEADER_BYTES,
  SEGMENT_HEADER_BYTES,
} from "./format.ts";
import { type SegmentBytes, walkSegment } from "./segment_walk.ts";

const SEGMENT = 7;
const RECORD_BYTES = RECORD_HEADER_BYTES + 4 + BLOCK_BYTES;

function record(seq: number, segment = SEGMENT): Uint8Array {
  const parts = encodeBlockRecord(
    { kind: "write", flags: 0, seq, timeUs: seq, offset: 0, length: 4096, firstBlock: seq, client: 0 },
    segment,
    new Uint8Array(BLOCK_BYTES).fill(seq),
  );
  return Uint8Array.from(parts.flatMap((part) => [...part]));
}

function segmentOf(...records: Uint8Array[]): Uint8Array {
  const header = encodeSegmentHeader({
    flags: 0,
    volumeId: "00".repeat(16),
    segment: SEGMENT,
    previousSeq: 0,
    previousBaseline: 0,
    createdUs: 1,
  });
  return Uint8Array.from([header, ...records].flatMap((part) => [...part]));
}

function bytesOf(all: Uint8Array): SegmentBytes {
  return {
    sizeBytes: () => all.length,
    read(offset, target) {
      const part = all.subarray(offset, offset + target.length);
      target.set(part);
      return part.length;
    },
  };
}

function walk(all: Uint8Array): string[] {
  return [...walkSegment(bytesOf(all), SEGMENT)].map((step) =>
    step.kind === "record"
      ? `${step.header.seq}${step.mended ? " mended" : ""}`
      : `${step.kind} ${step.offset}-${step.end}`
  );
}

const at = (index: number) => SEGMENT_HEADER_BYTES + index * RECORD_BYTES;

Deno.test("walkSegment() tells every record of a whole segment", () => {
  assert.deepEqual(walk(segmentOf(record(1), record(2), record(3))), ["1", "2", "3"]);
  assert.deepEqual(walk(segmentOf()), []);
});

Deno.test("walkSegment() tells the end that was reserved and never written from damage", () => {
  const whole = segmentOf(record(1), record(2));
  const reserved = segmentOf(whole.subarray(SEGMENT_HEADER_BYTES), new Uint8Array(9000));
  assert.deepEqual(walk(reserved), ["1", "2", `unused ${at(2)}-${at(2) + 9000}`]);
  const end = reserved.length;
  reserved[end - 1] = 1;
  assert.deepEqual(walk(reserved), ["1", "2", `damage ${at(2)}-${end}`]);
});

Deno.test("walkSegment() knows a header of which any one byte has changed", () => {
  const whole = segmentOf(record(1), record(2), record(3));
  for (let byte = 0; byte < RECORD_HEADER_BYTES; byte++) {
    const all = whole.slice();
    all[at(1) + byte] = (all[at(1) + byte] ?? 0) ^ (1 + byte * 3 % 255);
    assert.deepEqual(walk(all), ["1", "2 mended", "3"], `byte ${byte}`);
  }
});

Deno.test("walkSegment() goes on behind bytes that are no record, and tells where they lie", () => {
  const all = segmentOf(record(1), record(2), record(3), record(4));
  all.fill(0, at(1), at(1) + 40);
  assert.deepEqual(walk(all), ["1", `damage ${at(1)}-${at(2)}`, "3", "4"]);
  all.fill(9, at(3));
  assert.deepEqual(walk(all), ["1", `damage ${at(1)}-${at(2)}`, "3", `damage ${at(3)}-${all.length}`]);
  assert.deepEqual(walk(all.subarray(0, at(2) + 100)), ["1", `damage ${at(1)}-${at(2) + 100}`]);
});

Deno.test("walkSegment() takes neither a record of another segment nor an older one for the next", () => {
  const all = segmentOf(record(5), record(6), record(7, SEGMENT + 1), record(2), record(8));
  all.fill(0, at(1), at(1) + 40);
  assert.deepEqual(walk(all), ["5", `damage ${at(1)}-${at(4)}`, "8"]);
});

Deno.test("walkSegment() finds a record wherever it begins, also across the chunks of its search", () => {
  for (const gap of [1, 63, 4095, (1 << 20) - 2, (1 << 20) - 1, 1 << 20, (1 << 20) + 1]) {
    const all = segmentOf(record(1), new Uint8Array(gap).fill(0x56), record(2));
    assert.deepEqual(walk(all), ["1", `damage ${at(1)}-${at(1) + gap}`, "2"], `a gap of ${gap}`);
  }
});

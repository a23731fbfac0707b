import assert from "node:assert/strict";
import fc from "fast-check";
import { BaselineLedger, chunkBytesFor } from "./baseline_ledger.ts";
import { ChunkBitmap } from "./chunk_bitmap.ts";
import { RecoveryMap } from "./recovery_map.ts";

const CHUNK_BYTES = 64 * 1024;
const CHUNK_BLOCKS = 16;

function ranges(limit: number) {
  return fc.array(
    fc.tuple(fc.nat(limit), fc.nat(limit)).map(([a, b]) => [Math.min(a, b), Math.max(a, b)] as const),
  );
}

Deno.test("ChunkBitmap acts like a set of numbers", () => {
  fc.assert(fc.property(ranges(200), fc.nat(200), fc.nat(200), (added, from, end) => {
    const bitmap = new ChunkBitmap(new Uint8Array(25));
    const model = new Set<number>();
    for (const [first, last] of added) {
      const before = model.size;
      for (let n = first; n < last; n++) model.add(n);
      assert.equal(bitmap.add(first, last), model.size - before);
    }
    const numbers = Array.from({ length: Math.max(0, end - from) }, (_, i) => from + i);
    const stop = Math.max(from, end);
    assert.equal(bitmap.count(from, end), numbers.filter((n) => model.has(n)).length);
    assert.equal(bitmap.nextPresent(from, stop), numbers.find((n) => model.has(n)) ?? stop);
    assert.equal(bitmap.nextAbsent(from, stop), numbers.find((n) => !model.has(n)) ?? stop);
  }));
});

Deno.test("BaselineLedger counts every byte once, whatever is added twice, and keeps it", () => {
  fc.assert(fc.property(fc.integer({ min: 1, max: 40 * CHUNK_BYTES }), ranges(41), (sizeBytes, added) => {
    const map = new RecoveryMap(":memory:");
    const ledger = new BaselineLedger(map, sizeBytes);
    const covered = new Set<number>();
    for (const [first, last] of added) {
      const offset = Math.min(first * CHUNK_BYTES, sizeBytes);
      const length = Math.min(last * CHUNK_BYTES, sizeBytes) - offset;
      map.transaction(() => {
        for (const _ of ledger.add([{ offset, length, extent: undefined }]));
      });
      ledger.refresh();
      for (let chunk = first; chunk < last && chunk < ledger.chunkCount; chunk++) covered.add(chunk);
    }
    const bytes = [...covered].reduce(
      (sum, chunk) => sum + Math.min(CHUNK_BYTES, sizeBytes - chunk * CHUNK_BYTES),
      0,
    );
    // Never all: that it is complete is entered last.
    assert.equal(ledger.coveredBytes, Math.min(bytes, sizeBytes - 1));
    const bitmap = new BaselineLedger(map, sizeBytes).load();
    for (let chunk = 0; chunk < ledger.chunkCount; chunk++) {
      assert.equal(bitmap.has(chunk), covered.has(chunk));
    }
    assert.equal(ledger.coveredBytes, Math.min(bytes, sizeBytes - 1), "loading changes nothing");
    if (covered.size < ledger.chunkCount) {
      assert.throws(() => ledger.checkComplete(), /has nothing from byte/);
    } else ledger.checkComplete();
    ledger.finish();
    for (const _ of ledger.add([{ offset: 0, length: sizeBytes, extent: undefined }]));
    assert.equal(map.getState("baseline_bytes", 0), sizeBytes, "what comes later does not take the end back");
    map.close();
  }));
});

Deno.test("BaselineLedger refuses a page that was changed", () => {
  const map = new RecoveryMap(":memory:");
  const ledger = new BaselineLedger(map, 10 * CHUNK_BYTES);
  map.transaction(() => {
    for (const _ of ledger.add([{ offset: 0, length: CHUNK_BYTES, extent: undefined }]));
  });
  const page = map.statement("SELECT packed FROM baseline_pages").get()?.["packed"];
  assert(page instanceof Uint8Array);
  page[100] = 1;
  map.statement("UPDATE baseline_pages SET packed = ?").run(page);
  assert.throws(() => ledger.load(), /does not match/);
  map.close();
});

Deno.test("chunkBytesFor() keeps the number of chunks within 2^24", () => {
  assert.equal(chunkBytesFor(1), CHUNK_BYTES);
  assert.equal(chunkBytesFor(2 ** 40), CHUNK_BYTES);
  assert.equal(chunkBytesFor(2 ** 40 + 1), 2 * CHUNK_BYTES);
  assert.equal(chunkBytesFor(2 ** 50), 64 * 1024 * 1024);
});

Deno.test("RecoveryMap shows a baseline that came after keyframes beneath them", () => {
  const map = new RecoveryMap(":memory:");
  const version = (seq: number, firstBlock: number, segment: number) => ({
    seq,
    firstBlock,
    blockCount: 1,
    segment,
    recordOffset: seq * 100,
    payloadBlock: 0,
  });
  const lastSeq = 3000;
  map.transaction(() => {
    // Block 5 is written over and over, block 6 trimmed once, block 7 left alone.
    for (let seq = 1; seq <= lastSeq; seq++) {
      for (const _ of map.addExtents([seq === 2 ? version(2, 6, 0) : version(seq, 5, 1)]));
    }
  });
  const keyframes = map.statement("SELECT count(*) AS n FROM regions WHERE kind = 1").get()?.["n"];
  assert(Number(keyframes) > 1);
  const ledger = new BaselineLedger(map, 4 * CHUNK_BYTES);
  map.transaction(() => {
    const extent = { ...version(0, 0, 9), blockCount: CHUNK_BLOCKS };
    for (const _ of ledger.add([{ offset: 0, length: CHUNK_BYTES, extent }]));
  });
  for (const seq of [0, 1, 2, 1500, lastSeq]) {
    const segments = Array.from({ length: CHUNK_BLOCKS }, () => -1);
    for (const extent of map.resolveRegion(0, seq)) {
      for (let i = 0; i < extent.blockCount; i++) segments[extent.firstBlock + i] = extent.segment;
    }
    const expected = Array.from({ length: CHUNK_BLOCKS }, () => 9);
    if (seq >= 1) expected[5] = 1;
    if (seq >= 2) expected[6] = 0;
    assert.deepEqual(segments, expected, `sequence ${seq}`);
  }
  map.close();
});

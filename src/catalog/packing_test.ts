import assert from "node:assert/strict";
import fc from "fast-check";
import {
  type PackedExtent,
  type PackedMoment,
  packExtents,
  packMoments,
  unpackExtents,
  unpackMoments,
} from "./packing.ts";

/** Differences are doubled when they are packed, so numbers reach to half of what is safe. */
const numbers = fc.oneof(fc.nat({ max: 2 ** 52 - 1 }), fc.nat({ max: 300 }));

const holes: fc.Arbitrary<PackedExtent> = fc.record({
  seq: numbers,
  firstBlock: fc.nat({ max: 2 ** 40 }),
  blockCount: fc.integer({ min: 1, max: 2 ** 40 }),
  segment: fc.constant(0),
  recordOffset: fc.constant(0),
  payloadBlock: fc.constant(0),
}, { noNullPrototype: true });

const data: fc.Arbitrary<PackedExtent> = fc.record({
  seq: numbers,
  firstBlock: fc.nat({ max: 5000 }),
  blockCount: fc.integer({ min: 1, max: 5000 }),
  segment: fc.oneof(fc.integer({ min: 1, max: 3 }), fc.integer({ min: 1, max: 2 ** 52 - 1 })),
  recordOffset: numbers,
  payloadBlock: fc.oneof(fc.constant(0), fc.nat({ max: 20_000 })),
}, { noNullPrototype: true });

const extentLists = fc.array(fc.oneof(holes, data), { maxLength: 400 });

function unpacked(blob: Uint8Array): PackedExtent[] {
  const extents: PackedExtent[] = [];
  unpackExtents(blob, (extent) => extents.push(extent));
  return extents;
}

function joined(...blobs: Uint8Array[]): Uint8Array {
  return Uint8Array.from(blobs.flatMap((blob) => [...blob]));
}

Deno.test("packed extents come back as they were, in any order and of any size", () => {
  fc.assert(fc.property(extentLists, (extents) => assert.deepEqual(unpacked(packExtents(extents)), extents)));
});

Deno.test("packed extents can be appended to one another", () => {
  fc.assert(fc.property(extentLists, extentLists, (first, second) => {
    assert.deepEqual(unpacked(joined(packExtents(first), packExtents(second))), [...first, ...second]);
  }));
});

Deno.test("packed extents take a few bytes each", () => {
  const extents = Array.from({ length: 1000 }, (_, i): PackedExtent => ({
    seq: 1_000_000 + i,
    firstBlock: i * 3 % 4000,
    blockCount: 1,
    segment: 77,
    recordOffset: 30_000_000 + i * 4164,
    payloadBlock: 0,
  }));
  assert.ok(packExtents(extents).length < 8 * extents.length);
});

Deno.test("packed moments come back as they were, appended to one another as well", () => {
  const lists = fc.array(fc.tuple(numbers, numbers, fc.nat({ max: 3 })), { maxLength: 300 }).map((raw) => {
    const seqs = raw.map(([seq]) => seq).sort((a, b) => a - b);
    const times = raw.map(([, timeUs]) => timeUs).sort((a, b) => a - b);
    return raw.map(([, , kind], i): PackedMoment => ({ seq: seqs[i] ?? 0, timeUs: times[i] ?? 0, kind }));
  });
  fc.assert(fc.property(lists, lists, (first, second) => {
    assert.deepEqual(unpackMoments(packMoments(first)), first);
    assert.deepEqual(unpackMoments(joined(packMoments(first), packMoments(second))), [...first, ...second]);
  }));
});

Deno.test("a blob with a changed byte or a stretch of zeroes is damaged, never shorter", () => {
  const moments = (from: number) =>
    Array.from({ length: 20 }, (_, i): PackedMoment => ({ seq: from + i, timeUs: 5 * (from + i), kind: 1 }));
  const blob = joined(joined(packMoments(moments(1)), packMoments(moments(21))), packMoments(moments(41)));
  for (let from = 0; from < blob.length; from++) {
    for (const bit of [1, 16, 128]) {
      const changed = blob.slice();
      changed[from] = (changed[from] ?? 0) ^ bit;
      assert.throws(() => unpackMoments(changed), { code: "damaged" }, `bit ${bit} of byte ${from}`);
    }
    for (let end = from + 1; end <= blob.length; end++) {
      const zeroed = blob.slice().fill(0, from, end);
      if (zeroed.every((byte, i) => byte === blob[i])) continue;
      assert.throws(() => unpackMoments(zeroed), { code: "damaged" }, `bytes ${from} to ${end}`);
    }
  }
});

import assert from "node:assert/strict";
import fc from "fast-check";
import { ChunkSet } from "./chunk_set.ts";

Deno.test("ChunkSet holds the chunks that ranges touch, as a plain set does", () => {
  const sizeBytes = 70 * 65_536 + 5;
  const ranges = fc.array(
    fc.tuple(fc.nat(sizeBytes - 1), fc.integer({ min: 1, max: 300_000 }), fc.boolean()),
  );
  fc.assert(fc.property(ranges, (steps) => {
    const chunks = new ChunkSet(sizeBytes);
    const model = new Set<number>();
    for (const [offset, wanted, isAdded] of steps) {
      const length = Math.min(wanted, sizeBytes - offset);
      const first = Math.floor(offset / 65_536);
      if (isAdded) chunks.add(offset, length);
      else chunks.delete(first);
      if (!isAdded) model.delete(first);
      else for (let at = first; at * 65_536 < offset + length; at++) model.add(at);
    }
    const found: number[] = [];
    for (let at = chunks.next(0); at !== undefined; at = chunks.next(at + 1)) found.push(at);
    assert.deepEqual(found, [...model].sort((a, b) => a - b));
    assert.equal(chunks.count, model.size);
  }));
});

Deno.test("ChunkSet takes larger chunks where there would be too many", () => {
  assert.equal(new ChunkSet(2 ** 40).chunkBytes, 65_536);
  assert.equal(new ChunkSet(2 ** 40 + 1).chunkBytes, 131_072);
  assert.equal(new ChunkSet(1).count, 0);
});

import assert from "node:assert/strict";
import fc from "fast-check";
import type { MapExtent } from "../catalog/recovery_map.ts";
import { Overlay } from "./overlay.ts";

const BLOCKS = 4000;

/** Runs of data and holes, narrow and wide. */
const extents = fc.array(
  fc.tuple(
    fc.nat({ max: 60 }),
    fc.oneof(fc.integer({ min: 1, max: 3 }), fc.integer({ min: 1020, max: 3000 })),
    fc.boolean(),
  ),
  { maxLength: 40 },
).map((raw) =>
  raw.map(([firstBlock, blockCount, hole], i): MapExtent => ({
    seq: i + 1,
    firstBlock,
    blockCount: hole ? blockCount : i % 3 === 0 ? Math.ceil(blockCount / 9) : Math.min(blockCount, 4),
    segment: hole ? 0 : 1,
    recordOffset: hole ? 0 : i * 100,
    payloadBlock: 0,
  }))
);

Deno.test("Overlay finds the newest extent over each block", () => {
  fc.assert(fc.property(extents, (list) => {
    const overlay = new Overlay();
    assert.equal(overlay.isEmpty, true);
    const naive = new Array<MapExtent | undefined>(BLOCKS).fill(undefined);
    for (const extent of list) {
      overlay.add(extent);
      naive.fill(extent, extent.firstBlock, extent.firstBlock + extent.blockCount);
    }
    assert.equal(overlay.isEmpty, list.length === 0);
    assert.deepEqual([...overlay.extents], list);
    for (const [block, newest] of naive.entries()) {
      assert.deepEqual(overlay.find(block), newest, `block ${block}`);
    }
  }));
});

Deno.test("Overlay.remaining() leaves out what nothing can be seen of, and nothing else that is seen", () => {
  fc.assert(fc.property(extents, (list) => {
    const overlay = new Overlay();
    for (const extent of list) overlay.add(extent);
    const remaining = [...overlay.remaining()];
    assert.deepEqual(remaining, list.filter((extent) => remaining.some(({ seq }) => seq === extent.seq)));
    const applied = new Array<MapExtent | undefined>(BLOCKS).fill(undefined);
    for (const extent of remaining) {
      applied.fill(extent, extent.firstBlock, extent.firstBlock + extent.blockCount);
    }
    for (const [block, newest] of applied.entries()) {
      assert.deepEqual(overlay.find(block), newest, `block ${block}`);
    }
  }));
  const overlay = new Overlay();
  const write = { firstBlock: 5, blockCount: 1, segment: 1, recordOffset: 0, payloadBlock: 0 };
  overlay.add({ ...write, seq: 1 });
  overlay.add({ ...write, seq: 2 });
  assert.deepEqual([...overlay.remaining()].map(({ seq }) => seq), [2]);
});

Deno.test("Overlay takes no memory for the blocks of a wide hole", () => {
  const overlay = new Overlay();
  const hole = { seq: 1, firstBlock: 0, segment: 0, recordOffset: 0, payloadBlock: 0 };
  overlay.add({ ...hole, blockCount: 2 ** 28 });
  assert.equal(overlay.blockCount, 0);
  assert.equal(overlay.find(2 ** 28 - 1)?.seq, 1);
  assert.equal(overlay.find(2 ** 28), undefined);
  overlay.add({ ...hole, seq: 2, blockCount: 3 });
  overlay.add({ ...hole, seq: 3, firstBlock: 2, blockCount: 3 });
  assert.equal(overlay.blockCount, 5);
  overlay.add({ seq: 4, firstBlock: 100, blockCount: 500, segment: 1, recordOffset: 0, payloadBlock: 0 });
  assert.equal(overlay.blockCount, 505, "what has to be written counts, however it is kept");
});

import assert from "node:assert/strict";
import fc from "fast-check";
import { BLOCK_BYTES } from "../base/block_device.ts";
import { MemoryDevice } from "../guestfs/_test_support.ts";
import { momentOf } from "../guestfs/moment_device.ts";
import { SubDevice } from "../guestfs/sub_device.ts";
import { BlockSet, NotingDevice } from "./_ranges.ts";

Deno.test("BlockSet has every block of what was added, and no other", () => {
  const range = fc.tuple(fc.nat(50 * BLOCK_BYTES), fc.integer({ min: 1, max: 5 * BLOCK_BYTES }));
  fc.assert(
    fc.property(fc.array(range), fc.integer({ min: 1, max: 500 }), (ranges, times) => {
      const set = new BlockSet();
      const expected = new Set<number>();
      for (let round = 0; round < times; round++) {
        for (const [offset, length] of ranges) set.add(offset, length);
      }
      for (const [offset, length] of ranges) {
        for (let at = offset; at < offset + length; at++) expected.add(Math.floor(at / BLOCK_BYTES));
      }
      const found: number[] = [];
      let end = -1;
      for (const { offset, length } of set.ranges()) {
        assert.ok(offset > end, "sorted, with space between");
        end = offset + length;
        for (let at = offset; at < end; at += BLOCK_BYTES) found.push(at / BLOCK_BYTES);
      }
      assert.deepEqual(found, [...expected].sort((a, b) => a - b));
    }),
    { numRuns: 40 },
  );
});

Deno.test("NotingDevice notes reads, and what a reader relies on in a part of it, with offsets of the disk", () => {
  const moment = { seq: 5, notes: new Map<string, unknown>(), newestChange: (offset: number) => offset };
  const device = new NotingDevice(new MemoryDevice(new Uint8Array(20 * BLOCK_BYTES)), moment);
  const part = new SubDevice(device, 8 * BLOCK_BYTES, 4 * BLOCK_BYTES);
  part.read(100, new Uint8Array(10));
  const inner = momentOf(part);
  assert.equal(inner?.seq, 5);
  assert.equal(inner?.newestChange(BLOCK_BYTES, 1), 9 * BLOCK_BYTES);
  assert.notEqual(inner?.scope, momentOf(new SubDevice(device, 0, BLOCK_BYTES))?.scope);
  inner?.relyOn(2 * BLOCK_BYTES, 1);
  assert.deepEqual(device.noted.ranges(), [
    { offset: 8 * BLOCK_BYTES, length: BLOCK_BYTES },
    { offset: 10 * BLOCK_BYTES, length: BLOCK_BYTES },
  ]);
  assert.equal(momentOf(new SubDevice(new MemoryDevice(new Uint8Array(10)), 0, 10)), undefined);
});

import assert from "node:assert/strict";
import type { RegionVersions } from "./block_channel.ts";
import { NewestChanges } from "./newest_changes.ts";

const BLOCK = 4096;

/** A region whose block 3 was written at 10, 20 and 30. */
function regionAt(seq: number): RegionVersions {
  const written = seq >= 30 ? 30 : seq >= 20 ? 20 : 10;
  return {
    fromSeq: written,
    endSeq: written === 30 ? Infinity : written + 10,
    versions: [{ firstBlock: 3, blockCount: 1, seq: written }],
  };
}

Deno.test("NewestChanges asks for a region once for all sequences for which it holds", () => {
  const changes = new NewestChanges();
  const asked: number[] = [];
  const find = (seq: number, block = 3) =>
    changes.find({ offset: block * BLOCK, length: BLOCK }, seq, (region) => {
      asked.push(region, seq);
      return regionAt(seq);
    });
  assert.deepEqual([find(15), find(12), find(19), find(15, 4)], [10, 10, 10, 0]);
  assert.deepEqual(asked, [0, 15]);
  assert.deepEqual([find(20), find(35), find(31), find(10)], [20, 30, 30, 10]);
  assert.deepEqual(asked, [0, 15, 0, 20, 0, 35]);
});

Deno.test("NewestChanges forgets what it was asked long ago", () => {
  const changes = new NewestChanges();
  let asked = 0;
  const find = (seq: number) =>
    changes.find({ offset: 0, length: BLOCK }, seq, () => {
      asked++;
      return { fromSeq: seq, endSeq: seq + 1, versions: [] };
    });
  for (let seq = 0; seq < 5; seq++) find(seq);
  find(4);
  assert.equal(asked, 5);
  find(0);
  assert.equal(asked, 6);
});

import assert from "node:assert/strict";
import fc from "fast-check";
import { BLOCK_BYTES } from "../base/block_device.ts";
import { inTurns, systemScheduler } from "../base/turns.ts";
import { type MapExtent, RecoveryMap } from "../catalog/recovery_map.ts";
import { REGION_BLOCKS, REGION_BYTES } from "../catalog/region_map.ts";
import { type ChangeSpan, changesWithin, isTouched, lastChangeOf } from "./changes.ts";
import { RegionCache } from "./view.ts";

/** Three regions and a bit; the last block is cut. */
const BLOCKS = 3 * REGION_BLOCKS + 5;
const SIZE = BLOCKS * BLOCK_BYTES - 77;

/** A change: of few blocks around the regions' edges, or of whole regions. The second number says what it writes. */
const change = fc.oneof(
  {
    weight: 9,
    arbitrary: fc.record({ at: fc.nat(40), count: fc.integer({ min: 1, max: 9 }), hole: fc.boolean() }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      at: fc.constantFrom(0, 20),
      count: fc.constantFrom(REGION_BLOCKS, 2 * REGION_BLOCKS + 30),
      hole: fc.constant(true),
    }),
  },
).map(({ at, count, hole }) => {
  // So that changes meet one another, they begin near the start or an edge.
  const firstBlock = Math.floor(at / 10) * REGION_BLOCKS + Math.max(0, at % 10 - (at < 10 ? 0 : 5));
  return { firstBlock, blockCount: Math.min(count, BLOCKS - firstBlock), hole };
});

/** What each block held at a moment, and which command made it so: 0 is a block that holds zeroes. */
interface State {
  readonly content: Int32Array;
  readonly writtenBy: Int32Array;
}

/** Every run of a span, asked for piece by piece with a limit. */
function allOf(span: ChangeSpan, offset: number, length: number, max: number): [number, string][] {
  const told: [number, string][] = [];
  for (let at = offset; at < offset + length;) {
    const runs = changesWithin(span, { offset: at, length: offset + length - at }, max);
    assert.ok(runs.length > 0 && runs.length <= max);
    for (const [index, run] of runs.entries()) {
      assert.equal(run.offset, at);
      assert.ok(run.length > 0);
      if (index > 0) assert.notEqual(run.kind, runs[index - 1]?.kind, "neighbours differ");
      at += run.length;
      told.push([at, run.kind]);
    }
    assert.ok(at <= offset + length);
  }
  return told;
}

Deno.test("changesWithin() tells every block that differs between two moments and none that was never touched, whatever was pruned", async () => {
  const input = [
    fc.array(change, { minLength: 1, maxLength: 60 }),
    fc.integer({ min: 1, max: 40 }),
    fc.uniqueArray(fc.nat(60), { maxLength: 5 }),
    fc.array(fc.tuple(fc.nat(60), fc.nat(60), fc.integer({ min: 1, max: 9 })), {
      minLength: 1,
      maxLength: 6,
    }),
  ] as const;
  await fc.assert(
    fc.asyncProperty(...input, async (changes, batch, keptRaw, asked) => {
      const map = new RecoveryMap(":memory:");
      const states: State[] = [{ content: new Int32Array(BLOCKS), writtenBy: new Int32Array(BLOCKS) }];
      const extents = changes.map(({ firstBlock, blockCount, hole }, index): MapExtent => {
        const seq = index + 1;
        const before = states[index];
        const state = {
          content: Int32Array.from(before?.content ?? []),
          writtenBy: Int32Array.from(before?.writtenBy ?? []),
        };
        state.content.fill(hole ? 0 : seq, firstBlock, firstBlock + blockCount);
        state.writtenBy.fill(seq, firstBlock, firstBlock + blockCount);
        states.push(state);
        const place = { segment: hole ? 0 : 1, recordOffset: hole ? 0 : seq * 100, payloadBlock: 0 };
        return { seq, firstBlock, blockCount, ...place };
      });
      for (let from = 0; from < extents.length; from += batch) {
        map.transaction(() => {
          for (const _ of map.addExtents(extents.slice(from, from + batch)));
        });
      }
      const keptSeqs = keptRaw.filter((seq) => seq < states.length).sort((a, b) => a - b);
      const base = keptSeqs.at(-1) ?? 0;
      if (keptSeqs.length > 0) {
        for (const region of [...map.usedRegions()]) {
          await inTurns(map.thinRegion(region, keptSeqs, () => {}), systemScheduler);
        }
      }
      const retained = [...states.keys()].filter((seq) => seq >= base || keptSeqs.includes(seq));
      const regions = new RegionCache(map);
      for (const [one, other, max] of asked) {
        const [fromSeq = 0, toSeq = 0] = [one, other]
          .map((index) => retained[index % retained.length] ?? 0).sort((a, b) => a - b);
        const runs = allOf({ regions, fromSeq, toSeq }, 0, SIZE, max);
        const [from, to] = [states[fromSeq], states[toSeq]];
        let block = 0;
        for (const [end, kind] of runs) {
          for (; block * BLOCK_BYTES < end; block++) {
            const what = `block ${block} between ${fromSeq} and ${toSeq}`;
            if (kind === "same") {
              assert.equal(to?.content[block], from?.content[block], `${what} is told as the same`);
            } else assert.ok((to?.writtenBy[block] ?? 0) > fromSeq, `${what} was never touched`);
          }
        }
        assert.equal(block, BLOCKS);
        for (const first of [0, 7, REGION_BLOCKS - 3, 2 * REGION_BLOCKS + 1]) {
          const ranges = [{ offset: first * BLOCK_BYTES + 9, length: 5 * BLOCK_BYTES - 9 }];
          const written = to?.writtenBy.slice(first, first + 5) ?? [];
          const newest = Math.max(...written);
          const last = lastChangeOf({ regions, fromSeq, toSeq }, ranges);
          assert.equal(isTouched({ regions, fromSeq, toSeq }, ranges), last !== undefined);
          // A hole of which nothing is kept has no sequence.
          if (last !== undefined) assert.ok(last > fromSeq && last <= newest, `${last} of ${newest}`);
          const isData = written.some((seq, at) => seq > fromSeq && to?.content[first + at] !== 0);
          if (isData || (newest > fromSeq && keptSeqs.length === 0)) {
            assert.ok(last !== undefined, `blocks from ${first} changed between ${fromSeq} and ${toSeq}`);
          }
          if (keptSeqs.length === 0) assert.equal(last ?? 0, newest > fromSeq ? newest : 0);
        }
        const everything = [{ offset: 0, length: SIZE }];
        const all = lastChangeOf({ regions, fromSeq, toSeq }, everything);
        assert.equal(isTouched({ regions, fromSeq, toSeq }, everything), all !== undefined);
        assert.equal(all !== undefined, runs.some(([, kind]) => kind === "changed"));
        const middle = allOf({ regions, fromSeq, toSeq }, REGION_BYTES - 5000, 10_000, 2);
        const [, whole] = runs.find(([end]) => end > REGION_BYTES - 5000) ?? [];
        assert.equal(middle[0]?.[1], whole, "from the midst of a block");
      }
      map.close();
    }),
    { numRuns: 60 },
  );
});

Deno.test("changesWithin() of a moment and itself is one run, and so is a volume that was never written", () => {
  const map = new RecoveryMap(":memory:");
  const regions = new RegionCache(map);
  const whole = { offset: 0, length: 2 ** 41 };
  assert.deepEqual(changesWithin({ regions, fromSeq: 0, toSeq: 9 }, whole, 5), [{ ...whole, kind: "same" }]);
  map.transaction(() => {
    const extent = {
      seq: 3,
      firstBlock: 2 ** 28,
      blockCount: 2,
      segment: 1,
      recordOffset: 1,
      payloadBlock: 0,
    };
    for (const _ of map.addExtents([extent]));
  });
  assert.deepEqual(changesWithin({ regions, fromSeq: 3, toSeq: 3 }, whole), [{ ...whole, kind: "same" }]);
  assert.deepEqual(changesWithin({ regions, fromSeq: 2, toSeq: 3 }, whole), [
    { offset: 0, length: 2 ** 40, kind: "same" },
    { offset: 2 ** 40, length: 2 * BLOCK_BYTES, kind: "changed" },
    { offset: 2 ** 40 + 2 * BLOCK_BYTES, length: 2 ** 40 - 2 * BLOCK_BYTES, kind: "same" },
  ]);
  map.close();
});

Deno.test("changesWithin() looks a bounded number of regions up for one answer, and none that cannot differ", () => {
  const map = new RecoveryMap(":memory:");
  map.transaction(() => {
    const place = { blockCount: REGION_BLOCKS, segment: 1, recordOffset: 1, payloadBlock: 0 };
    for (let region = 0; region < 2000; region++) {
      const seq = region + 1;
      for (const _ of map.addExtents([{ seq, firstBlock: region * REGION_BLOCKS, ...place }]));
    }
  });
  let resolved = 0;
  const resolve = map.resolveRetained.bind(map);
  map.resolveRetained = (region, seq) => {
    resolved++;
    return resolve(region, seq);
  };
  const regions = new RegionCache(map);
  const whole = { offset: 0, length: 2000 * REGION_BYTES };
  assert.deepEqual(changesWithin({ regions, fromSeq: 0, toSeq: 2000 }, whole, 7), [
    { offset: 0, length: 32 * REGION_BYTES, kind: "changed" },
  ]);
  assert.equal(resolved, 32);
  resolved = 0;
  const late = { regions, fromSeq: 1990, toSeq: 2000 };
  assert.deepEqual(changesWithin(late, whole, 7), [
    { offset: 0, length: 1024 * REGION_BYTES, kind: "same" },
  ]);
  assert.equal(resolved, 0);
  assert.deepEqual(allOf(late, 0, whole.length, 2), [
    [1024 * REGION_BYTES, "same"],
    [1990 * REGION_BYTES, "same"],
    [whole.length, "changed"],
  ]);
  assert.equal(resolved, 10);
  map.close();
});

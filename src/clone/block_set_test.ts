import assert from "node:assert/strict";
import fc from "fast-check";
import { BlockSet } from "./block_set.ts";

/** Blocks around the edges of words, pages and branches. */
const BLOCKS = fc.oneof(
  fc.nat(100),
  fc.constantFrom(2 ** 15, 2 ** 27, 2 ** 27 + 2 ** 15, 2 ** 28).chain((edge) =>
    fc.integer({ min: edge - 70, max: edge + 70 })
  ),
);

/** A naive twin: the points at which membership changes. */
class Runs {
  runs: [number, number][] = [];

  set(from: number, until: number, value: boolean): void {
    if (from >= until) return;
    const rest = this.runs.flatMap(([a, b]): [number, number][] => [[a, Math.min(b, from)], [
      Math.max(a, until),
      b,
    ]]).filter(([a, b]) => a < b);
    if (value) rest.push([from, until]);
    this.runs = rest.sort((a, b) => a[0] - b[0]);
  }

  has(block: number): boolean {
    return this.runs.some(([a, b]) => a <= block && block < b);
  }

  count(from: number, until: number): number {
    return this.runs.reduce((sum, [a, b]) => sum + Math.max(0, Math.min(b, until) - Math.max(a, from)), 0);
  }

  next(from: number, until: number, isIn: boolean): number {
    const edges = [from, ...this.runs.flat().filter((edge) => edge > from)].sort((a, b) => a - b);
    return edges.find((edge) => edge < until && this.has(edge) === isIn) ?? until;
  }
}

Deno.test("BlockSet is a set, at the edges of words, pages and branches too", () => {
  const step = fc.record({ value: fc.boolean(), from: BLOCKS, to: BLOCKS });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 12 }), fc.array(fc.tuple(BLOCKS, BLOCKS)), (steps, looks) => {
      const set = new BlockSet();
      const model = new Runs();
      for (const { value, from, to } of steps) {
        if (value) set.add(from, to);
        else set.remove(from, to);
        model.set(from, to, value);
        assert.equal(set.size, model.count(0, Infinity));
      }
      for (const [from, until] of looks) {
        assert.equal(set.has(from), model.has(from));
        if (from > until) continue;
        assert.equal(set.count(from, until), model.count(from, until));
        for (const isIn of [true, false]) {
          assert.equal(set.next(from, until, isIn), model.next(from, until, isIn));
        }
      }
    }),
    { numRuns: 2000 },
  );
});

Deno.test("BlockSet takes all of the largest disk in one piece, and gives single blocks of it back", () => {
  const blocks = 2 ** 38;
  const set = new BlockSet();
  set.add(0, blocks);
  set.remove(blocks - 5, blocks - 4);
  assert.equal(set.size, blocks - 1);
  assert.equal(set.next(0, blocks, false), blocks - 5);
  assert.equal(set.next(blocks - 5, blocks), blocks - 4);
  set.remove(0, blocks);
  assert.deepEqual([set.size, set.next(0, blocks)], [0, blocks]);
});

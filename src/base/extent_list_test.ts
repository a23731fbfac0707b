import assert from "node:assert/strict";
import fc from "fast-check";
import { ExtentList } from "./extent_list.ts";

const KINDS = ["data", "hole"] as const;

Deno.test("ExtentList joins neighbours of a kind, cuts to the range, and with a limit keeps a prefix", () => {
  const step = fc.tuple(fc.integer({ min: 0, max: 9 }), fc.constantFrom(...KINDS));
  const input = [fc.array(step), fc.nat(20), fc.nat(60), fc.integer({ min: 1, max: 6 })] as const;
  fc.assert(fc.property(...input, (steps, offset, length, max) => {
    const all = new ExtentList<"data" | "hole">(offset, length);
    const some = new ExtentList<"data" | "hole">(offset, length, max);
    let expected = "";
    let until = offset - 5;
    for (const [count, kind] of steps) {
      until += count;
      expected = expected.padEnd(Math.min(until - offset, length), kind === "data" ? "d" : "h");
      all.add(until, kind);
      some.add(until, kind);
    }
    assert.equal(all.at, offset + expected.length);
    assert.equal(all.isDone, expected.length >= length);
    let told = "";
    for (const { offset: at, length: count, kind } of all.extents) {
      assert.equal(at, offset + told.length);
      assert.ok(count > 0);
      assert.notEqual(told.at(-1), kind[0], "neighbours differ");
      told += kind.slice(0, 1).repeat(count);
    }
    assert.equal(told, expected);
    assert.deepEqual(some.extents, all.extents.slice(0, max));
    if (all.extents.length > max) assert.ok(some.isDone);
  }));
});

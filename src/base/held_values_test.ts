import assert from "node:assert/strict";
import { HeldValues } from "./held_values.ts";

class Thing {
  closed = 0;
  close(): void {
    this.closed++;
  }
}

Deno.test("HeldValues close what was not used for longest", () => {
  const held = new HeldValues<Thing>(2);
  const [a, b, c] = [new Thing(), new Thing(), new Thing()];
  held.add("a", a);
  held.add("b", b);
  assert.equal(held.use("a", (value) => value === a)?.result, true);
  held.add("c", c);
  assert.deepEqual([a.closed, b.closed, c.closed], [0, 1, 0]);
  assert.equal(held.use("b", () => 1), undefined);
  held.clear();
  assert.deepEqual([a.closed, b.closed, c.closed], [1, 1, 1]);
});

Deno.test("HeldValues close nothing that is in use, however it ends", async () => {
  const held = new HeldValues<Thing>(1);
  const thing = new Thing();
  held.add("a", thing);
  const first = Promise.withResolvers<number>();
  const second = Promise.withResolvers<number>();
  const uses = [held.use("a", () => first.promise)?.result, held.use("a", () => second.promise)?.result];
  held.clear();
  assert.equal(thing.closed, 0);
  first.resolve(1);
  assert.equal(await uses[0], 1);
  assert.equal(thing.closed, 0);
  second.reject(new Error("no"));
  await assert.rejects(Promise.resolve(uses[1]));
  assert.equal(thing.closed, 1);
});

Deno.test("a value under the key of another takes its place", () => {
  const held = new HeldValues<Thing>(5);
  const [a, b] = [new Thing(), new Thing()];
  held.add("a", a);
  held.add("a", b);
  assert.deepEqual([a.closed, b.closed], [1, 0]);
});

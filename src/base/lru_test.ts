import assert from "node:assert/strict";
import { Lru } from "./lru.ts";

Deno.test("Lru lets the value go that was not used for longest", () => {
  const gone: string[] = [];
  const lru = new Lru<string>(2, (value) => gone.push(value));
  lru.set("a", "1");
  lru.set("b", "2");
  assert.equal(lru.get("a"), "1");
  lru.set("c", "3");
  assert.deepEqual(gone, ["2"]);
  assert.equal(lru.get("b"), undefined);
  lru.set("a", "4");
  assert.deepEqual(gone, ["2", "1"]);
  assert.equal(lru.size, 2);
  lru.clear();
  assert.deepEqual(gone, ["2", "1", "3", "4"]);
  assert.equal(lru.size, 0);
});

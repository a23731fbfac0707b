import assert from "node:assert/strict";
import { Neighbours } from "./neighbours.ts";
import type { PastListing } from "./past_file_system.ts";

function listing(...inodes: number[]): PastListing {
  return {
    length: inodes.length,
    at: (index) => ({ name: new Uint8Array(), inode: inodes[index] ?? -1, type: undefined, stat: undefined }),
  };
}

Deno.test("Neighbours are those listed behind an inode, in the same file system", () => {
  const neighbours = new Neighbours();
  neighbours.remember("a", listing(5, 3, 9, 3, 7));
  assert.deepEqual(neighbours.from("a", 3, 3), [3, 9, 3]);
  assert.deepEqual(neighbours.from("a", 7, 3), [7]);
  assert.deepEqual(neighbours.from("a", 1, 3), [1]);
  assert.deepEqual(neighbours.from("b", 3, 3), [3]);
});

Deno.test("Neighbours remember the last listings alone", () => {
  const neighbours = new Neighbours();
  for (let inode = 0; inode < 10; inode++) neighbours.remember("a", listing(inode, inode + 100));
  assert.deepEqual(neighbours.from("a", 9, 5), [9, 109]);
  assert.deepEqual(neighbours.from("a", 0, 5), [0]);
});

import { deepEqual } from "node:assert/strict";
import { type CommittedTree, FileTree } from "./file_tree.ts";
import { compareKeys, type Key } from "./key.ts";
import type { Item } from "./tree.ts";

const TYPE = 7;
const OBJECTS = 3;
const OFFSETS = 60;

/** A tree that is a list. */
class ListTree implements CommittedTree {
  readonly #items: readonly Item[];

  constructor(items: readonly Item[]) {
    this.#items = items;
  }

  get(key: Key): Uint8Array | undefined {
    return this.#items.find(([other]) => compareKeys(other, key) === 0)?.[1];
  }

  floor(key: Key): Item | undefined {
    return this.#items.findLast(([other]) => compareKeys(other, key) <= 0);
  }

  *items(from: Key, to: Key): Generator<Item> {
    for (const item of this.#items) {
      if (compareKeys(item[0], from) >= 0 && compareKeys(item[0], to) <= 0) yield item;
    }
  }
}

for (let seed = 1; seed <= 20; seed++) {
  Deno.test(`btrfs: a tree with changes answers as a map would (seed ${seed})`, () => {
    let state = seed;
    const next = (below: number) => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return Math.floor(state / 2 ** 32 * below);
    };
    const models = Array.from({ length: OBJECTS }, () => new Map<number, number>());
    const items: Item[] = [];
    for (let objectid = 0; objectid < OBJECTS; objectid++) {
      for (const type of [TYPE - 1, TYPE, TYPE + 1]) {
        for (let offset = 0; offset < OFFSETS; offset++) {
          if (next(2) === 0) continue;
          const value = next(256);
          items.push([{ objectid, type, offset }, Uint8Array.of(value)]);
          if (type === TYPE) models[objectid]?.set(offset, value);
        }
      }
    }
    const tree = new FileTree(new ListTree(items));
    for (let step = 0; step < 300; step++) {
      const objectid = next(OBJECTS);
      const model = models[objectid] ?? new Map<number, number>();
      // Many changes between two questions are sorted in another way than few.
      for (let changes = next(10) === 0 ? 40 : 1; changes > 0; changes--) {
        const [offset, value] = [next(OFFSETS), next(256)];
        const gone = next(2) === 0;
        tree.set(objectid, TYPE, offset, gone ? undefined : Uint8Array.of(value));
        if (gone) model.delete(offset);
        else model.set(offset, value);
      }
      const [from, to] = [next(OFFSETS), next(OFFSETS)];
      const expected = [...model].filter(([offset]) => offset >= from && offset <= to).sort(([a], [b]) =>
        a - b
      );
      const found = [...tree.range(objectid, TYPE, from, to)].map(({ offset, data }) => [offset, data[0]]);
      deepEqual(found, expected);
      deepEqual(tree.get(objectid, TYPE, from)?.[0], model.get(from));
      const below = [...model.keys()].filter((offset) => offset <= from).sort((a, b) => a - b).at(-1);
      deepEqual(tree.floor(objectid, TYPE, from)?.offset, below);
      if (below !== undefined) deepEqual(tree.floor(objectid, TYPE, from)?.data[0], model.get(below));
    }
  });
}

/**
 * A tree as it was committed: finding items, and walking over them in order.
 *
 * A walk ends: every child must begin with the key that its parent tells and end before that of the next child, so that no
 * walk meets a leaf twice.
 *
 * @module
 */
import { damaged } from "../_bytes.ts";
import type { BlockSource } from "./block_source.ts";
import { FOLDED_MAX, OBJECT } from "./format.ts";
import { compareKeys, type Key } from "./key.ts";
import type { RootPointer } from "./superblock.ts";
import type { TreeBlock } from "./tree_block.ts";

/** An item: its key and its data. The caller must not change them. */
export type Item = readonly [key: Key, data: Uint8Array];

/** A key before all others. */
export const FIRST_KEY: Key = { objectid: 0, type: 0, offset: 0 };
/** A key behind all others. */
export const LAST_KEY: Key = { objectid: FOLDED_MAX, type: 255, offset: FOLDED_MAX };

/** Where a block stands: what its first key must be, and what all its keys must be below. */
interface Place {
  readonly first: Key | undefined;
  readonly end: Key | undefined;
}

/** Whether the blocks of one tree may have been written by another: snapshots share the blocks of subvolumes. */
function sharesBlocks(tree: number): boolean {
  return tree === OBJECT.topSubvolume || (tree >= OBJECT.firstFree && tree < OBJECT.lastFree);
}

/** One tree. */
export class Tree {
  readonly #source: BlockSource;
  readonly #root: RootPointer;
  readonly #id: number;

  /** The tree of number `id` whose root block lies at `root`. */
  constructor(source: BlockSource, root: RootPointer, id: number) {
    this.#source = source;
    this.#root = root;
    this.#id = id;
  }

  /** The data of the item with exactly this key. */
  get(key: Key): Uint8Array | undefined {
    const found = this.floor(key);
    return found !== undefined && compareKeys(found[0], key) === 0 ? found[1] : undefined;
  }

  /** The last item at or before a key. */
  floor(key: Key): Item | undefined {
    let block = this.#load(this.#root, { first: undefined, end: undefined });
    let end: Key | undefined;
    while (block.level > 0) {
      const slot = block.countBefore(key, true) - 1;
      if (slot < 0) return undefined;
      if (slot + 1 < block.count) end = block.key(slot + 1);
      block = this.#child(block, slot, end);
    }
    const slot = block.countBefore(key, true) - 1;
    return slot < 0 ? undefined : [block.key(slot), block.item(slot)];
  }

  /** All items from one key up to and with another, in order. */
  *items(from: Key, to: Key): Generator<Item> {
    for (const leaf of this.leaves(from, to)) {
      for (let slot = leaf.countBefore(from, false); slot < leaf.count; slot++) {
        const key = leaf.key(slot);
        if (compareKeys(key, to) > 0) return;
        yield [key, leaf.item(slot)];
      }
    }
  }

  /** The leaves that may hold keys from one up to another, in order. */
  leaves(from: Key, to: Key): Generator<TreeBlock> {
    return this.#walk(this.#load(this.#root, { first: undefined, end: undefined }), undefined, from, to);
  }

  *#walk(block: TreeBlock, end: Key | undefined, from: Key, to: Key): Generator<TreeBlock> {
    if (block.level === 0) {
      yield block;
      return;
    }
    for (let slot = Math.max(0, block.countBefore(from, true) - 1); slot < block.count; slot++) {
      if (compareKeys(block.key(slot), to) > 0) return;
      const childEnd = slot + 1 < block.count ? block.key(slot + 1) : end;
      yield* this.#walk(this.#child(block, slot, childEnd), childEnd, from, to);
    }
  }

  #child(parent: TreeBlock, slot: number, end: Key | undefined): TreeBlock {
    const pointer = { ...parent.child(slot), level: parent.level - 1 };
    return this.#load(pointer, { first: parent.key(slot), end });
  }

  #load(pointer: RootPointer, { first, end }: Place): TreeBlock {
    const block = this.#source.block(pointer);
    const fail = (found: string) => damaged(`reading the tree block at ${pointer.bytenr}`, found);
    if (block.owner !== this.#id && !(sharesBlocks(this.#id) && sharesBlocks(block.owner))) {
      throw fail(`it belongs to tree ${block.owner} instead of ${this.#id}`);
    }
    if (first !== undefined && (block.count === 0 || compareKeys(block.key(0), first) !== 0)) {
      throw fail("it does not begin with the key that its parent tells");
    }
    if (end !== undefined && block.count > 0 && compareKeys(block.key(block.count - 1), end) >= 0) {
      throw fail("its keys reach into the next block");
    }
    return block;
  }
}

/**
 * The tree of one subvolume, as it was committed or as the replay of its log left it.
 *
 * @module
 */
import { FOLDED_MAX } from "./format.ts";
import { countBelow, type FoundItem, ItemOverlay } from "./item_overlay.ts";
import type { Tree } from "./tree.ts";

/** What is asked of the tree as it was committed. */
export type CommittedTree = Pick<Tree, "get" | "floor" | "items">;

/** A tree with changes over it that were never written. */
export class FileTree {
  readonly #tree: CommittedTree;
  readonly #overlay = new ItemOverlay();

  /** Starts with no changes. */
  constructor(tree: CommittedTree) {
    this.#tree = tree;
  }

  /** The data of an item, if it is there. The caller must not change them. */
  get(objectid: number, type: number, offset: number): Uint8Array | undefined {
    const changed = this.#overlay.range(objectid, type);
    if (changed?.has(offset)) return changed.get(offset);
    return this.#tree.get({ objectid, type, offset });
  }

  /** Changes an item, or with `undefined` deletes it. */
  set(objectid: number, type: number, offset: number, data: Uint8Array | undefined): void {
    this.#overlay.change(objectid, type).set(offset, data);
  }

  /** Items of one object and type in order of their offsets, from one up to and with another. No item may change meanwhile. */
  *range(objectid: number, type: number, from = 0, to = FOLDED_MAX): Generator<FoundItem> {
    const changed = this.#overlay.range(objectid, type);
    const offsets = changed?.offsets ?? [];
    let next = countBelow(offsets, from);
    const changes = function* (below: number): Generator<FoundItem> {
      for (; next < offsets.length && (offsets[next] as number) < below; next++) {
        const offset = offsets[next] as number;
        const data = changed?.get(offset);
        if (data !== undefined) yield { offset, data };
      }
    };
    for (
      const [key, data] of this.#tree.items({ objectid, type, offset: from }, { objectid, type, offset: to })
    ) {
      yield* changes(key.offset);
      if (!changed?.has(key.offset)) yield { offset: key.offset, data };
    }
    yield* changes(to + 1);
  }

  /** The last item of one object and type at or before an offset. */
  floor(objectid: number, type: number, offset: number): FoundItem | undefined {
    const changed = this.#overlay.range(objectid, type);
    const newest = changed?.floor(offset);
    let committed = this.#committedFloor(objectid, type, offset);
    while (
      committed !== undefined && committed.offset > (newest?.offset ?? -1) && changed?.has(committed.offset)
    ) {
      committed = this.#committedFloor(objectid, type, committed.offset - 1);
    }
    return newest !== undefined && newest.offset >= (committed?.offset ?? -1) ? newest : committed;
  }

  #committedFloor(objectid: number, type: number, offset: number): FoundItem | undefined {
    if (offset < 0) return undefined;
    const found = this.#tree.floor({ objectid, type, offset });
    if (found === undefined) return undefined;
    const [key, data] = found;
    return key.objectid === objectid && key.type === type ? { offset: key.offset, data } : undefined;
  }
}

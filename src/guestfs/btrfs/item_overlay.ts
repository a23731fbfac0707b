/**
 * What the replay of a log changed in one tree: items that are new or different, and items that are gone.
 *
 * @module
 */

/** Beyond this many new offsets they are sorted together instead of put in one by one. */
const INSERT_MAX = 16;

/** An item of one object and type. */
export interface FoundItem {
  readonly offset: number;
  readonly data: Uint8Array;
}

/** The changed items of one object and type, by offset; `undefined` marks one that is gone. */
export class ChangedRange {
  readonly #items = new Map<number, Uint8Array | undefined>();
  #offsets: number[] = [];
  #unsorted: number[] = [];

  /** Whether the item at an offset was changed. */
  has(offset: number): boolean {
    return this.#items.has(offset);
  }

  /** The changed item at an offset; `undefined` also when it was not changed. */
  get(offset: number): Uint8Array | undefined {
    return this.#items.get(offset);
  }

  /** Changes an item, or with `undefined` deletes it. */
  set(offset: number, data: Uint8Array | undefined): void {
    if (!this.#items.has(offset)) this.#unsorted.push(offset);
    this.#items.set(offset, data);
  }

  /** The last changed item at or before an offset that is not gone. */
  floor(offset: number): FoundItem | undefined {
    const { offsets } = this;
    for (let at = countBelow(offsets, offset + 1) - 1; at >= 0; at--) {
      const found = offsets[at] as number;
      const data = this.#items.get(found);
      if (data !== undefined) return { offset: found, data };
    }
    return undefined;
  }

  /** The offsets of changed items, in order. The caller must not change them. */
  get offsets(): readonly number[] {
    if (this.#unsorted.length > INSERT_MAX) {
      this.#offsets = [...this.#offsets, ...this.#unsorted].sort((left, right) => left - right);
    } else {
      for (const offset of this.#unsorted) this.#offsets.splice(countBelow(this.#offsets, offset), 0, offset);
    }
    this.#unsorted = [];
    return this.#offsets;
  }
}

/** How many numbers of a sorted list are below `value`. */
export function countBelow(sorted: readonly number[], value: number): number {
  let [low, high] = [0, sorted.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((sorted[middle] as number) < value) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** The changed items of a tree. */
export class ItemOverlay {
  readonly #objects = new Map<number, Map<number, ChangedRange>>();

  /** The changes of one object and type, if there are any. */
  range(objectid: number, type: number): ChangedRange | undefined {
    return this.#objects.get(objectid)?.get(type);
  }

  /** The changes of one object and type, to be added to. */
  change(objectid: number, type: number): ChangedRange {
    let types = this.#objects.get(objectid);
    if (types === undefined) this.#objects.set(objectid, types = new Map());
    let range = types.get(type);
    if (range === undefined) types.set(type, range = new ChangedRange());
    return range;
  }
}

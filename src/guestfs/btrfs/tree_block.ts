/**
 * One block of a tree: its header, and the items of a leaf or the pointers of a node, checked when it is read.
 *
 * ```text
 * leaf   header of 101 bytes, items of 25 bytes (key, offset, size) from there on; the data they tell of fill it from the end
 * node   header of 101 bytes, pointers of 33 bytes (first key of the child, address, generation)
 * ```
 *
 * @module
 */
import { damaged, u32, u8 } from "../_bytes.ts";
import { HEADER, HEADER_BYTES, ITEM_BYTES, KEY_BYTES, LEVELS_MAX, POINTER_BYTES } from "./format.ts";
import { amount, BETWEEN, folded, type Key, keyAt } from "./key.ts";

/** A tree block whose keys are in order and whose items lie within. */
export class TreeBlock {
  /** 0 for a leaf. */
  readonly level: number;
  readonly generation: number;
  /** The tree that wrote it, folded. */
  readonly owner: number;
  /** Number of items or pointers. */
  readonly count: number;
  readonly #bytes: Uint8Array;
  readonly #slotBytes: number;
  // The keys, taken apart: searching meets many and must be fast.
  readonly #objectids: Float64Array;
  readonly #types: Uint8Array;
  readonly #offsets: Float64Array;

  /** Checks a block whose checksum is right; throws `damaged`. */
  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.level = u8(bytes, HEADER.level);
    this.generation = amount(bytes, HEADER.generation);
    this.owner = folded(bytes, HEADER.owner);
    this.count = u32(bytes, HEADER.count);
    this.#slotBytes = this.level === 0 ? ITEM_BYTES : POINTER_BYTES;
    const fail = (found: string) =>
      damaged(`reading the tree block at ${amount(bytes, HEADER.bytenr)}`, found);
    if (this.level >= LEVELS_MAX) throw fail(`level ${this.level}`);
    const slotsEnd = HEADER_BYTES + this.count * this.#slotBytes;
    if (slotsEnd > bytes.length || (this.level > 0 && this.count === 0)) throw fail(`${this.count} entries`);
    this.#objectids = new Float64Array(this.count);
    this.#types = new Uint8Array(this.count);
    this.#offsets = new Float64Array(this.count);
    for (let slot = 0; slot < this.count; slot++) {
      const key = keyAt(bytes, HEADER_BYTES + slot * this.#slotBytes);
      if (slot > 0 && this.#compare(slot - 1, key) >= 0 && !isBlurred(key)) {
        throw fail("its keys are out of order");
      }
      this.#objectids[slot] = key.objectid;
      this.#types[slot] = key.type;
      this.#offsets[slot] = key.offset;
      if (this.level > 0) continue;
      const at = HEADER_BYTES + slot * ITEM_BYTES + KEY_BYTES;
      const start = HEADER_BYTES + u32(bytes, at);
      if (start < slotsEnd || start + u32(bytes, at + 4) > bytes.length) {
        throw fail("an item lies outside of it");
      }
    }
  }

  /** The key in a slot. */
  key(slot: number): Key {
    return {
      objectid: this.#objectids[slot] as number,
      type: this.#types[slot] as number,
      offset: this.#offsets[slot] as number,
    };
  }

  /** The data of an item of a leaf; the caller must not change them. */
  item(slot: number): Uint8Array {
    const at = HEADER_BYTES + slot * ITEM_BYTES + KEY_BYTES;
    const start = HEADER_BYTES + u32(this.#bytes, at);
    return this.#bytes.subarray(start, start + u32(this.#bytes, at + 4));
  }

  /** Where a child of a node lies, and the generation that it must have. */
  child(slot: number): { bytenr: number; generation: number } {
    const at = HEADER_BYTES + slot * POINTER_BYTES + KEY_BYTES;
    return { bytenr: amount(this.#bytes, at), generation: amount(this.#bytes, at + 8) };
  }

  /** The number of keys before `key`, or, with `orSame`, before or the same as `key`. */
  countBefore(key: Key, orSame: boolean): number {
    let [low, high] = [0, this.count];
    while (low < high) {
      const middle = (low + high) >>> 1;
      const order = this.#compare(middle, key);
      if (order < 0 || (orSame && order === 0)) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #compare(slot: number, key: Key): number {
    return (this.#objectids[slot] as number) - key.objectid || (this.#types[slot] as number) - key.type ||
      (this.#offsets[slot] as number) - key.offset;
  }
}

/** Whether folding made different keys the same. */
function isBlurred(key: Key): boolean {
  return key.objectid === BETWEEN || key.offset === BETWEEN;
}

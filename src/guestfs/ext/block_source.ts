/**
 * Every read of a guest's blocks goes through here, so that blocks whose newest content still lies in the
 * journal are read from there: nothing is copied, the overlay is a map from block to journal block.
 *
 * @module
 */
import type { BlockDevice } from "../../base/block_device.ts";
import { damaged } from "../_bytes.ts";
import type { ContentRun } from "../guest.ts";
import { ByteLru } from "../_lru.ts";

/** First four bytes of every block that jbd2 itself writes; data that starts with them is stored escaped. */
export const JOURNAL_MAGIC = 0xc03b3998;

/** From a block to where its newest content lies: twice the journal's block, plus 1 when that is escaped. */
export type BlockOverlay = ReadonlyMap<number, number>;

interface BlockPart {
  readonly block: number;
  readonly within: number;
  readonly length: number;
  /** Where the journal has it, as in {@linkcode BlockOverlay}. */
  readonly moved: number | undefined;
}

const CACHE_BYTES = 2 * 1024 * 1024;

/** Reads blocks of a file system, through the overlay of its journal. */
export class BlockSource {
  /** Bytes of a block. */
  readonly blockBytes: number;
  /** Number of blocks that may be read. */
  readonly blockCount: number;
  readonly #device: BlockDevice;
  readonly #overlay: BlockOverlay;
  readonly #cache = new ByteLru<Uint8Array>(CACHE_BYTES);
  readonly #checkedFor = new WeakMap<Uint8Array, number>();

  /** Reads `blockCount` blocks of a device; all of them must lie within it. */
  constructor(device: BlockDevice, blockBytes: number, blockCount: number, overlay: BlockOverlay) {
    this.#device = device;
    this.blockBytes = blockBytes;
    this.blockCount = blockCount;
    this.#overlay = overlay;
  }

  /** One block of metadata, from a bounded cache. The caller must not change it. */
  block(number: number): Uint8Array {
    const cached = this.#cache.get(number);
    if (cached !== undefined) return cached;
    const bytes = new Uint8Array(this.blockBytes);
    this.read(number, 0, bytes);
    this.#cache.set(number, bytes, bytes.length);
    return bytes;
  }

  /**
   * One block of metadata that belongs to an inode; `check` runs when it was not yet checked for that inode
   * since it came into the cache.
   */
  checkedBlock(number: number, owner: number, check: (bytes: Uint8Array) => void): Uint8Array {
    const bytes = this.block(number);
    if (this.#checkedFor.get(bytes) !== owner) {
      check(bytes);
      this.#checkedFor.set(bytes, owner);
    }
    return bytes;
  }

  /** Fills `target` from `offset` bytes past the start of a block; it may go on through the blocks that follow. */
  read(number: number, offset: number, target: Uint8Array): void {
    const { blockBytes } = this;
    this.#check(number, offset, target.length);
    if (this.#overlay.size === 0) {
      this.#device.read(number * blockBytes + offset, target);
      return;
    }
    let done = 0;
    for (const { block, within, length, moved } of this.#parts(number, offset, target.length)) {
      const part = target.subarray(done, done + length);
      if (moved === undefined) this.#device.read(block * blockBytes + within, part);
      else this.#readMoved(moved, within, part);
      done += length;
    }
  }

  /** Where the bytes that {@linkcode read} would give lie on the device. */
  map(number: number, offset: number, length: number): ContentRun[] {
    this.#check(number, offset, length);
    return Array.from(this.#parts(number, offset, length), ({ block, within, length, moved }): ContentRun => {
      if (moved !== undefined && moved % 2 === 1) return { kind: "made", length };
      const stored = moved === undefined ? block : moved / 2;
      return { kind: "stored", length, deviceOffset: stored * this.blockBytes + within };
    });
  }

  #check(number: number, offset: number, length: number): void {
    const last = number + Math.ceil((offset + length) / this.blockBytes);
    if (number >= 0 && last <= this.blockCount) return;
    throw damaged("following a block number", `${number} of ${this.blockCount} blocks`);
  }

  /** Cuts a range at the blocks that the journal moved. */
  *#parts(number: number, offset: number, length: number): Generator<BlockPart> {
    const { blockBytes } = this;
    let block = number + Math.floor(offset / blockBytes);
    let within = offset % blockBytes;
    for (let done = 0; done < length;) {
      const moved = this.#overlay.get(block);
      let end = done + blockBytes - within;
      let next = block + 1;
      if (moved === undefined) {
        for (; end < length && !this.#overlay.has(next); next++) end += blockBytes;
      }
      const partLength = Math.min(end, length) - done;
      yield { block, within, length: partLength, moved };
      done += partLength;
      block = next;
      within = 0;
    }
  }

  #readMoved(moved: number, within: number, target: Uint8Array): void {
    this.#device.read(Math.floor(moved / 2) * this.blockBytes + within, target);
    if (moved % 2 === 0) return;
    for (let at = within; at < Math.min(4, within + target.length); at++) {
      target[at - within] = JOURNAL_MAGIC >>> (24 - 8 * at);
    }
  }
}

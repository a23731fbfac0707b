/**
 * The log as a ring of blocks of 512 bytes.
 *
 * @module
 */
import type { BlockDevice } from "../../base/block_device.ts";
import { damaged, u32be } from "../_bytes.ts";
import { ByteLru } from "../_lru.ts";
import { SECTOR_BYTES } from "./format.ts";
import type { Superblock } from "./superblock.ts";
import { blockOffset } from "./volume.ts";

/** First word of the header of a record; no cycle has this number. */
export const RECORD_MAGIC = 0xfeedbabe;

const CHUNK_BYTES = 256 * 1024;
const CACHE_BYTES = 4 * 1024 * 1024;

/** The blocks of an internal log. */
export class LogArea {
  /** Number of blocks of 512 bytes. */
  readonly blocks: number;
  readonly #device: BlockDevice;
  readonly #offset: number;
  readonly #cache = new ByteLru<Uint8Array>(CACHE_BYTES);

  constructor(device: BlockDevice, superblock: Superblock) {
    this.#device = device;
    this.#offset = blockOffset(superblock, superblock.logStart, superblock.logBlocks);
    this.blocks = superblock.logBlocks * (superblock.blockBytes / SECTOR_BYTES);
    if (this.blocks < 64) throw damaged("opening the log", `${this.blocks} blocks of 512 bytes`);
  }

  /** The block that `distance` blocks beyond another come to, around the end. */
  wrap(block: number): number {
    return block % this.blocks;
  }

  /** Whether a record begins at a block. */
  hasHeader(block: number): boolean {
    const { chunk, at } = this.#find(block);
    return u32be(chunk, at) === RECORD_MAGIC;
  }

  /** The cycle in which a block was written. */
  cycle(block: number): number {
    const { chunk, at } = this.#find(block);
    const word = u32be(chunk, at);
    return word === RECORD_MAGIC ? u32be(chunk, at + 4) : word;
  }

  /** A copy of some blocks, around the end where they reach beyond it. */
  read(block: number, count: number): Uint8Array {
    if (count < 0 || count > this.blocks) throw damaged("reading the log", `a record of ${count} blocks`);
    const bytes = new Uint8Array(count * SECTOR_BYTES);
    for (let done = 0; done < count;) {
      const { chunk, at } = this.#find(this.wrap(block + done));
      const part = chunk.subarray(at, at + (count - done) * SECTOR_BYTES);
      bytes.set(part, done * SECTOR_BYTES);
      done += part.length / SECTOR_BYTES;
    }
    return bytes;
  }

  #find(block: number): { chunk: Uint8Array; at: number } {
    const at = block * SECTOR_BYTES;
    const index = Math.floor(at / CHUNK_BYTES);
    let chunk = this.#cache.get(index);
    if (chunk === undefined) {
      const start = index * CHUNK_BYTES;
      const length = Math.min(CHUNK_BYTES, this.blocks * SECTOR_BYTES - start);
      if (!(block >= 0 && length > 0)) throw damaged("reading the log", `block ${block} of ${this.blocks}`);
      chunk = new Uint8Array(length);
      this.#device.read(this.#offset + start, chunk);
      this.#cache.set(index, chunk, length);
    }
    return { chunk, at: at - index * CHUNK_BYTES };
  }
}

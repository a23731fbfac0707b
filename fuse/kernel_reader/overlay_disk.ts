/**
 * A disk that can be written although what is below it never changes: what was written is kept apart, and goes with the disk.
 *
 * Invariant: a block that has a slot is read from its slot alone, and its slot holds all of it.
 *
 * @module
 */
import { closeSync, openSync, readSync, writeSync } from "node:fs";
import { checkRange } from "../../src/base/bytes.ts";
import { VarveError } from "../../src/base/errors.ts";

const BLOCK_BYTES = 4096;
const MEMORY_BYTES = 32 * 1024 * 1024;
const TOTAL_BYTES = 4 * 1024 ** 3;

/** What lies below. */
export interface BaseDisk {
  /** Size in bytes. */
  readonly sizeBytes: number;
  /** Fills `target` from `offset`. */
  read(offset: number, target: Uint8Array): void;
}

/** What an {@linkcode OverlayDisk} may be told. */
export interface OverlayOptions {
  /** Bytes of changes kept in memory; more go to a file without a name. Default 32 MiB. */
  readonly memoryBytes?: number;
  /** Bytes of changes at most. Default 4 GiB. */
  readonly totalBytes?: number;
}

/** A disk and the changes to it. */
export class OverlayDisk implements Disposable {
  readonly sizeBytes: number;
  readonly #base: BaseDisk;
  readonly #memorySlots: number;
  readonly #slotsMax: number;
  /** The slot of each block that was written. */
  readonly #slots = new Map<number, number>();
  readonly #memory: Uint8Array[] = [];
  readonly #block = new Uint8Array(BLOCK_BYTES);
  #file: number | undefined;

  /** Changes nothing below. */
  constructor(base: BaseDisk, { memoryBytes = MEMORY_BYTES, totalBytes = TOTAL_BYTES }: OverlayOptions = {}) {
    this.#base = base;
    this.sizeBytes = base.sizeBytes;
    this.#memorySlots = Math.floor(memoryBytes / BLOCK_BYTES);
    this.#slotsMax = Math.floor(totalBytes / BLOCK_BYTES);
  }

  /** Fills `target` from `offset`. Throws `out-of-range`, and what the disk below throws. */
  read(offset: number, target: Uint8Array): void {
    checkRange("read", offset, target.length, this.sizeBytes);
    if (this.#slots.size === 0) return this.#base.read(offset, target);
    for (let done = 0; done < target.length;) {
      const slot = this.#slots.get(Math.floor((offset + done) / BLOCK_BYTES));
      if (slot !== undefined) {
        const within = (offset + done) % BLOCK_BYTES;
        const part = target.subarray(done, done + BLOCK_BYTES - within);
        this.#readSlot(slot, within, part);
        done += part.length;
      } else {
        const part = target.subarray(
          done,
          this.#unchangedUntil(offset + done, offset + target.length) - offset,
        );
        this.#base.read(offset + done, part);
        done += part.length;
      }
    }
  }

  /** Where the unchanged bytes end that begin at `offset`. */
  #unchangedUntil(offset: number, end: number): number {
    let block = Math.floor(offset / BLOCK_BYTES) + 1;
    while (block * BLOCK_BYTES < end && !this.#slots.has(block)) block++;
    return Math.min(end, block * BLOCK_BYTES);
  }

  /** Keeps a change. Throws `out-of-range`, `no-space` when there are too many, and what the disk below throws. */
  write(offset: number, data: Uint8Array): void {
    checkRange("write", offset, data.length, this.sizeBytes);
    for (let done = 0; done < data.length;) {
      const number = Math.floor((offset + done) / BLOCK_BYTES);
      const within = (offset + done) % BLOCK_BYTES;
      const part = data.subarray(done, done + BLOCK_BYTES - within);
      this.#writeBlock(number, within, part);
      done += part.length;
    }
  }

  #writeBlock(number: number, within: number, part: Uint8Array): void {
    const known = this.#slots.get(number);
    if (known !== undefined) return this.#writeSlot(known, within, part);
    if (this.#slots.size >= this.#slotsMax) {
      throw new VarveError("no-space", `write to an overlay: ${this.#slotsMax} blocks were written already`);
    }
    const start = number * BLOCK_BYTES;
    const block = this.#block;
    if (part.length < BLOCK_BYTES) {
      const stored = block.subarray(0, Math.min(BLOCK_BYTES, this.sizeBytes - start));
      this.#base.read(start, stored);
      block.fill(0, stored.length);
    }
    block.set(part, within);
    const slot = this.#slots.size;
    if (slot < this.#memorySlots) this.#memory.push(block.slice());
    else this.#writeSlot(slot, 0, block);
    // Last: a slot that could not be filled must not be read.
    this.#slots.set(number, slot);
  }

  #readSlot(slot: number, within: number, target: Uint8Array): void {
    const kept = this.#memory[slot];
    if (kept !== undefined) return target.set(kept.subarray(within, within + target.length));
    const at = (slot - this.#memorySlots) * BLOCK_BYTES + within;
    for (let done = 0; done < target.length;) {
      const count = readSync(this.#openFile(), target, done, target.length - done, at + done);
      if (count === 0) throw new VarveError("io", `read an overlay's file: it ends at ${at + done}`);
      done += count;
    }
  }

  #writeSlot(slot: number, within: number, part: Uint8Array): void {
    const kept = this.#memory[slot];
    if (kept !== undefined) return kept.set(part, within);
    const at = (slot - this.#memorySlots) * BLOCK_BYTES + within;
    for (let done = 0; done < part.length;) {
      done += writeSync(this.#openFile(), part, done, part.length - done, at + done);
    }
  }

  #openFile(): number {
    if (this.#file === undefined) {
      const path = Deno.makeTempFileSync({ prefix: "varve-overlay-" });
      this.#file = openSync(path, "r+");
      // It lives as long as it is open: nothing is left of it, however this process ends.
      Deno.removeSync(path);
    }
    return this.#file;
  }

  /** Forgets all changes. */
  [Symbol.dispose](): void {
    if (this.#file !== undefined) closeSync(this.#file);
    this.#file = undefined;
    this.#slots.clear();
    this.#memory.length = 0;
  }
}

/** Reading a file from front to back in small pieces, with few system calls. */
import type { DiskFile } from "../disk/mod.ts";

/** Reads of at least this share of the window go past it. */
const LARGE_SHARE = 1 / 8;

/** A stretch of one file in memory. What is written to that stretch afterwards is not seen. */
export class ReadWindow {
  readonly #bytes: Uint8Array;
  #file: DiskFile | undefined;
  #start = 0;
  #length = 0;

  constructor(windowBytes: number) {
    this.#bytes = new Uint8Array(windowBytes);
  }

  /** As `DiskFile.read`. */
  read(file: DiskFile, offset: number, target: Uint8Array): number {
    if (target.length >= this.#bytes.length * LARGE_SHARE) return file.read(offset, target);
    if (file !== this.#file || offset < this.#start || offset + target.length > this.#start + this.#length) {
      this.#file = undefined;
      this.#length = file.read(offset, this.#bytes);
      this.#start = offset;
      this.#file = file;
    }
    const from = offset - this.#start;
    const count = Math.min(target.length, this.#length - from);
    target.set(this.#bytes.subarray(from, from + count));
    return count;
  }
}

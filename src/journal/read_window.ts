/**
 * Reading a file from front to back in small pieces, with few system calls.
 *
 * @module
 */
import type { DiskFile } from "../disk/mod.ts";

/** A stretch of one file in memory, longer than each read of it. What is written to that stretch afterwards is not seen. */
export class ReadWindow {
  readonly #bytes: Uint8Array;
  #file: DiskFile | undefined;
  #start = 0;
  #length = 0;

  /** Holds so many bytes at a time. */
  constructor(windowBytes: number) {
    this.#bytes = new Uint8Array(windowBytes);
  }

  /** As `DiskFile.read`. */
  read(file: DiskFile, offset: number, target: Uint8Array): number {
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

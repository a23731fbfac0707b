/**
 * One block of LZO1X, as the kernel's `Documentation/staging/lzo.rst` tells the stream.
 *
 * ```text
 * 0..15   after literals: 3 bytes (or, after 4 and more, from 2 KiB on), else 2 bytes up to 1 KiB back; or literals
 * 16..31  a match from 16 KiB on; at exactly 16 KiB it is the end
 * 32..63  a match up to 16 KiB back
 * 64..    3 to 8 bytes up to 2 KiB back
 * ```
 * The two lowest bits of a match tell how many literals follow it.
 *
 * @module
 */
import { damaged } from "../_bytes.ts";
import { copyMatch } from "./lz4.ts";

/** Fills `target` from its start and returns how many bytes that were. Throws `damaged`. */
export function decompressLzo(source: Uint8Array, target: Uint8Array): number {
  return new LzoDecoder(source, target).run();
}

class LzoDecoder {
  readonly #source: Uint8Array;
  readonly #target: Uint8Array;
  #at = 0;
  #done = 0;

  constructor(source: Uint8Array, target: Uint8Array) {
    this.#source = source;
    this.#target = target;
  }

  run(): number {
    /** Literals that came before the next instruction: 0 to 3 after a match, 4 for a longer run. */
    let state = 0;
    const first = this.#source[0] ?? 0;
    if (first > 17) {
      this.#at = 1;
      this.#literals(first - 17);
      state = Math.min(4, first - 17);
    }
    while (true) {
      const code = this.#byte();
      if (code < 16 && state === 0) {
        this.#literals(3 + this.#length(code, 15));
        state = 4;
        continue;
      }
      let follow = code;
      let distance: number;
      let length: number;
      if (code < 16) {
        distance = 1 + (code >> 2) + this.#byte() * 4 + (state === 4 ? 2048 : 0);
        length = state === 4 ? 3 : 2;
      } else if (code >= 64) {
        distance = 1 + ((code >> 2) & 7) + this.#byte() * 8;
        length = (code >> 5) + 1;
      } else {
        const far = code < 32;
        length = 2 + (far ? this.#length(code & 7, 7) : this.#length(code & 31, 31));
        follow = this.#byte() + this.#byte() * 256;
        distance = (follow >> 2) + (far ? 16384 + ((code & 8) << 11) : 1);
        if (far && distance === 16384) return this.#done;
      }
      this.#match(distance, length);
      state = follow & 3;
      this.#literals(state);
    }
  }

  #byte(): number {
    const value = this.#source[this.#at++];
    if (value === undefined) throw damaged("decompressing LZO", "it ends too early");
    return value;
  }

  /** A length that zero stands for goes on in the bytes that follow, from `base` on. */
  #length(given: number, base: number): number {
    if (given !== 0) return given;
    let length = base;
    let more = this.#byte();
    for (; more === 0; more = this.#byte()) length += 255;
    return length + more;
  }

  #literals(count: number): void {
    if (this.#at + count > this.#source.length || this.#done + count > this.#target.length) {
      throw damaged("decompressing LZO", "literals beyond its end");
    }
    this.#target.set(this.#source.subarray(this.#at, this.#at + count), this.#done);
    this.#at += count;
    this.#done += count;
  }

  #match(distance: number, length: number): void {
    if (distance > this.#done || this.#done + length > this.#target.length) {
      throw damaged("decompressing LZO", "a match outside its content");
    }
    copyMatch(this.#target, this.#done, distance, length);
    this.#done += length;
  }
}

/**
 * Files that mkzftree or xorriso compressed (zisofs, version 1).
 *
 * ```text
 * u8[8] magic, u32 bytes, u8 header / 4, u8 log of block, u16 0; then u32 offset of each block and of the end of the last
 * ```
 * A block is a zlib stream; one of no bytes is zeroes. Source: the kernel's `fs/isofs/compress.c` and the zisofs2 format page.
 *
 * @module
 */
import { inflateSync } from "node:zlib";
import { damaged, latin1, u32, u8 } from "../_bytes.ts";
import { ByteLru } from "../_lru.ts";

const MAGIC = "\x37\xe4\x53\x96\xc9\xdb\xd6\x07";
const HEADER_BYTES = 16;
const CACHE_BYTES = 4 * 1024 * 1024;

/** Reads bytes of the compressed file. */
export type ReadStored = (offset: number, length: number) => Uint8Array;

/** Reads a compressed file. */
export class ZisofsFile {
  readonly #read: ReadStored;
  readonly #sizeBytes: number;
  readonly #headerBytes: number;
  readonly #blockBytes: number;
  readonly #cache = new ByteLru<Uint8Array>(CACHE_BYTES);

  /** Checks the header, which must say `sizeBytes` too. Throws `damaged`. */
  constructor(read: ReadStored, sizeBytes: number) {
    const header = read(0, HEADER_BYTES);
    const log = u8(header, 13);
    const headerBytes = u8(header, 12) * 4;
    if (
      latin1(header.subarray(0, 8)) !== MAGIC || u32(header, 8) !== sizeBytes || headerBytes < HEADER_BYTES
    ) {
      throw damaged("reading a compressed file", "its header does not fit");
    }
    if (log < 12 || log > 17) throw damaged("reading a compressed file", `blocks of 2^${log} bytes`);
    this.#read = read;
    this.#sizeBytes = sizeBytes;
    this.#headerBytes = headerBytes;
    this.#blockBytes = 2 ** log;
  }

  /** Fills `target`, all of which lies within the file. */
  read(offset: number, target: Uint8Array): void {
    for (let done = 0; done < target.length;) {
      const index = Math.floor((offset + done) / this.#blockBytes);
      const within = offset + done - index * this.#blockBytes;
      const part = this.#block(index).subarray(within, within + target.length - done);
      target.set(part, done);
      done += part.length;
    }
  }

  #block(index: number): Uint8Array {
    const cached = this.#cache.get(index);
    if (cached !== undefined) return cached;
    const pointers = this.#read(this.#headerBytes + index * 4, 8);
    const [from, to] = [u32(pointers, 0), u32(pointers, 4)];
    const bytes = Math.min(this.#blockBytes, this.#sizeBytes - index * this.#blockBytes);
    if (to < from || to - from > this.#blockBytes * 2) {
      throw damaged("reading a compressed file", `a block from ${from} to ${to}`);
    }
    const content = to === from ? new Uint8Array(bytes) : inflate(this.#read(from, to - from), bytes);
    if (content.length !== bytes) {
      throw damaged("reading a compressed file", `a block of ${content.length} bytes`);
    }
    this.#cache.set(index, content, bytes);
    return content;
  }
}

function inflate(source: Uint8Array, maxOutputLength: number): Uint8Array {
  try {
    return inflateSync(source, { maxOutputLength });
  } catch (thrown) {
    throw damaged("reading a compressed file", thrown instanceof Error ? thrown.message : String(thrown));
  }
}

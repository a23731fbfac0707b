/**
 * Which chunks of a volume have changed: one bit each, so that the memory is bounded whatever is written.
 *
 * @module
 */

const CHUNK_BYTES_MIN = 64 << 10;
const CHUNKS_MAX = 2 ** 24;

/** A set of chunks of equal size. */
export class ChunkSet {
  /** Size of a chunk: 64 KiB, or more where that would be more than 2^24 chunks. */
  readonly chunkBytes: number;
  readonly #sizeBytes: number;
  readonly #bits: Uint8Array;
  #count = 0;

  /** Begins empty, over a volume of `sizeBytes`. */
  constructor(sizeBytes: number, chunksMax: number = CHUNKS_MAX) {
    let chunkBytes = CHUNK_BYTES_MIN;
    while (sizeBytes > chunkBytes * chunksMax) chunkBytes *= 2;
    this.chunkBytes = chunkBytes;
    this.#sizeBytes = sizeBytes;
    this.#bits = new Uint8Array(Math.ceil(Math.ceil(sizeBytes / chunkBytes) / 8));
  }

  /** Number of chunks in it. */
  get count(): number {
    return this.#count;
  }

  /** Adds every chunk that a range touches. */
  add(offset: number, length: number): void {
    const last = Math.floor((Math.min(offset + length, this.#sizeBytes) - 1) / this.chunkBytes);
    for (let chunk = Math.floor(offset / this.chunkBytes); chunk <= last; chunk++) {
      const byte = this.#bits[chunk >> 3] ?? 0;
      const bit = 1 << (chunk & 7);
      if ((byte & bit) !== 0) continue;
      this.#bits[chunk >> 3] = byte | bit;
      this.#count++;
    }
  }

  /** Takes a chunk out. */
  delete(chunk: number): void {
    const byte = this.#bits[chunk >> 3] ?? 0;
    const bit = 1 << (chunk & 7);
    if ((byte & bit) === 0) return;
    this.#bits[chunk >> 3] = byte & ~bit;
    this.#count--;
  }

  /** The first chunk in it at or after `chunk`, or `undefined`. */
  next(chunk: number): number | undefined {
    for (let at = chunk; at < this.#bits.length * 8; at++) {
      const byte = this.#bits[at >> 3] ?? 0;
      if (byte === 0) at |= 7;
      else if ((byte & 1 << (at & 7)) !== 0) return at;
    }
    return undefined;
  }
}

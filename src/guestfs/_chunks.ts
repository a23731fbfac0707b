/** Small pieces of a device, read through a bounded cache of chunks: a read of the device costs much more than a copy. */
import type { BlockDevice } from "../base/block_device.ts";
import { damaged } from "./_bytes.ts";
import { ByteLru } from "./_lru.ts";

const CHUNK_BYTES = 64 * 1024;
const CACHE_BYTES = 4 * 1024 * 1024;

/** Reads metadata of a device that lies in many small pieces. */
export class ChunkReader {
  /** The device. */
  readonly device: BlockDevice;
  readonly #cache = new ByteLru<Uint8Array>(CACHE_BYTES);

  /** Reads a device; nothing is read yet. */
  constructor(device: BlockDevice) {
    this.device = device;
  }

  /** So many bytes from an offset on, which the caller must not change and must have bounded; outside it is `damaged`. */
  bytes(offset: number, length: number): Uint8Array {
    if (!(offset >= 0 && length >= 0 && offset + length <= this.device.sizeBytes)) {
      throw damaged(
        "following an offset",
        `${length} bytes at ${offset} of a device of ${this.device.sizeBytes} bytes`,
      );
    }
    const first = Math.floor(offset / CHUNK_BYTES);
    const within = offset - first * CHUNK_BYTES;
    if (within + length <= CHUNK_BYTES) return this.#chunk(first).subarray(within, within + length);
    const bytes = new Uint8Array(length);
    for (let done = 0; done < length;) {
      const index = Math.floor((offset + done) / CHUNK_BYTES);
      const from = offset + done - index * CHUNK_BYTES;
      const part = this.#chunk(index).subarray(from, from + length - done);
      bytes.set(part, done);
      done += part.length;
    }
    return bytes;
  }

  #chunk(index: number): Uint8Array {
    const cached = this.#cache.get(index);
    if (cached !== undefined) return cached;
    const bytes = new Uint8Array(Math.min(CHUNK_BYTES, this.device.sizeBytes - index * CHUNK_BYTES));
    this.device.read(index * CHUNK_BYTES, bytes);
    this.#cache.set(index, bytes, bytes.length);
    return bytes;
  }
}

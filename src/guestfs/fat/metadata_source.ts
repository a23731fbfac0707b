/**
 * Metadata of a device through a bounded cache of chunks: one read of the device costs more than the bytes it brings.
 *
 * @module
 */
import type { BlockDevice } from "../../base/block_device.ts";
import { damaged } from "../_bytes.ts";
import { ByteLru } from "../_lru.ts";

/** Bytes of a chunk, which begins at a multiple of this on the device. */
export const CHUNK_BYTES = 32 * 1024;
const CACHE_BYTES = 8 * 1024 * 1024;

/** Reads small structures of a device. */
export class MetadataSource {
  /** The device that is read. */
  readonly device: BlockDevice;
  readonly #cache = new ByteLru<Uint8Array>(CACHE_BYTES);

  /** Reads a device; nothing is read yet. */
  constructor(device: BlockDevice) {
    this.device = device;
  }

  /** The chunk of a number, shorter at the end of the device. The caller must not change it. Throws `damaged` beyond the end. */
  chunk(index: number): Uint8Array {
    const cached = this.#cache.get(index);
    if (cached !== undefined) return cached;
    const offset = index * CHUNK_BYTES;
    const length = Math.min(CHUNK_BYTES, this.device.sizeBytes - offset);
    if (!(length > 0)) throw this.#beyond(offset, 1);
    const bytes = new Uint8Array(length);
    this.device.read(offset, bytes);
    this.#cache.set(index, bytes, length);
    return bytes;
  }

  /** Some bytes, at most a few chunks. The caller must not change them. Throws `damaged` beyond the end of the device. */
  bytes(offset: number, length: number): Uint8Array {
    if (!(offset >= 0 && offset + length <= this.device.sizeBytes)) throw this.#beyond(offset, length);
    const first = this.chunk(Math.floor(offset / CHUNK_BYTES));
    const within = offset % CHUNK_BYTES;
    if (within + length <= first.length) return first.subarray(within, within + length);
    const bytes = new Uint8Array(length);
    for (let done = 0; done < length;) {
      const at = offset + done;
      const chunk = this.chunk(Math.floor(at / CHUNK_BYTES));
      const part = chunk.subarray(at % CHUNK_BYTES, at % CHUNK_BYTES + length - done);
      bytes.set(part, done);
      done += part.length;
    }
    return bytes;
  }

  #beyond(offset: number, length: number): Error {
    const { sizeBytes } = this.device;
    return damaged("reading the file system's tables", `${length} bytes at ${offset} of ${sizeBytes}`);
  }
}

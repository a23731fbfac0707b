/**
 * Reads of metadata, through a small cache of chunks: a read of the device costs far more than the few bytes it brings.
 *
 * @module
 */
import type { BlockDevice } from "../../base/block_device.ts";
import { ByteLru } from "../_lru.ts";

const CHUNK_BYTES = 32 * 1024;
const CACHE_BYTES = 4 * 1024 * 1024;

/** Anything that bytes of the volume can be read from; offsets are in bytes. */
export type ByteSource = Pick<BlockDevice, "read">;

/** A device whose bytes are read in chunks that are kept for a while. */
export class MetadataSource implements ByteSource {
  readonly #device: BlockDevice;
  readonly #chunks = new ByteLru<Uint8Array>(CACHE_BYTES);

  /** Reads from a device that does not change. */
  constructor(device: BlockDevice) {
    this.#device = device;
  }

  /** Fills `target` from `offset`. Throws what the device throws. */
  read(offset: number, target: Uint8Array): void {
    for (let done = 0; done < target.length;) {
      const number = Math.floor((offset + done) / CHUNK_BYTES);
      const within = offset + done - number * CHUNK_BYTES;
      const part = this.#chunk(number).subarray(within, within + target.length - done);
      // Beyond the end of the device, which says so itself.
      if (part.length === 0) return this.#device.read(offset, target);
      target.set(part, done);
      done += part.length;
    }
  }

  #chunk(number: number): Uint8Array {
    const cached = this.#chunks.get(number);
    if (cached !== undefined) return cached;
    const start = number * CHUNK_BYTES;
    const chunk = new Uint8Array(Math.max(0, Math.min(CHUNK_BYTES, this.#device.sizeBytes - start)));
    if (chunk.length > 0) this.#device.read(start, chunk);
    this.#chunks.set(number, chunk, chunk.length);
    return chunk;
  }
}

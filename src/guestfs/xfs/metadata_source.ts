/**
 * Every read of metadata goes through here: the device in chunks, the log's newer sectors over it, and a cache.
 *
 * @module
 */
import type { BlockDevice } from "../../base/block_device.ts";
import { damaged } from "../_bytes.ts";
import { ByteLru } from "../_lru.ts";
import type { SectorOverlay } from "./sector_overlay.ts";

const CHUNK_BYTES = 64 * 1024;
const CHUNKS_BYTES = 8 * 1024 * 1024;
const BLOCKS_BYTES = 16 * 1024 * 1024;

/** Reads metadata by bytes of the device. */
export class MetadataSource {
  readonly #device: BlockDevice;
  readonly #overlay: SectorOverlay;
  readonly #chunks = new ByteLru<Uint8Array>(CHUNKS_BYTES);
  readonly #blocks = new ByteLru<Uint8Array>(BLOCKS_BYTES);
  readonly #checkedFor = new WeakMap<Uint8Array, number>();

  constructor(device: BlockDevice, overlay: SectorOverlay) {
    this.#device = device;
    this.#overlay = overlay;
  }

  /** A block of metadata at a multiple of 512 bytes, from a bounded cache. The caller must not change it. */
  block(offset: number, length: number): Uint8Array {
    const cached = this.#blocks.get(offset);
    if (cached !== undefined && cached.length === length) return cached;
    const bytes = this.copy(offset, length);
    this.#blocks.set(offset, bytes, length);
    return bytes;
  }

  /** The same without the cache of blocks: the caller's own bytes. */
  copy(offset: number, length: number): Uint8Array {
    if (!(offset >= 0 && offset + length <= this.#device.sizeBytes)) {
      throw damaged("following an address", `byte ${offset} of ${this.#device.sizeBytes}`);
    }
    const bytes = new Uint8Array(length);
    for (let done = 0; done < length;) {
      const at = offset + done;
      const chunk = this.#chunk(Math.floor(at / CHUNK_BYTES));
      const within = at % CHUNK_BYTES;
      const part = chunk.subarray(within, within + length - done);
      bytes.set(part, done);
      done += part.length;
    }
    this.#overlay.patch(offset, bytes);
    return bytes;
  }

  /** Whether the log changed any of these bytes, so that a checksum on the device is not theirs. */
  replayed(offset: number, length: number): boolean {
    return this.#overlay.covers(offset, length);
  }

  /** Runs `check` on a block when it was not yet checked for that owner since it came into the cache. */
  checkOnce(bytes: Uint8Array, owner: number, check: () => void): void {
    if (this.#checkedFor.get(bytes) === owner) return;
    check();
    this.#checkedFor.set(bytes, owner);
  }

  #chunk(index: number): Uint8Array {
    const cached = this.#chunks.get(index);
    if (cached !== undefined) return cached;
    const start = index * CHUNK_BYTES;
    const bytes = new Uint8Array(Math.min(CHUNK_BYTES, this.#device.sizeBytes - start));
    this.#device.read(start, bytes);
    this.#chunks.set(index, bytes, bytes.length);
    return bytes;
  }
}

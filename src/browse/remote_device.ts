/**
 * A moment's disk as guest readers see it: read through a channel, in chunks that are kept.
 *
 * @module
 */
import type { Extent } from "../base/block_device.ts";
import { checkRange } from "../base/bytes.ts";
import { VarveError } from "../base/errors.ts";
import type { DeviceMoment, MomentDevice } from "../guestfs/moment_device.ts";
import { REGION_BYTES } from "../catalog/region_map.ts";
import type { BlockReader } from "./block_channel.ts";
import type { NewestChanges } from "./newest_changes.ts";

/** Bytes that a small read brings in: each takes two threads, so the neighbours come with it. */
const CHUNK_BYTES = 32 * 1024;
/** Chunks kept, over all moments of one sandbox. */
const CHUNKS_MAX = 512;

/** Chunks of all moments that one sandbox has open, those used last. */
export class ChunkCache {
  readonly #chunks = new Map<string, Uint8Array>();

  /** The chunk under a key, from `load` when it is not there. */
  get(key: string, load: () => Uint8Array): Uint8Array {
    const known = this.#chunks.get(key);
    const chunk = known ?? load();
    if (known !== undefined) this.#chunks.delete(key);
    this.#chunks.set(key, chunk);
    if (this.#chunks.size > CHUNKS_MAX) {
      for (const oldest of this.#chunks.keys()) {
        this.#chunks.delete(oldest);
        break;
      }
    }
    return chunk;
  }
}

/** What a {@linkcode RemoteDevice} reads. */
export interface RemoteDeviceOptions {
  /** The way to the blocks. */
  readonly reader: BlockReader;
  /** Number of the moment. */
  readonly moment: number;
  /** Its sequence. */
  readonly seq: number;
  /** What readers remember for all moments of the volume. */
  readonly notes: Map<string, unknown>;
  /** When its ranges were changed. */
  readonly changes: NewestChanges;
  /** Size of the disk in bytes. */
  readonly sizeBytes: number;
  /** Where chunks are kept. */
  readonly chunks: ChunkCache;
}

/** A read-only device on the other side of a channel. */
export class RemoteDevice implements MomentDevice {
  readonly moment: DeviceMoment;
  readonly sizeBytes: number;
  readonly readOnly = true;
  readonly #reader: BlockReader;
  readonly #number: number;
  readonly #chunks: ChunkCache;

  /** Reads nothing yet. */
  constructor({ reader, moment, seq, sizeBytes, chunks, notes, changes }: RemoteDeviceOptions) {
    this.#reader = reader;
    this.#number = moment;
    this.moment = {
      seq,
      scope: "",
      notes,
      // What is larger, such as a whole disk, is not brought here.
      newestChange: (offset, length) =>
        length > REGION_BYTES
          ? reader.newestChange(moment, offset, length)
          : changes.find({ offset, length }, seq, (region) => reader.region(moment, region)),
      relyOn: () => {},
    };
    this.sizeBytes = sizeBytes;
    this.#chunks = chunks;
  }

  /** Small reads come from chunks; large ones go through. */
  read(offset: number, target: Uint8Array): void {
    checkRange("read", offset, target.length, this.sizeBytes);
    if (target.length > CHUNK_BYTES) return this.#reader.read(this.#number, offset, target);
    for (let done = 0; done < target.length;) {
      const at = offset + done;
      const start = at - at % CHUNK_BYTES;
      const part = target.subarray(done, Math.min(target.length, done + start + CHUNK_BYTES - at));
      const chunk = this.#chunk(start);
      if (chunk === undefined) this.#reader.read(this.#number, at, part);
      else part.set(chunk.subarray(at - start, at - start + part.length));
      done += part.length;
    }
  }

  /** `undefined` when some of its bytes cannot be read: then it counts which ones are wanted. */
  #chunk(start: number): Uint8Array | undefined {
    try {
      return this.#chunks.get(`${this.#number}:${start}`, () => {
        const chunk = new Uint8Array(Math.min(CHUNK_BYTES, this.sizeBytes - start));
        this.#reader.read(this.#number, start, chunk);
        return chunk;
      });
    } catch (thrown) {
      if (thrown instanceof VarveError) return undefined;
      throw thrown;
    }
  }

  /** As the device on the other side tells them. */
  extents(offset: number, length: number, max?: number): Extent[] {
    checkRange("map", offset, length, this.sizeBytes);
    const extents: Extent[] = [];
    const end = offset + length;
    for (let at = offset; at < end && extents.length < (max ?? Infinity);) {
      const more = this.#reader.extents(this.#number, at, end - at, max);
      const last = more.at(-1);
      if (last === undefined) break;
      extents.push(...more);
      at = last.offset + last.length;
    }
    return extents;
  }

  /** Throws `read-only`. */
  write(): void {
    throw refuse();
  }

  /** Throws `read-only`. */
  trim(): void {
    throw refuse();
  }

  /** Throws `read-only`. */
  zero(): void {
    throw refuse();
  }

  /** Does nothing. */
  commit(): void {}

  /** Does nothing. */
  flush(): Promise<void> {
    return Promise.resolve();
  }

  /** Does nothing. */
  sync(): Promise<void> {
    return Promise.resolve();
  }
}

function refuse(): VarveError {
  return new VarveError("read-only", "write to a moment of the past: it never changes");
}

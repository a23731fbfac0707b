/**
 * From logical addresses, in which everything in btrfs is told, to places on the device.
 *
 * Chunks of one copy, of two on one device, and mirrors of which one is on this device can be read; stripes over several
 * devices cannot, since the others are not here.
 *
 * @module
 */
import { VarveError } from "../../base/errors.ts";
import { damaged, slice, u16 } from "../_bytes.ts";
import { CHUNK, CHUNK_TYPE, KEY_BYTES, STRIPE_BYTES, TYPE } from "./format.ts";
import { amount, keyAt } from "./key.ts";

/** A run of logical addresses, and where its copies begin on the device. */
export interface Chunk {
  readonly logical: number;
  readonly length: number;
  /** What it holds and its profile, as the low bits of its flags. */
  readonly type: number;
  /** Byte offsets on the device, one for each copy that is there. */
  readonly copies: readonly number[];
  /** Why there is none, if there is none. */
  readonly missing: string;
}

const STRIPED = CHUNK_TYPE.raid0 | CHUNK_TYPE.raid10 | CHUNK_TYPE.raid5 | CHUNK_TYPE.raid6;

/** Reads a chunk item; throws `damaged`. */
export function parseChunk(item: Uint8Array, logical: number, deviceId: number, deviceBytes: number): Chunk {
  const length = amount(item, CHUNK.length);
  const count = u16(item, CHUNK.stripeCount);
  const type = u16(item, CHUNK.type);
  const fail = (found: string) => damaged(`reading the chunk at ${logical}`, found);
  if (length === 0 || count === 0) throw fail(`${length} bytes in ${count} stripes`);
  const copies: number[] = [];
  for (let index = 0; index < count; index++) {
    const at = CHUNK.stripes + index * STRIPE_BYTES;
    slice(item, at, at + STRIPE_BYTES);
    if (amount(item, at) === deviceId) copies.push(amount(item, at + 8));
  }
  if ((type & STRIPED) !== 0 && count > 1) {
    return { logical, length, type, copies: [], missing: "it is striped over several places" };
  }
  if (copies.some((at) => at + length > deviceBytes)) throw fail("it reaches beyond the end of the device");
  return { logical, length, type, copies, missing: "it lies on a device that is not here" };
}

/** The chunks of a file system. */
export class ChunkMap {
  #chunks: readonly Chunk[] = [];

  /** The chunks that the superblock lists, in which the chunk tree lies. */
  static ofSystem(array: Uint8Array, deviceId: number, deviceBytes: number): ChunkMap {
    const found: Chunk[] = [];
    for (let at = 0; at < array.length;) {
      const key = keyAt(array, at);
      const item = array.subarray(at + KEY_BYTES);
      if (key.type !== TYPE.chunk) {
        throw damaged("reading the superblock", `a system chunk of type ${key.type}`);
      }
      found.push(parseChunk(item, key.offset, deviceId, deviceBytes));
      at += KEY_BYTES + CHUNK.stripes + u16(item, CHUNK.stripeCount) * STRIPE_BYTES;
    }
    const map = new ChunkMap();
    map.replace(found);
    return map;
  }

  /** All chunks, by address. */
  get chunks(): readonly Chunk[] {
    return this.#chunks;
  }

  /** Takes these chunks instead; throws `damaged` when two overlap. */
  replace(chunks: Chunk[]): void {
    const sorted = chunks.sort((left, right) => left.logical - right.logical);
    for (const [index, chunk] of sorted.entries()) {
      const next = sorted[index + 1];
      if (next !== undefined && next.logical < chunk.logical + chunk.length) {
        throw damaged("reading the chunks", `that at ${next.logical} overlaps another`);
      }
    }
    this.#chunks = sorted;
  }

  /**
   * The chunk that holds all of a range. Throws `damaged` when there is none, `unsupported` when no copy of it is on this
   * device.
   */
  find(logical: number, length: number): Chunk {
    let [low, high] = [0, this.#chunks.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#chunks[middle]?.logical ?? 0) <= logical) low = middle + 1;
      else high = middle;
    }
    const chunk = this.#chunks[low - 1];
    if (chunk === undefined || logical + length > chunk.logical + chunk.length) {
      throw damaged("following an address", `no chunk holds ${length} bytes at ${logical}`);
    }
    if (chunk.copies.length === 0) {
      throw new VarveError("unsupported", `reading the chunk at ${chunk.logical}: ${chunk.missing}`);
    }
    return chunk;
  }
}

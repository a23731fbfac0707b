/**
 * Blocks of the past for a thread that may touch nothing: memory that two threads share, and a port that wakes one of them.
 *
 * The reading side asks for one thing at a time and sleeps until it is there. The serving side goes on looking for the next request for
 * a moment after each, because waking a thread costs some hundred microseconds and requests come in bursts; once it has
 * stopped looking, it has to be woken through the port.
 *
 * ```
 * byte 0   state     i32   0 nothing to do, 1 a request is there, 2 its answer is there
 *      4   watching  i32   1 while the serving side looks by itself
 *      8   moment    i32   number of the moment that is read
 *     12   operation i32   0 read, 1 extents, 2 newest change, 3 a region of the map
 *     16   length    i32   bytes of data that answer it; of an error its JSON
 *     20   failed    i32   1 when the data is an error
 *     24   limit     i32   extents wanted at most
 *     28   busy      i32   milliseconds that the serving side has spent in its storage so far
 *     32   offset    f64   first byte on the disk
 *     40   bytes     f64   length of the range
 *     64   data            bytes; f64 lengths of extents, negative for a hole; the f64 sequence of a change; or of a region
 *                          f64 first sequence, sequence behind the last, and first block, number of blocks, sequence of each extent
 * ```
 *
 * The order: a request is written whole before `state` says so, an answer likewise; and the serving side clears `watching` before it
 * looks a last time, so that a request is seen by one of the two ways.
 *
 * @module
 */
import type { BlockDevice, Extent } from "../base/block_device.ts";
import type { PackedExtent } from "../catalog/packing.ts";
import type { ResolvedRegion } from "../catalog/recovery_map.ts";
import { VarveError, type VarveErrorMessage } from "../base/errors.ts";

const HEADER_BYTES = 64;
/** Bytes that one request moves at most. */
export const TRANSFER_BYTES_MAX = 1024 * 1024;
/** Extents that one request tells at most. */
const EXTENTS_MAX = TRANSFER_BYTES_MAX / 8;

const STATE = { idle: 0, asked: 1, answered: 2 } as const;
const OPERATION = { read: 0, extents: 1, newest: 2, region: 3 } as const;
const FIELD = {
  state: 0,
  watching: 1,
  moment: 2,
  operation: 3,
  length: 4,
  failed: 5,
  limit: 6,
  busy: 7,
} as const;
const PLACE = { offset: 4, bytes: 5 } as const;

/** How often the reading side looks for an answer before it sleeps; some 20 microseconds. */
const LOOKS = 2000;
/** How long the serving side looks for the next request, in milliseconds. */
const WATCH_MS = 0.2;

/** The shared memory, as both sides see it. */
class Channel {
  readonly fields: Int32Array;
  readonly places: Float64Array;
  readonly data: Uint8Array;

  constructor(memory: SharedArrayBuffer) {
    this.fields = new Int32Array(memory, 0, 8);
    this.places = new Float64Array(memory, 0, 6);
    this.data = new Uint8Array(memory, HEADER_BYTES);
  }

  get(field: keyof typeof FIELD): number {
    return Atomics.load(this.fields, FIELD[field]);
  }

  set(field: keyof typeof FIELD, value: number): void {
    Atomics.store(this.fields, FIELD[field], value);
  }
}

/** Memory for a channel. */
export function makeChannelMemory(): SharedArrayBuffer {
  return new SharedArrayBuffer(HEADER_BYTES + TRANSFER_BYTES_MAX);
}

/** Milliseconds that the serving side has spent in its storage so far. */
export function storageMs(memory: SharedArrayBuffer): number {
  return new Channel(memory).get("busy");
}

/** The reading side: asks, and sleeps until it is answered. */
export class BlockReader {
  readonly #channel: Channel;
  readonly #wake: () => void;

  /** `wake` makes the other thread call {@linkcode BlockServer.serve}. */
  constructor(memory: SharedArrayBuffer, wake: () => void) {
    this.#channel = new Channel(memory);
    this.#wake = wake;
  }

  /** Fills `target` with what a moment's disk holds at `offset`. Throws what the device throws. */
  read(moment: number, offset: number, target: Uint8Array): void {
    for (let done = 0; done < target.length;) {
      const bytes = Math.min(TRANSFER_BYTES_MAX, target.length - done);
      const length = this.#ask("read", { moment, offset: offset + done, bytes, limit: 0 });
      target.set(this.#channel.data.subarray(0, length), done);
      done += bytes;
    }
  }

  /** The first data and holes of a range. */
  extents(moment: number, offset: number, bytes: number, max = EXTENTS_MAX): Extent[] {
    const limit = Math.min(max, EXTENTS_MAX);
    const length = this.#ask("extents", { moment, offset, bytes, limit });
    const lengths = new Float64Array(this.#channel.data.slice(0, length).buffer);
    let at = offset;
    return Array.from(lengths, (signed): Extent => {
      const extent: Extent = { offset: at, length: Math.abs(signed), kind: signed < 0 ? "hole" : "data" };
      at += extent.length;
      return extent;
    });
  }

  /** The sequence, not later than the moment's, at which any byte of a range was changed last; 0 when none ever was. */
  newestChange(moment: number, offset: number, bytes: number): number {
    const length = this.#ask("newest", { moment, offset, bytes, limit: 0 });
    return new Float64Array(this.#channel.data.slice(0, length).buffer)[0] ?? 0;
  }

  /** Which sequence wrote what in a region of the map. */
  region(moment: number, region: number): RegionVersions {
    const length = this.#ask("region", { moment, offset: region, bytes: 0, limit: 0 });
    const numbers = new Float64Array(this.#channel.data.slice(0, length).buffer);
    const [fromSeq = 0, endSeq = 0] = numbers;
    const versions = Array.from(
      { length: Math.floor((numbers.length - 2) / 3) },
      (_, index): RegionVersion => {
        const at = 2 + 3 * index;
        return {
          firstBlock: numbers[at] ?? 0,
          blockCount: numbers[at + 1] ?? 0,
          seq: numbers[at + 2] ?? 0,
        };
      },
    );
    return { fromSeq, endSeq, versions };
  }

  #ask(
    operation: keyof typeof OPERATION,
    request: { moment: number; offset: number; bytes: number; limit: number },
  ): number {
    const channel = this.#channel;
    channel.set("moment", request.moment);
    channel.set("operation", OPERATION[operation]);
    channel.set("limit", request.limit);
    channel.places[PLACE.offset] = request.offset;
    channel.places[PLACE.bytes] = request.bytes;
    channel.set("state", STATE.asked);
    if (channel.get("watching") === 0) this.#wake();
    for (let look = 0; look < LOOKS && channel.get("state") === STATE.asked; look++);
    while (channel.get("state") === STATE.asked) Atomics.wait(channel.fields, FIELD.state, STATE.asked);
    channel.set("state", STATE.idle);
    const length = channel.get("length");
    if (channel.get("failed") === 1) throw this.#error(length);
    return length;
  }

  #error(length: number): VarveError {
    const text = new TextDecoder().decode(this.#channel.data.slice(0, length));
    return VarveError.fromMessage(JSON.parse(text) as VarveErrorMessage);
  }
}

/** A run of blocks of a region, counted from its start, and the sequence that wrote it. */
export type RegionVersion = Pick<PackedExtent, "firstBlock" | "blockCount" | "seq">;

/** What a region of the map says of the sequences from `fromSeq` up to, not including, `endSeq`. */
export interface RegionVersions {
  readonly fromSeq: number;
  readonly endSeq: number;
  /** Sorted; what is left out was never written. */
  readonly versions: readonly RegionVersion[];
}

/** A moment as it is served. */
export interface ServedMoment {
  /** Its disk. */
  readonly device: BlockDevice;
  /** As {@linkcode BlockReader.newestChange}. */
  newestChange(offset: number, length: number): number;
  /** A region of the map. */
  region(region: number): ResolvedRegion;
}

/** The serving side: answers from the devices of moments. */
export class BlockServer {
  readonly #channel: Channel;
  readonly #find: (moment: number) => ServedMoment | undefined;
  readonly #buffer = new Uint8Array(TRANSFER_BYTES_MAX);
  #busyMs = 0;

  /** `find` answers `undefined` for a moment that is not known yet: whoever asks for it waits until it is. */
  constructor(memory: SharedArrayBuffer, find: (moment: number) => ServedMoment | undefined) {
    this.#channel = new Channel(memory);
    this.#find = find;
  }

  /**
   * Answers what is asked until nothing has been for a while, or until a moment is asked for that is not known yet: then it is to
   * be called again when one has become known.
   */
  serve(): void {
    const channel = this.#channel;
    channel.set("watching", 1);
    for (let untilMs = performance.now() + WATCH_MS; performance.now() < untilMs;) {
      if (channel.get("state") !== STATE.asked) continue;
      if (!this.#answer()) break;
      untilMs = performance.now() + WATCH_MS;
    }
    channel.set("watching", 0);
    if (channel.get("state") === STATE.asked) this.#answer();
  }

  /** Whether the moment that is asked for is known. */
  #answer(): boolean {
    const channel = this.#channel;
    const startMs = performance.now();
    try {
      const found = this.#find(channel.get("moment"));
      if (found === undefined) return false;
      channel.set("length", this.#carryOut(found));
      channel.set("failed", 0);
    } catch (thrown) {
      const message = VarveError.from(thrown, "read the past").toMessage();
      const written = new TextEncoder().encode(JSON.stringify(message)).subarray(0, TRANSFER_BYTES_MAX);
      channel.data.set(written);
      channel.set("length", written.length);
      channel.set("failed", 1);
    }
    this.#busyMs += performance.now() - startMs;
    channel.set("busy", Math.floor(this.#busyMs));
    channel.set("state", STATE.answered);
    Atomics.notify(channel.fields, FIELD.state);
    return true;
  }

  /** The bytes of data that answer the request. What the other side wrote is not believed. */
  #carryOut({ device, newestChange, region }: ServedMoment): number {
    const channel = this.#channel;
    const offset = channel.places[PLACE.offset] ?? NaN;
    const bytes = channel.places[PLACE.bytes] ?? NaN;
    if (!Number.isSafeInteger(offset) || !Number.isSafeInteger(bytes) || offset < 0 || bytes < 0) {
      throw new VarveError("invalid", `read the past: ${bytes} bytes at ${offset}`);
    }
    if (channel.get("operation") === OPERATION.newest) {
      return this.#put(Float64Array.of(newestChange(offset, bytes)));
    }
    if (channel.get("operation") === OPERATION.region) {
      const { fromSeq, endSeq, extents } = region(offset);
      const numbers = new Float64Array(2 + 3 * extents.length);
      numbers.set([fromSeq, endSeq]);
      for (const [index, { firstBlock, blockCount, seq }] of extents.entries()) {
        numbers.set([firstBlock, blockCount, seq], 2 + 3 * index);
      }
      return this.#put(numbers);
    }
    if (channel.get("operation") === OPERATION.extents) {
      const limit = Math.max(1, Math.min(channel.get("limit"), EXTENTS_MAX));
      const lengths = device.extents(offset, bytes, limit)
        .map(({ length, kind }) => kind === "hole" ? -length : length);
      return this.#put(Float64Array.from(lengths));
    }
    if (bytes > TRANSFER_BYTES_MAX) {
      throw new VarveError("invalid", `read the past: ${bytes} bytes in one request`);
    }
    // Devices need not work on shared memory, so the bytes are read next to it.
    const part = this.#buffer.subarray(0, bytes);
    device.read(offset, part);
    channel.data.set(part);
    return bytes;
  }

  #put(numbers: Float64Array<ArrayBuffer>): number {
    this.#channel.data.set(new Uint8Array(numbers.buffer));
    return numbers.byteLength;
  }
}

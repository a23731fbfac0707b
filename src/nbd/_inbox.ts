/** What has arrived on a connection and has not been used yet. */
import type { Transport } from "./transport.ts";

/** Room for one receive; also the bound of a batch of small requests. */
const RECEIVE_BYTES = 256 * 1024;
/** With less room than this at its end, a buffer is tidied before the next receive. */
const LEAST_ROOM_BYTES = 64 * 1024;
/** A buffer that grew beyond this for one payload is given back when it is empty. */
const KEEP_BYTES = 4 * 1024 * 1024;
/** Fewer bytes than this are not worth receiving them apart. */
const APART_BYTES = 128 * 1024;
/** Buffers for payloads that are received apart: one is used while the next arrives. */
const SPARE_BUFFERS = 2;

/** A payload that is received into a buffer of its own. */
export interface ApartPayload {
  /** The payload, complete once it has arrived. */
  readonly bytes: Uint8Array;
  /** Whether all of it has arrived; `false` at the end of the stream, a lost connection included. Never rejects. */
  readonly arrived: Promise<boolean>;
}

/**
 * A receive buffer in which the bytes not yet used lie together, from `start` on. A frame longer than the buffer
 * makes it grow, so that the rest of a known payload is received where it is going to be used.
 */
export class Inbox {
  readonly #transport: Transport;
  #buffer = new Uint8Array(RECEIVE_BYTES);
  #view = new DataView(this.#buffer.buffer);
  #start = 0;
  #end = 0;
  /** A receive that waits for its first byte; its room is behind `#end`. */
  #filling: Promise<number | null> | undefined;
  #spare: Uint8Array[] = [];

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** Number of bytes at hand. */
  get length(): number {
    return this.#end - this.#start;
  }

  /** The whole buffer; valid until the next `fill` or `reserve`. */
  get view(): DataView {
    return this.#view;
  }

  /** Where the bytes at hand begin in `view`. */
  get start(): number {
    return this.#start;
  }

  /** `length` bytes at hand, beginning at the `from`th; valid until the next `fill` or `reserve`. */
  bytes(from: number, length: number): Uint8Array {
    return this.#buffer.subarray(this.#start + from, this.#start + from + length);
  }

  /** Marks bytes as used. */
  consume(length: number): void {
    this.#start += length;
    if (this.#start === this.#end) this.#start = this.#end = 0;
  }

  /** Makes room for a frame of `length` bytes that begins with the bytes at hand. */
  reserve(length: number): void {
    if (this.#start + length <= this.#buffer.length) return;
    if (length <= this.#buffer.length) this.#tidy();
    else this.#replace(Math.ceil(length / RECEIVE_BYTES + 1) * RECEIVE_BYTES);
  }

  /**
   * Receives whatever has arrived, at least one byte; `false` at the end of the stream, a lost connection
   * included. When the buffer may be full of one unfinished frame, `reserve` comes first.
   */
  async fill(): Promise<boolean> {
    if (this.#filling === undefined) {
      if (this.#end === 0 && this.#buffer.length > KEEP_BYTES) this.#replace(RECEIVE_BYTES);
      if (this.#buffer.length - this.#end < LEAST_ROOM_BYTES && this.#start > 0) this.#tidy();
    }
    try {
      const received = await (this.#filling ?? this.#transport.read(this.#buffer.subarray(this.#end)));
      this.#end += received ?? 0;
      return received !== null;
    } catch {
      return false;
    } finally {
      this.#filling = undefined;
    }
  }

  /** Receives up to `length` bytes of what has arrived already; to be called when no bytes are at hand. */
  poll(length: number): void {
    if (this.#filling !== undefined) return;
    let received: ReturnType<Transport["read"]>;
    try {
      received = this.#transport.read(this.#buffer.subarray(0, length));
    } catch (thrown) {
      received = Promise.reject(thrown);
    }
    if (typeof received === "number") this.#end += received;
    else {
      this.#filling = Promise.resolve(received);
      // A failure is met by the `fill` that comes next.
      this.#filling.catch(() => {});
    }
  }

  /** Whether a payload with so many bytes to come is received apart sooner than with `fill`. */
  isApart(restBytes: number): boolean {
    return this.#transport.readAll !== undefined && restBytes >= APART_BYTES;
  }

  /** Begins to receive a payload of `length` bytes, which begins with the bytes at hand, into a buffer of its own. */
  receiveApart(length: number): ApartPayload {
    const index = this.#spare.findIndex((buffer) => buffer.length >= length);
    const buffer = this.#spare.splice(index, index < 0 ? 0 : 1)[0] ?? new Uint8Array(length);
    const bytes = buffer.subarray(0, length);
    const atHand = Math.min(length, this.length);
    bytes.set(this.bytes(0, atHand));
    this.consume(atHand);
    const rest = bytes.subarray(atHand);
    const arrived = Promise.try(() => this.#transport.readAll?.(rest) ?? false).catch(() => false);
    return { bytes, arrived };
  }

  /** Gives back the buffer of a payload that has arrived and is used. */
  release({ bytes }: ApartPayload): void {
    if (this.#spare.length === SPARE_BUFFERS) this.#spare.shift();
    if (bytes.length <= KEEP_BYTES) this.#spare.push(new Uint8Array(bytes.buffer));
  }

  /** Receives until `length` bytes are at hand; `false` when the stream ends before. */
  async need(length: number): Promise<boolean> {
    this.reserve(length);
    while (this.length < length) if (!await this.fill()) return false;
    return true;
  }

  /** Receives `length` bytes and forgets them; `false` when the stream ends before. */
  async skip(length: number): Promise<boolean> {
    for (;;) {
      const some = Math.min(length, this.length);
      this.consume(some);
      length -= some;
      if (length === 0) return true;
      if (!await this.fill()) return false;
    }
  }

  #tidy(): void {
    this.#buffer.copyWithin(0, this.#start, this.#end);
    this.#end -= this.#start;
    this.#start = 0;
  }

  #replace(length: number): void {
    const buffer = new Uint8Array(length);
    buffer.set(this.#buffer.subarray(this.#start, this.#end));
    this.#buffer = buffer;
    this.#view = new DataView(buffer.buffer);
    this.#end -= this.#start;
    this.#start = 0;
  }
}

/** What has arrived on a connection and has not been used yet. */
import type { Transport } from "./transport.ts";

/** Room for one receive; also the bound of a batch of small requests. */
const RECEIVE_BYTES = 256 * 1024;
/** With less room than this at its end, a buffer is tidied before the next receive. */
const LEAST_ROOM_BYTES = 64 * 1024;
/** A buffer that grew beyond this for one payload is given back when it is empty. */
const KEEP_BYTES = 4 * 1024 * 1024;

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
    if (this.#end === 0 && this.#buffer.length > KEEP_BYTES) this.#replace(RECEIVE_BYTES);
    if (this.#buffer.length - this.#end < LEAST_ROOM_BYTES && this.#start > 0) this.#tidy();
    try {
      const received = await this.#transport.read(this.#buffer.subarray(this.#end));
      this.#end += received ?? 0;
      return received !== null;
    } catch {
      return false;
    }
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

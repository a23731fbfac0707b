/**
 * Replies in the form that a connection has negotiated, encoded straight into the outbox.
 *
 * Every reply to a READ is of one form, whatever its outcome; with chunks all other replies are chunks too, because
 * they alone carry a message about what went wrong.
 *
 * @module
 */
import type { MapRun } from "./exports.ts";
import {
  encodeExtendedChunk,
  encodeSimpleReply,
  encodeStructuredChunk,
  setUint64,
} from "./_message_format.ts";
import type { Ticket } from "./_message_format.ts";
import { encodeString } from "./_option_format.ts";
import type { Chunk, Outbox } from "./_outbox.ts";
import {
  CHUNK_DONE,
  ChunkType,
  EXTENDED_CHUNK_BYTES,
  type MessageForm,
  NbdError,
  SIMPLE_REPLY_BYTES,
  STRUCTURED_CHUNK_BYTES,
} from "./protocol.ts";

/** Characters of a message that go to the client. */
const MESSAGE_LENGTH_MAX = 200;
const OFFSET_BYTES = 8;

/** Why a command failed. */
export interface Failure {
  /** One of `NbdError`, not `NONE`. */
  readonly error: number;
  /** For people. */
  readonly message: string;
}

/** Encodes replies; whoever calls publishes the outbox. */
export class Replies {
  readonly #outbox: Outbox;
  readonly #isSimple: boolean;
  readonly #isExtended: boolean;
  readonly #headBytes: number;

  constructor(outbox: Outbox, form: MessageForm) {
    this.#outbox = outbox;
    this.#isSimple = form === "simple";
    this.#isExtended = form === "extended";
    this.#headBytes = this.#isSimple
      ? SIMPLE_REPLY_BYTES
      : this.#isExtended
      ? EXTENDED_CHUNK_BYTES
      : STRUCTURED_CHUNK_BYTES;
  }

  /** Replies with success and no content, or with a failure; to a READ without data as well. */
  end(ticket: Ticket, failure?: Failure): void {
    if (this.#isSimple) {
      const chunk = this.#outbox.reserve(SIMPLE_REPLY_BYTES);
      encodeSimpleReply(chunk.view, chunk.used, failure?.error ?? NbdError.NONE, ticket);
      this.#outbox.advance(SIMPLE_REPLY_BYTES);
    } else if (failure === undefined) this.#chunk(ticket, ChunkType.NONE, CHUNK_DONE, 0);
    else this.#error(ticket, failure);
  }

  /** Room for `length` bytes of data to be read into, which `data` then makes part of the reply. */
  room(length: number): Uint8Array {
    const before = this.#headBytes + (this.#isSimple ? 0 : OFFSET_BYTES);
    const chunk = this.#outbox.reserve(before + length);
    return chunk.bytes.subarray(chunk.used + before, chunk.used + before + length);
  }

  /** Appends data that lies in the room asked for last; simple replies have one such piece, the `last`. */
  data(ticket: Ticket, offset: number, length: number, last: boolean): void {
    if (!this.#isSimple) {
      const { view, used } = this.#chunk(
        ticket,
        ChunkType.OFFSET_DATA,
        last ? CHUNK_DONE : 0,
        OFFSET_BYTES + length,
      );
      setUint64(view, used - OFFSET_BYTES - length, offset);
      return;
    }
    const chunk = this.#outbox.reserve(SIMPLE_REPLY_BYTES + length);
    encodeSimpleReply(chunk.view, chunk.used, NbdError.NONE, ticket);
    this.#outbox.advance(SIMPLE_REPLY_BYTES + length);
  }

  /** Appends a hole; not for simple replies. */
  hole(ticket: Ticket, offset: number, length: number, last: boolean): void {
    const { view, used } = this.#chunk(
      ticket,
      ChunkType.OFFSET_HOLE,
      last ? CHUNK_DONE : 0,
      OFFSET_BYTES + 4,
    );
    setUint64(view, used - OFFSET_BYTES - 4, offset);
    view.setUint32(used - 4, length);
  }

  /** Ends a READ, part of which has been answered, with a failure from `offset` on; not for simple replies. */
  errorAt(ticket: Ticket, offset: number, failure: Failure): void {
    this.#error(ticket, failure, offset);
  }

  /** Appends what a metadata context says; in a structured reply no run may reach 2^32 bytes. Not for simple replies. */
  status(ticket: Ticket, context: number, runs: readonly MapRun[], last: boolean): void {
    const extended = this.#isExtended;
    const length = extended ? 8 + 16 * runs.length : 4 + 8 * runs.length;
    const type = extended ? ChunkType.BLOCK_STATUS_EXT : ChunkType.BLOCK_STATUS;
    const { view, used } = this.#chunk(ticket, type, last ? CHUNK_DONE : 0, length);
    let at = used - length;
    view.setUint32(at, context);
    at += 4;
    if (extended) {
      view.setUint32(at, runs.length);
      at += 4;
    }
    for (const run of runs) {
      if (extended) {
        setUint64(view, at, run.length);
        setUint64(view, at + 8, run.flags);
        at += 16;
      } else {
        view.setUint32(at, run.length);
        view.setUint32(at + 4, run.flags);
        at += 8;
      }
    }
  }

  #error(ticket: Ticket, { error, message }: Failure, offset?: number): void {
    const text = encodeString(message.slice(0, MESSAGE_LENGTH_MAX));
    const length = 6 + text.length + (offset === undefined ? 0 : OFFSET_BYTES);
    const type = offset === undefined ? ChunkType.ERROR : ChunkType.ERROR_OFFSET;
    const { bytes, view, used } = this.#chunk(ticket, type, CHUNK_DONE, length);
    const at = used - length;
    view.setUint32(at, error);
    view.setUint16(at + 4, text.length);
    bytes.set(text, at + 6);
    if (offset !== undefined) setUint64(view, at + 6 + text.length, offset);
  }

  /** Appends a chunk, whose content is to be put before `used`. */
  #chunk(ticket: Ticket, type: number, flags: number, length: number): Chunk {
    const chunk = this.#outbox.reserve(this.#headBytes + length);
    const encode = this.#isExtended ? encodeExtendedChunk : encodeStructuredChunk;
    encode(chunk.view, chunk.used, { flags, type, length }, ticket);
    this.#outbox.advance(this.#headBytes + length);
    return chunk;
  }
}

const NUMBERS_PER_TICKET = 4;

/** Requests that wait for the same thing, kept without an object each. */
export class Tickets {
  readonly #numbers: number[] = [];

  /** Whether there are none. */
  get isEmpty(): boolean {
    return this.#numbers.length === 0;
  }

  /** Adds a request; `ticket` is copied. */
  add({ cookieHigh, cookieLow, offsetHigh, offsetLow }: Ticket): this {
    this.#numbers.push(cookieHigh, cookieLow, offsetHigh, offsetLow);
    return this;
  }

  /** Replies to all, in the order in which they were added. */
  end(replies: Replies, failure?: Failure): void {
    const numbers = this.#numbers;
    const ticket: Ticket = { cookieHigh: 0, cookieLow: 0, offsetHigh: 0, offsetLow: 0 };
    for (let at = 0; at < numbers.length; at += NUMBERS_PER_TICKET) {
      ticket.cookieHigh = numbers[at] ?? 0;
      ticket.cookieLow = numbers[at + 1] ?? 0;
      ticket.offsetHigh = numbers[at + 2] ?? 0;
      ticket.offsetLow = numbers[at + 3] ?? 0;
      replies.end(ticket, failure);
    }
  }
}

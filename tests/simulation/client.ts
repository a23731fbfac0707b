/**
 * A host that speaks NBD to a server over a connection in memory: requests go out without waiting for replies, which
 * are looked at the moment they arrive.
 */
import { crc32 } from "node:zlib";
import type { Scheduler } from "../../src/base/turns.ts";
import type { SeededRandom } from "../../src/base/seeded_random.ts";
import type { Transport } from "../../src/nbd/transport.ts";
import { Command, CommandFlag, Option, REQUEST_BYTES, SIMPLE_REPLY_BYTES } from "../../src/nbd/protocol.ts";
import type { Change } from "./model.ts";

const ACK = 1;
const GREETING_BYTES = 18;
const OPTION_REPLY_BYTES = 20;

/** A request on its way. */
export interface SentRequest {
  /** What it changes, or `read`. */
  readonly change: Change | { readonly kind: "read"; readonly offset: number; readonly length: number };
  /** Whether it was sent with FUA. */
  readonly fua: boolean;
  /** The sequence that it was given, once it was captured. */
  seq: number | undefined;
  /** The model's order behind it, once it was executed. */
  order: number | undefined;
  /** CRC-32 of what was read, once it was. */
  checksum: number | undefined;
}

/** What a client is made of. */
export interface ClientParts {
  /** Its name for the server. */
  readonly peer: string;
  /** Gives messages their time. */
  readonly scheduler: Scheduler;
  /** Decides how they travel. */
  readonly random: SeededRandom;
  /** A request was answered; `error` is 0 when it went well. */
  readonly onReply: (request: SentRequest, error: number, data: Uint8Array) => void;
  /** The server said something that answers no request. */
  readonly onNonsense: (text: string) => void;
}

/** One connection. */
export class SimulatedClient {
  /** Requests that were sent and not executed yet, oldest first; the observer of the device takes them off. */
  readonly unexecuted: SentRequest[] = [];
  /** Reads that were executed and not answered yet, oldest first. */
  readonly #waiting = new Map<number, SentRequest>();
  readonly #onReply: ClientParts["onReply"];
  readonly #onNonsense: ClientParts["onNonsense"];
  readonly #scheduler: Scheduler;
  readonly #random: SeededRandom;
  #outgoing: Uint8Array[] = [];
  #arrived: Uint8Array[] = [];
  #wakeServer: () => void = () => {};
  #incoming = new Uint8Array(0);
  #phase: "greeting" | "options" | "open" | "refused" | "closed" = "greeting";
  #ended = false;
  #cookies = 0;
  #refusal = "";
  #onOpened: (reason: string | undefined) => void = () => {};
  readonly #exportName: string;

  /** The server's end of the connection. */
  readonly transport: Transport;

  constructor(exportName: string, parts: ClientParts) {
    this.#exportName = exportName;
    this.#onReply = parts.onReply;
    this.#onNonsense = parts.onNonsense;
    this.#scheduler = parts.scheduler;
    this.#random = parts.random;
    this.transport = {
      peer: parts.peer,
      read: (target) => this.#serverReads(target),
      write: (buffers) => this.#serverWrites(buffers),
      close: () => this.#close(),
    };
  }

  /** Requests without a reply. */
  get waiting(): number {
    return this.#waiting.size;
  }

  /** Whether requests can be sent. */
  get isOpen(): boolean {
    return this.#phase === "open" && !this.#ended;
  }

  /** Resolves with nothing when the export is open, or with the reason why it is not. */
  opened(): Promise<string | undefined> {
    return new Promise((resolve) => this.#onOpened = resolve);
  }

  /** Leaves at once, in the middle of whatever is under way. */
  drop(): void {
    this.#ended = true;
    this.#outgoing = [];
    this.#wakeServer();
  }

  /** Says goodbye. */
  disconnect(): void {
    this.#send(encodeRequest(Command.DISC, 0, 0, 0, 0));
  }

  /** Sends requests together. */
  request(...requests: { change: SentRequest["change"]; fua?: boolean }[]): SentRequest[] {
    const sent = requests.map(({ change, fua = false }): SentRequest => {
      const request = { change, fua, seq: undefined, order: undefined, checksum: undefined };
      const cookie = ++this.#cookies;
      this.#waiting.set(cookie, request);
      this.unexecuted.push(request);
      this.#queue(...encode(request, cookie));
      return request;
    });
    this.#deliver();
    return sent;
  }

  #send(bytes: Uint8Array): void {
    this.#queue(bytes);
    this.#deliver();
  }

  #queue(...parts: Uint8Array[]): void {
    for (const part of parts) {
      // Now and then a message arrives in pieces.
      const cut = part.length > 1 && this.#random.oneIn(12) ? this.#random.below(part.length) : 0;
      if (cut > 0) this.#outgoing.push(part.subarray(0, cut));
      this.#outgoing.push(part.subarray(cut));
    }
  }

  #deliver(): void {
    while (this.#outgoing.length > 0) {
      const part = this.#outgoing.shift();
      if (part !== undefined) this.#arrived.push(part);
      if (this.#random.oneIn(20)) {
        this.#scheduler.after(this.#random.below(3), () => this.#deliver());
        break;
      }
    }
    this.#wakeServer();
  }

  async #serverReads(target: Uint8Array): Promise<number | null> {
    while (this.#arrived.length === 0) {
      if (this.#ended) return null;
      await new Promise<void>((resolve) => this.#wakeServer = resolve);
    }
    let done = 0;
    while (done < target.length) {
      const part = this.#arrived.shift();
      if (part === undefined) break;
      const length = Math.min(target.length - done, part.length);
      target.set(part.subarray(0, length), done);
      if (length < part.length) this.#arrived.unshift(part.subarray(length));
      done += length;
    }
    return done;
  }

  #serverWrites(buffers: readonly Uint8Array[]): void | Promise<void> {
    if (this.#ended) throw new Error("write to a closed connection");
    let total = this.#incoming.length;
    for (const buffer of buffers) total += buffer.length;
    const joined = new Uint8Array(total);
    joined.set(this.#incoming);
    let at = this.#incoming.length;
    for (const buffer of buffers) {
      joined.set(buffer, at);
      at += buffer.length;
    }
    this.#incoming = joined;
    while (!this.#ended && this.#parse());
    // Now and then the host is slow to take its replies.
    if (!this.#random.oneIn(10)) return;
    return new Promise((resolve) => this.#scheduler.after(this.#random.below(20), resolve));
  }

  #close(): void {
    this.#ended = true;
    if (this.#phase === "greeting" || this.#phase === "options") this.#onOpened("the server closed");
    this.#phase = "closed";
    this.#wakeServer();
  }

  #take(length: number): Uint8Array {
    const taken = this.#incoming.subarray(0, length);
    this.#incoming = this.#incoming.subarray(length);
    return taken;
  }

  /** Takes one message that has arrived completely; false when there is none. */
  #parse(): boolean {
    const { byteOffset, length } = this.#incoming;
    const view = new DataView(this.#incoming.buffer, byteOffset, length);
    switch (this.#phase) {
      case "greeting": {
        if (length < GREETING_BYTES) return false;
        this.#take(GREETING_BYTES);
        this.#phase = "options";
        this.#queue(Uint8Array.of(0, 0, 0, 3), encodeGo(this.#exportName));
        this.#deliver();
        return true;
      }
      case "options": {
        if (length < OPTION_REPLY_BYTES) return false;
        const dataBytes = view.getUint32(16);
        if (length < OPTION_REPLY_BYTES + dataBytes) return false;
        const type = view.getUint32(12);
        this.#take(OPTION_REPLY_BYTES);
        const data = this.#take(dataBytes);
        if (type === ACK) {
          this.#phase = "open";
          this.#onOpened(undefined);
        } else if (type >= 2 ** 31) {
          this.#refusal = new TextDecoder().decode(data);
          this.#phase = "refused";
          this.#onOpened(this.#refusal);
          this.drop();
        }
        return true;
      }
      case "open":
        return this.#parseReply(view);
      default:
        return false;
    }
  }

  #parseReply(view: DataView): boolean {
    if (view.byteLength < SIMPLE_REPLY_BYTES) return false;
    const cookie = view.getUint32(12);
    const error = view.getUint32(4);
    const request = this.#waiting.get(cookie);
    if (view.getUint32(0) !== 0x67446698 || request === undefined) {
      this.#onNonsense(`a reply to no request: cookie ${cookie}, error ${error}`);
      this.drop();
      return false;
    }
    const { change } = request;
    const dataBytes = change.kind === "read" && error === 0 ? change.length : 0;
    if (view.byteLength < SIMPLE_REPLY_BYTES + dataBytes) return false;
    this.#take(SIMPLE_REPLY_BYTES);
    const data = this.#take(dataBytes);
    this.#waiting.delete(cookie);
    this.#onReply(request, error, data);
    return true;
  }
}

/** CRC-32 of bytes as they were read. */
export function checksumOf(bytes: Uint8Array): number {
  return crc32(bytes);
}

function encodeGo(exportName: string): Uint8Array {
  const name = new TextEncoder().encode(exportName);
  const bytes = new Uint8Array(16 + 4 + name.length + 2);
  const view = new DataView(bytes.buffer);
  bytes.set(new TextEncoder().encode("IHAVEOPT"));
  view.setUint32(8, Option.GO);
  view.setUint32(12, 4 + name.length + 2);
  view.setUint32(16, name.length);
  bytes.set(name, 20);
  return bytes;
}

function encode({ change, fua }: SentRequest, cookie: number): Uint8Array[] {
  const flags = fua ? CommandFlag.FUA : 0;
  switch (change.kind) {
    case "read":
      return [encodeRequest(Command.READ, flags, cookie, change.offset, change.length)];
    case "write":
      return [encodeRequest(Command.WRITE, flags, cookie, change.offset, change.data.length), change.data];
    case "trim":
      return [encodeRequest(Command.TRIM, flags, cookie, change.offset, change.length)];
    case "zero":
      return [encodeRequest(Command.WRITE_ZEROES, flags, cookie, change.offset, change.length)];
    case "flush":
    case "mark":
      return [encodeRequest(Command.FLUSH, flags, cookie, 0, 0)];
  }
}

function encodeRequest(
  type: number,
  flags: number,
  cookie: number,
  offset: number,
  length: number,
): Uint8Array {
  const bytes = new Uint8Array(REQUEST_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, 0x25609513);
  view.setUint16(4, flags);
  view.setUint16(6, type);
  view.setUint32(12, cookie);
  view.setBigUint64(16, BigInt(offset));
  view.setUint32(24, length);
  return bytes;
}

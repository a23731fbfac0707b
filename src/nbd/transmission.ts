/**
 * The transmission phase of one connection: requests in, replies out.
 *
 * Invariants, in the order in which they matter:
 *
 * 1. No change is acknowledged before the `commit()` that follows it and what the device holds then, no FLUSH before its `flush()`, no FUA before a
 *    `sync()` that follows its command.
 * 2. Commands run in the order in which they arrived, one after the other, without waiting for anything.
 * 3. Everything that has arrived is one batch: one commit, at most one sync, one write of replies.
 * 4. After a connection is closed nothing is executed for it and nothing is sent; a WRITE whose payload has not
 *    arrived completely never happened.
 * 5. A refused command costs the client that command, never the connection, unless its end cannot be found.
 *
 * @module
 */
import { VarveError } from "../base/errors.ts";
import type { Inbox } from "./_inbox.ts";
import type { Outbox } from "./_outbox.ts";
import type { OpenExport } from "./exports.ts";
import {
  Command,
  CommandFlag,
  decodeRequest,
  MAX_PAYLOAD_BYTES,
  NbdError,
  nbdErrorOf,
  type NbdRequest,
  REQUEST_BYTES,
} from "./protocol.ts";

/** While more reply bytes than this are pending, no further command runs. One read may go beyond it. */
const REPLY_BUDGET_BYTES = 8 * 1024 * 1024;
/** While more waits for storage than this are under way, no further command runs. */
const MAX_WAITS = 1024;
/** Longest payload of a refused WRITE that is received and dropped. */
const MAX_SKIPPED_BYTES = 256 * 1024 * 1024;

/** What the transmission phase needs. */
export interface TransmissionOptions {
  /** Where requests come from. */
  readonly inbox: Inbox;
  /** Where replies go. */
  readonly outbox: Outbox;
  /** The export. */
  readonly opened: OpenExport;
  /** Told of failures of the device that are not the client's fault. */
  readonly onProblem: (error: VarveError) => void;
}

/** Serves requests until the client leaves, breaks the protocol, or {@linkcode Transmission.stop} is called. */
export class Transmission {
  readonly #inbox: Inbox;
  readonly #outbox: Outbox;
  readonly #opened: OpenExport;
  readonly #onProblem: (error: VarveError) => void;
  readonly #sizeBytes: number;
  readonly #request: NbdRequest = { flags: 0, type: 0, cookieHigh: 0, cookieLow: 0, offset: 0, length: 0 };
  /** Cookies (upper half, lower half, …) of changes in this batch that wait for its commit. */
  #changed: number[] = [];
  /** Cookies of FUA changes in this batch, which wait for its sync. */
  #forced: number[] = [];
  /** Commands that wait for storage. */
  readonly #waits = new Set<Promise<void>>();
  /** The refused WRITE whose payload is being dropped. */
  #skipped = { bytes: 0, error: 0, cookieHigh: 0, cookieLow: 0 };
  /** The command at the head of the inbox waits for this; then `#prepared` has the outcome for it. */
  #preparation: Promise<number> | undefined;
  #prepared: number | undefined;
  #receiving = false;
  #stopping = false;

  /** Prepares to serve; nothing happens before {@linkcode Transmission.run}. */
  constructor(options: TransmissionOptions) {
    this.#inbox = options.inbox;
    this.#outbox = options.outbox;
    this.#opened = options.opened;
    this.#onProblem = options.onProblem;
    this.#sizeBytes = options.opened.device.sizeBytes;
  }

  /** Resolves when the conversation is over, every command that ran has ended and its reply was sent or dropped. */
  async run(): Promise<void> {
    try {
      while (this.#runBatch()) {
        if (this.#outbox.closed) break;
        const relief = this.#opened.device.pressure?.();
        if (relief !== undefined) await relief;
        if (this.#preparation !== undefined) {
          this.#prepared = await this.#preparation;
          this.#preparation = undefined;
        } else if (this.#outbox.pendingBytes > REPLY_BUDGET_BYTES) {
          await this.#outbox.drained(REPLY_BUDGET_BYTES / 2);
        } else if (this.#waits.size > MAX_WAITS) await Promise.race(this.#waits);
        else if (this.#stopping && this.#betweenRequests) break;
        else if (!await this.#receive()) break;
      }
    } finally {
      await this.#settle();
    }
  }

  /** Ends the conversation as soon as no request is under way; half a request is waited for. */
  stop(): void {
    this.#stopping = true;
    if (this.#receiving && this.#betweenRequests) void this.#settle().then(() => this.#outbox.close());
  }

  get #betweenRequests(): boolean {
    return this.#inbox.length === 0 && this.#skipped.bytes === 0;
  }

  async #receive(): Promise<boolean> {
    this.#receiving = true;
    try {
      return await this.#inbox.fill();
    } finally {
      this.#receiving = false;
    }
  }

  async #settle(): Promise<void> {
    while (this.#waits.size > 0) await Promise.all(this.#waits);
    await this.#outbox.drained(0);
  }

  /** Runs every request that has arrived completely; `false` when the conversation is over. */
  #runBatch(): boolean {
    let open = true;
    while (open && !this.#outbox.closed) {
      if (this.#outbox.pendingBytes > REPLY_BUDGET_BYTES || this.#waits.size > MAX_WAITS) break;
      const step = this.#skipped.bytes > 0 ? this.#skipPayload() : this.#runNext();
      if (step === "starved") break;
      open = step === "done";
    }
    this.#endBatch();
    return open;
  }

  #skipPayload(): "done" | "starved" {
    const skipped = this.#skipped;
    const some = Math.min(skipped.bytes, this.#inbox.length);
    this.#inbox.consume(some);
    skipped.bytes -= some;
    if (skipped.bytes > 0) return "starved";
    this.#outbox.reply(skipped.error, skipped.cookieHigh, skipped.cookieLow);
    return "done";
  }

  #runNext(): "done" | "starved" | "over" {
    const inbox = this.#inbox;
    const request = this.#request;
    if (inbox.length < REQUEST_BYTES) return "starved";
    if (!decodeRequest(inbox.view, inbox.start, request) || request.type === Command.DISC) return "over";
    const error = this.#refusal(request);
    const payloadBytes = request.type === Command.WRITE ? request.length : 0;
    if (error !== NbdError.NONE && payloadBytes > 0) {
      if (payloadBytes > MAX_SKIPPED_BYTES) return "over";
      const { cookieHigh, cookieLow } = request;
      this.#skipped = { bytes: payloadBytes, error, cookieHigh, cookieLow };
      inbox.consume(REQUEST_BYTES);
      return "done";
    }
    const frameBytes = REQUEST_BYTES + payloadBytes;
    if (inbox.length < frameBytes) {
      inbox.reserve(frameBytes);
      return "starved";
    }
    const outcome = error === NbdError.NONE ? this.#prepare(request) : error;
    if (outcome === undefined) return "starved";
    if (outcome === NbdError.NONE) this.#execute(request);
    else this.#outbox.reply(outcome, request.cookieHigh, request.cookieLow);
    inbox.consume(frameBytes);
    return "done";
  }

  /** How the device is prepared for a change; `undefined` while that is under way. */
  #prepare({ type, offset, length }: NbdRequest): number | undefined {
    const prepared = this.#prepared;
    this.#prepared = undefined;
    if (prepared !== undefined) return prepared;
    if (type !== Command.WRITE && type !== Command.TRIM && type !== Command.WRITE_ZEROES) {
      return NbdError.NONE;
    }
    const preparation = this.#opened.device.prepare?.(offset, length);
    if (preparation === undefined) return NbdError.NONE;
    this.#preparation = preparation.then(() => NbdError.NONE, (thrown) => this.#errorOf(thrown, type));
    return undefined;
  }

  /** The error of a request that cannot be right, whatever the device holds. */
  #refusal({ type, flags, offset, length }: NbdRequest): number {
    let allowedFlags: number = CommandFlag.FUA;
    if (type === Command.WRITE_ZEROES) allowedFlags |= CommandFlag.NO_HOLE;
    if ((flags & ~allowedFlags) !== 0) return NbdError.EINVAL;
    switch (type) {
      case Command.FLUSH:
        return offset === 0 && length === 0 ? NbdError.NONE : NbdError.EINVAL;
      case Command.READ:
        if (length > MAX_PAYLOAD_BYTES) return NbdError.EINVAL;
        break;
      case Command.WRITE:
        if (this.#opened.device.readOnly) return NbdError.EPERM;
        if (length > MAX_PAYLOAD_BYTES) return NbdError.EINVAL;
        break;
      case Command.TRIM:
      case Command.WRITE_ZEROES:
        if (this.#opened.device.readOnly) return NbdError.EPERM;
        break;
      default:
        return NbdError.EINVAL;
    }
    return length <= this.#sizeBytes - offset ? NbdError.NONE : nbdErrorOf("out-of-range", type);
  }

  #execute(request: NbdRequest): void {
    const { type, offset, length, cookieHigh, cookieLow } = request;
    const { device, client } = this.#opened;
    const fua = (request.flags & CommandFlag.FUA) !== 0;
    try {
      switch (type) {
        case Command.READ:
          this.#outbox.replyWithData(cookieHigh, cookieLow, length, (target) => {
            if (length > 0) device.read(offset, target);
          });
          return;
        case Command.FLUSH:
          this.#replyAfter(
            type,
            [cookieHigh, cookieLow],
            () => device.readOnly ? undefined : device.flush({ client }),
          );
          return;
        case Command.WRITE:
          if (length > 0) device.write(offset, this.#inbox.bytes(REQUEST_BYTES, length), { client, fua });
          break;
        case Command.TRIM:
          if (length > 0) device.trim(offset, length, { client, fua });
          break;
        case Command.WRITE_ZEROES:
          if (length > 0) device.zero(offset, length, { client, fua });
          break;
      }
      (fua ? this.#forced : this.#changed).push(cookieHigh, cookieLow);
    } catch (thrown) {
      this.#outbox.reply(this.#errorOf(thrown, type), cookieHigh, cookieLow);
    }
  }

  /** Commits what the batch changed, then lets its replies go. */
  #endBatch(): void {
    const changed = this.#changed;
    const forced = this.#forced;
    if (changed.length > 0 || forced.length > 0) {
      const { device } = this.#opened;
      this.#changed = [];
      this.#forced = [];
      try {
        device.commit();
        const held = device.held?.();
        if (held === undefined) this.#replyToAll(NbdError.NONE, changed);
        else this.#replyAfter(Command.WRITE, changed, () => held);
        if (forced.length > 0) this.#replyAfter(Command.WRITE, forced, () => device.sync());
      } catch (thrown) {
        const error = this.#errorOf(thrown, Command.WRITE);
        this.#replyToAll(error, changed);
        this.#replyToAll(error, forced);
      }
    }
    this.#outbox.publish();
  }

  /** Replies when storage has answered, without holding up what comes later. */
  #replyAfter(command: number, cookies: number[], wait: () => Promise<void> | undefined): void {
    const done = Promise.try(wait)
      .then(() => NbdError.NONE, (thrown) => this.#errorOf(thrown, command))
      .then((error) => {
        this.#waits.delete(done);
        if (this.#outbox.closed) return;
        this.#replyToAll(error, cookies);
        this.#outbox.publish();
      });
    this.#waits.add(done);
  }

  #replyToAll(error: number, cookies: number[]): void {
    for (let at = 0; at < cookies.length; at += 2) {
      this.#outbox.reply(error, cookies[at] ?? 0, cookies[at + 1] ?? 0);
    }
  }

  #errorOf(thrown: unknown, command: number): number {
    const error = VarveError.from(thrown, "run an NBD command");
    const value = nbdErrorOf(error.code, command);
    if (value === NbdError.EIO || value === NbdError.ENOSPC) this.#onProblem(error);
    return value;
  }
}

/**
 * The transmission phase of one connection: requests in, replies out.
 *
 * Invariants, in the order in which they matter:
 *
 * 1. No change is acknowledged before the `commit()` that follows it and what the device holds then, no FLUSH before its `flush()`, no FUA before a
 *    `sync()` that follows its command.
 * 2. Commands run in the order in which they arrived, one after the other, without waiting for anything; of CACHE and
 *    of maps that have to wait, only the beginning does.
 * 3. Everything that has arrived is one batch: one commit, at most one sync, one write of replies.
 * 4. After a connection is closed nothing is executed for it and nothing is sent; a WRITE whose payload has not
 *    arrived completely never happened.
 * 5. A refused command costs the client that command, never the connection, unless its end cannot be found.
 * 6. What arrives after {@linkcode Transmission.stop} is refused, apart from the rest of a request that had begun.
 *
 * @module
 */
import { VarveError } from "../base/errors.ts";
import { inTurns, Queue, type Scheduler } from "../base/turns.ts";
import type { StatusContext } from "./block_status.ts";
import type { OpenExport } from "./exports.ts";
import { IdleWatch } from "./_idle_watch.ts";
import type { ApartPayload, Inbox } from "./_inbox.ts";
import { decodeExtendedRequest, decodeRequest, emptyRequest, type NbdRequest } from "./_message_format.ts";
import type { Outbox } from "./_outbox.ts";
import { answerRead, readInPieces } from "./_reads.ts";
import { type Failure, Replies, Tickets } from "./_replies.ts";
import { answerStatus } from "./_status_answers.ts";
import { payloadBytesOf, refusalOf, type RequestRules, STOPPING } from "./_requests.ts";
import {
  Command,
  CommandFlag,
  EXTENDED_REQUEST_BYTES,
  type MessageForm,
  NbdError,
  nbdErrorOf,
  REQUEST_BYTES,
} from "./protocol.ts";

/** While more reply bytes than this are pending, no further command runs. One read may go beyond it. */
const REPLY_BUDGET_BYTES = 8 * 1024 * 1024;
/** While more waits for storage than this are under way, no further command runs. */
const MAX_WAITS = 1024;

/** What the transmission phase needs. */
export interface TransmissionOptions {
  /** Where requests come from. */
  readonly inbox: Inbox;
  /** Where replies go. */
  readonly outbox: Outbox;
  /** The form of requests and replies. */
  readonly form: MessageForm;
  /** The export. */
  readonly opened: OpenExport;
  /** The metadata contexts that the client has selected. */
  readonly contexts: readonly StatusContext[];
  /** Gives turns. */
  readonly scheduler: Scheduler;
  /** How long a client may leave the server waiting for it, in milliseconds; 0 for as long as it likes. */
  readonly idleTimeoutMs: number;
  /** Told of failures of the device that are not the client's fault. */
  readonly onProblem: (error: VarveError) => void;
}

/** A WRITE whose payload is received into a buffer of its own. */
interface LargeWrite {
  readonly request: NbdRequest;
  readonly payload: ApartPayload;
}

/** What became of the attempt to run the next request. */
type Step = "done" | "starved" | "over";

/** Serves requests until the client leaves, breaks the protocol, or {@linkcode Transmission.stop} is called. */
export class Transmission {
  readonly #options: TransmissionOptions;
  readonly #inbox: Inbox;
  readonly #outbox: Outbox;
  readonly #opened: OpenExport;
  readonly #replies: Replies;
  readonly #rules: RequestRules;
  readonly #headBytes: number;
  readonly #decode: typeof decodeRequest;
  readonly #idle: IdleWatch;
  readonly #request = emptyRequest();
  /** Changes in this batch that wait for its commit. */
  #changed = new Tickets();
  /** FUA changes in this batch, which wait for its sync. */
  #forced = new Tickets();
  /** Commands that wait for storage. */
  readonly #waits = new Set<Promise<void>>();
  /** CACHE commands run one after the other: many at once would only share the same memory and disk. */
  readonly #caching = new Queue();
  /** The refused request whose payload is being dropped. */
  #skipped: { bytes: number; failure: Failure; ticket: Tickets } | undefined;
  /** The command at the head of the inbox waits for this; then `#prepared` has the outcome for it. */
  #preparation: Promise<Failure | undefined> | undefined;
  #prepared: { failure: Failure | undefined } | undefined;
  /** The WRITE whose payload is received next, apart from the inbox. */
  #large: NbdRequest | undefined;
  #receiving = false;
  #ended = false;
  #stopping = false;
  /** Bytes in the inbox that were there when the server began to stop. */
  #oldBytes = 0;

  /** Prepares to serve; nothing happens before {@linkcode Transmission.run}. */
  constructor(options: TransmissionOptions) {
    const { form, contexts } = options;
    const { device } = options.opened;
    this.#options = options;
    this.#inbox = options.inbox;
    this.#outbox = options.outbox;
    this.#opened = options.opened;
    this.#replies = new Replies(options.outbox, form);
    this.#rules = {
      form,
      readOnly: device.readOnly,
      sizeBytes: device.sizeBytes,
      contextCount: contexts.length,
    };
    this.#headBytes = form === "extended" ? EXTENDED_REQUEST_BYTES : REQUEST_BYTES;
    this.#decode = form === "extended" ? decodeExtendedRequest : decodeRequest;
    this.#idle = new IdleWatch(options.scheduler, options.idleTimeoutMs, () => {
      if (this.#waits.size === 0) this.#outbox.close();
    });
  }

  /** Resolves when the conversation is over, every command that ran has ended and its reply was sent or dropped. */
  async run(): Promise<void> {
    try {
      while (this.#runBatch()) {
        if (this.#outbox.closed) break;
        const relief = this.#opened.device.pressure?.();
        if (relief !== undefined) await relief;
        if (this.#preparation !== undefined) {
          this.#prepared = { failure: await this.#preparation };
          this.#preparation = undefined;
        } else if (this.#outbox.pendingBytes > REPLY_BUDGET_BYTES) {
          await this.#idle.during(this.#outbox.drained(REPLY_BUDGET_BYTES / 2));
        } else if (this.#waits.size > MAX_WAITS) await Promise.race(this.#waits);
        else if (this.#large !== undefined) {
          if (!await this.#runLarge(this.#large)) break;
        } else if (this.#stopping && this.#oldIsDone) break;
        else if (!await this.#receive()) break;
      }
    } finally {
      this.#ended = true;
      await this.#settle();
      this.#idle.end();
    }
  }

  /** Ends the conversation as soon as no request is under way; half a request is waited for. */
  stop(): void {
    if (this.#stopping) return;
    this.#stopping = true;
    this.#oldBytes = this.#inbox.length;
    if (this.#receiving && this.#oldIsDone) void this.#settle().then(() => this.#outbox.close());
  }

  get #oldIsDone(): boolean {
    return this.#oldBytes <= 0 && this.#skipped === undefined;
  }

  async #receive(): Promise<boolean> {
    this.#receiving = true;
    try {
      return await this.#idle.during(this.#inbox.fill());
    } finally {
      this.#receiving = false;
    }
  }

  async #settle(): Promise<void> {
    while (this.#waits.size > 0) await Promise.all(this.#waits);
    await this.#idle.during(this.#outbox.drained(0));
  }

  /** Runs every request that has arrived completely; `false` when the conversation is over. */
  #runBatch(): boolean {
    let open = true;
    while (open && !this.#outbox.closed) {
      if (this.#outbox.pendingBytes > REPLY_BUDGET_BYTES || this.#waits.size > MAX_WAITS) break;
      // What is at hand belongs to its payload.
      if (this.#large !== undefined) break;
      const step = this.#skipped === undefined ? this.#runNext() : this.#skipPayload(this.#skipped);
      if (step === "starved") break;
      open = step === "done";
    }
    this.#endBatch();
    return open;
  }

  #consume(bytes: number): void {
    this.#inbox.consume(bytes);
    this.#oldBytes -= bytes;
  }

  #skipPayload(skipped: { bytes: number; failure: Failure; ticket: Tickets }): Step {
    const some = Math.min(skipped.bytes, this.#inbox.length);
    this.#consume(some);
    skipped.bytes -= some;
    if (skipped.bytes > 0) return "starved";
    skipped.ticket.end(this.#replies, skipped.failure);
    this.#skipped = undefined;
    return "done";
  }

  #runNext(): Step {
    const inbox = this.#inbox;
    const request = this.#request;
    if (inbox.length < this.#headBytes) return "starved";
    if (!this.#decode(inbox.view, inbox.start, request) || request.type === Command.DISC) return "over";
    const payloadBytes = payloadBytesOf(request, this.#rules.form);
    if (payloadBytes === undefined) return "over";
    const frameBytes = this.#headBytes + payloadBytes;
    const isLate = this.#stopping && this.#oldBytes <= 0;
    if (isLate && inbox.length < frameBytes) return "starved";
    const failure = isLate ? STOPPING : refusalOf(request, this.#rules);
    if (failure !== undefined && payloadBytes > 0) {
      this.#skipped = { bytes: payloadBytes, failure, ticket: new Tickets().add(request) };
      this.#consume(this.#headBytes);
      return "done";
    }
    if (inbox.length < frameBytes) {
      if (this.#isLarge(request, frameBytes - inbox.length)) {
        this.#large = { ...request };
        this.#consume(this.#headBytes);
      } else inbox.reserve(frameBytes);
      return "starved";
    }
    const prepared = failure === undefined ? this.#prepare(request) : { failure };
    if (prepared === undefined) return "starved";
    if (prepared.failure === undefined) this.#execute(request, payloadBytes);
    else this.#replies.end(request, prepared.failure);
    this.#consume(frameBytes);
    return "done";
  }

  #isLarge({ type }: NbdRequest, restBytes: number): boolean {
    return type === Command.WRITE && this.#inbox.isApart(restBytes);
  }

  /**
   * Runs a large WRITE, and those that follow it at once: while one is written, the payload of the next arrives. `false`
   * when the conversation is over.
   */
  async #runLarge(first: NbdRequest): Promise<boolean> {
    let current: LargeWrite | undefined = this.#beginLarge(first);
    this.#large = undefined;
    while (current !== undefined) {
      if (!await this.#idle.during(current.payload.arrived)) return false;
      const next: LargeWrite | undefined = this.#nextLarge();
      await this.#writeLarge(current);
      current = next;
    }
    return true;
  }

  #beginLarge(request: NbdRequest): LargeWrite {
    const atHand = Math.min(this.#inbox.length, request.length);
    const payload = this.#inbox.receiveApart(request.length);
    this.#oldBytes -= atHand;
    return { request, payload };
  }

  /** The large WRITE whose head has arrived; everything else waits for its turn. */
  #nextLarge(): LargeWrite | undefined {
    const inbox = this.#inbox;
    const request = this.#request;
    if (this.#stopping || this.#outbox.closed || this.#waits.size > MAX_WAITS) return undefined;
    if (inbox.length === 0) inbox.poll(this.#headBytes);
    if (inbox.length < this.#headBytes || !this.#decode(inbox.view, inbox.start, request)) return undefined;
    if (payloadBytesOf(request, this.#rules.form) === undefined || refusalOf(request, this.#rules)) {
      return undefined;
    }
    if (!this.#isLarge(request, this.#headBytes + request.length - inbox.length)) return undefined;
    this.#consume(this.#headBytes);
    return this.#beginLarge({ ...request });
  }

  async #writeLarge({ request, payload }: LargeWrite): Promise<void> {
    const { offset, length, type } = request;
    const { device, client } = this.#opened;
    try {
      await device.prepare?.(offset, length);
      if (this.#outbox.closed) return;
      const fua = (request.flags & CommandFlag.FUA) !== 0;
      device.write(offset, payload.bytes, { client, fua });
      (fua ? this.#forced : this.#changed).add(request);
    } catch (thrown) {
      this.#replies.end(request, this.#failureOf(thrown, type));
    } finally {
      this.#inbox.release(payload);
    }
    this.#endBatch();
    await device.pressure?.();
  }

  /** How the device is prepared for a change; `undefined` while that is under way. */
  #prepare({ type, offset, length }: NbdRequest): { failure: Failure | undefined } | undefined {
    const prepared = this.#prepared;
    this.#prepared = undefined;
    if (prepared !== undefined) return prepared;
    if (type !== Command.WRITE && type !== Command.TRIM && type !== Command.WRITE_ZEROES) return PREPARED;
    const preparation = this.#opened.device.prepare?.(offset, length);
    if (preparation === undefined) return PREPARED;
    this.#preparation = preparation.then(() => undefined, (thrown) => this.#failureOf(thrown, type));
    return undefined;
  }

  #execute(request: NbdRequest, payloadBytes: number): void {
    const { type, offset, length } = request;
    const { device, client } = this.#opened;
    const fua = (request.flags & CommandFlag.FUA) !== 0;
    try {
      switch (type) {
        case Command.READ:
          answerRead(this.#replies, request, {
            device,
            inChunks: this.#rules.form !== "simple",
            failureOf: (thrown) => this.#failureOf(thrown, type),
          });
          return;
        case Command.FLUSH:
          this.#endAfter(
            type,
            new Tickets().add(request),
            () => device.readOnly ? undefined : device.flush({ client }),
          );
          return;
        case Command.CACHE:
          this.#cache(request);
          return;
        case Command.BLOCK_STATUS:
          this.#waitFor(answerStatus(this.#replies, request, {
            contexts: this.#options.contexts,
            rules: this.#rules,
            payload: this.#inbox.bytes(this.#headBytes, payloadBytes),
            failureOf: (thrown) => this.#failureOf(thrown, type),
          }));
          return;
        case Command.WRITE:
          if (length > 0) device.write(offset, this.#inbox.bytes(this.#headBytes, length), { client, fua });
          break;
        case Command.TRIM:
          if (length > 0) device.trim(offset, length, { client, fua });
          break;
        case Command.WRITE_ZEROES:
          if (length > 0) device.zero(offset, length, { client, fua });
          break;
      }
      (fua ? this.#forced : this.#changed).add(request);
    } catch (thrown) {
      this.#replies.end(request, this.#failureOf(thrown, type));
    }
  }

  #cache(request: NbdRequest): void {
    const { offset, length } = request;
    const { device } = this.#opened;
    const goesOn = () => {
      if (this.#stopping) throw new VarveError("cancelled", "cache a range: the server is being stopped");
      return !this.#ended && !this.#outbox.closed;
    };
    const work = () => inTurns(readInPieces(device, { offset, length, goesOn }), this.#options.scheduler);
    this.#endAfter(Command.CACHE, new Tickets().add(request), () => this.#caching.run(work));
  }

  /** Commits what the batch changed, then lets its replies go. */
  #endBatch(): void {
    const changed = this.#changed;
    const forced = this.#forced;
    if (!changed.isEmpty || !forced.isEmpty) {
      const { device } = this.#opened;
      this.#changed = new Tickets();
      this.#forced = new Tickets();
      try {
        device.commit();
        const held = device.held?.();
        if (held === undefined) changed.end(this.#replies);
        else this.#endAfter(Command.WRITE, changed, () => held);
        if (!forced.isEmpty) this.#endAfter(Command.WRITE, forced, () => device.sync());
      } catch (thrown) {
        const failure = this.#failureOf(thrown, Command.WRITE);
        changed.end(this.#replies, failure);
        forced.end(this.#replies, failure);
      }
    }
    this.#outbox.publish();
  }

  /** Replies when storage has answered, without holding up what comes later. */
  #endAfter(command: number, tickets: Tickets, wait: () => Promise<void> | undefined): void {
    this.#waitFor(
      Promise.try(wait).then(
        () => () => tickets.end(this.#replies),
        (thrown) => {
          const failure = this.#failureOf(thrown, command);
          return () => tickets.end(this.#replies, failure);
        },
      ),
    );
  }

  /** Lets the reply that a promise comes to go, unless nobody waits for it any more. */
  #waitFor(outcome: Promise<() => void> | undefined): void {
    if (outcome === undefined) return;
    const done = outcome.then((reply) => {
      this.#waits.delete(done);
      if (this.#outbox.closed) return;
      reply();
      this.#outbox.publish();
    });
    this.#waits.add(done);
  }

  #failureOf(thrown: unknown, command: number): Failure {
    const error = VarveError.from(thrown, "run an NBD command");
    const value = nbdErrorOf(error.code, command);
    if (value === NbdError.EIO || value === NbdError.ENOSPC) this.#options.onProblem(error);
    return { error: value, message: error.message };
  }
}

/** Nothing is in the way of a command. */
const PREPARED = { failure: undefined };

/**
 * The handshake: fixed newstyle, from the greeting to an open export.
 *
 * A client may ask for structured replies or extended headers, for encryption, and for metadata contexts, in any order
 * that the protocol allows. What it has negotiated is forgotten when encryption begins.
 *
 * @module
 */
import { VarveError } from "../base/errors.ts";
import type { StatusContext } from "./block_status.ts";
import type { ClientInfo, ExportProvider, OpenExport } from "./exports.ts";
import { type HeldExport, HeldExports } from "./_held_exports.ts";
import { Inbox } from "./_inbox.ts";
import { listContexts, MAX_QUERIES, selectContexts } from "./meta_contexts.ts";
import {
  decodeClientFlags,
  decodeInfoRequest,
  decodeMetaRequest,
  decodeOptionHeader,
  decodeString,
  encodeExportNameReply,
  encodeGreeting,
  encodeInfoBlockSize,
  encodeInfoExport,
  encodeInfoString,
  encodeMetaContext,
  encodeOptionReply,
  encodeServerEntry,
} from "./_option_format.ts";
import { nameIn, Refusal, refusalReply } from "./_option_refusal.ts";
import { Outbox } from "./_outbox.ts";
import {
  CLIENT_FLAGS_BYTES,
  Info,
  MAX_STRING_BYTES,
  type MessageForm,
  Option,
  OPTION_HEADER_BYTES,
  Rep,
  transmissionFlags,
} from "./protocol.ts";
import type { TlsUpgrade } from "./tls.ts";
import type { Transport } from "./transport.ts";

/** Options a client may send before it is cut off. */
const MAX_OPTIONS = 256;
/** Longest option data that is looked at. */
const MAX_OPTION_BYTES = 64 * 1024;
/** Longest option data that is received at all, in order to be refused politely. */
const MAX_SKIPPED_BYTES = 1024 * 1024;

/** What the handshake needs. */
export interface HandshakeOptions {
  /** The exports. */
  readonly exports: ExportProvider;
  /** How connections are encrypted. Default: they are not. */
  readonly tls?: TlsUpgrade | undefined;
  /** Told of failures that are not the client's fault. */
  readonly onProblem: (error: VarveError) => void;
}

/** What the handshake leads to. */
export interface NegotiatedExport {
  /** The name that the client asked for. */
  readonly name: string;
  /** The export; the caller closes it. */
  readonly opened: OpenExport;
  /** Where requests come from. */
  readonly inbox: Inbox;
  /** Where replies go. */
  readonly outbox: Outbox;
  /** How messages look from now on. */
  readonly form: MessageForm;
  /** The metadata contexts that are selected. */
  readonly contexts: readonly StatusContext[];
}

/** The client goes, or must go: nothing is left to be said. */
const END = Symbol("end");
type Outcome = NegotiatedExport | typeof END | undefined;

/** Metadata contexts and the export that they belong to. */
interface Selection {
  readonly held: HeldExport;
  readonly contexts: readonly StatusContext[];
}

/** Leads one client through the handshake. */
export class Handshake {
  readonly #options: HandshakeOptions;
  readonly #held: HeldExports;
  #transport: Transport;
  #inbox: Inbox;
  #outbox: Outbox;
  #client: ClientInfo;
  #noZeroes = false;
  #fixedNewstyle = false;
  #form: MessageForm = "simple";
  #selection: Selection | undefined;
  #state: "resting" | "answering" | "upgrading" = "resting";
  #stopping = false;

  /** Takes over a transport; nothing happens before {@linkcode Handshake.run}. */
  constructor(transport: Transport, options: HandshakeOptions) {
    const { peer, credentials } = transport;
    this.#options = options;
    this.#held = new HeldExports(options.exports, options.onProblem);
    this.#transport = transport;
    this.#inbox = new Inbox(transport);
    this.#outbox = new Outbox(transport);
    this.#client = { peer, ...(credentials === undefined ? {} : { credentials }), tls: false };
  }

  /** Leads the client to an export; `undefined` when the connection is to be closed. */
  async run(): Promise<NegotiatedExport | undefined> {
    try {
      const outcome = await this.#talk();
      return outcome === END ? undefined : outcome;
    } finally {
      await this.#held.keepOnly();
    }
  }

  /** Refuses whatever is under way and ends the handshake; at once when the client has asked for nothing. */
  stop(): void {
    this.#stopping = true;
    if (this.#state === "upgrading" || this.#state === "resting" && this.#inbox.length === 0) this.abort();
  }

  /** Ends the connection at once. */
  abort(): void {
    this.#outbox.close();
  }

  async #talk(): Promise<Outcome> {
    await this.#send([encodeGreeting()]);
    if (!await this.#inbox.need(CLIENT_FLAGS_BYTES)) return END;
    const flags = decodeClientFlags(this.#inbox.bytes(0, CLIENT_FLAGS_BYTES));
    this.#inbox.consume(CLIENT_FLAGS_BYTES);
    if (flags === undefined) return END;
    this.#noZeroes = flags.noZeroes;
    this.#fixedNewstyle = flags.fixedNewstyle;
    for (let count = 0; count < MAX_OPTIONS; count++) {
      if (this.#stopping && this.#inbox.length === 0) return END;
      this.#state = "resting";
      const outcome = await this.#answerNextOption();
      if (outcome !== undefined) return outcome;
    }
    return END;
  }

  async #answerNextOption(): Promise<Outcome> {
    if (!await this.#inbox.need(OPTION_HEADER_BYTES)) return END;
    const header = decodeOptionHeader(this.#inbox.bytes(0, OPTION_HEADER_BYTES));
    this.#inbox.consume(OPTION_HEADER_BYTES);
    this.#state = "answering";
    if (header === undefined) return END;
    const { option, length } = header;
    // Without fixed newstyle options have no replies, and there is only one.
    if (!this.#fixedNewstyle && option !== Option.EXPORT_NAME) return END;
    if (option === Option.EXPORT_NAME && length > MAX_STRING_BYTES) return END;
    if (length > MAX_OPTION_BYTES) {
      if (length > MAX_SKIPPED_BYTES || !await this.#inbox.skip(length)) return END;
      return await this.#refuse(
        option,
        new Refusal(Rep.ERR_TOO_BIG, `option of ${length} bytes: too long`),
      );
    }
    if (!await this.#inbox.need(length)) return END;
    const data = this.#inbox.bytes(0, length).slice();
    this.#inbox.consume(length);
    try {
      return await this.#answer(option, data);
    } catch (thrown) {
      if (option === Option.EXPORT_NAME) return END;
      return await this.#refuse(option, thrown);
    }
  }

  /** Answers an option; whatever it throws is refused with. */
  async #answer(option: number, data: Uint8Array): Promise<Outcome> {
    if (option === Option.ABORT) {
      await this.#send([encodeOptionReply(option, Rep.ACK)]);
      return END;
    }
    this.#checkGoingOn();
    if (option === Option.STARTTLS) return await this.#startTls(data);
    if (this.#options.tls?.required === true && this.#client.tls !== true) {
      throw new Refusal(Rep.ERR_TLS_REQD, "this server talks to clients that encrypt only: send STARTTLS");
    }
    switch (option) {
      case Option.EXPORT_NAME:
        return await this.#answerExportName(data);
      case Option.GO:
      case Option.INFO:
        return await this.#answerInfo(option, data);
      case Option.LIST:
        checkEmpty(data);
        return await this.#acknowledge(option, await this.#listedExports());
      case Option.STRUCTURED_REPLY:
        checkEmpty(data);
        if (this.#form === "extended") {
          throw new Refusal(Rep.ERR_EXT_HEADER_REQD, "extended headers have been negotiated already");
        }
        this.#form = "structured";
        return await this.#acknowledge(option);
      case Option.EXTENDED_HEADERS:
        checkEmpty(data);
        this.#form = "extended";
        return await this.#acknowledge(option);
      case Option.LIST_META_CONTEXT:
      case Option.SET_META_CONTEXT:
        return await this.#answerMetaContext(option, data);
      default:
        throw new Refusal(Rep.ERR_UNSUP, `option ${option}: not supported`);
    }
  }

  /** EXPORT_NAME has no way to say no but to close, and none to tell of extended headers. */
  async #answerExportName(data: Uint8Array): Promise<Outcome> {
    const name = decodeString(data);
    if (name === undefined || this.#form === "extended") return END;
    const held = await this.#open(name);
    const flags = this.#flagsOf(held);
    this.#checkGoingOn();
    const sent = await this.#send([
      encodeExportNameReply(held.opened.device.sizeBytes, flags, this.#noZeroes),
    ]);
    return sent ? this.#enter(held) : END;
  }

  async #answerInfo(option: typeof Option.GO | typeof Option.INFO, data: Uint8Array): Promise<Outcome> {
    const request = decodeInfoRequest(data);
    if (request === undefined) {
      throw new Refusal(Rep.ERR_INVALID, "read the option: its lengths do not add up");
    }
    const held = await this.#open(nameIn(request.name));
    this.#checkGoingOn();
    const { device, description } = held.opened;
    const { kinds } = request;
    const infos = [encodeInfoExport(device.sizeBytes, this.#flagsOf(held))];
    if (kinds.has(Info.NAME)) infos.push(encodeInfoString(Info.NAME, held.name));
    if (kinds.has(Info.DESCRIPTION)) infos.push(encodeInfoString(Info.DESCRIPTION, description));
    if (kinds.has(Info.BLOCK_SIZE)) infos.push(encodeInfoBlockSize());
    const outcome = await this.#acknowledge(
      option,
      infos.map((info) => encodeOptionReply(option, Rep.INFO, info)),
    );
    return outcome === undefined && option === Option.GO ? this.#enter(held) : outcome;
  }

  async #listedExports(): Promise<Uint8Array[]> {
    const entries = await this.#ask("list exports", () => this.#options.exports.list());
    return entries.map(({ name, description }) =>
      encodeOptionReply(Option.LIST, Rep.SERVER, encodeServerEntry(name, description))
    );
  }

  async #answerMetaContext(
    option: typeof Option.LIST_META_CONTEXT | typeof Option.SET_META_CONTEXT,
    data: Uint8Array,
  ): Promise<Outcome> {
    const isSelecting = option === Option.SET_META_CONTEXT;
    // What was selected before is gone, whatever becomes of this.
    if (isSelecting) this.#selection = undefined;
    if (this.#form === "simple") {
      throw new Refusal(
        Rep.ERR_INVALID,
        "metadata contexts need structured replies or extended headers first",
      );
    }
    const request = decodeMetaRequest(data);
    if (request === undefined) {
      throw new Refusal(Rep.ERR_INVALID, "read the option: its lengths do not add up");
    }
    if (request.queries.length > MAX_QUERIES) {
      throw new Refusal(Rep.ERR_TOO_BIG, `read the queries: more than ${MAX_QUERIES}`);
    }
    const queries = request.queries.map((query) => nameIn(query));
    const held = await this.#open(nameIn(request.name));
    const reply = (id: number, name: string) =>
      encodeOptionReply(option, Rep.META_CONTEXT, encodeMetaContext(id, name));
    if (!isSelecting) {
      const names = await this.#ask("list metadata contexts", () => listContexts(held, queries));
      return await this.#acknowledge(option, names.map((name) => reply(0, name)));
    }
    const contexts = await this.#ask("select metadata contexts", () => selectContexts(held, queries));
    if (contexts.length > 0) this.#selection = { held, contexts };
    return await this.#acknowledge(option, contexts.map(({ id, name }) => reply(id, name)));
  }

  /**
   * Begins encryption. The order matters: nothing that came in plain text behind the option may be taken for part of the
   * encrypted conversation, or somebody in between could speak for the client (CVE-2021-3716). The inbox is asked for no
   * byte after the acknowledgement, and all that was negotiated before is forgotten.
   */
  async #startTls(data: Uint8Array): Promise<Outcome> {
    const { tls } = this.#options;
    if (tls === undefined) throw new Refusal(Rep.ERR_UNSUP, "encryption: not set up at this server");
    checkEmpty(data);
    if (this.#client.tls === true) throw new Refusal(Rep.ERR_INVALID, "the connection is encrypted already");
    if (this.#inbox.length > 0) return END;
    this.#form = "simple";
    this.#selection = undefined;
    await this.#held.keepOnly();
    this.#state = "upgrading";
    if (!await this.#send([encodeOptionReply(Option.STARTTLS, Rep.ACK)])) return END;
    const plain = this.#outbox;
    try {
      const { transport, certificate } = await tls.upgrade(this.#transport);
      if (plain.closed) {
        transport.close();
        return END;
      }
      this.#transport = transport;
      this.#inbox = new Inbox(transport);
      this.#outbox = new Outbox(transport);
      this.#client = { ...this.#client, tls: true, ...(certificate === undefined ? {} : { certificate }) };
      return undefined;
    } catch {
      // The client's fault, or its trust: it learns why from its own end of the TLS handshake.
      return END;
    }
  }

  /** The export of that name, which is held from now on; throws {@linkcode Refusal}, or as the provider. */
  async #open(name: string): Promise<HeldExport> {
    let held: HeldExport | undefined;
    try {
      held = await this.#ask(`open export "${name}"`, () => this.#held.open(name, this.#client));
    } finally {
      await this.#held.keepOnly(held, this.#selection?.held);
    }
    if (held === undefined) {
      throw new Refusal(Rep.ERR_UNKNOWN, `open export "${name}": there is none of that name`);
    }
    return held;
  }

  /** Asks the provider; what it throws that is not the client's fault is reported as well. */
  async #ask<T>(tried: string, question: () => T | Promise<T>): Promise<T> {
    try {
      return await question();
    } catch (thrown) {
      if (thrown instanceof Refusal) throw thrown;
      const error = VarveError.from(thrown, tried);
      if (thrown !== error || error.code === "io" || error.code === "damaged") this.#options.onProblem(error);
      throw error;
    }
  }

  #contextsOf(held: HeldExport): readonly StatusContext[] {
    return this.#selection?.held === held ? this.#selection.contexts : [];
  }

  #flagsOf(held: HeldExport): number {
    const { readOnly } = held.opened.device;
    return transmissionFlags({
      readOnly,
      form: this.#form,
      hasContexts: this.#contextsOf(held).length > 0,
    });
  }

  #enter(held: HeldExport): NegotiatedExport {
    return {
      name: held.name,
      opened: this.#held.take(held),
      inbox: this.#inbox,
      outbox: this.#outbox,
      form: this.#form,
      contexts: this.#contextsOf(held),
    };
  }

  #checkGoingOn(): void {
    if (this.#stopping) throw new Refusal(Rep.ERR_SHUTDOWN, "the server is being stopped");
  }

  async #acknowledge(option: number, replies: readonly Uint8Array[] = []): Promise<Outcome> {
    return await this.#send([...replies, encodeOptionReply(option, Rep.ACK)]) ? undefined : END;
  }

  async #refuse(option: number, thrown: unknown): Promise<Outcome> {
    return await this.#send([refusalReply(option, thrown)]) ? undefined : END;
  }

  /** Sends answers and waits until they are on their way; `false` when the connection is lost. */
  async #send(answers: readonly Uint8Array[]): Promise<boolean> {
    const outbox = this.#outbox;
    for (const answer of answers) outbox.append(answer);
    outbox.publish();
    await outbox.drained(0);
    return !outbox.closed;
  }
}

function checkEmpty(data: Uint8Array): void {
  if (data.length > 0) throw new Refusal(Rep.ERR_INVALID, "the option takes no data");
}

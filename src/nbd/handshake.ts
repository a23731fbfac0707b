/**
 * The handshake: fixed newstyle, from the greeting to an open export.
 *
 * Not supported, and answered with `NBD_REP_ERR_UNSUP`: TLS, structured replies, metadata contexts, extended headers.
 *
 * @module
 */
import { VarveError } from "../base/errors.ts";
import type { Inbox } from "./_inbox.ts";
import type { Outbox } from "./_outbox.ts";
import type { ClientInfo, ExportProvider, OpenExport } from "./exports.ts";
import {
  CLIENT_FLAGS_BYTES,
  decodeClientFlags,
  decodeInfoRequest,
  decodeOptionHeader,
  decodeString,
  encodeExportNameReply,
  encodeGreeting,
  encodeInfoBlockSize,
  encodeInfoExport,
  encodeInfoString,
  encodeOptionReply,
  encodeServerEntry,
  encodeString,
  Info,
  MAX_STRING_BYTES,
  Option,
  OPTION_HEADER_BYTES,
  optionErrorOf,
  Rep,
  transmissionFlags,
} from "./protocol.ts";

/** Options a client may send before it is cut off. */
const MAX_OPTIONS = 256;
/** Longest option data that is looked at. */
const MAX_OPTION_BYTES = 64 * 1024;
/** Longest option data that is received at all, in order to be refused politely. */
const MAX_SKIPPED_BYTES = 1024 * 1024;

/** What the handshake needs. */
export interface HandshakeOptions {
  /** Where the client's bytes come from; what follows the handshake stays in it. */
  readonly inbox: Inbox;
  /** Where answers go. */
  readonly outbox: Outbox;
  /** Who is at the other end. */
  readonly client: ClientInfo;
  /** The exports. */
  readonly exports: ExportProvider;
  /** Told of failures that are not the client's fault. */
  readonly onProblem: (error: VarveError) => void;
}

/** What the handshake leads to. */
export interface NegotiatedExport {
  /** The name that the client asked for. */
  readonly name: string;
  /** The export; the caller closes it. */
  readonly opened: OpenExport;
}

/** The client goes, or must go: nothing is left to be said. */
const END = Symbol("end");
type Outcome = NegotiatedExport | typeof END | undefined;

/** Leads a client through the handshake; `undefined` when the connection is to be closed. */
export async function negotiate(options: HandshakeOptions): Promise<NegotiatedExport | undefined> {
  const { inbox } = options;
  await send(options, [encodeGreeting()]);
  if (!await inbox.need(CLIENT_FLAGS_BYTES)) return undefined;
  const flags = decodeClientFlags(inbox.bytes(0, CLIENT_FLAGS_BYTES));
  inbox.consume(CLIENT_FLAGS_BYTES);
  if (flags === undefined) return undefined;
  for (let count = 0; count < MAX_OPTIONS; count++) {
    const outcome = await answerNextOption(options, flags.noZeroes);
    if (outcome === END) return undefined;
    if (outcome !== undefined) return outcome;
  }
  return undefined;
}

async function answerNextOption(options: HandshakeOptions, noZeroes: boolean): Promise<Outcome> {
  const { inbox } = options;
  if (!await inbox.need(OPTION_HEADER_BYTES)) return END;
  const header = decodeOptionHeader(inbox.bytes(0, OPTION_HEADER_BYTES));
  inbox.consume(OPTION_HEADER_BYTES);
  if (header === undefined) return END;
  const { option, length } = header;

  if (option === Option.EXPORT_NAME && length > MAX_STRING_BYTES) return END;
  if (length > MAX_OPTION_BYTES) {
    if (length > MAX_SKIPPED_BYTES || !await inbox.skip(length)) return END;
    await send(options, [refusal(option, Rep.ERR_TOO_BIG, `option of ${length} bytes: too long`)]);
    return undefined;
  }
  if (!await inbox.need(length)) return END;
  const data = inbox.bytes(0, length).slice();
  inbox.consume(length);

  switch (option) {
    case Option.EXPORT_NAME:
      return await answerExportName(options, data, noZeroes);
    case Option.GO:
      return await answerInfo(options, Option.GO, data);
    case Option.INFO:
      return await answerInfo(options, Option.INFO, data);
    case Option.LIST:
      await send(options, await listReplies(options, data));
      return undefined;
    case Option.ABORT:
      await send(options, [encodeOptionReply(option, Rep.ACK)]);
      return END;
    default:
      await send(options, [refusal(option, Rep.ERR_UNSUP, `option ${option}: not supported`)]);
      return undefined;
  }
}

/** EXPORT_NAME has no way to say no but to close. */
async function answerExportName(
  options: HandshakeOptions,
  data: Uint8Array,
  noZeroes: boolean,
): Promise<Outcome> {
  const name = decodeString(data);
  const opened = name === undefined ? undefined : await openExport(options, name);
  if (name === undefined || opened === undefined || opened instanceof VarveError) return END;
  const { device } = opened;
  const reply = encodeExportNameReply(device.sizeBytes, transmissionFlags(device.readOnly), noZeroes);
  if (await send(options, [reply])) return { name, opened };
  await closeExport(opened, options.onProblem);
  return END;
}

async function answerInfo(
  options: HandshakeOptions,
  option: typeof Option.GO | typeof Option.INFO,
  data: Uint8Array,
): Promise<Outcome> {
  const refuse = async (type: number, message: string) => {
    await send(options, [refusal(option, type, message)]);
    return undefined;
  };
  const request = decodeInfoRequest(data);
  if (request === undefined) {
    return await refuse(Rep.ERR_INVALID, "read the option: its lengths do not add up");
  }
  if (request.name.length > MAX_STRING_BYTES) {
    return await refuse(Rep.ERR_TOO_BIG, `read the export name: longer than ${MAX_STRING_BYTES} bytes`);
  }
  const name = decodeString(request.name);
  if (name === undefined) return await refuse(Rep.ERR_INVALID, "read the export name: it is not UTF-8 text");
  const opened = await openExport(options, name);
  if (opened === undefined) {
    return await refuse(Rep.ERR_UNKNOWN, `open export "${name}": there is none of that name`);
  }
  if (opened instanceof VarveError) return await refuse(optionErrorOf(opened.code), messageOf(opened));

  const sent = await send(options, infoReplies(option, name, opened, request.kinds));
  if (sent && option === Option.GO) return { name, opened };
  await closeExport(opened, options.onProblem);
  return undefined;
}

function* infoReplies(
  option: number,
  name: string,
  opened: OpenExport,
  kinds: Set<number>,
): Iterable<Uint8Array> {
  const { device, description } = opened;
  const info = (data: Uint8Array) => encodeOptionReply(option, Rep.INFO, data);
  yield info(encodeInfoExport(device.sizeBytes, transmissionFlags(device.readOnly)));
  if (kinds.has(Info.NAME)) yield info(encodeInfoString(Info.NAME, name));
  if (kinds.has(Info.DESCRIPTION)) yield info(encodeInfoString(Info.DESCRIPTION, description));
  if (kinds.has(Info.BLOCK_SIZE)) yield info(encodeInfoBlockSize());
  yield encodeOptionReply(option, Rep.ACK);
}

async function listReplies(options: HandshakeOptions, data: Uint8Array): Promise<Uint8Array[]> {
  if (data.length > 0) {
    return [refusal(Option.LIST, Rep.ERR_INVALID, "list exports: the option takes no data")];
  }
  try {
    const entries = await options.exports.list();
    return [
      ...entries.map(({ name, description }) =>
        encodeOptionReply(Option.LIST, Rep.SERVER, encodeServerEntry(name, description))
      ),
      encodeOptionReply(Option.LIST, Rep.ACK),
    ];
  } catch (thrown) {
    const error = VarveError.from(thrown, "list exports");
    options.onProblem(error);
    return [refusal(Option.LIST, optionErrorOf(error.code), messageOf(error))];
  }
}

async function openExport(
  options: HandshakeOptions,
  name: string,
): Promise<OpenExport | VarveError | undefined> {
  try {
    return await options.exports.open(name, options.client);
  } catch (thrown) {
    const error = VarveError.from(thrown, `open export "${name}"`);
    if (thrown !== error || error.code === "io" || error.code === "damaged") options.onProblem(error);
    return error;
  }
}

/** Closes an export; a failure to do so goes to `onProblem`. */
export async function closeExport(opened: OpenExport, onProblem: (error: VarveError) => void): Promise<void> {
  try {
    await opened.close();
  } catch (thrown) {
    onProblem(VarveError.from(thrown, "close an export"));
  }
}

/** Sends answers and waits until they are on their way; `false` when the connection is lost. */
async function send({ outbox }: HandshakeOptions, answers: Iterable<Uint8Array>): Promise<boolean> {
  for (const answer of answers) outbox.append(answer);
  outbox.publish();
  await outbox.drained(0);
  return !outbox.closed;
}

function refusal(option: number, type: number, message: string): Uint8Array {
  return encodeOptionReply(option, type, encodeString(message));
}

function messageOf(error: VarveError): string {
  return error.hint === undefined ? error.message : `${error.message}. ${error.hint}`;
}

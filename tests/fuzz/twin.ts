/**
 * Reads both sides of a conversation with an NBD server, with nothing of the server's own code, and finds what the server
 * must not have said or left unsaid.
 *
 * It reads what the client has sent as the protocol says, so it knows where options and requests begin and end, which
 * replies each of them may have, and when the server may end the conversation.
 */

const MAX_OPTIONS = 256;
const MAX_OPTION_BYTES = 1024 * 1024;
const MAX_PAYLOAD_BYTES = 32 * 1024 * 1024;
const MAX_SKIPPED_BYTES = 256 * 1024 * 1024;

/** What a conversation came to. */
export interface Finding {
  /** Replies that were read, to options and to requests. */
  replies: number;
  /** Requests that were complete. */
  requests: number;
}

/** The server's words end here, where more was due. */
class Cut extends Error {}
/** A mutation has given one cookie to requests whose simple replies differ in length: nobody can tell them apart. */
class Ambiguous extends Error {}

class Reader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }
  get left(): number {
    return this.#bytes.length - this.at;
  }
  take(length: number): number {
    if (length > this.left) throw new Cut(`${length} bytes are due, ${this.left} are left`);
    this.at += length;
    return this.at - length;
  }
  bytes(length: number): Uint8Array {
    const at = this.take(length);
    return this.#bytes.subarray(at, at + length);
  }
  u16(): number {
    return this.#view.getUint16(this.take(2));
  }
  u32(): number {
    return this.#view.getUint32(this.take(4));
  }
  u64(): bigint {
    return this.#view.getBigUint64(this.take(8));
  }
}

interface SentRequest {
  readonly type: number;
  readonly offset: bigint;
  readonly length: bigint;
}

interface State {
  form: "simple" | "structured" | "extended";
  noZeroes: boolean;
}

function demand(holds: boolean, what: string): asserts holds {
  if (!holds) throw new Error(what);
}

/**
 * Compares what was sent with what was received; throws an `Error` that says what is wrong. When the client has cut the
 * connection, the server's words may end anywhere between two messages of its.
 */
export function compare(sentBytes: Uint8Array, receivedBytes: Uint8Array, cut: boolean): Finding {
  const sent = new Reader(sentBytes);
  const received = new Reader(receivedBytes);
  const finding: Finding = { replies: 0, requests: 0 };
  try {
    demand(
      received.u64() === 0x4e42444d41474943n && received.u64() === 0x49484156454f5054n,
      "greeting: wrong magic",
    );
    demand(received.u16() === 3, "greeting: wrong flags");
    const state = readHandshake(sent, received, finding);
    if (state !== undefined) readTransmission(state, sent, received, finding, cut);
    demand(received.left === 0, `${received.left} bytes were said that answer nothing`);
  } catch (thrown) {
    if (!(thrown instanceof Ambiguous || thrown instanceof Cut && cut)) throw thrown;
  }
  return finding;
}

/** Reads to the transmission phase; `undefined` when the conversation ends before. */
function readHandshake(sent: Reader, received: Reader, finding: Finding): State | undefined {
  if (sent.left < 4) return undefined;
  const flags = sent.u32();
  if (flags > 3) return undefined;
  const state: State = { form: "simple", noZeroes: (flags & 2) !== 0 };
  for (let count = 0; count < MAX_OPTIONS; count++) {
    if (sent.left < 16 || sent.u64() !== 0x49484156454f5054n) return undefined;
    const [option, length] = [sent.u32(), sent.u32()];
    const isExportName = option === 1;
    if (!isExportName && (flags & 1) === 0) return undefined;
    if (length > (isExportName ? 4096 : MAX_OPTION_BYTES) || length > sent.left) return undefined;
    sent.take(length);
    if (isExportName) {
      if (received.left === 0) return undefined;
      received.u64();
      demand((received.u16() & 1) === 1, "EXPORT_NAME: the flags have no flag");
      if (!state.noZeroes) demand(received.bytes(124).every((byte) => byte === 0), "EXPORT_NAME: no zeroes");
      return state;
    }
    // Nothing may follow STARTTLS before it is answered: the server ends the conversation when something did.
    if (option === 5 && received.left === 0) return undefined;
    const last = readOptionReplies(option, received, finding);
    if (last !== 1) continue;
    if (option === 2 || option === 5) return undefined;
    if (option === 7) return state;
    if (option === 8) state.form = "structured";
    if (option === 11) state.form = "extended";
  }
  return undefined;
}

function readOptionReplies(option: number, received: Reader, finding: Finding): number {
  const intermediate = option === 3 ? 2 : option === 6 || option === 7 ? 3 : 4;
  for (;;) {
    demand(received.u64() === 0x0003e889045565a9n, "option reply: wrong magic");
    demand(received.u32() === option, "option reply: of another option");
    const type = received.u32();
    const data = received.bytes(received.u32());
    finding.replies++;
    if (type === 1) {
      demand(data.length === 0, "option reply: an acknowledgement with data");
      return type;
    }
    if (type > 0x8000_0000) {
      demand(data.length <= 4096, "option reply: a message beyond the length of strings");
      new TextDecoder("utf-8", { fatal: true }).decode(data);
      return type;
    }
    demand(type === intermediate, `option reply: type ${type} to option ${option}`);
  }
}

/** Requests that are complete, and what the server owes for each. */
function readRequests(state: State, sent: Reader): Map<bigint, SentRequest[]> {
  const isExtended = state.form === "extended";
  const requests = new Map<bigint, SentRequest[]>();
  while (sent.left >= (isExtended ? 32 : 28)) {
    if (sent.u32() !== (isExtended ? 0x21e41c71 : 0x25609513)) break;
    const [flags, type, cookie, offset] = [sent.u16(), sent.u16(), sent.u64(), sent.u64()];
    const length = isExtended ? sent.u64() : BigInt(sent.u32());
    if (type === 2) break;
    const hasPayload = isExtended ? (flags & 32) !== 0 : type === 1;
    if (isExtended && type === 1 && !hasPayload) break;
    if (hasPayload) {
      if (length > (isExtended ? MAX_PAYLOAD_BYTES : MAX_SKIPPED_BYTES) || length > sent.left) break;
      sent.take(Number(length));
    }
    const same = requests.get(cookie);
    if (same === undefined) requests.set(cookie, [{ type, offset, length }]);
    else same.push({ type, offset, length });
  }
  return requests;
}

function readTransmission(
  state: State,
  sent: Reader,
  received: Reader,
  finding: Finding,
  cut: boolean,
): void {
  const requests = readRequests(state, sent);
  const owed = new Map<bigint, number>();
  for (const [cookie, same] of requests) {
    owed.set(cookie, same.length);
    finding.requests += same.length;
  }
  /** Bytes of content that a READ has been told. */
  const told = new Map<bigint, bigint>();
  while (received.left > 0) {
    const { cookie, done } = state.form === "simple"
      ? readSimpleReply(requests, received)
      : readChunk(state.form, requests, received, told);
    if (!done) continue;
    finding.replies++;
    const left = (owed.get(cookie) ?? 0) - 1;
    demand(left >= 0, "a request was answered twice");
    owed.set(cookie, left);
  }
  if (!cut) demand([...owed.values()].every((count) => count === 0), "a request was not answered");
}

function readSimpleReply(
  requests: Map<bigint, SentRequest[]>,
  received: Reader,
): { cookie: bigint; done: boolean } {
  demand(received.u32() === 0x67446698, "simple reply: wrong magic");
  const [error, cookie] = [received.u32(), received.u64()];
  const same = requests.get(cookie);
  demand(same !== undefined, "simple reply: to no request");
  demandError(error, true);
  if (error !== 0) return { cookie, done: true };
  const lengths = new Set(same.map((request) => request.type === 0 ? request.length : 0n));
  if (lengths.size > 1) throw new Ambiguous();
  for (const length of lengths) received.take(Number(length));
  return { cookie, done: true };
}

function readChunk(
  form: "structured" | "extended",
  requests: Map<bigint, SentRequest[]>,
  received: Reader,
  told: Map<bigint, bigint>,
): { cookie: bigint; done: boolean } {
  const isExtended = form === "extended";
  demand(received.u32() === (isExtended ? 0x6e8a278c : 0x668e33ef), "chunk: wrong magic");
  const [flags, type, cookie] = [received.u16(), received.u16(), received.u64()];
  demand(flags <= 1, "chunk: unknown flags");
  const same = requests.get(cookie);
  demand(same !== undefined, "chunk: to no request");
  if (isExtended) {
    const offset = received.u64();
    demand(same.some((request) => request.offset === offset), "chunk: the offset is not the request's");
  }
  const length = isExtended ? received.u64() : BigInt(received.u32());
  demand(length <= MAX_PAYLOAD_BYTES + 8, "chunk: longer than any may be");
  const content = new Reader(received.bytes(Number(length)));
  const done = flags === 1;
  readContent(type, content, { same, done, isExtended }, (offset, bytes) => {
    const before = told.get(cookie) ?? 0n;
    const [only] = same;
    if (same.length > 1 || only === undefined) return;
    demand(offset === only.offset + before, "chunk: content out of place");
    told.set(cookie, before + bytes);
    demand(before + bytes <= only.length, "chunk: more content than was asked for");
    if (done) demand(before + bytes === only.length, "chunk: less content than was asked for");
  });
  return { cookie, done };
}

interface ChunkFacts {
  readonly same: readonly SentRequest[];
  readonly done: boolean;
  readonly isExtended: boolean;
}

function readContent(
  type: number,
  content: Reader,
  { same, done, isExtended }: ChunkFacts,
  onContent: (offset: bigint, bytes: bigint) => void,
): void {
  const isOf = (command: number) => same.some((request) => request.type === command);
  switch (type) {
    case 0:
      demand(done && content.left === 0, "chunk: NONE that is not the end");
      break;
    case 1: {
      demand(isOf(0) && content.left >= 9, "chunk: data that was not read");
      const offset = content.u64();
      onContent(offset, BigInt(content.left));
      break;
    }
    case 2: {
      demand(isOf(0) && content.left === 12, "chunk: a hole that was not read");
      onContent(content.u64(), BigInt(content.u32()));
      break;
    }
    case 5:
    case 6: {
      demand(isOf(7) && isExtended === (type === 6), "chunk: a status that was not asked for");
      content.u32();
      if (isExtended) demand(content.u32() * 16 === content.left, "chunk: a status with a wrong count");
      const runBytes = isExtended ? 16 : 8;
      demand(content.left >= runBytes && content.left % runBytes === 0, "chunk: half a run");
      while (content.left > 0) {
        demand((isExtended ? content.u64() : BigInt(content.u32())) > 0n, "chunk: a run of nothing");
        demand((isExtended ? content.u64() : BigInt(content.u32())) <= 3n, "chunk: unknown flags of a run");
      }
      break;
    }
    case 0x8001:
    case 0x8002: {
      demand(done, "chunk: an error that is not the end");
      demandError(content.u32(), false);
      new TextDecoder("utf-8", { fatal: true }).decode(content.bytes(content.u16()));
      demand(content.left === (type === 0x8002 ? 8 : 0), "chunk: an error of a wrong length");
      break;
    }
    default:
      throw new Error(`chunk: unknown type ${type}`);
  }
}

/** A device in memory never fails: EIO would be a fault of the server. */
function demandError(error: number, orNone: boolean): void {
  demand((orNone && error === 0) || [1, 22, 28].includes(error), `reply: error ${error}`);
}

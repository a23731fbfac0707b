/** Test doubles for the NBD room: a provider, a client that speaks raw bytes, and child processes. */
import type { BlockDevice } from "../base/block_device.ts";
import type { ExportProvider } from "./exports.ts";
import { NbdServer, type NbdServerOptions } from "./server.ts";
import type { Transport } from "./transport.ts";

/** Serves fixed devices by name and counts how often each was opened and closed. */
export class TestExports implements ExportProvider {
  opened = 0;
  closed = 0;
  readonly devices: Map<string, BlockDevice>;

  constructor(devices: Record<string, BlockDevice>) {
    this.devices = new Map(Object.entries(devices));
  }

  list() {
    return [...this.devices.keys()].map((name) => ({ name, description: `about ${name}` }));
  }

  open(name: string) {
    const device = this.devices.get(name);
    if (device === undefined) return Promise.resolve(undefined);
    const client = ++this.opened;
    return Promise.resolve({ device, description: `about ${name}`, client, close: () => void this.closed++ });
  }
}

/** One direction of a pipe in memory; `send` never waits. */
class Pipe {
  #chunks: Uint8Array[] = [];
  #ended = false;
  #wake: () => void = () => {};

  send(bytes: Uint8Array): void {
    if (bytes.length > 0) this.#chunks.push(bytes.slice());
    this.#wake();
  }

  end(): void {
    this.#ended = true;
    this.#wake();
  }

  async receive(target: Uint8Array): Promise<number | null> {
    while (this.#chunks.length === 0 && !this.#ended) {
      await new Promise<void>((resolve) => this.#wake = resolve);
    }
    const chunk = this.#chunks.shift();
    if (chunk === undefined) return null;
    const length = Math.min(target.length, chunk.length);
    target.set(chunk.subarray(0, length));
    if (length < chunk.length) this.#chunks.unshift(chunk.subarray(length));
    return length;
  }
}

/** The client's end of a connection in memory or of a socket; reads what the server says exactly. */
export class RawClient {
  readonly #send: (bytes: Uint8Array) => Promise<void> | void;
  readonly #receive: (target: Uint8Array) => Promise<number | null>;
  /** Says that nothing more will be sent. */
  readonly endSending: () => Promise<void> | void;
  /** Ends both directions at once. */
  readonly close: () => void;

  private constructor(
    send: (bytes: Uint8Array) => Promise<void> | void,
    receive: (target: Uint8Array) => Promise<number | null>,
    endSending: () => Promise<void> | void,
    close: () => void,
  ) {
    this.#send = send;
    this.#receive = receive;
    this.endSending = endSending;
    this.close = close;
  }

  /** Connects to a server without a socket; `done` resolves when the server has let go of the connection. */
  static inMemory(server: NbdServer): { client: RawClient; done: Promise<void> } {
    const toServer = new Pipe();
    const toClient = new Pipe();
    let closed = false;
    const transport: Transport = {
      peer: "memory",
      read: (target) => toServer.receive(target),
      write(buffers) {
        if (closed) throw new Error("write to a closed transport");
        for (const buffer of buffers) toClient.send(buffer);
      },
      close() {
        closed = true;
        toServer.end();
        toClient.end();
      },
    };
    const client = new RawClient(
      (bytes) => toServer.send(bytes),
      (target) => toClient.receive(target),
      () => toServer.end(),
      () => {
        toServer.end();
        closed = true;
      },
    );
    return { client, done: server.serve(transport) };
  }

  /** Connects over a socket. */
  static async connect(address: string): Promise<RawClient> {
    const conn = address.startsWith("unix:")
      ? await Deno.connect({ transport: "unix", path: address.slice("unix:".length) })
      : await Deno.connect({ hostname: "127.0.0.1", port: Number(address.split(":").at(-1)) });
    return new RawClient(
      async (bytes) => {
        for (let sent = 0; sent < bytes.length;) sent += await conn.write(bytes.subarray(sent));
      },
      (target) => conn.read(target),
      () => conn.closeWrite(),
      () => conn.close(),
    );
  }

  /** Sends parts: bytes as they are, text as UTF-8. */
  async send(...parts: (Uint8Array | string)[]): Promise<void> {
    await this.#send(concat(...parts));
  }

  /** Receives exactly `length` bytes; throws when the server says less. */
  async receive(length: number): Promise<Uint8Array> {
    const bytes = new Uint8Array(length);
    for (let done = 0; done < length;) {
      const received = await this.#receive(bytes.subarray(done));
      if (received === null) throw new Error(`receive ${length} bytes: the server closed after ${done}`);
      done += received;
    }
    return bytes;
  }

  /** Receives until the server closes. */
  async receiveAll(): Promise<Uint8Array> {
    const parts: Uint8Array[] = [];
    const buffer = new Uint8Array(65536);
    for (;;) {
      const received = await this.#receive(buffer).catch(() => null);
      if (received === null) return concat(...parts);
      parts.push(buffer.slice(0, received));
    }
  }

  /** Receives the greeting and sends client flags (default: fixed newstyle, no zeroes). */
  async greet(flags = 3): Promise<void> {
    await this.receive(18);
    await this.send(u32(flags));
  }

  /** Receives one option reply. */
  async optionReply(): Promise<{ option: number; type: number; data: Uint8Array }> {
    const view = new DataView((await this.receive(20)).buffer);
    if (view.getBigUint64(0) !== 0x0003e889045565a9n) throw new Error("option reply: wrong magic number");
    return {
      option: view.getUint32(8),
      type: view.getUint32(12),
      data: await this.receive(view.getUint32(16)),
    };
  }

  /** Receives one simple reply without data. */
  async reply(): Promise<{ error: number; cookie: bigint }> {
    const view = new DataView((await this.receive(16)).buffer);
    if (view.getUint32(0) !== 0x67446698) throw new Error("reply: wrong magic number");
    return { error: view.getUint32(4), cookie: view.getBigUint64(8) };
  }

  /** Receives one structured or extended reply chunk. */
  async chunk(): Promise<ReplyChunk> {
    const head = new DataView((await this.receive(20)).buffer);
    const [magic, flags, type] = [head.getUint32(0), head.getUint16(4), head.getUint16(6)];
    if (flags > 1) throw new Error(`chunk: flags ${flags}`);
    const common = { done: flags === 1, type, cookie: head.getBigUint64(8) };
    if (magic === 0x668e33ef) return { ...common, content: await this.receive(head.getUint32(16)) };
    if (magic !== 0x6e8a278c) throw new Error("chunk: wrong magic number");
    const rest = new DataView((await this.receive(12)).buffer);
    const offset = (BigInt(head.getUint32(16)) << 32n) + BigInt(rest.getUint32(0));
    return { ...common, offset, content: await this.receive(Number(rest.getBigUint64(4))) };
  }

  /** Receives the chunks of one reply, when there is no other under way. */
  async chunks(): Promise<ReplyChunk[]> {
    const chunks: ReplyChunk[] = [];
    do chunks.push(await this.chunk()); while (chunks.at(-1)?.done !== true);
    return chunks;
  }

  /** Receives all replies to one option: to the acknowledgement or the error. */
  async optionReplies(): Promise<{ type: number; data: Uint8Array }[]> {
    const replies: { type: number; data: Uint8Array }[] = [];
    for (;;) {
      const { type, data } = await this.optionReply();
      replies.push({ type, data });
      if (type === 1 || type >= 0x8000_0000) return replies;
    }
  }

  /** Sends an option and tells the type of the last reply to it. */
  async ask(kind: number, data?: Uint8Array): Promise<number> {
    await this.send(option(kind, data));
    return (await this.optionReplies()).at(-1)?.type ?? 0;
  }

  /** From the greeting to the transmission phase by EXPORT_NAME; tells size and transmission flags. */
  async enter(name: string): Promise<{ sizeBytes: number; flags: number }> {
    await this.greet();
    await this.send(option(1, utf8(name)));
    const view = new DataView((await this.receive(10)).buffer);
    return { sizeBytes: Number(view.getBigUint64(0)), flags: view.getUint16(8) };
  }
}

/** An option with its data. */
export function option(kind: number, data: Uint8Array = new Uint8Array(), length = data.length): Uint8Array {
  return concat("IHAVEOPT", u32(kind), u32(length), data);
}

/** Data of GO and INFO. */
export function infoData(name: string, kinds: number[] = []): Uint8Array {
  return concat(u32(utf8(name).length), name, u16(kinds.length), ...kinds.map(u16));
}

/** Data of LIST_META_CONTEXT and SET_META_CONTEXT. */
export function metaData(name: string, queries: string[]): Uint8Array {
  const strings = queries.flatMap((query) => [u32(utf8(query).length), query]);
  return concat(u32(utf8(name).length), name, u32(queries.length), ...strings);
}

/** What a request holds; left out: READ, no flags, cookie 1, offset and length 0, no payload. */
export interface RequestFields {
  type?: number;
  flags?: number;
  cookie?: bigint;
  offset?: bigint | number;
  length?: number;
  payload?: Uint8Array;
  magic?: number;
}

/** A request with its payload, whose length it takes unless told otherwise. */
export function request(fields: RequestFields): Uint8Array {
  const payload = fields.payload ?? new Uint8Array();
  const bytes = new Uint8Array(28 + payload.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, fields.magic ?? 0x25609513);
  view.setUint16(4, fields.flags ?? 0);
  view.setUint16(6, fields.type ?? 0);
  view.setBigUint64(8, fields.cookie ?? 1n);
  view.setBigUint64(16, BigInt(fields.offset ?? 0));
  view.setUint32(24, fields.length ?? payload.length);
  bytes.set(payload, 28);
  return bytes;
}

/** What an extended request holds: as a compact one; the payload's flag is set when there is a payload, unless told. */
export interface ExtendedRequestFields extends Omit<RequestFields, "length"> {
  length?: bigint | number;
}

/** An extended request with its payload. */
export function extendedRequest(fields: ExtendedRequestFields): Uint8Array {
  const payload = fields.payload ?? new Uint8Array();
  const bytes = new Uint8Array(32 + payload.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, fields.magic ?? 0x21e41c71);
  view.setUint16(4, fields.flags ?? (payload.length > 0 ? PAYLOAD_LEN : 0));
  view.setUint16(6, fields.type ?? 0);
  view.setBigUint64(8, fields.cookie ?? 1n);
  view.setBigUint64(16, BigInt(fields.offset ?? 0));
  view.setBigUint64(24, BigInt(fields.length ?? payload.length));
  bytes.set(payload, 32);
  return bytes;
}

const PAYLOAD_LEN = 32;

/** A chunk of a structured or extended reply. */
export interface ReplyChunk {
  done: boolean;
  type: number;
  cookie: bigint;
  /** As an extended reply repeats it. */
  offset?: bigint;
  content: Uint8Array;
}

/** A folder that goes with the test, passed or failed. */
export async function makeFolder(): Promise<{ path: string } & AsyncDisposable> {
  const path = await Deno.makeTempDir({ prefix: "varve-nbd-" });
  return { path, [Symbol.asyncDispose]: () => Deno.remove(path, { recursive: true }) };
}

/** Serves devices at a Unix socket in a folder of its own. */
export async function startServer(
  devices: Record<string, BlockDevice>,
  options: Partial<NbdServerOptions> = {},
): Promise<
  { server: NbdServer; exports: TestExports; folder: string; path: string; address: string } & AsyncDisposable
> {
  const { path: folder, ...temporary } = await makeFolder();
  const exports = new TestExports(devices);
  const server = new NbdServer({ exports, ...options });
  const path = `${folder}/nbd.sock`;
  const address = await server.listen(`unix:${path}`);
  return {
    server,
    exports,
    folder,
    path,
    address,
    async [Symbol.asyncDispose]() {
      await server.close({ graceMs: 0 });
      await temporary[Symbol.asyncDispose]();
    },
  };
}

/** Runs a program to its end; throws with its output when it fails. */
export async function run(command: string, ...args: string[]): Promise<string> {
  const output = await new Deno.Command(command, { args, stdin: "null" }).output();
  const text = new TextDecoder().decode(output.stdout);
  if (!output.success) {
    throw new Error(`${command} ${args.join(" ")}: ${text}${new TextDecoder().decode(output.stderr)}`);
  }
  return text;
}

/** `length` bytes that look random and are the same for the same seed. */
export function noise(length: number, seed = 1): Uint8Array {
  const bytes = new Uint8Array(length);
  let state = seed >>> 0 || 1;
  for (let at = 0; at < length; at++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    bytes[at] = state;
  }
  return bytes;
}

/** One after the other. */
export function concat(...parts: (Uint8Array | string)[]): Uint8Array {
  const arrays = parts.map((part) => typeof part === "string" ? utf8(part) : part);
  const bytes = new Uint8Array(arrays.reduce((sum, array) => sum + array.length, 0));
  let at = 0;
  for (const array of arrays) {
    bytes.set(array, at);
    at += array.length;
  }
  return bytes;
}

/** Text as UTF-8. */
export function utf8(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

/** 16 bits. */
export function u16(value: number): Uint8Array {
  return Uint8Array.of(value >>> 8, value);
}

/** 32 bits. */
export function u32(value: number): Uint8Array {
  return Uint8Array.of(value >>> 24, value >>> 16, value >>> 8, value);
}

/** 64 bits. */
export function u64(value: bigint): Uint8Array {
  return concat(u32(Number(value >> 32n)), u32(Number(value & 0xffff_ffffn)));
}

/** Test doubles for the NBD room: a provider, a client that speaks raw bytes, and child processes. */
import type { BlockDevice } from "../base/block_device.ts";
import {
  concat,
  extendedRequest,
  type ExtendedRequestFields,
  infoData,
  metaData,
  option,
  type ReplyChunk,
  request,
  type RequestFields,
  u32,
  utf8,
  viewOf,
} from "./_test_messages.ts";
import type { ClientInfo, ExportMaps, ExportProvider, OpenExport } from "./exports.ts";
import type { MessageForm } from "./protocol.ts";
import { NbdServer, type NbdServerOptions } from "./server.ts";
import type { TlsUpgrade } from "./tls.ts";
import type { Transport } from "./transport.ts";

export * from "./_test_messages.ts";

/** Serves fixed devices by name and counts how often each was opened and closed. */
export class TestExports implements ExportProvider {
  opened = 0;
  closed = 0;
  /** Who has opened an export, in order. */
  readonly clients: ClientInfo[] = [];
  readonly devices: Map<string, BlockDevice>;
  readonly #maps: ExportMaps | undefined;

  constructor(devices: Record<string, BlockDevice>, maps?: ExportMaps) {
    this.devices = new Map(Object.entries(devices));
    this.#maps = maps;
  }

  list() {
    return [...this.devices.keys()].map((name) => ({ name, description: `about ${name}` }));
  }

  open(name: string, info: ClientInfo): Promise<OpenExport | undefined> {
    const device = this.devices.get(name);
    if (device === undefined) return Promise.resolve(undefined);
    this.clients.push(info);
    const client = ++this.opened;
    const maps = this.#maps === undefined ? {} : { maps: this.#maps };
    const close = () => void this.closed++;
    return Promise.resolve({ device, description: `about ${name}`, client, close, ...maps });
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
    return this.take(target) ?? null;
  }

  /** Fills all of a buffer; `false` at the end. */
  async fill(target: Uint8Array): Promise<boolean> {
    for (let done = 0; done < target.length;) {
      const received = await this.receive(target.subarray(done));
      if (received === null) return false;
      done += received;
    }
    return true;
  }

  /** What has arrived; `undefined` when nothing has. */
  take(target: Uint8Array): number | undefined {
    const chunk = this.#chunks.shift();
    if (chunk === undefined) return undefined;
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

  /**
   * Connects to a server without a socket; `done` resolves when the server has let go of the connection. With `apart` the
   * transport tells at once what has arrived, and can fill a whole buffer.
   */
  static inMemory(
    server: NbdServer,
    options: { readonly apart?: boolean } = {},
  ): { client: RawClient; done: Promise<void> } {
    const toServer = new Pipe();
    const toClient = new Pipe();
    let closed = false;
    const transport: Transport = {
      peer: "memory",
      credentials: { pid: 7, uid: 8, gid: 9 },
      read: (target) => (options.apart ? toServer.take(target) : undefined) ?? toServer.receive(target),
      ...(options.apart ? { readAll: (target: Uint8Array) => toServer.fill(target) } : {}),
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

  /** The same connection behind {@linkcode mask}: what a client is after the handshake of {@linkcode maskingTls}. */
  masked(): RawClient {
    return new RawClient(
      (bytes) => this.#send(mask(bytes.slice())),
      async (target) => {
        const length = await this.#receive(target);
        mask(target.subarray(0, length ?? 0));
        return length;
      },
      this.endSending,
      this.close,
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

/** Turns bytes into their likes under "encryption", and back, in place. */
function mask(bytes: Uint8Array): Uint8Array {
  for (let at = 0; at < bytes.length; at++) bytes[at] = (bytes[at] ?? 0) ^ 0x5a;
  return bytes;
}

/** What the client of {@linkcode maskingTls} says first. */
export const TLS_HELLO = "HELLO, SERVER";

/** "Encryption" by a mask: the client says {@linkcode TLS_HELLO}, and from then on both mask their bytes. */
export function maskingTls(required = false, certificate?: string): TlsUpgrade & { upgrades: number } {
  return {
    required,
    upgrades: 0,
    async upgrade(plain) {
      this.upgrades++;
      const hello = new Uint8Array(TLS_HELLO.length);
      for (let done = 0; done < hello.length;) {
        const received = await plain.read(hello.subarray(done));
        if (received === null) throw new Error("TLS: the client has left");
        done += received;
      }
      if (new TextDecoder().decode(hello) !== TLS_HELLO) {
        plain.close();
        throw new Error("TLS: that is no hello");
      }
      const transport: Transport = {
        peer: plain.peer,
        async read(target) {
          const length = await plain.read(target);
          mask(target.subarray(0, length ?? 0));
          return length;
        },
        write: (buffers) => plain.write(buffers.map((buffer) => mask(buffer.slice()))),
        close: () => plain.close(),
      };
      return { transport, ...(certificate === undefined ? {} : { certificate }) };
    },
  };
}

/** What a client in memory asks for before it enters the transmission phase of the export `disk`. */
export interface EnterOptions {
  /** Default: structured. */
  form?: MessageForm;
  /** Queries of SET_META_CONTEXT. Default: none is sent. */
  queries?: string[];
  /** Maps of the export. */
  maps?: ExportMaps;
  /** As of {@linkcode RawClient.inMemory}. */
  apart?: boolean;
  /** More for the server. */
  server?: Partial<NbdServerOptions>;
}

/** A client in the transmission phase of a device; its contexts by name. */
export async function enterDevice(device: BlockDevice, options: EnterOptions = {}) {
  const { form = "structured", queries, maps, apart = false } = options;
  const exports = new TestExports({ disk: device }, maps);
  const server = new NbdServer({ exports, ...options.server });
  const { client, done } = RawClient.inMemory(server, { apart });
  await client.greet();
  if (form === "structured") await client.ask(8);
  if (form === "extended") await client.ask(11);
  const contexts = new Map<string, number>();
  if (queries !== undefined) {
    await client.send(option(10, metaData("disk", queries)));
    for (const { type, data } of await client.optionReplies()) {
      if (type === 4) contexts.set(new TextDecoder().decode(data.subarray(4)), viewOf(data).getUint32(0));
    }
  }
  await client.send(option(7, infoData("disk")));
  const [info] = await client.optionReplies();
  const flags = info === undefined ? 0 : viewOf(info.data).getUint16(10);
  /** Sends one request and receives the chunks of its reply. */
  const ask = async (fields: RequestFields | ExtendedRequestFields) => {
    await client.send(form === "extended" ? extendedRequest(fields) : request(fields as RequestFields));
    return await client.chunks();
  };
  const leave = async () => {
    await client.send(form === "extended" ? extendedRequest({ type: 2 }) : request({ type: 2 }));
    if ((await client.receiveAll()).length > 0) throw new Error("leave: the server had more to say");
    await done;
  };
  return { client, server, exports, done, contexts, flags, ask, leave };
}

/** A folder that goes with the test, passed or failed. */
export async function makeFolder(): Promise<{ path: string } & AsyncDisposable> {
  const path = await Deno.makeTempDir({ prefix: "varve-nbd-" });
  return { path, [Symbol.asyncDispose]: () => Deno.remove(path, { recursive: true }) };
}

/** Serves devices at a Unix socket in a folder of its own. */
export async function startServer(
  devices: Record<string, BlockDevice>,
  options: Partial<NbdServerOptions> & { maps?: ExportMaps } = {},
): Promise<
  { server: NbdServer; exports: TestExports; folder: string; path: string; address: string } & AsyncDisposable
> {
  const { path: folder, ...temporary } = await makeFolder();
  const { maps, ...rest } = options;
  const exports = new TestExports(devices, maps);
  const server = new NbdServer({ exports, ...rest });
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

/**
 * A small NBD client: what a host is to the appliance, for the demo and for machines without qemu or libnbd.
 *
 * Fixed newstyle over a Unix socket, `NBD_OPT_GO`, simple replies, one request at a time. Numbers are big-endian,
 * as in the protocol's own document (`doc/proto.md` of the nbd project).
 *
 * @module
 */

const INIT_MAGIC = 0x4e42444d41474943n; // "NBDMAGIC"
const OPTION_MAGIC = 0x49484156454f5054n; // "IHAVEOPT"
const OPTION_REPLY_MAGIC = 0x3e889045565a9n;
const REQUEST_MAGIC = 0x25609513;
const REPLY_MAGIC = 0x67446698;

const FLAG_FIXED_NEWSTYLE = 1;
const OPT_GO = 7;
const REP_ACK = 1;
const REP_INFO = 3;
const REP_FLAG_ERROR = 0x80000000;
const INFO_EXPORT = 0;

const COMMAND = { read: 0, write: 1, disconnect: 2, flush: 3, trim: 4 } as const;

/** A connection to one export. Requests must not overlap: await each before the next. */
export class NbdClient implements AsyncDisposable {
  /** Size of the export in bytes. */
  readonly sizeBytes: number;
  #socket: Deno.Conn;
  #cookie = 0n;

  private constructor(socket: Deno.Conn, sizeBytes: number) {
    this.#socket = socket;
    this.sizeBytes = sizeBytes;
  }

  /** Opens an export by its name; throws an `Error` with the server's words when it refuses. */
  static async connect(socketPath: string, exportName: string): Promise<NbdClient> {
    const socket = await Deno.connect({ transport: "unix", path: socketPath });
    try {
      return new NbdClient(socket, await negotiate(socket, exportName));
    } catch (error) {
      socket.close();
      throw error;
    }
  }

  /** Reads `length` bytes at `offset`. */
  async read(offset: number, length: number): Promise<Uint8Array<ArrayBuffer>> {
    await this.#request("read", offset, length);
    return await receive(this.#socket, length);
  }

  /** Writes all of `data` at `offset`. */
  write(offset: number, data: Uint8Array): Promise<void> {
    return this.#request("write", offset, data.length, data);
  }

  /** Says that a range is no longer needed. */
  trim(offset: number, length: number): Promise<void> {
    return this.#request("trim", offset, length);
  }

  /** Resolves when everything written before survives power loss. */
  flush(): Promise<void> {
    return this.#request("flush", 0, 0);
  }

  /** Takes leave and closes the connection. */
  async [Symbol.asyncDispose](): Promise<void> {
    try {
      await send(this.#socket, requestHeader("disconnect", this.#cookie, 0, 0));
    } finally {
      this.#socket.close();
    }
  }

  async #request(
    command: keyof typeof COMMAND,
    offset: number,
    length: number,
    data?: Uint8Array,
  ): Promise<void> {
    const cookie = this.#cookie++;
    await send(this.#socket, requestHeader(command, cookie, offset, length));
    if (data !== undefined) await send(this.#socket, data);
    const reply = viewOf(await receive(this.#socket, 16));
    const error = reply.getUint32(4);
    if (reply.getUint32(0) !== REPLY_MAGIC || reply.getBigUint64(8) !== cookie) {
      throw new Error(`NBD ${command}: found something else than a reply to it`);
    }
    if (error !== 0) throw new Error(`NBD ${command} of ${length} bytes at ${offset}: found error ${error}`);
  }
}

/** Goes from the greeting to the transmission phase and returns the size of the export. */
async function negotiate(socket: Deno.Conn, exportName: string): Promise<number> {
  const greeting = viewOf(await receive(socket, 18));
  const isNewstyle = greeting.getBigUint64(0) === INIT_MAGIC && greeting.getBigUint64(8) === OPTION_MAGIC;
  if (!isNewstyle || (greeting.getUint16(16) & FLAG_FIXED_NEWSTYLE) === 0) {
    throw new Error("Connecting to NBD: found a server that does not speak fixed newstyle");
  }
  const name = new TextEncoder().encode(exportName);
  const hello = viewOf(new Uint8Array(4 + 16 + 4 + name.length + 2));
  hello.setUint32(0, FLAG_FIXED_NEWSTYLE);
  hello.setBigUint64(4, OPTION_MAGIC);
  hello.setUint32(12, OPT_GO);
  hello.setUint32(16, 4 + name.length + 2);
  hello.setUint32(20, name.length);
  new Uint8Array(hello.buffer).set(name, 24); // After the name stands the number of information requests: 0.
  await send(socket, new Uint8Array(hello.buffer));

  let sizeBytes: number | undefined;
  for (;;) {
    const header = viewOf(await receive(socket, 20));
    if (header.getBigUint64(0) !== OPTION_REPLY_MAGIC) {
      throw new Error("Opening an export: found no option reply");
    }
    const type = header.getUint32(12);
    const payload = await receive(socket, header.getUint32(16));
    if (type >= REP_FLAG_ERROR) {
      const words = new TextDecoder().decode(payload);
      throw new Error(
        `Opening the export ${exportName}: refused with 0x${type.toString(16)} ${words}`.trimEnd(),
      );
    }
    if (type === REP_INFO && viewOf(payload).getUint16(0) === INFO_EXPORT) {
      sizeBytes = Number(viewOf(payload).getBigUint64(2));
    }
    if (type === REP_ACK) break;
  }
  if (sizeBytes === undefined) throw new Error(`Opening the export ${exportName}: found no size`);
  return sizeBytes;
}

function requestHeader(
  command: keyof typeof COMMAND,
  cookie: bigint,
  offset: number,
  length: number,
): Uint8Array<ArrayBuffer> {
  const header = viewOf(new Uint8Array(28));
  header.setUint32(0, REQUEST_MAGIC);
  header.setUint16(6, COMMAND[command]);
  header.setBigUint64(8, cookie);
  header.setBigUint64(16, BigInt(offset));
  header.setUint32(24, length);
  return new Uint8Array(header.buffer);
}

function viewOf(bytes: Uint8Array<ArrayBuffer>): DataView<ArrayBuffer> {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

async function send(socket: Deno.Conn, bytes: Uint8Array): Promise<void> {
  for (let sent = 0; sent < bytes.length;) sent += await socket.write(bytes.subarray(sent));
}

async function receive(socket: Deno.Conn, length: number): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = new Uint8Array(length);
  for (let received = 0; received < length;) {
    const count = await socket.read(bytes.subarray(received));
    if (count === null) throw new Error("Reading from NBD: found the connection closed");
    received += count;
  }
  return bytes;
}

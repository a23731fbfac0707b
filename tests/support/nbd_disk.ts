/**
 * An NBD client with every command that the tests need, unlike the one in `tools/`, which does what the demo needs.
 *
 * Fixed newstyle over a Unix socket, `NBD_OPT_EXPORT_NAME`, simple replies, one request at a time. Numbers are
 * big-endian, as in the protocol's own document (`doc/proto.md` of the nbd project).
 *
 * @module
 */
import { assertContent, type ReadPart } from "./bytes.ts";

const COMMAND = { read: 0, write: 1, disconnect: 2, flush: 3, trim: 4, zero: 6 } as const;
const REQUEST_MAGIC = 0x25609513;
const REPLY_MAGIC = 0x67446698;
const OPT_EXPORT_NAME = 1;
/** Fixed newstyle, and no 124 zeroes after the flags. */
const CLIENT_FLAGS = 3;
/** `NBD_CMD_FLAG_FUA`. */
const FLAG_FUA = 1;

/** The server answered a request with an error. */
export class NbdRequestError extends Error {
  /** `NBD_EPERM` 1, `NBD_EIO` 5, `NBD_EINVAL` 22, `NBD_ENOSPC` 28, … */
  readonly errno: number;

  /** Names the request and the error. */
  constructor(request: string, errno: number) {
    super(`NBD ${request}: answered with error ${errno}`);
    this.errno = errno;
  }
}

/** What a write may ask for. */
export interface WriteOptions {
  /** Answer only when it survives power loss. */
  fua?: boolean;
}

/** A connection to one export; await each request before the next. */
export class NbdDisk implements AsyncDisposable {
  /** Size of the export in bytes. */
  readonly sizeBytes: number;
  /** Transmission flags of the export. */
  readonly flags: number;
  readonly #socket: Deno.Conn;
  #cookie = 0n;

  private constructor(socket: Deno.Conn, sizeBytes: number, flags: number) {
    this.#socket = socket;
    this.sizeBytes = sizeBytes;
    this.flags = flags;
  }

  /** Opens an export; throws an `Error` when the server closes the connection instead. */
  static async open(socketPath: string, exportName: string): Promise<NbdDisk> {
    const socket = await Deno.connect({ transport: "unix", path: socketPath });
    try {
      await receive(socket, 18); // Two magic numbers and the server's flags.
      const name = new TextEncoder().encode(exportName);
      const hello = new DataView(new ArrayBuffer(20 + name.length));
      hello.setUint32(0, CLIENT_FLAGS);
      hello.setBigUint64(4, 0x49484156454f5054n); // "IHAVEOPT"
      hello.setUint32(12, OPT_EXPORT_NAME);
      hello.setUint32(16, name.length);
      const bytes = new Uint8Array(hello.buffer);
      bytes.set(name, 20);
      await send(socket, bytes);
      const answer = new DataView((await receive(socket, 10)).buffer);
      return new NbdDisk(socket, Number(answer.getBigUint64(0)), answer.getUint16(8));
    } catch (thrown) {
      socket.close();
      throw thrown;
    }
  }

  /** Reads `length` bytes at `offset`. */
  readonly read: ReadPart = async (offset, length) => {
    await this.#request("read", { offset, length });
    return await receive(this.#socket, length);
  };

  /** Compares the whole export with what is expected of it. */
  async assertContent(expected: Uint8Array, what: string): Promise<void> {
    if (this.sizeBytes !== expected.length) {
      throw new Error(`${what}: it has ${this.sizeBytes} bytes, not ${expected.length}`);
    }
    await assertContent(this.read, expected, what);
  }

  /** Writes all of `data` at `offset`. */
  async write(offset: number, data: Uint8Array, options: WriteOptions = {}): Promise<void> {
    await this.#request("write", { offset, length: data.length, data, ...options });
  }

  /** Says that a range is no longer needed; Varve promises that it reads as zeroes. */
  async trim(offset: number, length: number): Promise<void> {
    await this.#request("trim", { offset, length });
  }

  /** Writes zeroes. */
  async zero(offset: number, length: number, options: WriteOptions = {}): Promise<void> {
    await this.#request("zero", { offset, length, ...options });
  }

  /** Resolves when everything written before survives power loss. */
  async flush(): Promise<void> {
    await this.#request("flush", { offset: 0, length: 0 });
  }

  /** Takes leave, if somebody is there, and closes the connection. */
  async [Symbol.asyncDispose](): Promise<void> {
    try {
      await send(this.#socket, this.#header("disconnect", { offset: 0, length: 0 }));
    } catch (thrown) {
      if (!(thrown instanceof Deno.errors.BrokenPipe)) throw thrown; // The appliance was killed.
    } finally {
      this.#socket.close();
    }
  }

  async #request(command: keyof typeof COMMAND, fields: RequestFields): Promise<void> {
    await send(this.#socket, this.#header(command, fields));
    if (fields.data !== undefined) await send(this.#socket, fields.data);
    const reply = new DataView((await receive(this.#socket, 16)).buffer);
    const what = `${command} of ${fields.length} bytes at ${fields.offset}`;
    if (reply.getUint32(0) !== REPLY_MAGIC || reply.getBigUint64(8) !== this.#cookie) {
      throw new Error(`NBD ${what}: found something else than the reply to it`);
    }
    const errno = reply.getUint32(4);
    if (errno !== 0) throw new NbdRequestError(what, errno);
  }

  #header(command: keyof typeof COMMAND, { offset, length, fua = false }: RequestFields): Uint8Array {
    const header = new DataView(new ArrayBuffer(28));
    header.setUint32(0, REQUEST_MAGIC);
    header.setUint16(4, fua ? FLAG_FUA : 0);
    header.setUint16(6, COMMAND[command]);
    header.setBigUint64(8, ++this.#cookie);
    header.setBigUint64(16, BigInt(offset));
    header.setUint32(24, length);
    return new Uint8Array(header.buffer);
  }
}

interface RequestFields extends WriteOptions {
  offset: number;
  length: number;
  data?: Uint8Array;
}

async function send(socket: Deno.Conn, bytes: Uint8Array): Promise<void> {
  for (let sent = 0; sent < bytes.length;) sent += await socket.write(bytes.subarray(sent));
}

async function receive(socket: Deno.Conn, length: number): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = new Uint8Array(length);
  for (let received = 0; received < length;) {
    const count = await socket.read(bytes.subarray(received));
    if (count === null) throw new Error("Reading from NBD: the server closed the connection");
    received += count;
  }
  return bytes;
}

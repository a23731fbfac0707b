/**
 * Connected sockets as transports: libc as long as there is something to do, the runtime's event loop for waiting.
 *
 * 1. `read` and `write` are calls of this thread until the kernel says EAGAIN: no promise, nothing per request.
 * 2. Then the event loop, which watches a duplicate of the descriptor, brings the first bytes that arrive: no thread is
 *    woken for it but this one.
 * 3. A long rest of a payload is received by one call on another thread, which the kernel wakes as often as it must
 *    while this thread does other work. That call needs a blocking descriptor, which the event loop must not touch; so
 *    reading is paused before, and both are undone when the event loop has to wait again.
 * 4. Room to send is waited for on another thread as well: the event loop would do it, but the runtime refuses to send
 *    for a TCP peer that has ended its own sending, and such a peer still gets its replies.
 * 5. A client that stalls holds no thread: calls on other threads end after a while and are not repeated until it moves.
 * 6. The descriptor is closed when no call on another thread uses it any more: its number may be given away at once.
 *
 * @module
 */
import { Socket } from "node:net";
import { VarveError } from "../base/errors.ts";
import { lastErrno } from "../base/errno.ts";
import { Errno, libc, systemError } from "./_libc.ts";
import { type Accepted, duplicate, setBlocking, shutDown } from "./_sockets.ts";
import { nextTurn, turnBegins, turnIsOver } from "./_turns.ts";
import type { ClientInfo } from "./exports.ts";
import type { Transport } from "./transport.ts";

const MSG_DONTWAIT = 0x40;
const MSG_WAITALL = 0x100;
const MSG_NOSIGNAL = 0x4000;
const MSG_MORE = 0x8000;

/** What the event loop receives at once; the rest of what is there is received by this thread itself. */
const FIRST_BYTES = 64 * 1024;
/** Fewer bytes than this are not worth a thread. */
const LONG_BYTES = 128 * 1024;
/** Calls on other threads at the same time. The runtime has 512 threads for everything. */
const MAX_AWAY = 64;
/** After this time without room to send, it is looked for at intervals. */
const ROOM_WAIT_MS = 500;
const ROOM_INTERVAL_MS = 20;
const POLLOUT = 0x4;

let away = 0;

/** Makes a transport of a connected stream socket, which it then owns. Throws `io`, with the socket closed, for want of descriptors. */
export function socketTransport(socket: Accepted): Transport {
  return new SocketTransport(socket);
}

interface Reader {
  readonly target: Uint8Array;
  readonly resolve: (received: number | null) => void;
  readonly reject: (reason: unknown) => void;
}

class SocketTransport implements Transport {
  readonly peer: string;
  readonly credentials?: NonNullable<ClientInfo["credentials"]>;
  readonly #fd: number;
  readonly #loop: Socket;
  #reader: Reader | undefined;
  /** What the event loop has received while nobody read; it receives no more before this is used. */
  #unread: Uint8Array = EMPTY;
  #open = true;
  /** The event loop has seen the end or a failure, and does nothing any more. */
  #over = false;
  /** Only from then on does a pause of the event loop's reading hold. */
  #pausable = false;
  /** The descriptor is blocking, and the event loop's reading paused: until the event loop is to wait again. */
  #isBlocking = false;
  /** Calls on other threads that use the descriptor. */
  #away = 0;

  constructor({ fd, peer, credentials }: Accepted) {
    this.peer = peer;
    if (credentials !== undefined) this.credentials = credentials;
    this.#fd = fd;
    this.#loop = new Socket({
      fd: duplicateOrClose(fd),
      readable: true,
      writable: true,
      allowHalfOpen: true,
      onread: {
        buffer: new Uint8Array(FIRST_BYTES),
        callback: (length: number, buffer: Uint8Array) => this.#arrived(buffer.subarray(0, length)),
      },
    });
    for (const event of ["end", "error", "close"]) this.#loop.on(event, () => this.#ended());
    this.#loop.once("resume", () => this.#pausable = true);
    this.#loop.resume();
  }

  read(target: Uint8Array): number | null | Promise<number | null> {
    if (turnIsOver()) return nextTurn().then(() => this.#readOrWait(target));
    return this.#readOrWait(target);
  }

  async readAll(target: Uint8Array): Promise<boolean> {
    let stalled = false;
    for (let done = 0; done < target.length;) {
      const rest = target.subarray(done) as Uint8Array<ArrayBuffer>;
      if (rest.length >= LONG_BYTES && !stalled && this.#mayReceiveAway) {
        const received = await this.#receiveAway(rest);
        // Why it is short, the call below finds out: it was too slow, has ended or has failed.
        stalled = received < rest.length;
        done += Math.max(received, 0);
      } else {
        const received = await this.#readOrWait(rest);
        if (received === null) return false;
        stalled = false;
        done += received;
      }
    }
    return true;
  }

  write(buffers: readonly Uint8Array[]): void | Promise<void> {
    for (let index = 0; index < buffers.length; index++) {
      const buffer = buffers[index] ?? EMPTY;
      const sent = this.#send(buffer, index < buffers.length - 1);
      if (sent < buffer.length) return this.#sendRest(buffers, index, sent);
    }
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    shutDown(this.#fd);
    this.#loop.destroy();
    this.#reader?.reject(this.#closed("receive"));
    this.#reader = undefined;
    this.#closeIfUnused();
  }

  #readOrWait(target: Uint8Array): number | null | Promise<number | null> {
    this.#requireOpen("receive");
    if (this.#unread.length > 0) return this.#takeUnread(target);
    const received = this.#receive(target);
    if (received !== undefined) return received === 0 ? null : received;
    if (this.#over) return null;
    if (this.#isBlocking) {
      setBlocking(this.#fd, false);
      this.#isBlocking = false;
      this.#loop.resume();
    }
    return new Promise((resolve, reject) => this.#reader = { target, resolve, reject });
  }

  /** What has arrived, 0 at the end, `undefined` when nothing has. */
  #receive(target: Uint8Array): number | undefined {
    for (;;) {
      const received = libc.recv(
        this.#fd,
        target as Uint8Array<ArrayBuffer>,
        BigInt(target.length),
        MSG_DONTWAIT,
      );
      if (received >= 0) return received;
      const errno = lastErrno();
      if (errno === Errno.EAGAIN) return undefined;
      if (errno !== Errno.EINTR) throw systemError(`receive from ${this.peer}`, errno);
    }
  }

  /** The event loop brings bytes; tells whether it shall bring more. */
  #arrived(bytes: Uint8Array): boolean {
    turnBegins();
    const reader = this.#reader;
    if (reader === undefined) {
      this.#unread = bytes.slice();
      return false;
    }
    this.#reader = undefined;
    const { target } = reader;
    const first = Math.min(bytes.length, target.length);
    target.set(bytes.subarray(0, first));
    this.#unread = bytes.slice(first);
    let more = 0;
    // A full buffer may have left something, and so does whoever has sent since.
    try {
      if (first < target.length) more = this.#receive(target.subarray(first)) ?? 0;
    } catch {
      // What has arrived before a failure is used first; the next call meets it again or finds the end.
    }
    reader.resolve(first + more);
    return this.#unread.length === 0;
  }

  #takeUnread(target: Uint8Array): number {
    const length = Math.min(target.length, this.#unread.length);
    target.set(this.#unread.subarray(0, length));
    this.#unread = this.#unread.subarray(length);
    if (this.#unread.length === 0) this.#loop.resume();
    return length;
  }

  #ended(): void {
    this.#over = true;
    const reader = this.#reader;
    this.#reader = undefined;
    if (reader === undefined) return;
    try {
      reader.resolve(this.#receive(reader.target) || null);
    } catch (thrown) {
      reader.reject(thrown);
    }
  }

  get #mayReceiveAway(): boolean {
    return away < MAX_AWAY && this.#pausable && this.#unread.length === 0;
  }

  /** Receives on another thread; a failure, -1, has lost its number. */
  async #receiveAway(target: Uint8Array<ArrayBuffer>): Promise<number> {
    this.#requireOpen("receive");
    if (!this.#isBlocking) {
      this.#loop.pause();
      setBlocking(this.#fd, true);
      this.#isBlocking = true;
    }
    return await this.#goAway(() =>
      libc.receiveWaiting(this.#fd, target, BigInt(target.length), MSG_WAITALL)
    );
  }

  /** Sends until the kernel takes no more, and tells how much it took. */
  #send(buffer: Uint8Array, more: boolean): number {
    this.#requireOpen("send");
    const flags = MSG_DONTWAIT | MSG_NOSIGNAL | (more ? MSG_MORE : 0);
    let sent = 0;
    while (sent < buffer.length) {
      const rest = buffer.subarray(sent) as Uint8Array<ArrayBuffer>;
      const count = libc.send(this.#fd, rest, BigInt(rest.length), flags);
      if (count >= 0) sent += count;
      else {
        const errno = lastErrno();
        if (errno === Errno.EAGAIN) break;
        if (errno !== Errno.EINTR) throw systemError(`send to ${this.peer}`, errno);
      }
    }
    return sent;
  }

  async #sendRest(buffers: readonly Uint8Array[], from: number, sentOfFirst: number): Promise<void> {
    const polled = new DataView(new ArrayBuffer(8));
    polled.setInt32(0, this.#fd, true);
    polled.setInt16(4, POLLOUT, true);
    let sent = sentOfFirst;
    let stalled = false;
    for (let index = from; index < buffers.length; index++) {
      const buffer = buffers[index] ?? EMPTY;
      while (sent < buffer.length) {
        if (stalled || away >= MAX_AWAY) {
          await new Promise((resolve) => setTimeout(resolve, ROOM_INTERVAL_MS));
        } else await this.#goAway(() => libc.poll(polled, 1n, ROOM_WAIT_MS));
        const count = this.#send(buffer.subarray(sent), index < buffers.length - 1);
        stalled = count === 0;
        sent += count;
      }
      sent = 0;
    }
  }

  /** Makes a call on another thread, during which the descriptor stays open. */
  async #goAway(call: () => Promise<number>): Promise<number> {
    away++;
    this.#away++;
    try {
      return await call();
    } finally {
      turnBegins();
      away--;
      this.#away--;
      this.#closeIfUnused();
    }
  }

  #closeIfUnused(): void {
    if (!this.#open && this.#away === 0) libc.close(this.#fd);
  }

  #requireOpen(tried: string): void {
    if (!this.#open) throw this.#closed(tried);
  }

  #closed(tried: string): VarveError {
    return new VarveError("cancelled", `${tried} over a connection of ${this.peer}: it is closed`);
  }
}

const EMPTY = new Uint8Array();

function duplicateOrClose(fd: number): number {
  try {
    return duplicate(fd);
  } catch (thrown) {
    libc.close(fd);
    throw thrown;
  }
}

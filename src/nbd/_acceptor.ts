/**
 * Waits for connections of a listening socket: poll and drain, on a thread that {@linkcode Acceptor.close} wakes.
 *
 * @module
 */
import { VarveError } from "../base/errors.ts";
import { libc, systemError } from "./_libc.ts";
import { accept, type Accepted } from "./_sockets.ts";

const EFD_CLOEXEC_NONBLOCK = 0o2004000;
const POLLIN = 0x1;
const ONE = new Uint8Array(new BigUint64Array([1n]).buffer);

/** A listening, nonblocking socket, which it owns. */
export class Acceptor {
  readonly #fd: number;
  readonly #wake: number;
  /** Two `struct pollfd { int fd; short events; short revents; }`. */
  readonly #polled = new DataView(new ArrayBuffer(16));
  #open = true;
  #polling = false;

  /** Takes over a socket; throws `io`, with the socket closed, when there is no descriptor left to wake it. */
  constructor(fd: number) {
    this.#fd = fd;
    this.#wake = libc.eventfd(0, EFD_CLOEXEC_NONBLOCK);
    if (this.#wake < 0) {
      const error = systemError("make an eventfd");
      libc.close(fd);
      throw error;
    }
    this.#polled.setInt32(0, fd, true);
    this.#polled.setInt16(4, POLLIN, true);
    this.#polled.setInt32(8, this.#wake, true);
    this.#polled.setInt16(12, POLLIN, true);
  }

  /** The next connection; one waits at a time. Throws `io` when there are no descriptors left, `cancelled` when closed. */
  async accept(): Promise<Accepted> {
    for (;;) {
      if (!this.#open) throw new VarveError("cancelled", "accept a client: nobody listens any more");
      const accepted = accept(this.#fd);
      if (accepted !== undefined) return accepted;
      this.#polling = true;
      await libc.poll(this.#polled, 2n, -1);
      this.#polling = false;
      if (!this.#open) this.#closeAll();
    }
  }

  /** Stops listening; who waits for a connection is told when no thread does any more. May be called again. */
  close(): void {
    if (!this.#open) return;
    this.#open = false;
    if (this.#polling) libc.write(this.#wake, ONE, 8n);
    else this.#closeAll();
  }

  #closeAll(): void {
    libc.close(this.#fd);
    libc.close(this.#wake);
  }
}

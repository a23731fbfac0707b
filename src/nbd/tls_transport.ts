/**
 * A TLS session over a transport, as a transport. Whatever the plain one answers without a promise, it answers so too.
 *
 * @module
 */
import { VarveError } from "../base/errors.ts";
import type { TlsSession } from "./_tls_session.ts";
import type { Transport } from "./transport.ts";

/** Ciphertext that is received or sent at once. */
const PIECE_BYTES = 256 * 1024;
/** More than a writer makes at once: a client asks for answers that it does not read. */
const MAX_PENDING_BYTES = 2 * PIECE_BYTES;

/** Owns a session and the plain transport under it. */
export class TlsTransport implements Transport {
  /** As the plain transport tells it. */
  readonly peer: string;
  /** As the plain transport tells it. */
  readonly credentials?: NonNullable<Transport["credentials"]>;
  readonly #plain: Transport;
  readonly #session: TlsSession;
  readonly #received = new Uint8Array(PIECE_BYTES);
  readonly #sent = new Uint8Array(PIECE_BYTES);
  #open = true;
  /** Reader and writer both make ciphertext; one of them sends all of it. */
  #sending: Promise<void> | undefined;

  /** Takes both over; the handshake is still to come. */
  constructor(plain: Transport, session: TlsSession) {
    this.peer = plain.peer;
    if (plain.credentials !== undefined) this.credentials = plain.credentials;
    this.#plain = plain;
    this.#session = session;
  }

  /** Does the server's part of the handshake. Throws `forbidden` when it fails; an alert may have been sent then. */
  async shake(): Promise<void> {
    try {
      while (!this.#use("shake hands").shake()) {
        await this.#send();
        if (!await this.#fill()) throw new VarveError("forbidden", "shake hands: the client has gone");
      }
      await this.#send();
    } catch (thrown) {
      if (this.#open) await Promise.try(() => this.#send()).catch(() => {});
      throw thrown;
    }
  }

  /** Subject of the client's verified certificate. */
  certificate(): string | undefined {
    return this.#use("ask for a certificate").certificate();
  }

  read(target: Uint8Array): number | null | Promise<number | null> {
    for (;;) {
      const length = this.#decrypt(target);
      if (length !== undefined) return length === 0 ? null : length;
      // A new key may have been asked for. A writer that is waiting sends the answer, and reading must not wait for it:
      // the client may read nothing before it has sent everything.
      const filled = this.#sending === undefined ? this.#send() ?? this.#fill() : this.#fill();
      if (filled instanceof Promise) return this.#readLater(target, filled);
      if (!filled) return null;
    }
  }

  write(buffers: readonly Uint8Array[]): void | Promise<void> {
    const pieces = piecesOf(buffers);
    for (let index = 0; index < pieces.length; index++) {
      const sending = this.#sendPiece(pieces[index] ?? EMPTY);
      if (sending !== undefined) return this.#writeLater(pieces.slice(index + 1), sending);
    }
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#session.end();
    const length = this.#sending === undefined ? this.#session.drain(this.#sent) : 0;
    this.#session.free();
    if (length > 0) Promise.try(() => this.#plain.write([this.#sent.subarray(0, length)])).catch(() => {});
    this.#plain.close();
  }

  async #readLater(target: Uint8Array, waited: Promise<unknown>): Promise<number | null> {
    if (await waited === false) return null;
    return await this.read(target);
  }

  async #writeLater(pieces: readonly Uint8Array[], waited: Promise<void>): Promise<void> {
    await waited;
    for (const piece of pieces) await this.#sendPiece(piece);
  }

  #sendPiece(piece: Uint8Array): Promise<void> | undefined {
    this.#use("send").write(piece);
    return this.#send();
  }

  /** Receives ciphertext; `false` at the end. */
  #fill(): boolean | Promise<boolean> {
    const take = (length: number | null): boolean => {
      if (length !== null) this.#use("receive").feed(this.#received.subarray(0, length));
      return length !== null;
    };
    if (this.#use("receive").pendingBytes > MAX_PENDING_BYTES) {
      throw new VarveError("forbidden", `receive from ${this.peer}: it reads no answers`);
    }
    const received = this.#plain.read(this.#received);
    return received instanceof Promise ? received.then(take) : take(received);
  }

  /** As much plain text as there is; 0 at the end, `undefined` when there is none yet. One record holds 16 KiB. */
  #decrypt(target: Uint8Array): number | undefined {
    const session = this.#use("receive");
    let done = 0;
    while (done < target.length) {
      const length = session.read(target.subarray(done));
      if (length === undefined || length === 0) return done > 0 ? done : length;
      done += length;
    }
    return done;
  }

  /** Sends what ciphertext there is, and what is made while it is under way. */
  #send(): Promise<void> | undefined {
    if (this.#sending !== undefined) return this.#sending;
    const waited = this.#sendUntilWait();
    if (waited !== undefined) this.#sending = this.#sendLater(waited);
    return this.#sending;
  }

  #sendUntilWait(): Promise<void> | undefined {
    for (;;) {
      const length = this.#use("send").drain(this.#sent);
      if (length === 0) return undefined;
      const sent = this.#plain.write([this.#sent.subarray(0, length)]);
      if (sent instanceof Promise) return sent;
    }
  }

  async #sendLater(first: Promise<void>): Promise<void> {
    try {
      for (let waited: Promise<void> | undefined = first; waited !== undefined;) {
        await waited;
        waited = this.#sendUntilWait();
      }
    } finally {
      this.#sending = undefined;
    }
  }

  #use(tried: string): TlsSession {
    if (this.#open) return this.#session;
    throw new VarveError("cancelled", `${tried} over a connection of ${this.peer}: it is closed`);
  }
}

const EMPTY = new Uint8Array();

/** Pieces that are not empty and of which one is encrypted at a time. */
function piecesOf(buffers: readonly Uint8Array[]): Uint8Array[] {
  const pieces: Uint8Array[] = [];
  for (const buffer of buffers) {
    for (let at = 0; at < buffer.length; at += PIECE_BYTES) {
      pieces.push(buffer.subarray(at, at + PIECE_BYTES));
    }
  }
  return pieces;
}

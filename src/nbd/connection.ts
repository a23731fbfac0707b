/**
 * One client from its first byte to its last.
 *
 * @module
 */
import type { VarveError } from "../base/errors.ts";
import type { Scheduler } from "../base/turns.ts";
import type { ExportProvider } from "./exports.ts";
import { closeExport } from "./_held_exports.ts";
import { Handshake, type NegotiatedExport } from "./handshake.ts";
import type { TlsUpgrade } from "./tls.ts";
import { Transmission } from "./transmission.ts";
import type { Transport } from "./transport.ts";

/** What a connection needs. */
export interface ConnectionOptions {
  /** The exports. */
  readonly exports: ExportProvider;
  /** Gives turns. */
  readonly scheduler: Scheduler;
  /** How connections are encrypted. Default: they are not. */
  readonly tls?: TlsUpgrade | undefined;
  /** How long the handshake may take, in milliseconds. */
  readonly handshakeTimeoutMs: number;
  /** How long a client may leave the server waiting after the handshake, in milliseconds; 0 for as long as it likes. */
  readonly idleTimeoutMs: number;
  /** Told of failures that are not the client's fault. */
  readonly onProblem: (error: VarveError) => void;
}

/** Leads one client through handshake and transmission, and closes its export exactly once. */
export class Connection {
  readonly #options: ConnectionOptions;
  readonly #handshake: Handshake;
  #negotiated: NegotiatedExport | undefined;
  #transmission: Transmission | undefined;
  #stopping = false;

  /** Takes over a transport; nothing happens before {@linkcode Connection.run}. */
  constructor(transport: Transport, options: ConnectionOptions) {
    this.#options = options;
    this.#handshake = new Handshake(transport, options);
  }

  /** The name that the client opened its export by; `undefined` during the handshake. */
  get exportName(): string | undefined {
    return this.#negotiated?.name;
  }

  /** Serves the client; resolves when the transport and the export are closed. */
  async run(): Promise<void> {
    const { scheduler, idleTimeoutMs, onProblem } = this.#options;
    try {
      this.#negotiated = await this.#negotiateInTime();
      if (this.#negotiated === undefined || this.#stopping) return;
      this.#transmission = new Transmission({ ...this.#negotiated, scheduler, idleTimeoutMs, onProblem });
      await this.#transmission.run();
    } finally {
      this.abort();
      if (this.#negotiated !== undefined) await closeExport(this.#negotiated.opened, onProblem);
    }
  }

  /** Ends the connection when no request is under way; during the handshake when no option is. */
  stop(): void {
    this.#stopping = true;
    if (this.#transmission === undefined) this.#handshake.stop();
    else this.#transmission.stop();
  }

  /** Ends the connection at once; what has not been executed never will be, and no further reply goes out. */
  abort(): void {
    this.#handshake.abort();
  }

  async #negotiateInTime(): Promise<NegotiatedExport | undefined> {
    const { scheduler, handshakeTimeoutMs } = this.#options;
    const timer = scheduler.after(handshakeTimeoutMs, () => this.abort());
    try {
      return await this.#handshake.run();
    } finally {
      timer.cancel();
    }
  }
}

/**
 * One client from its first byte to its last.
 *
 * @module
 */
import type { VarveError } from "../base/errors.ts";
import type { Scheduler } from "../base/turns.ts";
import { Inbox } from "./_inbox.ts";
import { Outbox } from "./_outbox.ts";
import type { ExportProvider } from "./exports.ts";
import { closeExport, negotiate, type NegotiatedExport } from "./handshake.ts";
import { Transmission } from "./transmission.ts";
import type { Transport } from "./transport.ts";

/** What a connection needs. */
export interface ConnectionOptions {
  /** The exports. */
  readonly exports: ExportProvider;
  /** Gives turns. */
  readonly scheduler: Scheduler;
  /** How long the handshake may take, in milliseconds. */
  readonly handshakeTimeoutMs: number;
  /** Told of failures that are not the client's fault. */
  readonly onProblem: (error: VarveError) => void;
}

/** Leads one client through handshake and transmission, and closes its export exactly once. */
export class Connection {
  readonly #peer: string;
  readonly #options: ConnectionOptions;
  readonly #inbox: Inbox;
  readonly #outbox: Outbox;
  #negotiated: NegotiatedExport | undefined;
  #transmission: Transmission | undefined;

  /** Takes over a transport; nothing happens before {@linkcode Connection.run}. */
  constructor(transport: Transport, options: ConnectionOptions) {
    this.#peer = transport.peer;
    this.#options = options;
    this.#inbox = new Inbox(transport);
    this.#outbox = new Outbox(transport);
  }

  /** The name that the client opened its export by; `undefined` during the handshake. */
  get exportName(): string | undefined {
    return this.#negotiated?.name;
  }

  /** Serves the client; resolves when the transport and the export are closed. */
  async run(): Promise<void> {
    const { onProblem } = this.#options;
    const inbox = this.#inbox;
    const outbox = this.#outbox;
    try {
      this.#negotiated = await this.#negotiateInTime();
      if (this.#negotiated === undefined) return;
      const { opened } = this.#negotiated;
      this.#transmission = new Transmission({ inbox, outbox, opened, onProblem });
      await this.#transmission.run();
    } finally {
      outbox.close();
      if (this.#negotiated !== undefined) await closeExport(this.#negotiated.opened, onProblem);
    }
  }

  /** Ends the connection when no request is under way; during the handshake at once. */
  stop(): void {
    if (this.#transmission === undefined) this.abort();
    else this.#transmission.stop();
  }

  /** Ends the connection at once; what has not been executed never will be, and no further reply goes out. */
  abort(): void {
    this.#outbox.close();
  }

  async #negotiateInTime(): Promise<NegotiatedExport | undefined> {
    const { scheduler, handshakeTimeoutMs } = this.#options;
    const timer = scheduler.after(handshakeTimeoutMs, () => this.abort());
    try {
      return await negotiate({
        inbox: this.#inbox,
        outbox: this.#outbox,
        client: { peer: this.#peer },
        exports: this.#options.exports,
        onProblem: this.#options.onProblem,
      });
    } finally {
      timer.cancel();
    }
  }
}

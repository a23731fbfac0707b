/**
 * The NBD server: listeners, connections and their end.
 *
 * @module
 */
import { VarveError } from "../base/errors.ts";
import { pause, type Scheduler, systemScheduler } from "../base/turns.ts";
import { Connection } from "./connection.ts";
import type { ExportProvider } from "./exports.ts";
import { type OpenListener, openListener } from "./listener.ts";
import type { TlsUpgrade } from "./tls.ts";
import type { Transport } from "./transport.ts";

/** How a server is made. */
export interface NbdServerOptions {
  /** The exports to serve. */
  readonly exports: ExportProvider;
  /** Gives turns. Default: the event loop. */
  readonly scheduler?: Scheduler;
  /** How connections are encrypted. Default: they are not. */
  readonly tls?: TlsUpgrade;
  /** How long a client's handshake may take, in milliseconds. Default 10,000. */
  readonly handshakeTimeoutMs?: number;
  /**
   * How long a client may leave the server waiting after the handshake, for a request or for room for replies, in
   * milliseconds. Default 0, which means as long as it likes: hosts may rest for days.
   */
  readonly idleTimeoutMs?: number;
  /** Clients served at the same time; further ones are turned away. Default 256. */
  readonly maxConnections?: number;
  /** Clients in their handshake at the same time; further ones are turned away. Default 64. */
  readonly maxHandshakes?: number;
  /** Told of failures that are not a client's fault: storage, exports, sockets. Default: nobody is told. */
  readonly onProblem?: (error: VarveError) => void;
}

/** How a server ends. */
export interface CloseOptions {
  /** How long commands under way may take before their connections are cut, in milliseconds. Default 5,000. */
  readonly graceMs?: number;
}

/** Pause after a failed accept, for example for want of file descriptors. */
const ACCEPT_RETRY_MS = 100;

/** Serves exports over NBD at any number of addresses. */
export class NbdServer {
  readonly #options: Required<Omit<NbdServerOptions, "tls">> & Pick<NbdServerOptions, "tls">;
  readonly #listeners = new Set<OpenListener>();
  readonly #accepting = new Set<Promise<void>>();
  readonly #connections = new Map<Connection, Promise<void>>();
  #closing = false;

  /** Makes a server; it serves nobody before {@linkcode NbdServer.listen} or {@linkcode NbdServer.serve}. */
  constructor(options: NbdServerOptions) {
    this.#options = {
      scheduler: systemScheduler,
      handshakeTimeoutMs: 10_000,
      idleTimeoutMs: 0,
      maxConnections: 256,
      maxHandshakes: 64,
      onProblem: () => {},
      ...options,
    };
  }

  /** Where the server listens, in the LISTEN grammar. */
  get addresses(): string[] {
    return [...this.#listeners].map((listener) => listener.address);
  }

  /**
   * Listens at `unix:/path` or `HOST:PORT` as well, and tells the address with its real port. Throws `invalid` for
   * anything else, `conflict` when somebody else listens there or the server is closed.
   */
  async listen(address: string): Promise<string> {
    return this.adopt(await openListener(address));
  }

  /** Serves the clients of a listener as well, which it then owns, and tells its address. Throws as `listen`. */
  adopt(listener: OpenListener): string {
    if (this.#closing) {
      listener.close();
      throw new VarveError("conflict", `listen at ${listener.address}: the server is closed`);
    }
    this.#listeners.add(listener);
    const accepting = this.#accept(listener);
    this.#accepting.add(accepting);
    return listener.address;
  }

  /** Serves one client over a transport, which is closed when this resolves. */
  async serve(transport: Transport): Promise<void> {
    if (this.#closing || this.#isFull) {
      transport.close();
      return;
    }
    const connection = new Connection(transport, this.#options);
    const done = connection.run()
      .catch((thrown) => this.#options.onProblem(VarveError.from(thrown, "serve an NBD client")))
      .finally(() => this.#connections.delete(connection));
    this.#connections.set(connection, done);
    await done;
  }

  get #isFull(): boolean {
    const { maxConnections, maxHandshakes } = this.#options;
    if (this.#connections.size >= maxConnections) return true;
    let handshakes = 0;
    for (const connection of this.#connections.keys()) if (connection.exportName === undefined) handshakes++;
    return handshakes >= maxHandshakes;
  }

  /** Number of clients: all of them, or those that have opened an export by this name. */
  connections(exportName?: string): number {
    if (exportName === undefined) return this.#connections.size;
    return [...this.#connections.keys()].filter((connection) => connection.exportName === exportName).length;
  }

  /**
   * Stops listening, lets commands under way end, and closes every connection; those that need longer than the
   * grace are cut. Resolves when every export is closed. May be called again.
   */
  async close(options: CloseOptions = {}): Promise<void> {
    this.#closing = true;
    for (const listener of this.#listeners) listener.close();
    this.#listeners.clear();
    await Promise.all(this.#accepting);
    for (const connection of this.#connections.keys()) connection.stop();
    const timer = this.#options.scheduler.after(options.graceMs ?? 5_000, () => {
      for (const connection of this.#connections.keys()) connection.abort();
    });
    await Promise.all(this.#connections.values());
    timer.cancel();
  }

  async #accept(listener: OpenListener): Promise<void> {
    while (!this.#closing) {
      try {
        void this.serve(await listener.accept());
      } catch (thrown) {
        if (this.#closing) return;
        this.#options.onProblem(VarveError.from(thrown, `accept a client at ${listener.address}`));
        await pause(this.#options.scheduler, ACCEPT_RETRY_MS);
      }
    }
  }
}

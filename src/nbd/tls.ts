/**
 * Encryption of a connection that began in plain text.
 *
 * @module
 */
import type { Transport } from "./transport.ts";

/** A connection after the TLS handshake. */
export interface TlsConnection {
  /** The encrypted stream; it owns the plain one. */
  readonly transport: Transport;
  /** Subject of the client's certificate, verified; left out when it has shown none. */
  readonly certificate?: string;
}

/** How a server encrypts. */
export interface TlsUpgrade {
  /** Whether a client that does not encrypt is refused everything. */
  readonly required: boolean;
  /**
   * Does the server's part of the TLS handshake over a plain stream that nothing has been read from since the client
   * was told to begin; rejects, with the stream closed, when it fails.
   */
  upgrade(plain: Transport): Promise<TlsConnection>;
}

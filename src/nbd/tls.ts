/**
 * Encryption of a connection that began in plain text.
 *
 * @module
 */
import { VarveError } from "../base/errors.ts";
import { openSsl } from "./_libssl.ts";
import { makeContext, type TlsFiles } from "./_tls_context.ts";
import { TlsSession } from "./_tls_session.ts";
import { TlsTransport } from "./tls_transport.ts";
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

/** What {@linkcode makeTls} needs. */
export interface TlsOptions extends TlsFiles {
  /** Whether a client that does not encrypt is refused everything. */
  readonly required: boolean;
  /** Told when files that have changed can't be used; the last good ones stay in use. Default: nobody is told. */
  readonly onProblem?: (error: VarveError) => void;
}

/**
 * Encrypts with X.509 certificates, TLS 1.2 or newer. Files that have changed are read again for the next connection,
 * so that a renewal needs no restart.
 *
 * @throws {VarveError} `not-found` or `invalid` when the files can't be used, `unsupported` without OpenSSL.
 */
export function makeTls(options: TlsOptions): TlsUpgrade {
  let state = stateOf(options);
  let context = makeContext(options);
  const refresh = () => {
    try {
      const found = stateOf(options);
      if (found === state) return;
      // Told once: half a renewal is followed by the other half.
      state = found;
      const next = makeContext(options);
      openSsl().SSL_CTX_free(context);
      context = next;
    } catch (thrown) {
      options.onProblem?.(VarveError.from(thrown, "read the certificates of NBD again"));
    }
  };
  return {
    required: options.required,
    upgrade(plain) {
      refresh();
      return encrypt(plain, context);
    },
  };
}

async function encrypt(plain: Transport, context: Deno.PointerObject): Promise<TlsConnection> {
  const transport = new TlsTransport(plain, new TlsSession(context));
  try {
    await transport.shake();
    const certificate = transport.certificate();
    return certificate === undefined ? { transport } : { transport, certificate };
  } catch (thrown) {
    transport.close();
    const found = thrown instanceof Error ? thrown.message : String(thrown);
    throw new VarveError("forbidden", `encrypt a connection of ${plain.peer}: ${found}`, { cause: thrown });
  }
}

/** Changes when one of the files does. */
function stateOf({ certificatePath, keyPath, clientCaPath }: TlsFiles): string {
  return [certificatePath, keyPath, clientCaPath].map((path) => {
    if (path === undefined) return "";
    try {
      const { ino, size, mtime } = Deno.statSync(path);
      return `${ino} ${size} ${mtime?.getTime()}`;
    } catch {
      return "gone";
    }
  }).join();
}

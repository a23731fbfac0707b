/**
 * Certificates and rules of a TLS server, as OpenSSL keeps them.
 *
 * @module
 */
import { VarveError } from "../base/errors.ts";
import { made, openSsl, sslFailure } from "./_libssl.ts";

const CTRL_SESSION_CACHE_MODE = 44;
const CTRL_MIN_PROTO_VERSION = 123;
const TLS1_2_VERSION = 0x0303n;
const OP_NO_TICKET = 1n << 14n;
const OP_NO_RENEGOTIATION = 1n << 30n;
const FILETYPE_PEM = 1;
const VERIFY_PEER = 1;
const VERIFY_FAIL_IF_NO_PEER_CERT = 2;

/** Files and rules of a TLS server. */
export interface TlsFiles {
  /** PEM file of the server's certificate, and those between it and its authority. */
  readonly certificatePath: string;
  /** PEM file of its private key, which is not encrypted. */
  readonly keyPath: string;
  /** PEM file of the authorities of clients' certificates. Default: clients are not asked for one. */
  readonly clientCaPath?: string;
  /** Whether a client without a certificate is refused; needs `clientCaPath`. Default: it is served. */
  readonly clientCertificateRequired?: boolean;
}

/** Reads the files. The caller frees what it gets. Throws `not-found`, `forbidden` or `invalid`, naming the file. */
export function makeContext(files: TlsFiles): Deno.PointerObject {
  const ssl = openSsl();
  ssl.ERR_clear_error();
  const context = made(ssl.SSL_CTX_new(ssl.TLS_server_method()));
  try {
    ssl.SSL_CTX_ctrl(context, CTRL_MIN_PROTO_VERSION, TLS1_2_VERSION, null);
    // Nothing outlives a connection: whoever comes back shows what it is again.
    ssl.SSL_CTX_ctrl(context, CTRL_SESSION_CACHE_MODE, 0n, null);
    ssl.SSL_CTX_set_options(context, OP_NO_TICKET | OP_NO_RENEGOTIATION);
    // Without it, a key with a password would ask for it at the terminal.
    ssl.SSL_CTX_set_default_passwd_cb_userdata(context, NO_PASSWORD);
    useFile(files.certificatePath, (path) => ssl.SSL_CTX_use_certificate_chain_file(context, path) === 1);
    useFile(files.keyPath, (path) => ssl.SSL_CTX_use_PrivateKey_file(context, path, FILETYPE_PEM) === 1);
    if (files.clientCaPath !== undefined) {
      useFile(files.clientCaPath, (path) => ssl.SSL_CTX_load_verify_file(context, path) === 1);
      useFile(files.clientCaPath, (path) => {
        const names = ssl.SSL_load_client_CA_file(path);
        if (names !== null) ssl.SSL_CTX_set_client_CA_list(context, names);
        return names !== null;
      });
      const demand = files.clientCertificateRequired ? VERIFY_FAIL_IF_NO_PEER_CERT : 0;
      ssl.SSL_CTX_set_verify(context, VERIFY_PEER | demand, null);
    }
    return context;
  } catch (thrown) {
    ssl.SSL_CTX_free(context);
    throw thrown;
  }
}

/** A string of C; OpenSSL keeps the pointer, so it lives as long as the process. */
const NO_PASSWORD = new Uint8Array(1);

function useFile(path: string, use: (path: Uint8Array<ArrayBuffer>) => boolean): void {
  try {
    Deno.readFileSync(path);
  } catch (thrown) {
    throw VarveError.from(thrown, `read ${path} for TLS`);
  }
  if (!use(new TextEncoder().encode(`${path}\0`))) {
    throw new VarveError("invalid", `use ${path} for TLS: ${sslFailure()}`);
  }
}

/**
 * One TLS connection of a server as a machine without a socket: ciphertext is fed in and drained, plain text is read and
 * written, and nothing waits.
 *
 * @module
 */
import { VarveError } from "../base/errors.ts";
import { made, openSsl, sslFailure } from "./_libssl.ts";

const ERROR_WANT_READ = 2;
const ERROR_ZERO_RETURN = 6;
const VERIFY_OK = 0n;

/** RFC 4514, in UTF-8: the last part of the name first, a comma within a value behind a backslash. */
const NAME_FORMAT = 0x0111_0313n;

/** Must be freed once, and not be used behind that. */
export class TlsSession {
  readonly #ssl = openSsl();
  readonly #session: Deno.PointerObject;
  readonly #incoming: Deno.PointerObject;
  readonly #outgoing: Deno.PointerObject;

  /** Begins a connection by the rules of a context, which may be freed at once. */
  constructor(context: Deno.PointerObject) {
    const ssl = this.#ssl;
    this.#session = made(ssl.SSL_new(context));
    this.#incoming = made(ssl.BIO_new(ssl.BIO_s_mem()));
    this.#outgoing = made(ssl.BIO_new(ssl.BIO_s_mem()));
    // The session owns both from here on.
    ssl.SSL_set_bio(this.#session, this.#incoming, this.#outgoing);
  }

  /** Takes ciphertext from the client. */
  feed(bytes: Uint8Array): void {
    if (
      this.#ssl.BIO_write(this.#incoming, bytes as Uint8Array<ArrayBuffer>, bytes.length) !== bytes.length
    ) {
      throw new VarveError("io", "keep ciphertext: there is no memory for it");
    }
  }

  /** Bytes of ciphertext that are to be drained. */
  get pendingBytes(): number {
    return Number(this.#ssl.BIO_ctrl_pending(this.#outgoing));
  }

  /** Puts ciphertext for the client into `target` and tells how much; 0 when there is none. */
  drain(target: Uint8Array<ArrayBuffer>): number {
    return Math.max(this.#ssl.BIO_read(this.#outgoing, target, target.length), 0);
  }

  /** Goes on with the handshake; `false` when it needs more ciphertext. Throws `forbidden` when it has failed. */
  shake(): boolean {
    this.#ssl.ERR_clear_error();
    return this.#check(this.#ssl.SSL_accept(this.#session), "shake hands") !== undefined;
  }

  /** Puts plain text into `target`; 0 at the orderly end, `undefined` when it needs more ciphertext. Throws `forbidden`. */
  read(target: Uint8Array): number | undefined {
    this.#ssl.ERR_clear_error();
    return this.#check(
      this.#ssl.SSL_read(this.#session, target as Uint8Array<ArrayBuffer>, target.length),
      "decrypt",
    );
  }

  /** Encrypts plain text, at least one byte. */
  write(bytes: Uint8Array): void {
    this.#ssl.ERR_clear_error();
    const written = this.#ssl.SSL_write(this.#session, bytes as Uint8Array<ArrayBuffer>, bytes.length);
    if (written !== bytes.length) throw new VarveError("io", `encrypt: ${sslFailure()}`);
  }

  /** Says that no plain text follows. */
  end(): void {
    this.#ssl.SSL_shutdown(this.#session);
    this.#ssl.ERR_clear_error();
  }

  /** Subject of the client's verified certificate, in the form of RFC 4514; `undefined` when it has shown none. */
  certificate(): string | undefined {
    const ssl = this.#ssl;
    const certificate = ssl.SSL_get1_peer_certificate(this.#session);
    if (certificate === null) return undefined;
    const text = made(ssl.BIO_new(ssl.BIO_s_mem()));
    try {
      const verified = ssl.SSL_get_verify_result(this.#session);
      if (verified !== VERIFY_OK) {
        throw new VarveError("forbidden", `trust a certificate: it was not verified (${verified})`);
      }
      ssl.X509_NAME_print_ex(text, ssl.X509_get_subject_name(certificate), 0, NAME_FORMAT);
      const bytes = new Uint8Array(4096);
      return new TextDecoder().decode(
        bytes.subarray(0, Math.max(ssl.BIO_read(text, bytes, bytes.length), 0)),
      );
    } finally {
      ssl.BIO_free(text);
      ssl.X509_free(certificate);
    }
  }

  /** Gives everything back. */
  free(): void {
    this.#ssl.SSL_free(this.#session);
  }

  #check(result: number, tried: string): number | undefined {
    if (result > 0) return result;
    switch (this.#ssl.SSL_get_error(this.#session, result)) {
      case ERROR_WANT_READ:
        return undefined;
      case ERROR_ZERO_RETURN:
        return 0;
      default:
        throw new VarveError("forbidden", `${tried}: ${sslFailure()}`);
    }
  }
}

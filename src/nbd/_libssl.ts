/**
 * The functions of OpenSSL that a TLS server needs, by `Deno.dlopen` on first use.
 *
 * The error queue is kept per thread and every call is synchronous, so a failure is told right behind its call.
 *
 * @module
 */
import { VarveError } from "../base/errors.ts";

const SSL_SYMBOLS = {
  TLS_server_method: { parameters: [], result: "pointer" },
  SSL_CTX_new: { parameters: ["pointer"], result: "pointer" },
  SSL_CTX_free: { parameters: ["pointer"], result: "void" },
  SSL_CTX_ctrl: { parameters: ["pointer", "i32", "i64", "pointer"], result: "i64" },
  SSL_CTX_set_options: { parameters: ["pointer", "u64"], result: "u64" },
  SSL_CTX_set_default_passwd_cb_userdata: { parameters: ["pointer", "buffer"], result: "void" },
  SSL_CTX_use_certificate_chain_file: { parameters: ["pointer", "buffer"], result: "i32" },
  SSL_CTX_use_PrivateKey_file: { parameters: ["pointer", "buffer", "i32"], result: "i32" },
  SSL_CTX_load_verify_file: { parameters: ["pointer", "buffer"], result: "i32" },
  SSL_load_client_CA_file: { parameters: ["buffer"], result: "pointer" },
  SSL_CTX_set_client_CA_list: { parameters: ["pointer", "pointer"], result: "void" },
  SSL_CTX_set_verify: { parameters: ["pointer", "i32", "pointer"], result: "void" },
  SSL_new: { parameters: ["pointer"], result: "pointer" },
  SSL_free: { parameters: ["pointer"], result: "void" },
  SSL_set_bio: { parameters: ["pointer", "pointer", "pointer"], result: "void" },
  SSL_accept: { parameters: ["pointer"], result: "i32" },
  SSL_read: { parameters: ["pointer", "buffer", "i32"], result: "i32" },
  SSL_write: { parameters: ["pointer", "buffer", "i32"], result: "i32" },
  SSL_shutdown: { parameters: ["pointer"], result: "i32" },
  SSL_get_error: { parameters: ["pointer", "i32"], result: "i32" },
  SSL_get_verify_result: { parameters: ["pointer"], result: "i64" },
  SSL_get1_peer_certificate: { parameters: ["pointer"], result: "pointer" },
} as const;

const CRYPTO_SYMBOLS = {
  BIO_s_mem: { parameters: [], result: "pointer" },
  BIO_new: { parameters: ["pointer"], result: "pointer" },
  BIO_free: { parameters: ["pointer"], result: "i32" },
  BIO_ctrl_pending: { parameters: ["pointer"], result: "usize" },
  BIO_read: { parameters: ["pointer", "buffer", "i32"], result: "i32" },
  BIO_write: { parameters: ["pointer", "buffer", "i32"], result: "i32" },
  ERR_clear_error: { parameters: [], result: "void" },
  ERR_get_error: { parameters: [], result: "u64" },
  ERR_error_string_n: { parameters: ["u64", "buffer", "usize"], result: "void" },
  X509_get_subject_name: { parameters: ["pointer"], result: "pointer" },
  X509_NAME_print_ex: { parameters: ["pointer", "pointer", "i32", "u64"], result: "i32" },
  X509_free: { parameters: ["pointer"], result: "void" },
} as const;

/** The functions, with the parameters of their manual pages. */
export type OpenSsl =
  & Deno.DynamicLibrary<typeof SSL_SYMBOLS>["symbols"]
  & Deno.DynamicLibrary<typeof CRYPTO_SYMBOLS>["symbols"];

let loaded: OpenSsl | undefined;

/** Loads OpenSSL 3. Throws `unsupported` when this machine does not have it. */
export function openSsl(): OpenSsl {
  if (loaded !== undefined) return loaded;
  try {
    loaded = {
      ...Deno.dlopen("libssl.so.3", SSL_SYMBOLS).symbols,
      ...Deno.dlopen("libcrypto.so.3", CRYPTO_SYMBOLS).symbols,
    };
    return loaded;
  } catch (thrown) {
    throw new VarveError("unsupported", "load OpenSSL 3 for TLS: libssl.so.3 is not to be had here", {
      cause: thrown,
      hint: "Install it (Debian: apt-get install libssl3), or serve without TLS.",
    });
  }
}

/** What the last failed call of this thread found; what it left behind is cleared. */
export function sslFailure(): string {
  const ssl = openSsl();
  const text = new Uint8Array(256);
  const code = ssl.ERR_get_error();
  ssl.ERR_clear_error();
  if (code === 0n) return "OpenSSL gives no reason";
  ssl.ERR_error_string_n(code, text, BigInt(text.length));
  // "error:0A000076:SSL routines::no suitable signature algorithm"
  const [, , library = "", , ...reason] = new TextDecoder().decode(text.subarray(0, text.indexOf(0))).split(
    ":",
  );
  return `${reason.join(":")} (${library})`;
}

/** An object of OpenSSL that could not be made: there is no memory for it. */
export function made<T>(pointer: Deno.PointerValue<T>): Deno.PointerObject<T> {
  if (pointer === null) throw new VarveError("io", `make an object of OpenSSL: ${sslFailure()}`);
  return pointer;
}

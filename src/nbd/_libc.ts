/**
 * The functions of libc that serving sockets needs, by `Deno.dlopen`.
 *
 * Results are 32-bit numbers, because no transfer here reaches 2 GiB. `errno` is kept per thread: `lastErrno` is only right behind a synchronous call; of
 * those that run on another thread (`receiveWaiting`, `poll`) just the result is known.
 *
 * @module
 */
import { getSystemErrorName } from "node:util";
import { lastErrno } from "../base/errno.ts";
import { VarveError } from "../base/errors.ts";

const TRANSFER = { parameters: ["i32", "buffer", "usize", "i32"], result: "i32" } as const;

const library = Deno.dlopen("libc.so.6", {
  socket: { parameters: ["i32", "i32", "i32"], result: "i32" },
  bind: { parameters: ["i32", "buffer", "u32"], result: "i32" },
  listen: { parameters: ["i32", "i32"], result: "i32" },
  accept4: { parameters: ["i32", "buffer", "buffer", "i32"], result: "i32" },
  getsockname: { parameters: ["i32", "buffer", "buffer"], result: "i32" },
  getsockopt: { parameters: ["i32", "i32", "i32", "buffer", "buffer"], result: "i32" },
  setsockopt: { parameters: ["i32", "i32", "i32", "buffer", "u32"], result: "i32" },
  inet_pton: { parameters: ["i32", "buffer", "buffer"], result: "i32" },
  recv: TRANSFER,
  send: TRANSFER,
  receiveWaiting: { ...TRANSFER, name: "recv", nonblocking: true },
  shutdown: { parameters: ["i32", "i32"], result: "i32" },
  close: { parameters: ["i32"], result: "i32" },
  write: { parameters: ["i32", "buffer", "usize"], result: "i32" },
  eventfd: { parameters: ["u32", "i32"], result: "i32" },
  poll: { parameters: ["buffer", "u64", "i32"], result: "i32", nonblocking: true },
  fcntl: { parameters: ["i32", "i32", "i32"], result: "i32" },
});

/** The functions, with the parameters of their manual pages. */
export const libc: typeof library.symbols = library.symbols;

/** The failures that are looked at. */
export const Errno = { EINTR: 4, EAGAIN: 11, EADDRINUSE: 98, ECONNABORTED: 103 } as const;

/** A failed call as an error, which carries the name of `errno` as the runtime's own errors do. */
export function systemError(tried: string, errno: number = lastErrno()): VarveError {
  const code = getSystemErrorName(-errno);
  return VarveError.from(Object.assign(new Error(code), { code }), tried);
}

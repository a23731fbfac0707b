/**
 * The few functions of libc that serving FUSE needs, by `Deno.dlopen`.
 *
 * Results of `read` and `write` are declared as 32-bit numbers, because no transfer here is larger than 2 MiB
 * and 64-bit results cost a BigInt each; that of `recvmsg` is one byte. `errno` is kept per thread: `lastErrno` is only right after
 * a synchronous call; of a nonblocking one just the result is known.
 *
 * @module
 */

const library = Deno.dlopen("libc.so.6", {
  open: { parameters: ["buffer", "i32"], result: "i32" },
  close: { parameters: ["i32"], result: "i32" },
  read: { parameters: ["i32", "buffer", "usize"], result: "i32" },
  write: { parameters: ["i32", "buffer", "usize"], result: "i32" },
  poll: { parameters: ["buffer", "u64", "i32"], result: "i32", nonblocking: true },
  eventfd: { parameters: ["u32", "i32"], result: "i32" },
  fcntl: { parameters: ["i32", "i32", "i32"], result: "i32" },
  flock: { parameters: ["i32", "i32"], result: "i32" },
  socketpair: { parameters: ["i32", "i32", "i32", "buffer"], result: "i32" },
  recvmsg: { parameters: ["i32", "buffer", "i32"], result: "i32" },
  mount: { parameters: ["buffer", "buffer", "buffer", "u64", "buffer"], result: "i32" },
  umount2: { parameters: ["buffer", "i32"], result: "i32", nonblocking: true },
});

/** The functions, with the parameters of their manual pages. `poll` and `umount2` run on another thread. */
export const libc: typeof library.symbols = library.symbols;

/** A string as C wants it. */
export function cString(text: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(`${text}\0`);
}

/**
 * The calls with which the kernel is made to read a disk and asked about its files, by `Deno.dlopen`.
 *
 * All but `closeElsewhere` are synchronous: a thread that uses them is made for that, and waits with them. Those younger than Debian's C library go
 * through `syscall`, by numbers that are the same on every architecture that Varve serves, but for `name_to_handle_at` and
 * its pair, which the library has.
 *
 * @module
 */
import { lastErrno } from "../../src/base/errno.ts";
import { type ErrorCode, VarveError } from "../../src/base/errors.ts";

const library = Deno.dlopen("libc.so.6", {
  open: { parameters: ["buffer", "i32"], result: "i32" },
  openat: { parameters: ["i32", "buffer", "i32"], result: "i32" },
  close: { parameters: ["i32"], result: "i32" },
  closeElsewhere: { name: "close", parameters: ["i32"], result: "i32", nonblocking: true },
  read: { parameters: ["i32", "buffer", "usize"], result: "i32" },
  pread: { parameters: ["i32", "buffer", "usize", "i64"], result: "i32" },
  lseek: { parameters: ["i32", "i64", "i32"], result: "i64" },
  ioctl: { parameters: ["i32", "u64", "buffer"], result: "i32" },
  prctl: { parameters: ["i32", "u64", "u64", "u64", "u64"], result: "i32" },
  statx: { parameters: ["i32", "buffer", "i32", "u32", "buffer"], result: "i32" },
  fstatfs: { parameters: ["i32", "buffer"], result: "i32" },
  getdents64: { parameters: ["i32", "buffer", "usize"], result: "i32" },
  readlinkat: { parameters: ["i32", "buffer", "buffer", "usize"], result: "i32" },
  listxattr: { parameters: ["buffer", "buffer", "usize"], result: "i32" },
  getxattr: { parameters: ["buffer", "buffer", "buffer", "usize"], result: "i32" },
  name_to_handle_at: { parameters: ["i32", "buffer", "buffer", "buffer", "i32"], result: "i32" },
  open_by_handle_at: { parameters: ["i32", "buffer", "i32"], result: "i32" },
  strerror: { parameters: ["i32"], result: "pointer" },
  newMount: { name: "syscall", parameters: ["i64", "buffer", "u32"], result: "i32" },
  configure: {
    name: "syscall",
    parameters: ["i64", "i32", "u32", "buffer", "buffer", "i32"],
    result: "i32",
  },
  attach: { name: "syscall", parameters: ["i64", "i32", "u32", "u32"], result: "i32" },
});

/** The functions, with the parameters of their manual pages. */
export const libc: typeof library.symbols = library.symbols;

/** Numbers for `syscall`. */
export const SYSCALL = { fsopen: 430n, fsconfig: 431n, fsmount: 432n } as const;

/** Flags of open(2), from Linux `asm-generic/fcntl.h`. */
export const OPEN = {
  readWrite: 0o2,
  nonBlocking: 0o4000,
  directory: Deno.build.arch === "aarch64" ? 0o40000 : 0o200000,
  noFollow: Deno.build.arch === "aarch64" ? 0o100000 : 0o400000,
  noAccessTime: 0o1000000,
  closeOnExec: 0o2000000,
  path: 0o10000000,
} as const;

/** Error numbers that are told apart. */
export const ERRNO_HERE = {
  ENOENT: 2,
  EBUSY: 16,
  ERANGE: 34,
  ENODATA: 61,
  ENXIO: 6,
  EOPNOTSUPP: 95,
} as const;

const PR_SET_IO_FLUSHER = 57;

/**
 * Tells the kernel that other threads' input and output may wait for this one, so that it must not make this one wait for theirs when
 * memory is short. Where that is not allowed, nothing changes.
 */
export function declareIoFlusher(): void {
  libc.prctl(PR_SET_IO_FLUSHER, 1n, 0n, 0n, 0n);
}

/** What the C library says about an error number. */
export function errorText(errno: number): string {
  const pointer = libc.strerror(errno);
  return pointer === null ? `errno ${errno}` : Deno.UnsafePointerView.getCString(pointer);
}

/** The result, or an error by `errno` when it is negative; right behind the call alone. */
export function checked<Result extends number | bigint>(result: Result, tried: string): Result {
  if (result < 0) throw callFailure(tried, lastErrno());
  return result;
}

/** What a failed call means: of a file system that the kernel reads. */
export function callFailure(tried: string, errno: number): VarveError {
  return new VarveError(codeOf(errno), `${tried}: ${errorText(errno)}`);
}

function codeOf(errno: number): ErrorCode {
  switch (errno) {
    case 2: // ENOENT
    case 116: // ESTALE
      return "not-found";
    case 74: // EBADMSG, for a wrong checksum
    case 117: // EUCLEAN, for what contradicts itself
      return "damaged";
    case 95: // EOPNOTSUPP
    case 126: // ENOKEY, for what is encrypted
      return "unsupported";
    case 20: // ENOTDIR
    case 22: // EINVAL
    case 36: // ENAMETOOLONG
      return "invalid";
    default:
      return "io";
  }
}

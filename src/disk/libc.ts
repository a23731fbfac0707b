/**
 * The few calls of libc that the runtime's own file functions lack.
 *
 * @module
 */

import { lastErrno } from "../base/errno.ts";

const O_EXCL = 0o200;
const O_CLOEXEC = 0o2000000;
const PUNCH_HOLE = 0x02;
const KEEP_SIZE = 0x01;
const SEEK_END = 2;
const SEEK_DATA = 3;
const SEEK_HOLE = 4;
const FADV_DONTNEED = 4;
const SYNC_FILE_RANGE_WRITE = 2;
const PRIO_PROCESS = 0;
const NICE_MAX = 19;
const EINTR = 4;
const ENODEV = 19;
const EFBIG = 27;
const ENOSPC = 28;
const ENOSYS = 38;
const EOPNOTSUPP = 95;
const EDQUOT = 122;

const library = Deno.dlopen("libc.so.6", {
  fallocate: { parameters: ["i32", "i32", "i64", "i64"], result: "i32" },
  open: { parameters: ["buffer", "i32", "i32"], result: "i32" },
  close: { parameters: ["i32"], result: "i32" },
  lseek: { parameters: ["i32", "i64", "i32"], result: "i64" },
  sync_file_range: { parameters: ["i32", "i64", "i64", "u32"], result: "i32" },
  posix_fadvise: { parameters: ["i32", "i64", "i64", "i32"], result: "i32" },
  setpriority: { parameters: ["i32", "u32", "i32"], result: "i32" },
});

/**
 * Lets every other thread have the processor first (`setpriority(2)`). On Linux `who` 0 is the calling thread alone, so
 * in a Worker it is the Worker.
 */
export function lowerPriority(): void {
  library.symbols.setpriority(PRIO_PROCESS, 0, NICE_MAX);
}

/**
 * Whether a block device can be opened exclusively (`open(2)`, O_EXCL without O_CREAT): the kernel refuses it while the
 * device is mounted, swapped to or part of another. The runtime's own `open` does not pass that flag on.
 */
export function isUnclaimed(path: string): boolean {
  const fd = library.symbols.open(new TextEncoder().encode(`${path}\0`), O_EXCL | O_CLOEXEC, 0);
  if (fd >= 0) library.symbols.close(fd);
  return fd >= 0;
}

/** Punches a hole (`fallocate(2)`, PUNCH_HOLE); false where the storage cannot. */
export function punchHole(fd: number, offset: number, length: number): boolean {
  return library.symbols.fallocate(fd, PUNCH_HOLE | KEEP_SIZE, BigInt(offset), BigInt(length)) === 0;
}

/**
 * Reserves space without changing the size (`fallocate(2)`, KEEP_SIZE): `full` when there is not enough of it,
 * `unsupported` where the storage cannot reserve, else the number of another failure.
 */
export function reserveSpace(
  fd: number,
  offset: number,
  length: number,
): "reserved" | "full" | "unsupported" | number {
  for (;;) {
    if (library.symbols.fallocate(fd, KEEP_SIZE, BigInt(offset), BigInt(length)) === 0) return "reserved";
    const errno = lastErrno();
    switch (errno) {
      case EINTR:
        continue;
      case ENOSPC:
      case EDQUOT:
      case EFBIG:
        return "full";
      case EOPNOTSUPP:
      case ENOSYS:
      case ENODEV:
        return "unsupported";
      default:
        return errno;
    }
  }
}

/**
 * Drops pages of a range of a file that are in memory and not waiting to be written (`posix_fadvise(2)`, DONTNEED); a length
 * of 0 means to the end.
 */
export function dropCleanPages(fd: number, offset: number, length: number): void {
  library.symbols.posix_fadvise(fd, BigInt(offset), BigInt(length), FADV_DONTNEED);
}

/** Begins to write dirty pages of a range (`sync_file_range(2)`, WRITE). */
export function beginWriting(fd: number, offset: number, length: number): void {
  library.symbols.sync_file_range(fd, BigInt(offset), BigInt(length), SYNC_FILE_RANGE_WRITE);
}

/** Size of a file or block device (`lseek(2)`, SEEK_END), or -1. */
export function endOf(fd: number): number {
  return Number(library.symbols.lseek(fd, 0n, SEEK_END));
}

/** First data or hole at or after an offset (`lseek(2)`), or -1 when there is none or the storage cannot tell. */
export function seekKind(fd: number, offset: number, kind: "data" | "hole"): number {
  return Number(library.symbols.lseek(fd, BigInt(offset), kind === "data" ? SEEK_DATA : SEEK_HOLE));
}

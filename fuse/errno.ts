/**
 * Error numbers of Linux, and the one table that turns a failure of Varve into them.
 *
 * @module
 */
import { type ErrorCode, VarveError } from "../src/base/errors.ts";

/** The error numbers that this room sends or meets, as on every Linux architecture that Varve serves. */
export const ERRNO = {
  EPERM: 1,
  ENOENT: 2,
  EINTR: 4,
  EIO: 5,
  ENXIO: 6,
  EAGAIN: 11,
  EACCES: 13,
  EBUSY: 16,
  ENODEV: 19,
  ENOTDIR: 20,
  EISDIR: 21,
  EINVAL: 22,
  ENOTTY: 25,
  ENOSPC: 28,
  EROFS: 30,
  ERANGE: 34,
  ENOSYS: 38,
  ENODATA: 61,
  EPROTO: 71,
  EOPNOTSUPP: 95,
  ECONNABORTED: 103,
  ENOTCONN: 107,
} as const;

/** Name of an error number, for messages; the bare number when it is not one of {@linkcode ERRNO}. */
export function errnoName(errno: number): string {
  const found = Object.entries(ERRNO).find(([, value]) => value === errno);
  return found === undefined ? `errno ${errno}` : found[0];
}

/** What a client of the mount gets to see for each kind of failure. */
export function errnoOf(code: ErrorCode): number {
  switch (code) {
    case "not-found":
    case "not-retained":
      return ERRNO.ENOENT;
    case "invalid":
    case "out-of-range":
      return ERRNO.EINVAL;
    case "conflict":
      return ERRNO.EBUSY;
    case "read-only":
      return ERRNO.EROFS;
    case "no-space":
      return ERRNO.ENOSPC;
    case "io":
    case "damaged":
      return ERRNO.EIO;
    case "unsupported":
      return ERRNO.EOPNOTSUPP;
    case "forbidden":
      return ERRNO.EACCES;
    case "cancelled":
      return ERRNO.EINTR;
  }
}

/** The error number for anything thrown; what is not a {@linkcode VarveError} is an input/output error. */
export function errnoOfThrown(thrown: unknown): number {
  return thrown instanceof VarveError ? errnoOf(thrown.code) : ERRNO.EIO;
}

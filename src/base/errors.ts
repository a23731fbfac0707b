/**
 * The one error type that crosses rooms, and its closed set of codes.
 *
 * Asserts are for our own mistakes; a {@linkcode VarveError} is for the world's: it says what was tried,
 * where, what was found and what the operator can do. Each boundary (NBD, FUSE, HTTP, command line) has one
 * table that translates a {@linkcode ErrorCode} to its own language.
 *
 * @module
 */

/** Every kind of failure that Varve reports. */
export const ERROR_CODES = [
  /** The request itself is malformed: a bad name, size, time, policy or body. */
  "invalid",
  /** The named volume, mark, file, job or token does not exist. */
  "not-found",
  /** The thing exists already, or its state forbids the request. */
  "conflict",
  /** The moment lies outside the window, or retention has thinned it away. */
  "not-retained",
  /** An offset and length reach beyond the end of the device. */
  "out-of-range",
  /** A write was sent to something that cannot be written. */
  "read-only",
  /** The storage is full. */
  "no-space",
  /** The storage failed. */
  "io",
  /** Bytes were found that cannot be proved right. */
  "damaged",
  /** What was asked for is a thing that Varve does not do. */
  "unsupported",
  /** The caller may not do this. */
  "forbidden",
  /** The work was cancelled before it ended. */
  "cancelled",
] as const;

/** One of {@linkcode ERROR_CODES}. */
export type ErrorCode = typeof ERROR_CODES[number];

/** What goes with a message; every field is optional. */
export interface VarveErrorOptions {
  /** The underlying failure. */
  cause?: unknown;
  /** What the operator can do about it, as a sentence. */
  hint?: string;
  /** The request field at fault, for example `sizeBytes`. */
  field?: string;
  /** Further facts for programs: they appear as members of the HTTP problem document. */
  details?: Record<string, unknown>;
}

/** A failure of the world, with its code, cause and hint. Messages say what was tried, a colon, what was found. */
export class VarveError extends Error {
  /** Always `"VarveError"`. */
  override readonly name = "VarveError";
  /** The kind of failure. */
  readonly code: ErrorCode;
  /** What the operator can do about it. */
  readonly hint: string | undefined;
  /** The request field at fault. */
  readonly field: string | undefined;
  /** Further facts for programs. */
  readonly details: Record<string, unknown> | undefined;

  /** Makes an error with a code, a message for people, and what else is known. */
  constructor(code: ErrorCode, message: string, options: VarveErrorOptions = {}) {
    super(message, "cause" in options ? { cause: options.cause } : undefined);
    this.code = code;
    this.hint = options.hint;
    this.field = options.field;
    this.details = options.details;
  }

  /** A plain object that survives `postMessage`; {@linkcode VarveError.from} turns it back. */
  toMessage(): VarveErrorMessage {
    return {
      code: this.code,
      message: this.message,
      hint: this.hint,
      field: this.field,
      details: this.details,
    };
  }

  /** Rebuilds an error that another thread sent. */
  static fromMessage(sent: VarveErrorMessage): VarveError {
    return new VarveError(sent.code, sent.message, {
      ...(sent.hint === undefined ? {} : { hint: sent.hint }),
      ...(sent.field === undefined ? {} : { field: sent.field }),
      ...(sent.details === undefined ? {} : { details: sent.details }),
    });
  }

  /** Wraps anything thrown: a {@linkcode VarveError} is kept, an operating system error is classed. */
  static from(thrown: unknown, tried: string): VarveError {
    if (thrown instanceof VarveError) return thrown;
    const found = thrown instanceof Error ? thrown.message : String(thrown);
    return new VarveError(codeOfSystemError(thrown), `${tried}: ${found}`, { cause: thrown });
  }
}

/** The form in which a {@linkcode VarveError} travels between threads. */
export interface VarveErrorMessage {
  /** The kind of failure. */
  code: ErrorCode;
  /** The message for people. */
  message: string;
  /** What the operator can do about it. */
  hint: string | undefined;
  /** The request field at fault. */
  field: string | undefined;
  /** Further facts for programs. */
  details: Record<string, unknown> | undefined;
}

/** SQLite's result codes for a full storage: SQLITE_FULL, and SQLITE_IOERR_SHMSIZE for the index of its log. */
const SQLITE_FULL_CODES: readonly unknown[] = [13, 4874];

function codeOfSystemError(thrown: unknown): ErrorCode {
  if (
    typeof thrown === "object" && thrown !== null && "errcode" in thrown &&
    SQLITE_FULL_CODES.includes(thrown.errcode)
  ) return "no-space";
  const code = typeof thrown === "object" && thrown !== null && "code" in thrown ? thrown.code : undefined;
  switch (code) {
    case "ENOSPC":
    case "EDQUOT":
    case "EFBIG":
      return "no-space";
    case "ENOENT":
      return "not-found";
    case "EACCES":
    case "EPERM":
      return "forbidden";
    case "EROFS":
      return "read-only";
    case "EEXIST":
    case "EBUSY":
      return "conflict";
    default:
      return "io";
  }
}

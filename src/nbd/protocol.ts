/**
 * The NBD protocol: its messages, and every constant, flag and error value in one place.
 *
 * Source: the NBD protocol document, `doc/proto.md` of the NetworkBlockDevice project, with its extension for extended
 * headers. All integers are unsigned and big-endian. `_option_format.ts` reads and writes the handshake,
 * `_message_format.ts` what comes after it.
 *
 * ```text
 * greeting          S: u64 NBDMAGIC   u64 IHAVEOPT   u16 handshake flags
 * client flags      C: u32
 * option            C: u64 IHAVEOPT   u32 option   u32 length   data
 * option reply      S: u64 magic   u32 option   u32 type   u32 length   data
 * EXPORT_NAME       S: u64 size   u16 transmission flags   [124 zeroes]
 * request           C: u32 magic   u16 flags   u16 type   u64 cookie   u64 offset   u32 length   [payload]
 * extended request  C: u32 magic   u16 flags   u16 type   u64 cookie   u64 offset   u64 length   [payload]
 * simple reply      S: u32 magic   u32 error   u64 cookie   [data]
 * structured chunk  S: u32 magic   u16 flags   u16 type   u64 cookie   u32 length   content
 * extended chunk    S: u32 magic   u16 flags   u16 type   u64 cookie   u64 offset   u64 length   content
 *
 * content of a chunk
 * NONE              nothing
 * OFFSET_DATA       u64 offset   data
 * OFFSET_HOLE       u64 offset   u32 length of the hole
 * BLOCK_STATUS      u32 context   any number of: u32 length   u32 flags
 * BLOCK_STATUS_EXT  u32 context   u32 count   count times: u64 length   u64 flags
 * ERROR             u32 error   u16 length of message   message
 * ERROR_OFFSET      u32 error   u16 length of message   message   u64 offset
 * ```
 *
 * @module
 */
import type { ErrorCode } from "../base/errors.ts";

/** Longest string (export name, description, message) in bytes of UTF-8. */
export const MAX_STRING_BYTES = 4096;
/** Largest payload of one READ or WRITE, advertised and enforced. */
export const MAX_PAYLOAD_BYTES = 32 * 1024 * 1024;
/** Block size advertised as preferred. */
export const PREFERRED_BLOCK_BYTES = 4096;

/** Magic numbers of 32 bits, which begin the messages of the transmission phase. */
export const Magic = {
  REQUEST: 0x25609513,
  EXTENDED_REQUEST: 0x21e41c71,
  SIMPLE_REPLY: 0x67446698,
  STRUCTURED_REPLY: 0x668e33ef,
  EXTENDED_REPLY: 0x6e8a278c,
} as const;

/**
 * How a connection's messages look in the transmission phase: with `simple` and `structured` requests are compact, with
 * `extended` they have lengths of 64 bits.
 */
export type MessageForm = "simple" | "structured" | "extended";

/** What the server says of itself in the greeting, and what the client answers: the bits are the same. */
export const HandshakeFlag = {
  /** Options have replies. */
  FIXED_NEWSTYLE: 1 << 0,
  /** The 124 reserved zeroes after EXPORT_NAME are left out. */
  NO_ZEROES: 1 << 1,
} as const;

/** Options of the handshake. */
export const Option = {
  EXPORT_NAME: 1,
  ABORT: 2,
  LIST: 3,
  STARTTLS: 5,
  INFO: 6,
  GO: 7,
  STRUCTURED_REPLY: 8,
  LIST_META_CONTEXT: 9,
  SET_META_CONTEXT: 10,
  EXTENDED_HEADERS: 11,
} as const;

/** Types of option replies; errors have bit 31 set. */
export const Rep = {
  ACK: 1,
  SERVER: 2,
  INFO: 3,
  META_CONTEXT: 4,
  ERR_UNSUP: 0x8000_0001,
  ERR_POLICY: 0x8000_0002,
  ERR_INVALID: 0x8000_0003,
  ERR_PLATFORM: 0x8000_0004,
  ERR_TLS_REQD: 0x8000_0005,
  ERR_UNKNOWN: 0x8000_0006,
  ERR_SHUTDOWN: 0x8000_0007,
  ERR_TOO_BIG: 0x8000_0009,
  ERR_EXT_HEADER_REQD: 0x8000_000a,
} as const;

/** Kinds of information in a reply to INFO and GO. */
export const Info = { EXPORT: 0, NAME: 1, DESCRIPTION: 2, BLOCK_SIZE: 3 } as const;

/** What an export can do, as told at the end of the handshake. */
export const TransmissionFlag = {
  HAS_FLAGS: 1 << 0,
  READ_ONLY: 1 << 1,
  SEND_FLUSH: 1 << 2,
  SEND_FUA: 1 << 3,
  SEND_TRIM: 1 << 5,
  SEND_WRITE_ZEROES: 1 << 6,
  SEND_DF: 1 << 7,
  CAN_MULTI_CONN: 1 << 8,
  SEND_CACHE: 1 << 10,
  SEND_FAST_ZERO: 1 << 11,
  BLOCK_STAT_PAYLOAD: 1 << 12,
} as const;

/** Types of requests. */
export const Command = {
  READ: 0,
  WRITE: 1,
  DISC: 2,
  FLUSH: 3,
  TRIM: 4,
  CACHE: 5,
  WRITE_ZEROES: 6,
  BLOCK_STATUS: 7,
} as const;

/** Flags of requests. */
export const CommandFlag = {
  /** Durable before the reply. */
  FUA: 1 << 0,
  /** WRITE_ZEROES keeps the space provisioned. */
  NO_HOLE: 1 << 1,
  /** READ is answered by one chunk of data at most. */
  DF: 1 << 2,
  /** BLOCK_STATUS tells one extent per context. */
  REQ_ONE: 1 << 3,
  /** WRITE_ZEROES only if it is faster than writing. */
  FAST_ZERO: 1 << 4,
  /** The length of an extended request is that of its payload. */
  PAYLOAD_LEN: 1 << 5,
} as const;

/** Types of the chunks of a structured or extended reply; errors have bit 15 set. */
export const ChunkType = {
  NONE: 0,
  OFFSET_DATA: 1,
  OFFSET_HOLE: 2,
  BLOCK_STATUS: 5,
  BLOCK_STATUS_EXT: 6,
  ERROR: 0x8001,
  ERROR_OFFSET: 0x8002,
} as const;

/** Flag of the last chunk of a reply. */
export const CHUNK_DONE = 1 << 0;

/** Flags of the metadata context {@linkcode BASE_ALLOCATION}. */
export const AllocationFlag = {
  /** Takes no space. */
  HOLE: 1 << 0,
  /** Reads as zeroes. */
  ZERO: 1 << 1,
} as const;

/** The metadata context that tells holes from data. */
export const BASE_ALLOCATION = "base:allocation";

/** Error values of replies. */
export const NbdError = {
  NONE: 0,
  EPERM: 1,
  EIO: 5,
  EINVAL: 22,
  ENOSPC: 28,
  ESHUTDOWN: 108,
} as const;

/** The error value that a client sees for a failure of the given command. */
export function nbdErrorOf(code: ErrorCode, command: number): number {
  switch (code) {
    case "invalid":
    case "unsupported":
      return NbdError.EINVAL;
    case "out-of-range":
      return command === Command.WRITE || command === Command.WRITE_ZEROES
        ? NbdError.ENOSPC
        : NbdError.EINVAL;
    case "read-only":
    case "forbidden":
      return NbdError.EPERM;
    case "no-space":
      return NbdError.ENOSPC;
    case "io":
    case "damaged":
    case "not-found":
    case "not-retained":
    case "conflict":
      return NbdError.EIO;
    case "cancelled":
      return NbdError.ESHUTDOWN;
  }
}

/** The option reply that a client sees when an export cannot be opened or listed. */
export function optionErrorOf(code: ErrorCode): number {
  switch (code) {
    case "invalid":
      return Rep.ERR_INVALID;
    case "forbidden":
    case "read-only":
    case "conflict":
      return Rep.ERR_POLICY;
    case "unsupported":
      return Rep.ERR_PLATFORM;
    case "cancelled":
      return Rep.ERR_SHUTDOWN;
    case "not-found":
    case "not-retained":
    case "out-of-range":
    case "no-space":
    case "io":
    case "damaged":
      return Rep.ERR_UNKNOWN;
  }
}

/** Size of the client's flags. */
export const CLIENT_FLAGS_BYTES = 4;
/** Size of an option without its data. */
export const OPTION_HEADER_BYTES = 16;
/** Size of a compact request without its payload. */
export const REQUEST_BYTES = 28;
/** Size of an extended request without its payload. */
export const EXTENDED_REQUEST_BYTES = 32;
/** Size of a simple reply without its data. */
export const SIMPLE_REPLY_BYTES = 16;
/** Size of a structured reply chunk without its content. */
export const STRUCTURED_CHUNK_BYTES = 20;
/** Size of an extended reply chunk without its content. */
export const EXTENDED_CHUNK_BYTES = 32;

/** What decides on the transmission flags of an export. */
export interface ExportAbilities {
  /** Whether it can be written. */
  readonly readOnly: boolean;
  /** How messages will look. */
  readonly form: MessageForm;
  /** Whether metadata contexts of it are selected. */
  readonly hasContexts: boolean;
}

/** The transmission flags of an export. */
export function transmissionFlags({ readOnly, form, hasContexts }: ExportAbilities): number {
  let flags = TransmissionFlag.HAS_FLAGS | TransmissionFlag.SEND_FLUSH | TransmissionFlag.SEND_FUA |
    TransmissionFlag.CAN_MULTI_CONN | TransmissionFlag.SEND_CACHE;
  flags |= readOnly
    ? TransmissionFlag.READ_ONLY
    : TransmissionFlag.SEND_TRIM | TransmissionFlag.SEND_WRITE_ZEROES | TransmissionFlag.SEND_FAST_ZERO;
  if (form !== "simple") flags |= TransmissionFlag.SEND_DF;
  if (form === "extended" && hasContexts) flags |= TransmissionFlag.BLOCK_STAT_PAYLOAD;
  return flags;
}

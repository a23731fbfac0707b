/**
 * The NBD wire format: every constant, field order and width in one place.
 *
 * Source: the NBD protocol document, `doc/proto.md` of the NetworkBlockDevice project. All integers are unsigned
 * and big-endian. Sizes and offsets of 64 bits travel as two halves; see {@linkcode NbdRequest.offset}.
 *
 * ```text
 * greeting      S: u64 NBDMAGIC   u64 IHAVEOPT   u16 handshake flags
 * client flags  C: u32
 * option        C: u64 IHAVEOPT   u32 option   u32 length   data
 * option reply  S: u64 magic   u32 option   u32 type   u32 length   data
 * EXPORT_NAME   S: u64 size   u16 transmission flags   [124 zeroes]
 * request       C: u32 magic   u16 flags   u16 type   u64 cookie   u64 offset   u32 length   [payload]
 * simple reply  S: u32 magic   u32 error   u64 cookie   [data]
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

const INIT_MAGIC = 0x4e42444d_41474943n;
const OPTION_MAGIC = 0x49484156_454f5054n;
const OPTION_REPLY_MAGIC = 0x0003e889_045565a9n;
const REQUEST_MAGIC = 0x25609513;
const SIMPLE_REPLY_MAGIC = 0x67446698;

const TWO_TO_32 = 0x1_0000_0000;

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
  ERR_UNSUP: 0x8000_0001,
  ERR_POLICY: 0x8000_0002,
  ERR_INVALID: 0x8000_0003,
  ERR_PLATFORM: 0x8000_0004,
  ERR_UNKNOWN: 0x8000_0006,
  ERR_SHUTDOWN: 0x8000_0007,
  ERR_TOO_BIG: 0x8000_0009,
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
  CAN_MULTI_CONN: 1 << 8,
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
  /** WRITE_ZEROES only if it is faster than writing. */
  FAST_ZERO: 1 << 4,
} as const;

/** Error values of simple replies. */
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
/** Size of a request without its payload. */
export const REQUEST_BYTES = 28;
/** Size of a simple reply without its data. */
export const SIMPLE_REPLY_BYTES = 16;

const utf8 = new TextEncoder();
const strictUtf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** The server's first words. */
export function encodeGreeting(): Uint8Array {
  const bytes = new Uint8Array(18);
  const view = viewOf(bytes);
  view.setBigUint64(0, INIT_MAGIC);
  view.setBigUint64(8, OPTION_MAGIC);
  view.setUint16(16, HandshakeFlag.FIXED_NEWSTYLE | HandshakeFlag.NO_ZEROES);
  return bytes;
}

/** Reads the client's flags; `undefined` when it sets one that the server does not know. */
export function decodeClientFlags(bytes: Uint8Array): { noZeroes: boolean } | undefined {
  const flags = viewOf(bytes).getUint32(0);
  if ((flags & ~(HandshakeFlag.FIXED_NEWSTYLE | HandshakeFlag.NO_ZEROES)) !== 0) return undefined;
  return { noZeroes: (flags & HandshakeFlag.NO_ZEROES) !== 0 };
}

/** Reads the head of an option; `undefined` when the magic number is wrong. */
export function decodeOptionHeader(bytes: Uint8Array): { option: number; length: number } | undefined {
  const view = viewOf(bytes);
  if (view.getBigUint64(0) !== OPTION_MAGIC) return undefined;
  return { option: view.getUint32(8), length: view.getUint32(12) };
}

/** Makes an option reply around its data. */
export function encodeOptionReply(
  option: number,
  type: number,
  data: Uint8Array = new Uint8Array(),
): Uint8Array {
  const bytes = new Uint8Array(20 + data.length);
  const view = viewOf(bytes);
  view.setBigUint64(0, OPTION_REPLY_MAGIC);
  view.setUint32(8, option);
  view.setUint32(12, type);
  view.setUint32(16, data.length);
  bytes.set(data, 20);
  return bytes;
}

/** Makes a string for people or programs: UTF-8 without NUL, cut between characters to what a string may hold. */
export function encodeString(text: string): Uint8Array {
  const bytes = new Uint8Array(MAX_STRING_BYTES);
  return bytes.subarray(0, utf8.encodeInto(text.replaceAll("\0", ""), bytes).written);
}

/** Reads a string; `undefined` when it is too long, holds NUL or is not UTF-8. */
export function decodeString(bytes: Uint8Array): string | undefined {
  if (bytes.length > MAX_STRING_BYTES || bytes.includes(0)) return undefined;
  try {
    return strictUtf8.decode(bytes);
  } catch {
    return undefined;
  }
}

/** Data of a reply to LIST: `u32 length of name, name, description`. */
export function encodeServerEntry(name: string, description: string): Uint8Array {
  const nameBytes = encodeString(name);
  const descriptionBytes = encodeString(description);
  const bytes = new Uint8Array(4 + nameBytes.length + descriptionBytes.length);
  viewOf(bytes).setUint32(0, nameBytes.length);
  bytes.set(nameBytes, 4);
  bytes.set(descriptionBytes, 4 + nameBytes.length);
  return bytes;
}

/**
 * Data of INFO and GO: `u32 length of name, name, u16 count, count times u16 kind`. The name is still in bytes, so
 * that the caller can tell a bad name from a bad layout; `undefined` when the lengths do not add up.
 */
export function decodeInfoRequest(data: Uint8Array): { name: Uint8Array; kinds: Set<number> } | undefined {
  if (data.length < 6) return undefined;
  const view = viewOf(data);
  const nameLength = view.getUint32(0);
  if (nameLength > data.length - 6) return undefined;
  const count = view.getUint16(4 + nameLength);
  const kindsAt = 6 + nameLength;
  if (data.length !== kindsAt + 2 * count) return undefined;
  const kinds = new Set<number>();
  for (let at = kindsAt; at < data.length; at += 2) kinds.add(view.getUint16(at));
  return { name: data.subarray(4, 4 + nameLength), kinds };
}

/** Data of an INFO reply of kind EXPORT: `u16 kind, u64 size, u16 transmission flags`. */
export function encodeInfoExport(sizeBytes: number, flags: number): Uint8Array {
  const bytes = new Uint8Array(12);
  const view = viewOf(bytes);
  view.setUint16(0, Info.EXPORT);
  setUint64(view, 2, sizeBytes);
  view.setUint16(10, flags);
  return bytes;
}

/** Data of an INFO reply of kind NAME or DESCRIPTION: `u16 kind, string`. */
export function encodeInfoString(kind: typeof Info.NAME | typeof Info.DESCRIPTION, text: string): Uint8Array {
  const string = encodeString(text);
  const bytes = new Uint8Array(2 + string.length);
  viewOf(bytes).setUint16(0, kind);
  bytes.set(string, 2);
  return bytes;
}

/** Data of an INFO reply of kind BLOCK_SIZE: `u16 kind, u32 minimum, u32 preferred, u32 maximum payload`. */
export function encodeInfoBlockSize(): Uint8Array {
  const bytes = new Uint8Array(14);
  const view = viewOf(bytes);
  view.setUint16(0, Info.BLOCK_SIZE);
  view.setUint32(2, 1);
  view.setUint32(6, PREFERRED_BLOCK_BYTES);
  view.setUint32(10, MAX_PAYLOAD_BYTES);
  return bytes;
}

/** The answer to EXPORT_NAME, which has no header and may carry 124 reserved zeroes. */
export function encodeExportNameReply(sizeBytes: number, flags: number, noZeroes: boolean): Uint8Array {
  const bytes = new Uint8Array(noZeroes ? 10 : 134);
  const view = viewOf(bytes);
  setUint64(view, 0, sizeBytes);
  view.setUint16(8, flags);
  return bytes;
}

/** The transmission flags of an export. */
export function transmissionFlags(readOnly: boolean): number {
  const always = TransmissionFlag.HAS_FLAGS | TransmissionFlag.SEND_FLUSH | TransmissionFlag.SEND_FUA |
    TransmissionFlag.CAN_MULTI_CONN;
  return readOnly
    ? always | TransmissionFlag.READ_ONLY
    : always | TransmissionFlag.SEND_TRIM | TransmissionFlag.SEND_WRITE_ZEROES;
}

/** A request; one object is decoded into again and again. */
export interface NbdRequest {
  /** Bits of {@linkcode CommandFlag}. */
  flags: number;
  /** One of {@linkcode Command}, or anything else. */
  type: number;
  /** Upper half of the cookie that the reply repeats. */
  cookieHigh: number;
  /** Lower half of the cookie. */
  cookieLow: number;
  /** First byte. Exact below 2^53; from there on rounded, but then beyond the end of every device. */
  offset: number;
  /** Number of bytes. */
  length: number;
}

/** Reads a request; `false` when the magic number is wrong. */
export function decodeRequest(view: DataView, at: number, request: NbdRequest): boolean {
  if (view.getUint32(at) !== REQUEST_MAGIC) return false;
  request.flags = view.getUint16(at + 4);
  request.type = view.getUint16(at + 6);
  request.cookieHigh = view.getUint32(at + 8);
  request.cookieLow = view.getUint32(at + 12);
  request.offset = view.getUint32(at + 16) * TWO_TO_32 + view.getUint32(at + 20);
  request.length = view.getUint32(at + 24);
  return true;
}

/** Writes the head of a simple reply. */
export function encodeSimpleReply(
  view: DataView,
  at: number,
  error: number,
  cookieHigh: number,
  cookieLow: number,
): void {
  view.setUint32(at, SIMPLE_REPLY_MAGIC);
  view.setUint32(at + 4, error);
  view.setUint32(at + 8, cookieHigh);
  view.setUint32(at + 12, cookieLow);
}

function setUint64(view: DataView, at: number, value: number): void {
  view.setUint32(at, Math.floor(value / TWO_TO_32));
  view.setUint32(at + 4, value % TWO_TO_32);
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

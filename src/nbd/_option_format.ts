/**
 * The bytes of the handshake; `protocol.ts` draws them.
 *
 * @module
 */
import {
  HandshakeFlag,
  Info,
  MAX_PAYLOAD_BYTES,
  MAX_STRING_BYTES,
  PREFERRED_BLOCK_BYTES,
} from "./protocol.ts";

const INIT_MAGIC = 0x4e42444d_41474943n;
const OPTION_MAGIC = 0x49484156_454f5054n;
const OPTION_REPLY_MAGIC = 0x0003e889_045565a9n;

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
export function decodeClientFlags(
  bytes: Uint8Array,
): { fixedNewstyle: boolean; noZeroes: boolean } | undefined {
  const flags = viewOf(bytes).getUint32(0);
  if ((flags & ~(HandshakeFlag.FIXED_NEWSTYLE | HandshakeFlag.NO_ZEROES)) !== 0) return undefined;
  return {
    fixedNewstyle: (flags & HandshakeFlag.FIXED_NEWSTYLE) !== 0,
    noZeroes: (flags & HandshakeFlag.NO_ZEROES) !== 0,
  };
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
  view.setBigUint64(2, BigInt(sizeBytes));
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
  view.setBigUint64(0, BigInt(sizeBytes));
  view.setUint16(8, flags);
  return bytes;
}

/**
 * Data of LIST_META_CONTEXT and SET_META_CONTEXT: `u32 length of name, name, u32 count, count times: u32 length,
 * query`. Name and queries are still in bytes; `undefined` when the lengths do not add up.
 */
export function decodeMetaRequest(data: Uint8Array): { name: Uint8Array; queries: Uint8Array[] } | undefined {
  const view = viewOf(data);
  let at = 0;
  const takeNumber = () => {
    if (data.length - at < 4) return undefined;
    at += 4;
    return view.getUint32(at - 4);
  };
  const takeString = () => {
    const length = takeNumber();
    if (length === undefined || length > data.length - at) return undefined;
    at += length;
    return data.subarray(at - length, at);
  };
  const name = takeString();
  const count = takeNumber();
  if (name === undefined || count === undefined) return undefined;
  const queries: Uint8Array[] = [];
  for (let taken = 0; taken < count; taken++) {
    const query = takeString();
    if (query === undefined) return undefined;
    queries.push(query);
  }
  return at === data.length ? { name, queries } : undefined;
}

/** Data of a reply that names a metadata context: `u32 id, name`. */
export function encodeMetaContext(id: number, name: string): Uint8Array {
  const string = encodeString(name);
  const bytes = new Uint8Array(4 + string.length);
  viewOf(bytes).setUint32(0, id);
  bytes.set(string, 4);
  return bytes;
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** The bytes of messages, for tests: made and read by hand, with nothing of the server's own code. */

/** An option with its data. */
export function option(kind: number, data: Uint8Array = new Uint8Array(), length = data.length): Uint8Array {
  return concat("IHAVEOPT", u32(kind), u32(length), data);
}

/** Data of GO and INFO. */
export function infoData(name: string, kinds: number[] = []): Uint8Array {
  return concat(u32(utf8(name).length), name, u16(kinds.length), ...kinds.map(u16));
}

/** Data of LIST_META_CONTEXT and SET_META_CONTEXT. */
export function metaData(name: string, queries: string[]): Uint8Array {
  const strings = queries.flatMap((query) => [u32(utf8(query).length), query]);
  return concat(u32(utf8(name).length), name, u32(queries.length), ...strings);
}

/** What a request holds; left out: READ, no flags, cookie 1, offset and length 0, no payload. */
export interface RequestFields {
  type?: number;
  flags?: number;
  cookie?: bigint;
  offset?: bigint | number;
  length?: number;
  payload?: Uint8Array;
  magic?: number;
}

/** A request with its payload, whose length it takes unless told otherwise. */
export function request(fields: RequestFields): Uint8Array {
  const payload = fields.payload ?? new Uint8Array();
  const bytes = new Uint8Array(28 + payload.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, fields.magic ?? 0x25609513);
  view.setUint16(4, fields.flags ?? 0);
  view.setUint16(6, fields.type ?? 0);
  view.setBigUint64(8, fields.cookie ?? 1n);
  view.setBigUint64(16, BigInt(fields.offset ?? 0));
  view.setUint32(24, fields.length ?? payload.length);
  bytes.set(payload, 28);
  return bytes;
}

/** What an extended request holds: as a compact one; the payload's flag is set when there is a payload, unless told. */
export interface ExtendedRequestFields extends Omit<RequestFields, "length"> {
  length?: bigint | number;
}

/** An extended request with its payload. */
export function extendedRequest(fields: ExtendedRequestFields): Uint8Array {
  const payload = fields.payload ?? new Uint8Array();
  const bytes = new Uint8Array(32 + payload.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, fields.magic ?? 0x21e41c71);
  view.setUint16(4, fields.flags ?? (payload.length > 0 ? PAYLOAD_LEN : 0));
  view.setUint16(6, fields.type ?? 0);
  view.setBigUint64(8, fields.cookie ?? 1n);
  view.setBigUint64(16, BigInt(fields.offset ?? 0));
  view.setBigUint64(24, BigInt(fields.length ?? payload.length));
  bytes.set(payload, 32);
  return bytes;
}

const PAYLOAD_LEN = 32;

/** A chunk of a structured or extended reply. */
export interface ReplyChunk {
  done: boolean;
  type: number;
  cookie: bigint;
  /** As an extended reply repeats it. */
  offset?: bigint;
  content: Uint8Array;
}

/** The error, message and offset of an error chunk; `undefined` for another chunk. */
export function errorIn(
  chunk: ReplyChunk | undefined,
): { error: number; message: string; offset?: number } | undefined {
  if (chunk === undefined || chunk.type < 0x8000) return undefined;
  const view = viewOf(chunk.content);
  const length = view.getUint16(4);
  const message = new TextDecoder("utf-8", { fatal: true }).decode(chunk.content.subarray(6, 6 + length));
  const common = { error: view.getUint32(0), message };
  if (chunk.type === 0x8001 && chunk.content.length === 6 + length) return common;
  if (chunk.type === 0x8002 && chunk.content.length === 14 + length) {
    return { ...common, offset: Number(view.getBigUint64(6 + length)) };
  }
  throw new Error("error chunk: its lengths do not add up");
}

/** The runs in a chunk of block status, of either size. */
export function runsIn(
  chunk: ReplyChunk | undefined,
): { context: number; runs: [length: number, flags: number][] } {
  if (chunk === undefined) throw new Error("block status: no chunk");
  const view = viewOf(chunk.content);
  const runs: [number, number][] = [];
  if (chunk.type === 5) {
    for (let at = 4; at < view.byteLength; at += 8) runs.push([view.getUint32(at), view.getUint32(at + 4)]);
  } else if (chunk.type === 6) {
    for (let at = 8; at < view.byteLength; at += 16) {
      runs.push([Number(view.getBigUint64(at)), Number(view.getBigUint64(at + 8))]);
    }
    if (view.getUint32(4) !== runs.length) throw new Error("block status: the count is wrong");
  } else throw new Error(`block status: a chunk of type ${chunk.type}`);
  return { context: view.getUint32(0), runs };
}

/** All of the bytes. */
export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** `length` bytes that look random and are the same for the same seed. */
export function noise(length: number, seed = 1): Uint8Array {
  const bytes = new Uint8Array(length);
  let state = seed >>> 0 || 1;
  for (let at = 0; at < length; at++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    bytes[at] = state;
  }
  return bytes;
}

/** One after the other. */
export function concat(...parts: (Uint8Array | string)[]): Uint8Array {
  const arrays = parts.map((part) => typeof part === "string" ? utf8(part) : part);
  const bytes = new Uint8Array(arrays.reduce((sum, array) => sum + array.length, 0));
  let at = 0;
  for (const array of arrays) {
    bytes.set(array, at);
    at += array.length;
  }
  return bytes;
}

/** Text as UTF-8. */
export function utf8(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

/** 16 bits. */
export function u16(value: number): Uint8Array {
  return Uint8Array.of(value >>> 8, value);
}

/** 32 bits. */
export function u32(value: number): Uint8Array {
  return Uint8Array.of(value >>> 24, value >>> 16, value >>> 8, value);
}

/** 64 bits. */
export function u64(value: bigint): Uint8Array {
  return concat(u32(Number(value >> 32n)), u32(Number(value & 0xffff_ffffn)));
}

/**
 * The bytes of the transmission phase; `protocol.ts` draws them.
 *
 * Sizes and offsets of 64 bits travel as two halves: numbers are exact to 2^53 only, and cookies and the offsets that an
 * extended reply repeats must be exact always.
 *
 * @module
 */
import { Magic } from "./protocol.ts";

const TWO_TO_32 = 0x1_0000_0000;

/** What a reply repeats of its request. */
export interface Ticket {
  /** Upper half of the cookie. */
  cookieHigh: number;
  /** Lower half of the cookie. */
  cookieLow: number;
  /** Upper half of the offset. */
  offsetHigh: number;
  /** Lower half of the offset. */
  offsetLow: number;
}

/** A request; one object is decoded into again and again. */
export interface NbdRequest extends Ticket {
  /** Bits of `CommandFlag`. */
  flags: number;
  /** One of `Command`, or anything else. */
  type: number;
  /** First byte. Exact below 2^53; from there on rounded, but then beyond the end of every device. */
  offset: number;
  /** Number of bytes; rounded as `offset`. */
  length: number;
}

/** A request to decode into. */
export function emptyRequest(): NbdRequest {
  return {
    flags: 0,
    type: 0,
    cookieHigh: 0,
    cookieLow: 0,
    offsetHigh: 0,
    offsetLow: 0,
    offset: 0,
    length: 0,
  };
}

/** Reads a compact request; `false` when the magic number is wrong. */
export function decodeRequest(view: DataView, at: number, request: NbdRequest): boolean {
  if (view.getUint32(at) !== Magic.REQUEST) return false;
  decodeCommonFields(view, at, request);
  request.length = view.getUint32(at + 24);
  return true;
}

/** Reads an extended request; `false` when the magic number is wrong. */
export function decodeExtendedRequest(view: DataView, at: number, request: NbdRequest): boolean {
  if (view.getUint32(at) !== Magic.EXTENDED_REQUEST) return false;
  decodeCommonFields(view, at, request);
  request.length = getUint64(view, at + 24);
  return true;
}

function decodeCommonFields(view: DataView, at: number, request: NbdRequest): void {
  request.flags = view.getUint16(at + 4);
  request.type = view.getUint16(at + 6);
  request.cookieHigh = view.getUint32(at + 8);
  request.cookieLow = view.getUint32(at + 12);
  request.offsetHigh = view.getUint32(at + 16);
  request.offsetLow = view.getUint32(at + 20);
  request.offset = request.offsetHigh * TWO_TO_32 + request.offsetLow;
}

/**
 * Reads the payload of an extended BLOCK_STATUS: `u64 length of the range, any number of: u32 context`. `undefined` when
 * it has no such layout.
 */
export function decodeStatusPayload(payload: Uint8Array): { length: number; contexts: number[] } | undefined {
  if (payload.length < 8 || payload.length % 4 !== 0) return undefined;
  const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
  const contexts: number[] = [];
  for (let at = 8; at < payload.length; at += 4) contexts.push(view.getUint32(at));
  return { length: getUint64(view, 0), contexts };
}

/** Writes the head of a simple reply. */
export function encodeSimpleReply(view: DataView, at: number, error: number, ticket: Ticket): void {
  view.setUint32(at, Magic.SIMPLE_REPLY);
  view.setUint32(at + 4, error);
  view.setUint32(at + 8, ticket.cookieHigh);
  view.setUint32(at + 12, ticket.cookieLow);
}

/** What the head of a chunk says beside its ticket. */
export interface ChunkHead {
  /** `CHUNK_DONE`, or 0. */
  readonly flags: number;
  /** One of `ChunkType`. */
  readonly type: number;
  /** Number of bytes of its content, below 2^32. */
  readonly length: number;
}

/** Writes the head of a structured reply chunk. */
export function encodeStructuredChunk(view: DataView, at: number, head: ChunkHead, ticket: Ticket): void {
  view.setUint32(at, Magic.STRUCTURED_REPLY);
  view.setUint16(at + 4, head.flags);
  view.setUint16(at + 6, head.type);
  view.setUint32(at + 8, ticket.cookieHigh);
  view.setUint32(at + 12, ticket.cookieLow);
  view.setUint32(at + 16, head.length);
}

/** Writes the head of an extended reply chunk. */
export function encodeExtendedChunk(view: DataView, at: number, head: ChunkHead, ticket: Ticket): void {
  view.setUint32(at, Magic.EXTENDED_REPLY);
  view.setUint16(at + 4, head.flags);
  view.setUint16(at + 6, head.type);
  view.setUint32(at + 8, ticket.cookieHigh);
  view.setUint32(at + 12, ticket.cookieLow);
  view.setUint32(at + 16, ticket.offsetHigh);
  view.setUint32(at + 20, ticket.offsetLow);
  setUint64(view, at + 24, head.length);
}

/** Writes a number of at most 2^53 - 1. */
export function setUint64(view: DataView, at: number, value: number): void {
  view.setUint32(at, Math.floor(value / TWO_TO_32));
  view.setUint32(at + 4, value % TWO_TO_32);
}

function getUint64(view: DataView, at: number): number {
  return view.getUint32(at) * TWO_TO_32 + view.getUint32(at + 4);
}

/**
 * READ and CACHE.
 *
 * @module
 */
import type { BlockDevice } from "../base/block_device.ts";
import type { NbdRequest } from "./_message_format.ts";
import type { Failure, Replies } from "./_replies.ts";
import { CommandFlag } from "./protocol.ts";

/** Reads shorter than this are answered in one piece: asking for holes would cost more than it saves. */
const SPARSE_READ_BYTES = 64 * 1024;
/** Holes and data of one reply at most; what comes after them is answered as data. */
const MAX_EXTENTS = 64;
/** CACHE reads this much at a time. */
const CACHE_PIECE_BYTES = 1024 * 1024;

/** What a READ is answered from. */
export interface ReadSource {
  /** The device. */
  readonly device: BlockDevice;
  /** Whether replies consist of chunks. */
  readonly inChunks: boolean;
  /** Translates what the device threw. */
  readonly failureOf: (thrown: unknown) => Failure;
}

/** Answers a READ; throws what the device throws when no part of the reply has been appended. */
export function answerRead(replies: Replies, request: NbdRequest, source: ReadSource): void {
  const { offset, length, flags } = request;
  const { device } = source;
  if (length === 0) {
    replies.end(request);
    return;
  }
  // Of a device that can be written, holes are not worth the search: what a host reads, it has mostly written.
  const isSparse = source.inChunks && device.readOnly && length >= SPARSE_READ_BYTES &&
    (flags & CommandFlag.DF) === 0;
  if (isSparse) {
    answerSparsely(replies, request, source);
    return;
  }
  device.read(offset, replies.room(length));
  replies.data(request, offset, length, true);
}

function answerSparsely(replies: Replies, request: NbdRequest, { device, failureOf }: ReadSource): void {
  const end = request.offset + request.length;
  const extents = device.extents(request.offset, request.length, MAX_EXTENTS).slice(0, MAX_EXTENTS);
  let at = request.offset;
  const append = (until: number, kind: "data" | "hole") => {
    const length = Math.min(until, end) - at;
    if (length <= 0) return;
    const last = at + length === end;
    if (kind === "hole") replies.hole(request, at, length, last);
    else {
      device.read(at, replies.room(length));
      replies.data(request, at, length, last);
    }
    at += length;
  };
  try {
    for (const extent of extents) append(extent.offset + extent.length, extent.kind);
    append(end, "data");
  } catch (thrown) {
    if (at === request.offset) throw thrown;
    replies.errorAt(request, at, failureOf(thrown));
  }
}

/** What CACHE reads. */
export interface CachedRange {
  /** First byte. */
  readonly offset: number;
  /** Number of bytes. */
  readonly length: number;
  /** Asked before each piece; `false` ends the work. May throw. */
  readonly goesOn: () => boolean;
}

/** Brings a range into memory by reading it, a piece a turn. */
export function* readInPieces(device: BlockDevice, { offset, length, goesOn }: CachedRange): Generator<void> {
  const piece = new Uint8Array(Math.min(length, CACHE_PIECE_BYTES));
  for (let done = 0; done < length && goesOn(); done += piece.length) {
    device.read(offset + done, piece.subarray(0, Math.min(piece.length, length - done)));
    yield;
  }
}

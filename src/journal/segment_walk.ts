/**
 * Walks through a segment that may be damaged: every record whose header can be proved, and the stretches between that
 * are no record. Bodies are left unread. Of a segment that was not finished the end is reserved and was never written.
 *
 * Behind bytes that are no record, the walk goes on at the next header that its own checksum and that of its table or
 * text prove. A header in which a single byte has changed is told for what it was: its checksum finds that byte, and the
 * table and the record behind it confirm it. Such a record is marked, for whoever reads the place meets the changed byte.
 *
 * @module
 */
import { VarveError } from "../base/errors.ts";
import { Buffer } from "node:buffer";
import { crc32 } from "node:zlib";
import { BLOCK_BYTES } from "../base/block_device.ts";
import { isZero } from "../base/bytes.ts";
import {
  CHECKSUM_BYTES,
  decodeRecordHeader,
  isText,
  RECORD_HEADER_BYTES,
  recordBytes,
  type RecordHeader,
  SEGMENT_HEADER_BYTES,
} from "./format.ts";

/** Where a segment's bytes are read from; a `DiskFile` is one. */
export interface SegmentBytes {
  /** Reads up to `target.length` bytes; returns how many, fewer only at the end. */
  read(offset: number, target: Uint8Array): number;
  /** Size in bytes. */
  sizeBytes(): number;
}

const PIECE_BYTES = 4096;

/** The same bytes, but those that cannot be read right are zeroes, which are no record: for who goes on after damage. */
export function damagedAsZeroes(bytes: SegmentBytes): SegmentBytes {
  const attempt = <T>(work: () => T, otherwise: () => T): T => {
    try {
      return work();
    } catch (thrown) {
      if (thrown instanceof VarveError && thrown.code === "damaged") return otherwise();
      throw thrown;
    }
  };
  const readPieces = (offset: number, target: Uint8Array): number => {
    let done = 0;
    while (done < target.length) {
      const piece = target.subarray(done, done + PIECE_BYTES - (offset + done) % PIECE_BYTES);
      const got = attempt(() => bytes.read(offset + done, piece), () => {
        piece.fill(0);
        return piece.length;
      });
      done += got;
      if (got < piece.length) break;
    }
    return done;
  };
  return {
    read: (offset, target) => attempt(() => bytes.read(offset, target), () => readPieces(offset, target)),
    sizeBytes: () => attempt(() => bytes.sizeBytes(), () => 0),
  };
}

/** A record, or a stretch that is none. */
export type WalkStep =
  | {
    readonly kind: "record";
    /** First byte of the record's header. */
    readonly offset: number;
    /** Its header. */
    readonly header: RecordHeader;
    /** Whether one byte of the stored header has changed. */
    readonly mended: boolean;
  }
  | {
    readonly kind: "damage";
    /** First byte that belongs to no record. */
    readonly offset: number;
    /** Where the next record begins, or the file ends. */
    readonly end: number;
  }
  | {
    /** Nothing but zeroes up to the end of the file: where the segment is known to be finished, damage. */
    readonly kind: "unused";
    /** First of them. */
    readonly offset: number;
    /** Where the file ends. */
    readonly end: number;
  };

const SEARCH_BYTES = 1 << 20;
const MAGIC = Buffer.from("VREC", "latin1");

/** Walks from a record's place, by default the first, to the end of the file. Memory: a few kilobytes, 1 MiB in a search. */
export function* walkSegment(
  bytes: SegmentBytes,
  segment: number,
  from: number = SEGMENT_HEADER_BYTES,
): Generator<WalkStep> {
  const size = bytes.sizeBytes();
  let seq = 0;
  for (let at = from; at < size;) {
    let header = headerAt(bytes, at, segment);
    const mended = header === undefined;
    header ??= mendedHeaderAt(bytes, at, segment);
    if (header !== undefined && at + recordBytes(header) <= size) {
      yield { kind: "record", offset: at, header, mended };
      if (header.kind !== "baseline") seq = header.seq;
      at += recordBytes(header);
      continue;
    }
    if (header === undefined && isUnusedFrom(bytes, at)) {
      return yield { kind: "unused", offset: at, end: size };
    }
    const end = nextRecord(bytes, at + 1, segment, seq) ?? size;
    yield { kind: "damage", offset: at, end };
    at = end;
  }
}

/** Whether there are only zeroes from `from` to the end of the file, as where space was reserved and never written. */
export function isUnusedFrom(bytes: SegmentBytes, from: number): boolean {
  const piece = new Uint8Array(PIECE_BYTES);
  for (let at = from;;) {
    const got = bytes.read(at, piece);
    if (!isZero(piece.subarray(0, got))) return false;
    if (got < piece.length) return true;
    at += got;
  }
}

/** The text of a mark or meta record; `undefined` when its checksum does not match. */
export function readText(bytes: SegmentBytes, offset: number, header: RecordHeader): string | undefined {
  const body = new Uint8Array(header.payloadBytes);
  const got = bytes.read(offset + RECORD_HEADER_BYTES, body);
  return got === body.length && crc32(body) === header.bodyChecksum
    ? new TextDecoder().decode(body)
    : undefined;
}

function headerAt(bytes: SegmentBytes, at: number, segment: number): RecordHeader | undefined {
  const head = new Uint8Array(RECORD_HEADER_BYTES);
  return decodeRecordHeader(head.subarray(0, bytes.read(at, head)), 0, segment);
}

/** The header at `at` as it was before one of its bytes changed, if the table or text and what follows agree. */
function mendedHeaderAt(bytes: SegmentBytes, at: number, segment: number): RecordHeader | undefined {
  const head = new Uint8Array(RECORD_HEADER_BYTES);
  if (bytes.read(at, head) < head.length) return undefined;
  for (let i = 0; i < head.length; i++) {
    const found = head[i] ?? 0;
    for (let other = 1; other < 256; other++) {
      head[i] = found ^ other;
      const header = decodeRecordHeader(head, 0, segment);
      if (header === undefined || !isTableWhole(bytes, at, header)) continue;
      const end = at + recordBytes(header);
      if (headerAt(bytes, end, segment) !== undefined || isUnusedFrom(bytes, end)) return header;
    }
    head[i] = found;
  }
  return undefined;
}

function isTableWhole(bytes: SegmentBytes, at: number, header: RecordHeader): boolean {
  const length = isText(header.kind)
    ? header.payloadBytes
    : header.payloadBytes / BLOCK_BYTES * CHECKSUM_BYTES;
  if (at + RECORD_HEADER_BYTES + length > bytes.sizeBytes()) return false;
  const table = new Uint8Array(length);
  return bytes.read(at + RECORD_HEADER_BYTES, table) === length && crc32(table) === header.bodyChecksum;
}

function nextRecord(bytes: SegmentBytes, from: number, segment: number, seq: number): number | undefined {
  const chunk = Buffer.alloc(SEARCH_BYTES + MAGIC.length - 1);
  for (let base = from; base < bytes.sizeBytes(); base += SEARCH_BYTES) {
    const got = chunk.subarray(0, bytes.read(base, chunk));
    for (let i = got.indexOf(MAGIC); i >= 0; i = got.indexOf(MAGIC, i + 1)) {
      const header = headerAt(bytes, base + i, segment);
      if (
        header !== undefined && (header.kind === "baseline" || header.seq >= seq) &&
        base + i + recordBytes(header) <= bytes.sizeBytes() && isTableWhole(bytes, base + i, header)
      ) return base + i;
    }
  }
  return undefined;
}

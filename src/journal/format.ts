/**
 * The format of a segment file: the one home of every field, width and byte order. `docs/format.md` tells it
 * in prose with a worked example.
 *
 * A segment is a header followed by records without gaps. All integers are little-endian.
 *
 * ```text
 * segment header, 64 bytes               record header, 64 bytes
 *  0  8 magic "VARVESEG"                  0  4 magic "VREC"
 *  8  4 version                           4  1 kind
 * 12  4 flags                             5  1 flags
 * 16 16 volume identity                   6  2 encoding of the payload
 * 32  8 segment number                    8  8 sequence
 * 40  8 sequence before the first record 16  8 time, microseconds since 1970
 * 48  8 time made, microseconds          24  8 offset as the host sent it
 * 56  4 baseline record before           32  8 length as the host sent it
 * 60  4 crc32 of bytes 0-59              40  8 first block of the payload
 *                                        48  4 payload bytes
 * record body                            52  4 client
 *  blocks:  n crc32, then n blocks       56  4 crc32 of the crc table or of the text
 *  text:    JSON in UTF-8                60  4 crc32 of bytes 0-59, begun with the segment number
 * ```
 *
 * The header's checksum begins with the segment number, so a record is valid only in the segment it was
 * written to: stale bytes of another file can never pass for a record. Blocks carry a checksum each, so one
 * block of a large write is proved right without reading the rest.
 *
 * @module
 */
import { crc32 } from "node:zlib";
import { BLOCK_BYTES } from "../base/block_device.ts";
import { fromHex, toHex } from "../base/bytes.ts";
import { VarveError } from "../base/errors.ts";

/** Version written and read; a segment of any other is refused. */
export const SEGMENT_VERSION = 1;
/** Size of a segment's header. */
export const SEGMENT_HEADER_BYTES = 64;
/** Size of a record's header. */
export const RECORD_HEADER_BYTES = 64;
/** Width of one block's checksum. */
export const CHECKSUM_BYTES = 4;
/** Largest payload of one record. */
export const MAX_PAYLOAD_BYTES = 64 * 1024 * 1024;

/** Segment flag: written by compaction from older segments. */
export const SEGMENT_COMPACTED = 1;

/** Record flag: the host asked for FUA. */
export const RECORD_FUA = 1;
/** Record flag: only a part of the original payload is left. */
export const RECORD_PARTIAL = 2;
/** Record flag of a trim or zero: the payload begins with the block that its start cuts. */
export const RECORD_HEAD = 4;
/** Record flag of a trim or zero: the payload ends with the block that its end cuts. */
export const RECORD_TAIL = 8;

/**
 * Kinds of record. `write` to `mark` are commands and take a sequence of their own; a `baseline` record holds
 * content from before sequence 1; a `meta` record describes the volume and repeats the sequence before it.
 */
export const RECORD_KINDS = { write: 1, trim: 2, zero: 3, flush: 4, mark: 5, meta: 6, baseline: 7 } as const;

/** Name of a record kind. */
export type RecordKind = keyof typeof RECORD_KINDS;

const KIND_NAMES = new Map<number, RecordKind>(
  Object.entries(RECORD_KINDS).map(([name, value]) => [value, name as RecordKind]),
);

/** Whether a kind takes a sequence number of its own. */
export function isCommand(kind: RecordKind): boolean {
  return kind !== "meta" && kind !== "baseline";
}

/** Whether a kind's body is JSON rather than blocks. */
export function isText(kind: RecordKind): boolean {
  return kind === "mark" || kind === "meta";
}

/** What a segment's header says. */
export interface SegmentHeader {
  /** {@linkcode SEGMENT_COMPACTED} or 0. */
  readonly flags: number;
  /** 32 hexadecimal digits. */
  readonly volumeId: string;
  /** Number of the segment, from 1, never used twice within a volume. */
  readonly segment: number;
  /** The sequence before the first record. */
  readonly previousSeq: number;
  /** Number of the baseline record before the first record; 0 when there is none. */
  readonly previousBaseline: number;
  /** When it was begun, in microseconds. */
  readonly createdUs: number;
}

/** What a record's header says. */
export interface RecordHeader {
  /** What it records. */
  readonly kind: RecordKind;
  /** `RECORD_*` flags. */
  readonly flags: number;
  /** Sequence. */
  readonly seq: number;
  /** Time in microseconds. */
  readonly timeUs: number;
  /** First byte, as the host sent it. */
  readonly offset: number;
  /** Number of bytes, as the host sent it. */
  readonly length: number;
  /** First block of the payload (of a trim or zero: of its first whole block). */
  readonly firstBlock: number;
  /** Size of the payload without its checksums. */
  readonly payloadBytes: number;
  /** The connection that sent it, 0 being Varve itself; of a baseline record: its number, from 1 without gaps. */
  readonly client: number;
  /** Checksum of the crc table, or of the text. */
  readonly bodyChecksum: number;
}

/** Bytes a record takes in its segment. */
export function recordBytes(record: Pick<RecordHeader, "kind" | "payloadBytes">): number {
  if (isText(record.kind)) return RECORD_HEADER_BYTES + record.payloadBytes;
  return RECORD_HEADER_BYTES + record.payloadBytes + record.payloadBytes / BLOCK_BYTES * CHECKSUM_BYTES;
}

/** File name of a segment. */
export function segmentFileName(segment: number): string {
  return `${String(segment).padStart(12, "0")}.seg`;
}

/** Number of the segment a file name stands for, or `undefined`. */
export function parseSegmentFileName(name: string): number | undefined {
  const found = /^(\d{12})\.seg$/.exec(name);
  return found === null ? undefined : Number(found[1]);
}

const SEGMENT_MAGIC = new TextEncoder().encode("VARVESEG");
const RECORD_MAGIC = 0x43455256; // "VREC"

function setUint64(view: DataView, at: number, value: number): void {
  view.setUint32(at, value >>> 0, true);
  view.setUint32(at + 4, Math.floor(value / 0x1_0000_0000), true);
}

function getUint64(view: DataView, at: number): number {
  return view.getUint32(at, true) + view.getUint32(at + 4, true) * 0x1_0000_0000;
}

/** The bytes of a segment's header. */
export function encodeSegmentHeader(header: SegmentHeader): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(SEGMENT_HEADER_BYTES);
  const view = new DataView(bytes.buffer);
  bytes.set(SEGMENT_MAGIC, 0);
  view.setUint32(8, SEGMENT_VERSION, true);
  view.setUint32(12, header.flags, true);
  bytes.set(fromHex(header.volumeId), 16);
  setUint64(view, 32, header.segment);
  setUint64(view, 40, header.previousSeq);
  setUint64(view, 48, header.createdUs);
  view.setUint32(56, header.previousBaseline, true);
  view.setUint32(60, crc32(bytes.subarray(0, 60)), true);
  return bytes;
}

/** Reads a segment's header; `undefined` when it is torn. Throws `unsupported` for another version. */
export function decodeSegmentHeader(bytes: Uint8Array): SegmentHeader | undefined {
  if (bytes.length < SEGMENT_HEADER_BYTES) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, SEGMENT_HEADER_BYTES);
  if (!SEGMENT_MAGIC.every((byte, i) => bytes[i] === byte)) return undefined;
  if (view.getUint32(60, true) !== crc32(bytes.subarray(0, 60))) return undefined;
  const version = view.getUint32(8, true);
  if (version !== SEGMENT_VERSION) {
    throw new VarveError(
      "unsupported",
      `read a segment: it has format version ${version}, this Varve knows version ${SEGMENT_VERSION}`,
      { hint: "Use the version of Varve that wrote it, or a newer one." },
    );
  }
  return {
    flags: view.getUint32(12, true),
    volumeId: toHex(bytes.subarray(16, 32)),
    segment: getUint64(view, 32),
    previousSeq: getUint64(view, 40),
    createdUs: getUint64(view, 48),
    previousBaseline: view.getUint32(56, true),
  };
}

/** Writes a record's header to `target` at `at`. */
export function encodeRecordHeader(
  header: RecordHeader,
  segment: number,
  target: Uint8Array,
  at: number,
): void {
  const view = new DataView(target.buffer, target.byteOffset + at, RECORD_HEADER_BYTES);
  view.setUint32(0, RECORD_MAGIC, true);
  view.setUint8(4, RECORD_KINDS[header.kind]);
  view.setUint8(5, header.flags);
  view.setUint16(6, 0, true);
  setUint64(view, 8, header.seq);
  setUint64(view, 16, header.timeUs);
  setUint64(view, 24, header.offset);
  setUint64(view, 32, header.length);
  setUint64(view, 40, header.firstBlock);
  view.setUint32(48, header.payloadBytes, true);
  view.setUint32(52, header.client, true);
  view.setUint32(56, header.bodyChecksum, true);
  view.setUint32(60, crc32(target.subarray(at, at + 60), segment >>> 0), true);
}

/** Reads the record header at `at` of `bytes`; `undefined` when what is there cannot be proved to be one. */
export function decodeRecordHeader(bytes: Uint8Array, at: number, segment: number): RecordHeader | undefined {
  if (bytes.length < at + RECORD_HEADER_BYTES) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset + at, RECORD_HEADER_BYTES);
  if (view.getUint32(0, true) !== RECORD_MAGIC) return undefined;
  if (view.getUint32(60, true) !== crc32(bytes.subarray(at, at + 60), segment >>> 0)) return undefined;
  const kind = KIND_NAMES.get(view.getUint8(4));
  const payloadBytes = view.getUint32(48, true);
  if (kind === undefined || view.getUint16(6, true) !== 0 || payloadBytes > MAX_PAYLOAD_BYTES) {
    return undefined;
  }
  if (!isText(kind) && payloadBytes % BLOCK_BYTES !== 0) return undefined;
  return {
    kind,
    flags: view.getUint8(5),
    seq: getUint64(view, 8),
    timeUs: getUint64(view, 16),
    offset: getUint64(view, 24),
    length: getUint64(view, 32),
    firstBlock: getUint64(view, 40),
    payloadBytes,
    client: view.getUint32(52, true),
    bodyChecksum: view.getUint32(56, true),
  };
}

/** A whole block record: header, table of checksums, payload. For writers that need no buffer of their own. */
export function encodeBlockRecord(
  header: Omit<RecordHeader, "payloadBytes" | "bodyChecksum">,
  segment: number,
  payload: Uint8Array,
): Uint8Array[] {
  const tableBytes = payload.length / BLOCK_BYTES * CHECKSUM_BYTES;
  const head = new Uint8Array(RECORD_HEADER_BYTES + tableBytes);
  const table = new DataView(head.buffer, RECORD_HEADER_BYTES);
  for (let at = 0, entry = 0; at < payload.length; at += BLOCK_BYTES, entry += CHECKSUM_BYTES) {
    table.setUint32(entry, crc32(payload.subarray(at, at + BLOCK_BYTES)), true);
  }
  const bodyChecksum = crc32(head.subarray(RECORD_HEADER_BYTES));
  encodeRecordHeader({ ...header, payloadBytes: payload.length, bodyChecksum }, segment, head, 0);
  return [head, payload];
}

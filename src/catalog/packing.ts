/**
 * How extents and moments are packed into the blobs of a recovery map: chunks of variable-length integers.
 *
 * A blob is a sequence of chunks, each beginning anew, so that appending never decodes what is there: the length of the
 * body, a crc32 of it (four bytes, little-endian), and the body: `count`, then `count` entries, every number as the
 * difference from the entry before it in the chunk (zero before the first). Integers are LEB128; signed ones are
 * zigzag-coded first and lie within 2^52 either way. SQLite does not check the bytes it keeps; these checksums do.
 *
 * ```text
 * extent   signed sequence, signed first block - end of the extent before, (blocks - 1) * 8 + flags,
 *          unless hole: [signed segment, unless same segment] signed record offset, [payload block, unless zero]
 * moment   sequence, time in microseconds, kind
 * ```
 *
 * @module
 */
import { crc32 } from "node:zlib";
import { VarveError } from "../base/errors.ts";

/** A run of blocks, relative to its region, with the place of its bytes. */
export interface PackedExtent {
  /** Sequence that wrote it. */
  seq: number;
  /** First block, counted from the region's start. */
  firstBlock: number;
  /** Number of blocks. */
  blockCount: number;
  /** Segment number; 0 for a hole. */
  segment: number;
  /** First byte of the record's header in the segment. */
  recordOffset: number;
  /** Position of the first block in the record's payload. */
  payloadBlock: number;
}

/** A sequence with its time. */
export interface PackedMoment {
  /** Sequence. */
  seq: number;
  /** Time in microseconds. */
  timeUs: number;
  /** One of {@linkcode MOMENT_KINDS}. */
  kind: number;
}

/** What kind of record made a moment. */
export const MOMENT_KINDS = { created: 0, change: 1, flush: 2, mark: 3 } as const;

const CHECKSUM_BYTES = 4;
const HOLE = 1;
const SAME_SEGMENT = 2;
const PAYLOAD_START = 4;

function damaged(): VarveError {
  return new VarveError("damaged", "read the recovery map: the checksum of a packed row does not match", {
    hint: "map.sqlite has changed since it was written. The segments beside it hold the whole history.",
  });
}

class Packer {
  #bytes = new Uint8Array(1024);
  #length = 0;

  unsigned(value: number): void {
    if (this.#length + 10 > this.#bytes.length) {
      const larger = new Uint8Array(this.#bytes.length * 2);
      larger.set(this.#bytes);
      this.#bytes = larger;
    }
    let rest = value;
    while (rest >= 0x8000_0000) {
      this.#bytes[this.#length++] = (rest % 128) | 0x80;
      rest = Math.floor(rest / 128);
    }
    while (rest >= 0x80) {
      this.#bytes[this.#length++] = (rest & 0x7f) | 0x80;
      rest >>>= 7;
    }
    this.#bytes[this.#length++] = rest;
  }

  signed(value: number): void {
    this.unsigned(value >= 0 ? value * 2 : -value * 2 - 1);
  }

  /** The chunk: length, checksum and what was put in. */
  finish(): Uint8Array {
    const body = this.#bytes.subarray(0, this.#length);
    const head = new Packer();
    head.unsigned(body.length);
    const chunk = new Uint8Array(head.#length + CHECKSUM_BYTES + body.length);
    chunk.set(head.#bytes.subarray(0, head.#length));
    new DataView(chunk.buffer).setUint32(head.#length, crc32(body), true);
    chunk.set(body, head.#length + CHECKSUM_BYTES);
    return chunk;
  }
}

class Unpacker {
  readonly #bytes: Uint8Array;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  get done(): boolean {
    return this.#at >= this.#bytes.length;
  }

  /** The next chunk's body, proved right. */
  chunk(): Unpacker {
    const length = this.unsigned();
    const from = this.#at + CHECKSUM_BYTES;
    // A body has its count at least. Zeroes, as a lost page leaves them, would else pass for empty chunks: their sum is 0.
    if (length === 0 || from + length > this.#bytes.length) throw damaged();
    const body = this.#bytes.subarray(from, from + length);
    const view = new DataView(this.#bytes.buffer, this.#bytes.byteOffset + this.#at, CHECKSUM_BYTES);
    if (view.getUint32(0, true) !== crc32(body)) throw damaged();
    this.#at = from + length;
    return new Unpacker(body);
  }

  unsigned(): number {
    const bytes = this.#bytes;
    let byte = bytes[this.#at++] ?? 0;
    if (byte < 0x80) return byte;
    let value = byte & 0x7f;
    let scale = 128;
    do {
      byte = bytes[this.#at++] ?? 0;
      value += (byte & 0x7f) * scale;
      scale *= 128;
    } while (byte >= 0x80);
    return value;
  }

  signed(): number {
    const value = this.unsigned();
    return value % 2 === 0 ? value / 2 : -(value + 1) / 2;
  }
}

/** Packs one chunk of extents. */
export function packExtents(extents: readonly PackedExtent[]): Uint8Array {
  const packer = new Packer();
  packer.unsigned(extents.length);
  let seq = 0;
  let end = 0;
  let segment = 0;
  let recordOffset = 0;
  for (const extent of extents) {
    packer.signed(extent.seq - seq);
    packer.signed(extent.firstBlock - end);
    const hole = extent.segment === 0;
    const flags = hole
      ? HOLE
      : (extent.segment === segment ? SAME_SEGMENT : 0) | (extent.payloadBlock === 0 ? PAYLOAD_START : 0);
    packer.unsigned((extent.blockCount - 1) * 8 + flags);
    seq = extent.seq;
    end = extent.firstBlock + extent.blockCount;
    if (hole) continue;
    if (extent.segment !== segment) packer.signed(extent.segment - segment);
    packer.signed(extent.recordOffset - recordOffset);
    if (extent.payloadBlock !== 0) packer.unsigned(extent.payloadBlock);
    segment = extent.segment;
    recordOffset = extent.recordOffset;
  }
  return packer.finish();
}

/** Calls `visit` for every extent of a blob, in the order packed. The object passed is new each time. */
export function unpackExtents(blob: Uint8Array, visit: (extent: PackedExtent) => void): void {
  const chunks = new Unpacker(blob);
  while (!chunks.done) {
    const unpacker = chunks.chunk();
    let seq = 0;
    let end = 0;
    let segment = 0;
    let recordOffset = 0;
    for (let left = unpacker.unsigned(); left > 0; left--) {
      seq += unpacker.signed();
      const firstBlock = end + unpacker.signed();
      const sizeAndFlags = unpacker.unsigned();
      const blockCount = Math.floor(sizeAndFlags / 8) + 1;
      end = firstBlock + blockCount;
      if ((sizeAndFlags & HOLE) !== 0) {
        visit({ seq, firstBlock, blockCount, segment: 0, recordOffset: 0, payloadBlock: 0 });
        continue;
      }
      if ((sizeAndFlags & SAME_SEGMENT) === 0) segment += unpacker.signed();
      recordOffset += unpacker.signed();
      const payloadBlock = (sizeAndFlags & PAYLOAD_START) === 0 ? unpacker.unsigned() : 0;
      visit({ seq, firstBlock, blockCount, segment, recordOffset, payloadBlock });
    }
  }
}

/** Packs one chunk of moments, which ascend in sequence and time. */
export function packMoments(moments: readonly PackedMoment[]): Uint8Array {
  const packer = new Packer();
  packer.unsigned(moments.length);
  let seq = 0;
  let timeUs = 0;
  for (const moment of moments) {
    packer.unsigned(moment.seq - seq);
    packer.unsigned(moment.timeUs - timeUs);
    packer.unsigned(moment.kind);
    seq = moment.seq;
    timeUs = moment.timeUs;
  }
  return packer.finish();
}

/** The moments of a blob, ascending. */
export function unpackMoments(blob: Uint8Array): PackedMoment[] {
  const chunks = new Unpacker(blob);
  const moments: PackedMoment[] = [];
  while (!chunks.done) {
    const unpacker = chunks.chunk();
    let seq = 0;
    let timeUs = 0;
    for (let left = unpacker.unsigned(); left > 0; left--) {
      seq += unpacker.unsigned();
      timeUs += unpacker.unsigned();
      moments.push({ seq, timeUs, kind: unpacker.unsigned() });
    }
  }
  return moments;
}

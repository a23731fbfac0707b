/**
 * Reads segments: single blocks at a known place, and whole files record by record.
 *
 * Nothing is returned unproved: a header is checked against its own checksum and the sequence that the
 * recovery map expects, a block against its entry in the record's table. Compressed segments are read through
 * {@linkcode CompressedSegmentFile}, so all places and checksums here are those of virtual bytes.
 *
 * @module
 */
import path from "node:path";
import { crc32 } from "node:zlib";
import { BLOCK_BYTES } from "../base/block_device.ts";
import { VarveError } from "../base/errors.ts";
import type { Disk, DiskFile } from "../disk/mod.ts";
import { CompressedSegmentFile, FrameCache, isCompressedSegment } from "./compressed_segment.ts";
import { type BlockExtent, extentsOf } from "./extents_of.ts";
import {
  CHECKSUM_BYTES,
  decodeRecordHeader,
  decodeSegmentHeader,
  isText,
  RECORD_HEADER_BYTES,
  recordBytes,
  type RecordHeader,
  SEGMENT_HEADER_BYTES,
  segmentFileName,
  type SegmentHeader,
} from "./format.ts";
import type { ReadWindow } from "./read_window.ts";
import { damagedAsZeroes, isUnusedFrom, type SegmentBytes } from "./segment_walk.ts";

/** A run of blocks inside one record. */
export interface BlockRun {
  /** Segment number. */
  readonly segment: number;
  /** First byte of the record's header. */
  readonly recordOffset: number;
  /** Position of the first wanted block in the record's payload. */
  readonly payloadBlock: number;
  /** Number of blocks wanted. */
  readonly blockCount: number;
  /** Sequence that the record must have. */
  readonly seq: number;
  /** The volume's block that the first wanted one must be. */
  readonly firstBlock: number;
}

/** A record met by {@linkcode SegmentReader.scan}. */
export interface ScannedRecord {
  /** Its header. */
  readonly header: RecordHeader;
  /** First byte of the header in the segment. */
  readonly offset: number;
  /** Text of a mark or meta record. */
  readonly text: string | undefined;
}

/** What a scan found. */
export interface ScanResult {
  /** The segment's header, or `undefined` when it is torn. */
  readonly header: SegmentHeader | undefined;
  /** Where the last whole record ends. */
  readonly validBytes: number;
  /** Size of the file; more than `validBytes` and `unusedBytes` when there is a tail that is no record. */
  readonly fileBytes: number;
  /** Bytes at the end that were reserved and never written. */
  readonly unusedBytes: number;
}

/** A random read of a file that is not open costs twice as much; so many hold 16 GiB of history. */
const OPEN_FILES_MAX = 256;
/** Decompressed frames that a reader keeps, in bytes. */
const FRAMES_BYTES_MAX = 8 * 1024 * 1024;
/** Records up to this payload are read in one piece with their header. */
const SMALL_RECORD_BLOCKS = 16;

/** Reads the segments of one volume, keeping a bounded number of them open. */
export class SegmentReader {
  readonly #disk: Disk;
  readonly #directory: string;
  readonly #files = new Map<number, DiskFile>();
  readonly #frames = new FrameCache(FRAMES_BYTES_MAX);
  readonly #scratch = new Uint8Array(
    RECORD_HEADER_BYTES + SMALL_RECORD_BLOCKS * (BLOCK_BYTES + CHECKSUM_BYTES),
  );

  readonly #window: ReadWindow | undefined;

  /**
   * Reads from `directory`. With a `window` small records are read ahead, as much as it holds: for short-lived
   * readers of what is written already, in the order of the journal.
   */
  constructor(disk: Disk, directory: string, options: { readonly window?: ReadWindow } = {}) {
    this.#disk = disk;
    this.#directory = directory;
    this.#window = options.window;
  }

  #open(segment: number): DiskFile {
    let file = this.#files.get(segment);
    if (file !== undefined) {
      this.#files.delete(segment);
      this.#files.set(segment, file);
      return file;
    }
    file = this.#openForm(segment);
    this.#files.set(segment, file);
    if (this.#files.size > OPEN_FILES_MAX) {
      for (const [oldest, idle] of this.#files) {
        idle.close();
        this.#files.delete(oldest);
        break;
      }
    }
    return file;
  }

  /** Opens either form of a segment. */
  #openForm(segment: number): DiskFile {
    const file = this.#disk.open(path.join(this.#directory, segmentFileName(segment)));
    try {
      if (!isCompressedSegment(file)) return file;
      const compressed = new CompressedSegmentFile(file, this.#frames);
      if (compressed.header.segment === segment) return compressed;
      throw new VarveError(
        "damaged",
        `read ${file.path}: its content is that of segment ${compressed.header.segment}`,
      );
    } catch (thrown) {
      file.close();
      throw thrown;
    }
  }

  /** Whether a segment is stored in compressed form, readable or not. */
  isCompressed(segment: number): boolean {
    const opened = this.#files.get(segment);
    if (opened !== undefined) return opened instanceof CompressedSegmentFile;
    const file = this.#disk.open(path.join(this.#directory, segmentFileName(segment)));
    try {
      return isCompressedSegment(file);
    } finally {
      file.close();
    }
  }

  /** Size of a segment in virtual bytes: those that places and scans count in, whatever its form. */
  sizeBytes(segment: number): number {
    return this.#open(segment).sizeBytes();
  }

  /**
   * Fills `target` with the blocks of a run; `target` is exactly `blockCount` blocks long.
   * Throws `damaged` when the bytes cannot be proved right, `not-found` when the segment is gone.
   */
  readBlocks(run: BlockRun, target: Uint8Array): void {
    const file = this.#open(run.segment);
    const scratch = this.#scratch;
    // One piece saves a system call; of a compressed segment only what is needed is touched, lest damage beside it
    // be met.
    const inOnePiece = run.payloadBlock + run.blockCount <= SMALL_RECORD_BLOCKS &&
      !(file instanceof CompressedSegmentFile);
    const head = scratch.subarray(
      0,
      RECORD_HEADER_BYTES +
        (inOnePiece ? (run.payloadBlock + run.blockCount) * (BLOCK_BYTES + CHECKSUM_BYTES) : 0),
    );
    const got = inOnePiece && this.#window !== undefined
      ? this.#window.read(file, run.recordOffset, head)
      : file.read(run.recordOffset, head);
    const header = decodeRecordHeader(scratch.subarray(0, got), 0, run.segment);
    if (header === undefined) throw this.#damaged(run, "its header's checksum does not match");
    if (header.seq !== run.seq) throw this.#damaged(run, `it holds sequence ${header.seq}`);
    if (!extentsOf(header).some((extent) => holds(extent, run))) {
      throw this.#damaged(run, `it does not hold blocks ${run.firstBlock} and following there`);
    }
    const total = header.payloadBytes / BLOCK_BYTES;
    if (isText(header.kind) || run.payloadBlock + run.blockCount > total) {
      throw this.#damaged(run, `its payload has ${total} blocks`);
    }
    const tableAt = RECORD_HEADER_BYTES + run.payloadBlock * CHECKSUM_BYTES;
    const dataAt = RECORD_HEADER_BYTES + total * CHECKSUM_BYTES + run.payloadBlock * BLOCK_BYTES;
    if (dataAt + target.length <= got) {
      target.set(scratch.subarray(dataAt, dataAt + target.length));
      this.#verify(run, new DataView(scratch.buffer, tableAt, run.blockCount * CHECKSUM_BYTES), target);
      return;
    }
    const table = new Uint8Array(run.blockCount * CHECKSUM_BYTES);
    if (
      file.read(run.recordOffset + tableAt, table) !== table.length ||
      file.read(run.recordOffset + dataAt, target) !== target.length
    ) {
      throw this.#damaged(run, "the segment ends inside it");
    }
    this.#verify(run, new DataView(table.buffer), target);
  }

  #verify(run: BlockRun, table: DataView, target: Uint8Array): void {
    for (let i = 0; i < run.blockCount; i++) {
      const found = crc32(target.subarray(i * BLOCK_BYTES, (i + 1) * BLOCK_BYTES));
      if (found !== table.getUint32(i * CHECKSUM_BYTES, true)) {
        target.fill(0);
        throw this.#damaged(run, `the checksum of its block ${run.payloadBlock + i} does not match`);
      }
    }
  }

  #damaged(run: BlockRun, found: string): VarveError {
    return new VarveError(
      "damaged",
      `read sequence ${run.seq} at byte ${run.recordOffset} of ${segmentFileName(run.segment)}: ${found}`,
      {
        hint: "The stored bytes have changed since they were written; other moments may still be whole.",
        details: { segment: run.segment, recordOffset: run.recordOffset, seq: run.seq },
      },
    );
  }

  /** The open file of a segment, for those who prove its bytes by themselves; to be asked for anew after each wait. */
  file(segment: number): DiskFile {
    return this.#open(segment);
  }

  /** The bytes of a segment, whichever files are open meanwhile; those that cannot be read right are zeroes. */
  bytesOf(segment: number): SegmentBytes {
    return damagedAsZeroes({
      read: (offset, target) => this.#open(segment).read(offset, target),
      sizeBytes: () => this.#open(segment).sizeBytes(),
    });
  }

  /** The header of a segment, or `undefined` when it is torn. */
  header(segment: number): SegmentHeader | undefined {
    const bytes = new Uint8Array(SEGMENT_HEADER_BYTES);
    return decodeSegmentHeader(bytes.subarray(0, this.#readProved(segment, 0, bytes)));
  }

  /** Reads as the file does; nothing of a compressed file that is damaged there. */
  #readProved(segment: number, offset: number, target: Uint8Array): number {
    try {
      return this.#open(segment).read(offset, target);
    } catch (thrown) {
      if (thrown instanceof VarveError && thrown.code === "damaged") return 0;
      throw thrown;
    }
  }

  /** The header of the record at a known place; throws `damaged` when there is none. */
  recordHeader(segment: number, offset: number): RecordHeader {
    const bytes = new Uint8Array(RECORD_HEADER_BYTES);
    const got = this.#open(segment).read(offset, bytes);
    const header = decodeRecordHeader(bytes.subarray(0, got), 0, segment);
    if (header !== undefined) return header;
    throw new VarveError(
      "damaged",
      `read the record at byte ${offset} of ${segmentFileName(segment)}: it is none`,
    );
  }

  /** Headers of all records of a finished segment with their places, bodies unread; ends before the first damaged one. */
  *headers(segment: number): Generator<{ header: RecordHeader; offset: number }> {
    const bytes = new Uint8Array(RECORD_HEADER_BYTES);
    for (let offset = SEGMENT_HEADER_BYTES;;) {
      const got = this.#readProved(segment, offset, bytes);
      const header = decodeRecordHeader(bytes.subarray(0, got), 0, segment);
      if (header === undefined) return;
      yield { header, offset };
      offset += recordBytes(header);
    }
  }

  /**
   * Calls `visit` for each record from `from` (0 for the first) to the last that is whole, checking headers and
   * every byte of every body, and tells where the whole records end. A `visit` that answers false ends the scan
   * before its record. Memory: one record. Sizes are virtual; of a compressed segment that is damaged as a whole,
   * `fileBytes` is the size of its file.
   */
  scan(segment: number, from: number, visit: (record: ScannedRecord) => boolean | void): ScanResult {
    const header = this.header(segment);
    const fileBytes = this.#scanBytes(segment);
    if (header === undefined || header.segment !== segment) {
      return { header: undefined, validBytes: 0, fileBytes, unusedBytes: 0 };
    }
    const headBytes = new Uint8Array(RECORD_HEADER_BYTES);
    let at = Math.max(from, SEGMENT_HEADER_BYTES);
    for (;;) {
      const got = this.#readProved(segment, at, headBytes);
      const record = decodeRecordHeader(headBytes.subarray(0, got), 0, segment);
      if (record === undefined || at + recordBytes(record) > fileBytes) break;
      const body = new Uint8Array(recordBytes(record) - RECORD_HEADER_BYTES);
      const bodyGot = this.#readProved(segment, at + RECORD_HEADER_BYTES, body);
      if (bodyGot !== body.length || !isBodyWhole(record, body)) break;
      const text = isText(record.kind) ? new TextDecoder().decode(body) : undefined;
      if (visit({ header: record, offset: at, text }) === false) break;
      at += recordBytes(record);
    }
    const isUnused = at < fileBytes && !this.isCompressed(segment) && isUnusedFrom(this.#open(segment), at);
    return { header, validBytes: at, fileBytes, unusedBytes: isUnused ? fileBytes - at : 0 };
  }

  #scanBytes(segment: number): number {
    try {
      return this.sizeBytes(segment);
    } catch (thrown) {
      if (!(thrown instanceof VarveError) || thrown.code !== "damaged") throw thrown;
      return this.#disk.stat(path.join(this.#directory, segmentFileName(segment)))?.sizeBytes ?? 0;
    }
  }

  /** Closes a segment that is about to be deleted or replaced. */
  forget(segment: number): void {
    this.#files.get(segment)?.close();
    this.#files.delete(segment);
  }

  /** Closes every file. */
  close(): void {
    for (const file of this.#files.values()) file.close();
    this.#files.clear();
  }
}

/** Whether an extent of a record has the blocks of a run at their place in the payload. */
function holds(extent: BlockExtent, run: BlockRun): boolean {
  const from = run.firstBlock - extent.firstBlock;
  return extent.payloadBlock >= 0 && from >= 0 && from + run.blockCount <= extent.blockCount &&
    extent.payloadBlock + from === run.payloadBlock;
}

/** Whether every checksum of a record's body holds. */
export function isBodyWhole(record: RecordHeader, body: Uint8Array): boolean {
  if (isText(record.kind)) return crc32(body) === record.bodyChecksum;
  const blocks = record.payloadBytes / BLOCK_BYTES;
  const tableBytes = blocks * CHECKSUM_BYTES;
  if (crc32(body.subarray(0, tableBytes)) !== record.bodyChecksum) return false;
  const table = new DataView(body.buffer, body.byteOffset, tableBytes);
  for (let i = 0; i < blocks; i++) {
    const from = tableBytes + i * BLOCK_BYTES;
    if (crc32(body.subarray(from, from + BLOCK_BYTES)) !== table.getUint32(i * CHECKSUM_BYTES, true)) {
      return false;
    }
  }
  return true;
}

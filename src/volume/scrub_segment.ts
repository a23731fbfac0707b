/**
 * Proves every byte of one segment: its header, and of each record the header, the table of checksums, the blocks or
 * the text. Behind damage it goes on at the next record that can be proved.
 *
 * Where that is: the damaged header's own length is tried first, for the damage is most often elsewhere; then every byte
 * is tried for a header whose checksum, begun with the segment's number, matches. Whether blocks behind a damaged place
 * can be read does not depend on that: the recovery map knows where they are (`scrub_map.ts`).
 *
 * @module
 */
import { crc32 } from "node:zlib";
import { BLOCK_BYTES } from "../base/block_device.ts";
import { VarveError } from "../base/errors.ts";
import type { DiskFile } from "../disk/mod.ts";
import {
  CHECKSUM_BYTES,
  decodeRecordHeader,
  decodeSegmentHeader,
  isText,
  RECORD_HEADER_BYTES,
  RECORD_KINDS,
  recordBytes,
  type RecordHeader,
  SEGMENT_HEADER_BYTES,
  type SegmentReader,
} from "../journal/mod.ts";
import type { Findings } from "./scrub_findings.ts";
import type { ScrubPace } from "./scrub_pace.ts";

const WINDOW_BYTES = 1 << 20;
const SEARCH_BYTES = 64 << 10;
const PIECE_BLOCKS = 64;
const MAGIC_FIRST_BYTE = 0x56;

/** What {@linkcode scrubSegment} works with. */
export interface SegmentScrubParts {
  /** Opens the segments. */
  readonly segments: SegmentReader;
  /** Identity that a segment's header must name. */
  readonly volumeId: string;
  /** Takes what is found. */
  readonly findings: Findings;
  /** Says when to rest. */
  readonly pace: ScrubPace;
}

/** A segment to prove. */
export interface SegmentTask {
  /** Its number. */
  readonly segment: number;
  /** How findings name its file. */
  readonly file: string;
  /** Bytes that must be there; more is not looked at. */
  readonly bytes: number;
}

/** Reads forward through a segment in large pieces, and in small ones where a large one fails. */
class Window {
  readonly #file: () => DiskFile;
  readonly #endBytes: number;
  readonly #buffer = new Uint8Array(WINDOW_BYTES);
  #from = 0;
  #length = 0;
  /** Why the last bytes could not be had. */
  problem = "";

  constructor(file: () => DiskFile, endBytes: number) {
    this.#file = file;
    this.#endBytes = endBytes;
  }

  /** At most a window's worth of bytes, valid until the next call; `undefined` where they cannot be had. */
  bytes(at: number, length: number): Uint8Array | undefined {
    if (at + length > this.#endBytes) {
      this.problem = "the segment ends inside it";
      return undefined;
    }
    if (at < this.#from || at + length > this.#from + this.#length) {
      const whole = Math.min(WINDOW_BYTES, this.#endBytes - at);
      if (!this.#fill(at, whole) && !(length < whole && this.#fill(at, length))) return undefined;
    }
    return this.#buffer.subarray(at - this.#from, at - this.#from + length);
  }

  #fill(at: number, length: number): boolean {
    this.#from = at;
    this.#length = 0;
    try {
      const got = this.#file().read(at, this.#buffer.subarray(0, length));
      this.#length = got;
      this.problem = "the segment ends inside it";
      return got === length;
    } catch (thrown) {
      const error = VarveError.from(thrown, "read a segment");
      if (error.code !== "damaged" && error.code !== "io") throw error;
      this.problem = error.message;
      return false;
    }
  }
}

/** Proves one segment; throws `not-found` when its file is gone. */
export async function scrubSegment(parts: SegmentScrubParts, task: SegmentTask): Promise<void> {
  await new SegmentScrub(parts, task).run();
}

class SegmentScrub {
  readonly #parts: SegmentScrubParts;
  readonly #task: SegmentTask;
  readonly #window: Window;
  readonly #end: number;
  #lastSeq = 0;

  constructor(parts: SegmentScrubParts, task: SegmentTask) {
    this.#parts = parts;
    this.#task = task;
    this.#end = Math.min(task.bytes, readableBytes(parts.segments, task.segment));
    this.#window = new Window(() => parts.segments.file(task.segment), this.#end);
  }

  #find(offset: number, length: number, problem: string, seq?: number): void {
    const { segment, file } = this.#task;
    this.#parts.findings.add({
      segment,
      file,
      offset,
      length,
      ...(seq === undefined ? {} : { seq }),
      problem,
    });
  }

  async #spend(bytes: number): Promise<void> {
    if (this.#parts.pace.spend(bytes)) await this.#parts.pace.rest();
  }

  async run(): Promise<void> {
    const { segment, bytes } = this.#task;
    this.#proveHeader();
    await this.#spend(Math.min(this.#end, SEGMENT_HEADER_BYTES));
    let at = Math.min(this.#end, SEGMENT_HEADER_BYTES);
    while (at < this.#end) {
      const head = this.#window.bytes(at, RECORD_HEADER_BYTES)?.slice();
      const header = head === undefined ? undefined : decodeRecordHeader(head, 0, segment);
      if (header !== undefined && at + recordBytes(header) <= this.#end) {
        await this.#proveBody(header, at);
        this.#lastSeq = header.seq;
        at += recordBytes(header);
        continue;
      }
      // A segment that was cut short is told as a whole below.
      if (this.#end < bytes && (header !== undefined || this.#end - at < RECORD_HEADER_BYTES)) break;
      const problem = head === undefined
        ? this.#window.problem
        : "the checksum of a record's header does not match";
      const next = await this.#nextRecord(at, head);
      this.#find(at, next - at, problem);
      at = next;
    }
    if (this.#end < bytes) {
      this.#find(at, bytes - at, `the file has ${this.#end} bytes, ${bytes} were written`);
      this.#parts.pace.spend(bytes - at);
    }
  }

  #proveHeader(): void {
    const bytes = this.#window.bytes(0, SEGMENT_HEADER_BYTES);
    const fail = (problem: string) => this.#find(0, SEGMENT_HEADER_BYTES, problem);
    if (bytes === undefined) {
      if (this.#end >= SEGMENT_HEADER_BYTES) fail(this.#window.problem);
      return;
    }
    try {
      const header = decodeSegmentHeader(bytes);
      if (header === undefined) fail("the checksum of the segment's header does not match");
      else if (header.segment !== this.#task.segment || header.volumeId !== this.#parts.volumeId) {
        fail(`it is segment ${header.segment} of volume ${header.volumeId}`);
      }
    } catch (thrown) {
      fail(VarveError.from(thrown, "read a segment").message);
    }
  }

  /** Where the next provable record behind a damaged one at `at` begins, or the end. */
  async #nextRecord(at: number, head: Uint8Array | undefined): Promise<number> {
    const { segment } = this.#task;
    const told = head === undefined ? undefined : toldEnd(head, at);
    if (told === this.#end) return told;
    if (told !== undefined && told < this.#end) {
      const bytes = this.#window.bytes(told, RECORD_HEADER_BYTES);
      const header = bytes === undefined ? undefined : decodeRecordHeader(bytes, 0, segment);
      if (header !== undefined && this.#follows(header, told)) {
        await this.#spend(told - at);
        return told;
      }
    }
    for (let from = at + RECORD_HEADER_BYTES; from + RECORD_HEADER_BYTES <= this.#end;) {
      let length = Math.min(SEARCH_BYTES, this.#end - from);
      let bytes = this.#window.bytes(from, length);
      if (bytes === undefined) {
        length = Math.min(BLOCK_BYTES, this.#end - from);
        bytes = this.#window.bytes(from, length);
      }
      const found = bytes === undefined ? undefined : this.#search(bytes, from);
      if (found !== undefined) return found;
      // A header may begin in the last bytes of this piece.
      const step = bytes === undefined || length <= RECORD_HEADER_BYTES
        ? length
        : length - RECORD_HEADER_BYTES + 1;
      await this.#spend(step);
      from += step;
    }
    return this.#end;
  }

  #search(bytes: Uint8Array, from: number): number | undefined {
    for (let i = bytes.indexOf(MAGIC_FIRST_BYTE); i >= 0; i = bytes.indexOf(MAGIC_FIRST_BYTE, i + 1)) {
      const header = decodeRecordHeader(bytes, i, this.#task.segment);
      if (header !== undefined && this.#follows(header, from + i)) return from + i;
    }
    return undefined;
  }

  /** Whether a header can be that of a record here, and not of bytes that a host wrote. */
  #follows(header: RecordHeader, at: number): boolean {
    return at + recordBytes(header) <= this.#end &&
      (header.kind === "baseline" || header.seq >= this.#lastSeq);
  }

  async #proveBody(header: RecordHeader, at: number): Promise<void> {
    await this.#spend(RECORD_HEADER_BYTES);
    const bodyAt = at + RECORD_HEADER_BYTES;
    if (isText(header.kind)) await this.#proveText(header, bodyAt);
    else if (header.payloadBytes > 0) await this.#proveBlocks(header, bodyAt);
  }

  async #proveText(header: RecordHeader, at: number): Promise<void> {
    let sum = 0;
    for (let done = 0; done < header.payloadBytes;) {
      const length = Math.min(SEARCH_BYTES, header.payloadBytes - done);
      const bytes = this.#window.bytes(at + done, length);
      if (bytes === undefined) {
        this.#find(at, header.payloadBytes, this.#window.problem, header.seq);
        await this.#spend(header.payloadBytes - done);
        return;
      }
      sum = crc32(bytes, sum);
      done += length;
      await this.#spend(length);
    }
    if (sum === header.bodyChecksum) return;
    this.#find(
      at,
      header.payloadBytes,
      `the checksum of a ${header.kind} record's text does not match`,
      header.seq,
    );
  }

  async #proveBlocks(header: RecordHeader, at: number): Promise<void> {
    const count = header.payloadBytes / BLOCK_BYTES;
    const tableBytes = count * CHECKSUM_BYTES;
    const table = this.#window.bytes(at, tableBytes)?.slice();
    await this.#spend(tableBytes);
    const isTableWhole = table !== undefined && crc32(table) === header.bodyChecksum;
    if (!isTableWhole) {
      const problem = table === undefined
        ? this.#window.problem
        : "the checksum of a record's table of checksums does not match";
      this.#find(at, tableBytes, problem, header.seq);
    }
    // Without a whole table nobody can tell which side of a mismatch is wrong; the map's check tells what it harms.
    const sums = new DataView((table ?? new Uint8Array(tableBytes)).buffer);
    let bad: { first: number; end: number; problem: string } | undefined;
    const tell = () => {
      if (bad === undefined) return;
      const { first, end, problem } = bad;
      this.#find(at + tableBytes + first * BLOCK_BYTES, (end - first) * BLOCK_BYTES, problem, header.seq);
      bad = undefined;
    };
    for (let first = 0; first < count; first += PIECE_BLOCKS) {
      const pieceCount = Math.min(PIECE_BLOCKS, count - first);
      for (let block = first; block < first + pieceCount; block++) {
        const problem = this.#blockProblem(
          at + tableBytes + block * BLOCK_BYTES,
          isTableWhole ? sums.getUint32(block * CHECKSUM_BYTES, true) : undefined,
        );
        if (problem === undefined) tell();
        else if (bad?.end === block && bad.problem === problem) bad.end++;
        else {
          tell();
          bad = { first: block, end: block + 1, problem };
        }
      }
      await this.#spend(pieceCount * BLOCK_BYTES);
    }
    tell();
  }

  #blockProblem(at: number, sum: number | undefined): string | undefined {
    const bytes = this.#window.bytes(at, BLOCK_BYTES);
    if (bytes === undefined) return this.#window.problem;
    return sum === undefined || crc32(bytes) === sum ? undefined : "the checksum of a block does not match";
  }
}

/** Where a record ends by what its header says, right or wrong. */
function toldEnd(head: Uint8Array, at: number): number | undefined {
  const view = new DataView(head.buffer, head.byteOffset, head.length);
  const payloadBytes = view.getUint32(48, true);
  const kind = view.getUint8(4);
  if (kind === RECORD_KINDS.mark || kind === RECORD_KINDS.meta) {
    return at + RECORD_HEADER_BYTES + payloadBytes;
  }
  if (payloadBytes % BLOCK_BYTES !== 0) return undefined;
  return at + RECORD_HEADER_BYTES + payloadBytes + payloadBytes / BLOCK_BYTES * CHECKSUM_BYTES;
}

/** Size of a segment; none of a compressed one is readable when its header or table is damaged. */
function readableBytes(segments: SegmentReader, segment: number): number {
  try {
    return segments.file(segment).sizeBytes();
  } catch (thrown) {
    if (thrown instanceof VarveError && thrown.code === "damaged") return 0;
    throw thrown;
  }
}

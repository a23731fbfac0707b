/**
 * Appends records to a volume's segments.
 *
 * Three degrees of safety, each a call of its own:
 * 1. `append` copies a record into memory and tells its place;
 * 2. `commit` hands all appended bytes to the kernel: they survive the death of this process;
 * 3. `sync` resolves when all that was committed before the call survives power loss.
 *
 * Order within `sync`: the older segment's data, then the newer's, then the directory. Were the newer segment
 * durable before the older, a power cut could leave a hole in the middle of history; recovery drops everything
 * behind such a hole, which is safe because nothing behind it was ever acknowledged as durable.
 *
 * Space is reserved before it is needed, so a full disk refuses an `append` and leaves no half record behind. The file
 * has the size of what is reserved: a sync that finds the size unchanged takes a fraction of the time. So the last segment
 * after a crash ends with zeroes, which are no record; a finished one is cut to its records. The
 * last {@linkcode SMALL_RESERVE_BYTES} of what is reserved are for small records (flushes, marks, descriptions), so
 * that these still find room when data is refused. After a failed write or sync the writer refuses all further work:
 * what the kernel kept is not known any more.
 *
 * One failed write is none of that kind: where the storage cannot reserve, `write` itself finds it full. Nothing lies
 * behind the bytes that were being written, so the file is cut to what is whole, the bytes stay in memory, and the
 * next `commit` writes them to the same place. Were the file not cut, a shorter record written there later would have
 * the rest of the longer one behind it, which is a host's data and may look like a record.
 *
 * @module
 */
import path from "node:path";
import { crc32 } from "node:zlib";
import { BLOCK_BYTES } from "../base/block_device.ts";
import type { Clock } from "../base/clock.ts";
import { VarveError } from "../base/errors.ts";
import type { Disk, DiskFile, SpaceGuard } from "../disk/mod.ts";
import {
  CHECKSUM_BYTES,
  encodeRecordHeader,
  encodeSegmentHeader,
  isCommand,
  isText,
  MAX_PAYLOAD_BYTES,
  RECORD_HEADER_BYTES,
  recordBytes,
  type RecordHeader,
  SEGMENT_HEADER_BYTES,
  segmentFileName,
} from "./format.ts";

/** Where a record lies. */
export interface RecordPlace {
  /** Segment number. */
  readonly segment: number;
  /** First byte of the record's header. */
  readonly offset: number;
}

/** What `append` takes; the checksums are made by the writer. */
export type NewRecord = Omit<RecordHeader, "bodyChecksum" | "payloadBytes">;

/** What is known of a finished segment. */
export interface SealedSegment {
  /** Segment number. */
  readonly segment: number;
  /** Size in bytes. */
  readonly bytes: number;
  /** First sequence in it; `lastSeq + 1` when it holds no command. */
  readonly firstSeq: number;
  /** Last sequence in it. */
  readonly lastSeq: number;
}

/** How a writer begins. */
export interface JournalWriterOptions {
  /** Folder of the segments. */
  readonly directory: string;
  /** 32 hexadecimal digits. */
  readonly volumeId: string;
  /** Number of the first segment it makes. */
  readonly nextSegment: number;
  /** Last sequence already in the journal. */
  readonly lastSeq: number;
  /** Number of the last baseline record already in it. Default 0. */
  readonly lastBaseline?: number;
  /** Segment size at which the next one is begun. */
  readonly segmentBytes: number;
  /** Tells the time for segment headers. */
  readonly clock: Clock;
  /** Text of the meta record that opens each segment, so that every segment describes its volume. */
  readonly describe: () => string;
  /** Asked for each step of reservation. Default: whatever the storage has. */
  readonly space?: SpaceGuard;
}

const BUFFER_BYTES = 1 << 20;
const DIRECT_PAYLOAD_BYTES = 128 << 10;
const RESERVE_BYTES = 8 << 20;
const SMALL_RESERVE_BYTES = 64 << 10;
/** A volume that fills a segment in less than this is busy, in microseconds. */
const BUSY_US = 10_000_000;

interface ActiveSegment {
  readonly number: number;
  readonly file: DiskFile;
  readonly previousSeq: number;
  /** Bytes handed to the kernel. */
  writtenBytes: number;
  reservedBytes: number;
}

/** The writing end of a volume's journal. */
export class JournalWriter {
  readonly #disk: Disk;
  readonly #options: JournalWriterOptions;
  readonly #buffer = new Uint8Array(BUFFER_BYTES);
  readonly #view = new DataView(this.#buffer.buffer);
  #buffered = 0;
  /** When the present segment was begun, or the last one. */
  #begunUs = -Infinity;
  #active: ActiveSegment | undefined;
  #nextSegment: number;
  #lastSeq: number;
  #lastBaseline: number;
  #unsynced: DiskFile[] = [];
  /** Sizes of finished segments that still have what was reserved for them. */
  readonly #sealedBytes = new Map<DiskFile, number>();
  #directoryUnsynced = false;
  #finished: SealedSegment[] = [];
  #failure: VarveError | undefined;
  #refused = 0;

  /** Begins after `options.lastSeq`; the first append makes the first segment. */
  constructor(disk: Disk, options: JournalWriterOptions) {
    this.#disk = disk;
    this.#options = options;
    this.#nextSegment = options.nextSegment;
    this.#lastSeq = options.lastSeq;
    this.#lastBaseline = options.lastBaseline ?? 0;
  }

  /** Last sequence appended. */
  get lastSeq(): number {
    return this.#lastSeq;
  }

  /** Number of the last baseline record appended. */
  get lastBaseline(): number {
    return this.#lastBaseline;
  }

  /** Where the next record will lie, if it still fits the present segment. */
  get position(): RecordPlace {
    const active = this.#active;
    if (active === undefined) return { segment: this.#nextSegment, offset: SEGMENT_HEADER_BYTES };
    return { segment: active.number, offset: active.writtenBytes + this.#buffered };
  }

  /** Writes, trims and zeroes that were refused because space was short, since the writer was made. */
  get refused(): number {
    return this.#refused;
  }

  /** Bytes that are reserved and hold nothing yet. */
  get unusedBytes(): number {
    const active = this.#active;
    if (active === undefined) return 0;
    return Math.max(0, active.reservedBytes - active.writtenBytes - this.#buffered);
  }

  /** Whether a record is still in memory, waiting for `commit`. */
  isBuffered({ segment, offset }: RecordPlace): boolean {
    return this.#active?.number === segment && offset >= this.#active.writtenBytes;
  }

  /** Sets a segment number aside for a segment that something else writes. */
  takeSegmentNumber(): number {
    return this.#nextSegment++;
  }

  /** Segments finished since the last call, oldest first. */
  takeFinished(): SealedSegment[] {
    const finished = this.#finished;
    this.#finished = [];
    return finished;
  }

  /**
   * Appends a record. `payload` is whole blocks for block records and UTF-8 text for marks and meta records,
   * given in parts that are copied or written before this returns.
   */
  append(record: NewRecord, ...payload: Uint8Array[]): RecordPlace {
    if (this.#failure !== undefined) throw this.#failure;
    const payloadBytes = payload.reduce((sum, part) => sum + part.length, 0);
    if (payloadBytes > MAX_PAYLOAD_BYTES) {
      throw new VarveError(
        "invalid",
        `append to the journal: ${payloadBytes} bytes are more than a record holds, ${MAX_PAYLOAD_BYTES}`,
      );
    }
    const size = recordBytes({ kind: record.kind, payloadBytes });
    const isSmall = isText(record.kind) || record.kind === "flush";
    let active: ActiveSegment;
    try {
      active = this.#room(size, isSmall);
    } catch (thrown) {
      const fromHost = !isSmall && record.kind !== "baseline";
      if (fromHost && thrown instanceof VarveError && thrown.code === "no-space") this.#refused++;
      throw thrown;
    }
    const place = { segment: active.number, offset: active.writtenBytes + this.#buffered };
    this.#put(active, record, payloadBytes, payload);
    if (isCommand(record.kind)) this.#lastSeq = record.seq;
    if (record.kind === "baseline") this.#lastBaseline = record.client;
    return place;
  }

  #put(active: ActiveSegment, record: NewRecord, payloadBytes: number, payload: Uint8Array[]): void {
    const tableBytes = isText(record.kind) ? 0 : payloadBytes / BLOCK_BYTES * CHECKSUM_BYTES;
    const headBytes = RECORD_HEADER_BYTES + tableBytes;
    const direct = payloadBytes >= DIRECT_PAYLOAD_BYTES;
    if (this.#buffered + headBytes + (direct ? 0 : payloadBytes) > BUFFER_BYTES) this.commit();
    const at = this.#buffered;
    const buffer = this.#buffer;
    const bodyChecksum = isText(record.kind)
      ? payload.reduce((sum, part) => crc32(part, sum), 0)
      : this.#putChecksums(at + RECORD_HEADER_BYTES, tableBytes, payload);
    encodeRecordHeader({ ...record, payloadBytes, bodyChecksum }, active.number, buffer, at);
    this.#buffered += headBytes;
    if (direct) {
      try {
        this.#write(active, buffer.subarray(0, this.#buffered), ...payload);
      } catch (thrown) {
        this.#buffered = at;
        throw thrown;
      }
      return;
    }
    for (const part of payload) {
      buffer.set(part, this.#buffered);
      this.#buffered += part.length;
    }
  }

  #putChecksums(at: number, tableBytes: number, payload: Uint8Array[]): number {
    let entry = at;
    for (const part of payload) {
      for (let from = 0; from < part.length; from += BLOCK_BYTES, entry += CHECKSUM_BYTES) {
        const block = part.length === BLOCK_BYTES ? part : part.subarray(from, from + BLOCK_BYTES);
        this.#view.setUint32(entry, crc32(block), true);
      }
    }
    return crc32(this.#buffer.subarray(at, at + tableBytes));
  }

  /** Whether so many bytes of blocks find room now; their space is reserved. */
  makeRoom(bytes: number): boolean {
    if (this.#failure !== undefined) return false;
    try {
      this.#room(bytes, false);
      return true;
    } catch (thrown) {
      if (thrown instanceof VarveError && thrown.code === "no-space") return false;
      throw thrown;
    }
  }

  #room(size: number, isSmall: boolean): ActiveSegment {
    const { space } = this.#options;
    if (!isSmall && space?.isStarved) space.grant(size, size);
    let active = this.#active;
    if (active !== undefined && active.writtenBytes + this.#buffered >= this.#options.segmentBytes) {
      this.seal();
      active = undefined;
    }
    active ??= this.#begin(size, isSmall);
    const missing = active.writtenBytes + this.#buffered + size + (isSmall ? 0 : SMALL_RESERVE_BYTES) -
      active.reservedBytes;
    if (missing > 0) {
      const bytes = this.#allowed(missing, isSmall, RESERVE_BYTES);
      reserve(active.file, active.reservedBytes, bytes);
      active.reservedBytes += bytes;
    }
    return active;
  }

  #allowed(neededBytes: number, isSmall: boolean, usualBytes: number): number {
    const { space } = this.#options;
    if (!isSmall) {
      const wantedBytes = Math.max(
        neededBytes,
        Math.min(usualBytes, this.#options.segmentBytes + neededBytes),
      );
      return space === undefined ? wantedBytes : space.grant(wantedBytes, neededBytes);
    }
    const wantedBytes = Math.max(neededBytes, SMALL_RESERVE_BYTES);
    return space === undefined ? wantedBytes : space.grantSmall(wantedBytes);
  }

  /** Begins a segment that has room for a record of `size` bytes. */
  #begin(size: number, isSmall: boolean): ActiveSegment {
    const { directory, volumeId, clock, describe } = this.#options;
    const text = new TextEncoder().encode(describe());
    const neededBytes = SEGMENT_HEADER_BYTES + recordBytes({ kind: "meta", payloadBytes: text.length }) +
      size +
      (isSmall ? 0 : SMALL_RESERVE_BYTES);
    const createdUs = clock.nowUs();
    // Reserving takes long while much of the file is on its way to storage, so a busy volume does it once, at the start.
    const isBusy = createdUs - this.#begunUs < BUSY_US;
    const reservedBytes = this.#allowed(neededBytes, isSmall, isBusy ? Infinity : RESERVE_BYTES);
    const number = this.#nextSegment;
    const file = this.#disk.open(path.join(directory, segmentFileName(number)), { mode: "create-new" });
    const active = { number, file, previousSeq: this.#lastSeq, writtenBytes: 0, reservedBytes };
    try {
      reserve(file, 0, reservedBytes);
      this.#buffer.set(
        encodeSegmentHeader({
          flags: 0,
          volumeId,
          segment: number,
          previousSeq: this.#lastSeq,
          previousBaseline: this.#lastBaseline,
          createdUs,
        }),
      );
      this.#buffered = SEGMENT_HEADER_BYTES;
      this.#put(
        active,
        {
          kind: "meta",
          flags: 0,
          seq: this.#lastSeq,
          timeUs: createdUs,
          offset: 0,
          length: 0,
          firstBlock: 0,
          client: 0,
        },
        text.length,
        [text],
      );
    } catch (thrown) {
      this.#buffered = 0;
      file.close();
      this.#disk.remove(file.path);
      throw thrown;
    }
    this.#nextSegment++;
    this.#begunUs = createdUs;
    this.#active = active;
    this.#unsynced.push(file);
    this.#directoryUnsynced = true;
    return active;
  }

  /** Finishes the present segment; the next record begins another. */
  seal(): void {
    const active = this.#active;
    if (active === undefined) return;
    this.commit();
    this.#sealedBytes.set(active.file, active.writtenBytes);
    this.#finished.push({
      segment: active.number,
      bytes: active.writtenBytes,
      firstSeq: active.previousSeq + 1,
      lastSeq: this.#lastSeq,
    });
    this.#active = undefined;
  }

  /** Hands everything appended so far to the kernel. */
  commit(): void {
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#active !== undefined && this.#buffered > 0) {
      this.#write(this.#active, this.#buffer.subarray(0, this.#buffered));
    }
  }

  #write(active: ActiveSegment, ...parts: Uint8Array[]): void {
    try {
      active.file.write(active.writtenBytes, ...parts);
    } catch (thrown) {
      const found = VarveError.from(thrown, "append to the journal");
      if (found.code !== "no-space") throw this.#fail(thrown, "append to the journal");
      this.#cutToWhole(active);
      throw found;
    }
    active.writtenBytes += parts.reduce((sum, part) => sum + part.length, 0);
    this.#buffered = 0;
  }

  #cutToWhole(active: ActiveSegment): void {
    try {
      active.file.truncate(active.writtenBytes);
      active.reservedBytes = active.writtenBytes;
    } catch (thrown) {
      throw this.#fail(thrown, "append to the journal");
    }
  }

  /** Resolves when everything committed before the call is durable. Calls must not overlap. */
  async sync(): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure;
    this.commit();
    const files = [...this.#unsynced];
    const directoryUnsynced = this.#directoryUnsynced;
    this.#directoryUnsynced = false;
    const activeFile = this.#active?.file;
    try {
      for (const file of files) {
        const sealedBytes = this.#sealedBytes.get(file);
        // Cutting a file of which much is on its way to storage takes a while, so it is not done in `seal`.
        if (sealedBytes !== undefined) await (file.cut?.(sealedBytes) ?? file.truncate(sealedBytes));
        await file.sync();
        if (file === activeFile) continue;
        this.#sealedBytes.delete(file);
        this.#unsynced = this.#unsynced.filter((other) => other !== file);
        file.close();
      }
      if (directoryUnsynced) await this.#disk.syncDirectory(this.#options.directory);
    } catch (thrown) {
      throw this.#fail(thrown, "sync the journal");
    }
  }

  #fail(thrown: unknown, tried: string): VarveError {
    const found = VarveError.from(thrown, tried);
    this.#failure = new VarveError(found.code, `${tried}: ${found.message}`, {
      cause: thrown,
      hint: "The volume takes no more writes until the appliance is started again.",
    });
    return this.#failure;
  }

  /** Seals and closes; everything is durable when it resolves. Does nothing more after a failure than closing files. */
  async close(): Promise<void> {
    try {
      if (this.#failure === undefined) {
        this.seal();
        await this.sync();
      }
    } finally {
      for (const file of this.#unsynced) file.close();
      this.#unsynced = [];
    }
  }
}

/** Reserves space, and extends the file over it. */
function reserve(file: DiskFile, offset: number, length: number): void {
  file.reserve(offset, length);
  file.truncate(offset + length);
}

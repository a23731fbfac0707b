/**
 * Writes the living records of condemned segments to new ones.
 *
 * A new segment is written under a temporary name, synced, renamed and read back; when all are there they are listed in
 * the map in one transaction, and only then is anything pointed at them. What a crash or an abort leaves behind before
 * that is removed: a compaction of which only some segments were published must never pass for a finished one. Records keep their sequence, time and client. A write of which only
 * some blocks live becomes a record for each run of them, flagged as partial; trims and zeroes stay whole.
 *
 * @module
 */
import path from "node:path";
import { BLOCK_BYTES } from "../base/block_device.ts";
import { VarveError } from "../base/errors.ts";
import { pause } from "../base/turns.ts";
import type { MapExtent } from "../catalog/recovery_map.ts";
import type { Disk, DiskFile } from "../disk/mod.ts";
import {
  encodeBlockRecord,
  encodeRecordHeader,
  encodeSegmentHeader,
  type NewRecord,
  RECORD_HEADER_BYTES,
  RECORD_PARTIAL,
  type RecordHeader,
  type RecordPlace,
  SEGMENT_COMPACTED,
  segmentFileName,
} from "../journal/mod.ts";
import { crc32 } from "node:zlib";
import { VOLUME_FILES } from "../timeline/past.ts";
import { type JournalText, SEGMENT_BYTES, type Volume } from "./volume.ts";

/** A run of blocks of a condemned segment that some kept moment sees; blocks count from the volume's start. */
export type LivingRun = MapExtent;

/** Where runs have gone: by segment, byte of the record, and block in its payload. */
export type Relocations = Map<number, Map<number, Map<number, RecordPlace>>>;

/** What to compact. */
export interface CompactionOrder {
  /** Runs to carry over. */
  readonly living: LivingRun[];
  /** Segments that will be deleted. */
  readonly condemned: ReadonlySet<number>;
  /** Told how far it has come, in bytes. */
  readonly onProgress: (doneBytes: number, totalBytes: number) => void;
  /** Stops it when aborted. */
  readonly signal: AbortSignal;
}

/** A record to carry over: a run of blocks, or a hole. */
interface Carried {
  readonly segment: number;
  readonly offset: number;
  readonly seq: number;
  readonly run: LivingRun | undefined;
}

/** Carries the living records over, in the order of their sequences; resolves with their new places. */
export async function compactSegments(
  volume: Volume,
  disk: Disk,
  order: CompactionOrder,
): Promise<Relocations> {
  const relocations: Relocations = new Map();
  const carried: Carried[] = order.living.map((run) => ({
    segment: run.segment,
    offset: run.recordOffset,
    seq: run.seq,
    run,
  }));
  for (const segment of order.condemned) {
    for (const { header, offset } of volume.segments.headers(segment)) {
      if (header.kind === "trim" || header.kind === "zero") {
        carried.push({ segment, offset, seq: header.seq, run: undefined });
      }
    }
  }
  carried.sort((a, b) => a.seq - b.seq);
  const published: CompactedSegment[] = [];
  const totalBytes = order.living.reduce((sum, run) => sum + run.blockCount * BLOCK_BYTES, 0);
  let doneBytes = 0;
  let writer: CompactedSegment | undefined;
  try {
    for (const record of carried) {
      order.signal.throwIfAborted();
      writer ??= new CompactedSegment(volume, disk, record.seq - 1, [...order.condemned]);
      const place = writer.carry(record);
      if (record.run !== undefined) {
        remember(relocations, record.run, place);
        doneBytes += record.run.blockCount * BLOCK_BYTES;
        order.onProgress(doneBytes, totalBytes);
      }
      if (writer.bytes >= SEGMENT_BYTES) {
        await writer.publish();
        published.push(writer);
        writer = undefined;
      } else if (doneBytes % (1 << 20) === 0) await pause(volume.scheduler);
    }
    if (writer !== undefined) {
      await writer.publish();
      published.push(writer);
    }
  } catch (thrown) {
    for (const made of [...published, ...(writer === undefined ? [] : [writer])]) made.abandon();
    throw thrown;
  }
  await volume.exclusively(() => {
    volume.map.transaction(() => {
      for (const made of published) made.list();
      const waits = volume.map.statement(
        "UPDATE segments SET retired = 2 WHERE segment = ? AND retired = 0",
      );
      for (const segment of order.condemned) waits.run(segment);
    });
    return Promise.resolve();
  });
  return relocations;
}

function remember(relocations: Relocations, run: LivingRun, place: RecordPlace): void {
  let records = relocations.get(run.segment);
  if (records === undefined) relocations.set(run.segment, records = new Map());
  let runs = records.get(run.recordOffset);
  if (runs === undefined) records.set(run.recordOffset, runs = new Map());
  runs.set(run.payloadBlock, place);
}

class CompactedSegment {
  readonly #volume: Volume;
  readonly #disk: Disk;
  readonly #file: DiskFile;
  readonly #number: number;
  readonly #place: string;
  readonly #firstSeq: number;
  readonly #expected: { offset: number; seq: number }[] = [];
  #lastSeq: number;
  #bytes = 0;
  #open = true;

  constructor(volume: Volume, disk: Disk, previousSeq: number, replaces: number[]) {
    const { journal } = volume;
    if (journal === undefined) throw new VarveError("conflict", "compact segments: the volume has failed");
    this.#volume = volume;
    this.#disk = disk;
    this.#number = journal.takeSegmentNumber();
    this.#firstSeq = previousSeq + 1;
    this.#lastSeq = previousSeq;
    this.#place = path.join(volume.directory, VOLUME_FILES.segments, segmentFileName(this.#number));
    this.#file = disk.open(`${this.#place}.tmp`, { mode: "create-new" });
    const createdUs = volume.lastTimeUs;
    this.#append(encodeSegmentHeader({
      flags: SEGMENT_COMPACTED,
      volumeId: volume.id,
      segment: this.#number,
      previousSeq: Math.max(0, previousSeq),
      previousBaseline: 0,
      createdUs,
    }));
    const text = new TextEncoder().encode(
      JSON.stringify(
        {
          type: "compaction",
          replaces,
          retained: volume.moments.retained(),
        } satisfies JournalText,
      ),
    );
    const head = new Uint8Array(RECORD_HEADER_BYTES);
    encodeRecordHeader(
      {
        kind: "meta",
        flags: 0,
        seq: Math.max(0, previousSeq),
        timeUs: createdUs,
        offset: 0,
        length: 0,
        firstBlock: 0,
        client: 0,
        payloadBytes: text.length,
        bodyChecksum: crc32(text),
      },
      this.#number,
      head,
      0,
    );
    this.#append(head, text);
  }

  get bytes(): number {
    return this.#bytes;
  }

  #append(...parts: Uint8Array[]): void {
    this.#file.write(this.#bytes, ...parts);
    this.#bytes += parts.reduce((sum, part) => sum + part.length, 0);
  }

  /** Carries one record over; its blocks are proved right on the way. */
  carry({ segment, offset, seq, run }: Carried): RecordPlace {
    const { segments } = this.#volume;
    const source: RecordHeader = segments.recordHeader(segment, offset);
    const place = { segment: this.#number, offset: this.#bytes };
    const kept: NewRecord = {
      kind: source.kind,
      flags: source.flags,
      seq: source.seq,
      timeUs: source.timeUs,
      offset: source.offset,
      length: source.length,
      firstBlock: source.firstBlock,
      client: source.client,
    };
    if (run === undefined) {
      // The cut blocks at its ends, where they live, are carried as runs of their own.
      this.#append(
        ...encodeBlockRecord(
          { ...kept, flags: source.flags | RECORD_PARTIAL },
          this.#number,
          new Uint8Array(0),
        ),
      );
    } else {
      const payload = new Uint8Array(run.blockCount * BLOCK_BYTES);
      segments.readBlocks({
        segment,
        recordOffset: offset,
        payloadBlock: run.payloadBlock,
        blockCount: run.blockCount,
        seq,
        firstBlock: run.firstBlock,
      }, payload);
      const kind = source.kind === "baseline" ? "baseline" : "write";
      const record: NewRecord = { ...kept, kind, flags: RECORD_PARTIAL, firstBlock: run.firstBlock };
      this.#append(...encodeBlockRecord(record, this.#number, payload));
    }
    this.#expected.push({ offset: place.offset, seq });
    this.#lastSeq = seq;
    return place;
  }

  /** Makes the segment durable, proves it by reading it back and gives it its name. */
  async publish(): Promise<void> {
    await this.#file.sync();
    this.#close();
    this.#disk.rename(`${this.#place}.tmp`, this.#place);
    this.#proveWhole();
    await this.#disk.syncDirectory(path.join(this.#volume.directory, VOLUME_FILES.segments));
  }

  /** Lists it in the map as part of a compaction that is not finished. To be called within a transaction. */
  list(): void {
    this.#volume.map.statement(
      "INSERT INTO segments (segment, first_seq, last_seq, bytes, compacted, retired) VALUES (?, ?, ?, ?, 1, 2)",
    ).run(this.#number, this.#firstSeq, this.#lastSeq, this.#bytes);
  }

  #proveWhole(): void {
    let next = 0;
    const { validBytes } = this.#volume.segments.scan(this.#number, 0, ({ header, offset }) => {
      if (header.kind === "meta") return true;
      const expected = this.#expected[next++];
      return expected?.offset === offset && expected.seq === header.seq;
    });
    if (validBytes !== this.#bytes || next !== this.#expected.length) {
      throw new VarveError(
        "damaged",
        `compact segments: ${this.#place} does not read back as it was written`,
        { hint: "The storage of the data folder fails. The old segments are untouched." },
      );
    }
  }

  #close(): void {
    if (this.#open) this.#file.close();
    this.#open = false;
  }

  /** Gives it up before it is listed, whether it is published or not. */
  abandon(): void {
    this.#close();
    this.#volume.segments.forget(this.#number);
    this.#disk.remove(`${this.#place}.tmp`);
    this.#disk.remove(this.#place);
  }
}

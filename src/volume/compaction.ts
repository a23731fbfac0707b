/**
 * Writes the living records of condemned segments to new ones.
 *
 * A new segment is written under a temporary name, synced, renamed and read back; when all are there they are listed in
 * the map in one transaction, and only then is anything pointed at them. What a crash or an abort leaves behind before
 * that is removed: a compaction of which only some segments were published must never pass for a finished one. When a
 * segment turns out to be damaged, what was made is given up and made again without it: a segment that stays must never
 * be named as replaced. Records keep their sequence, time and client. A write of which only some blocks live becomes a
 * record for each run of them, flagged as partial; trims and zeroes stay whole. Segments are walked from end to end at
 * the same time, so that only living runs are held in memory, however many records there are.
 *
 * @module
 */
import path from "node:path";
import { BLOCK_BYTES } from "../base/block_device.ts";
import { VarveError } from "../base/errors.ts";
import { pause } from "../base/turns.ts";
import type { PackedExtent } from "../catalog/packing.ts";
import type { MapExtent } from "../catalog/recovery_map.ts";
import type { Disk, DiskFile } from "../disk/mod.ts";
import {
  encodeBlockRecord,
  encodeRecordHeader,
  encodeSegmentHeader,
  type NewRecord,
  RECORD_HEADER_BYTES,
  RECORD_PARTIAL,
  recordBytes,
  type RecordHeader,
  type RecordPlace,
  SEGMENT_COMPACTED,
  SEGMENT_HEADER_BYTES,
  segmentFileName,
} from "../journal/mod.ts";
import { crc32 } from "node:zlib";
import { VOLUME_FILES } from "../timeline/past.ts";
import type { JournalText } from "./journal_text.ts";
import { SEGMENT_BYTES, type Volume } from "./volume.ts";

/** Work goes on for this long before others get their turn, in milliseconds. */
const SLICE_MS = 2;
/** What was written is proved in pieces of this size, in bytes. */
const PROOF_BYTES = 1 << 20;

/** A run of blocks of a condemned segment that some kept moment sees; blocks count from the volume's start. */
export type LivingRun = MapExtent;

/** A run that was carried over, and the record that it has become. */
interface MovedRun {
  readonly payloadBlock: number;
  readonly blockCount: number;
  readonly place: RecordPlace;
}

/** Where runs have gone: by segment and byte of the record, ascending in the payload. */
export type Relocations = Map<number, Map<number, MovedRun[]>>;

/** An extent in its new place; the very extent when it has not been moved. */
export function relocate(extent: PackedExtent, relocations: Relocations): PackedExtent {
  const runs = relocations.get(extent.segment)?.get(extent.recordOffset);
  if (runs === undefined) return extent;
  let low = 0;
  let high = runs.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const run = runs[middle];
    if (run !== undefined && run.payloadBlock + run.blockCount <= extent.payloadBlock) low = middle + 1;
    else high = middle;
  }
  const run = runs[low];
  const from = extent.payloadBlock - (run?.payloadBlock ?? Infinity);
  if (run === undefined || from < 0) return extent;
  if (from + extent.blockCount > run.blockCount) throw new Error("a living version was carried over in part");
  return { ...extent, segment: run.place.segment, recordOffset: run.place.offset, payloadBlock: from };
}

/** What to compact. */
export interface CompactionOrder {
  /** Segments that will be deleted. */
  readonly segments: readonly number[];
  /** Runs to carry over, by segment. */
  readonly living: ReadonlyMap<number, LivingRun[]>;
  /** Told of bytes that have been carried over since the last call. */
  readonly onProgress: (bytes: number) => void;
  /** Stops it when aborted. */
  readonly signal: AbortSignal;
}

/** What came of carrying records over. */
interface Carrying {
  /** Where runs have gone. */
  readonly relocations: Relocations;
  /** Segments of which a part cannot be proved right. */
  readonly damaged: Set<number>;
}

/** What came of a compaction. */
export interface CompactionOutcome {
  /** Where runs have gone. */
  readonly relocations: Relocations;
  /** Segments of which a part cannot be proved right: nothing of them was carried over. */
  readonly damaged: ReadonlySet<number>;
  /** Numbers of the new segments. */
  readonly made: readonly number[];
}

/** A record to carry over: a run of blocks, or a hole. */
interface Carried {
  readonly segment: number;
  readonly offset: number;
  readonly seq: number;
  readonly run: LivingRun | undefined;
}

/** Carries the living records over, in the order of their sequences. Memory: the living runs. */
export async function compactSegments(
  volume: Volume,
  disk: Disk,
  order: CompactionOrder,
): Promise<CompactionOutcome> {
  const damaged = new Set<number>();
  for (;;) {
    const segments = order.segments.filter((segment) => !damaged.has(segment));
    const found = { relocations: new Map(), damaged: new Set<number>() } satisfies Carrying;
    const published = await writeSegments(volume, disk, { ...order, segments }, found);
    if (found.damaged.size === 0) {
      await listSegments(volume, segments, published);
      return { relocations: found.relocations, damaged, made: published.map((made) => made.number) };
    }
    for (const made of published) made.abandon();
    for (const segment of found.damaged) damaged.add(segment);
  }
}

/** Writes and publishes new segments; abandons them when it throws. */
async function writeSegments(
  volume: Volume,
  disk: Disk,
  order: CompactionOrder,
  outcome: Carrying,
): Promise<CompactedSegment[]> {
  const records = inOrder(
    order.segments.map((segment) => carriedOf(volume, segment, order.living.get(segment) ?? [], outcome)),
  );
  const published: CompactedSegment[] = [];
  let writer: CompactedSegment | undefined;
  try {
    let sliceFrom = volume.scheduler.ticksMs();
    let holeSeq = -1;
    for (const record of records) {
      order.signal.throwIfAborted();
      // A segment that a prune had to keep was carried over before: its holes are there twice.
      const isRepeated = record !== undefined && record.run === undefined && record.seq === holeSeq;
      if (record !== undefined && !isRepeated) {
        if (record.run === undefined) holeSeq = record.seq;
        writer ??= new CompactedSegment(volume, disk, record.seq - 1, [...order.segments]);
        carryOver(writer, record, order, outcome);
      }
      if (writer !== undefined && writer.bytes >= SEGMENT_BYTES) {
        await writer.publish();
        published.push(writer);
        writer = undefined;
      }
      if (volume.scheduler.ticksMs() - sliceFrom >= SLICE_MS) {
        await pause(volume.scheduler);
        sliceFrom = volume.scheduler.ticksMs();
      }
    }
    if (writer !== undefined) {
      await writer.publish();
      published.push(writer);
    }
  } catch (thrown) {
    for (const made of [...published, ...(writer === undefined ? [] : [writer])]) made.abandon();
    throw thrown;
  }
  return published;
}

/** Lists new segments, and marks them and the old ones as parts of a compaction that is not finished. */
async function listSegments(
  volume: Volume,
  replaced: readonly number[],
  published: readonly CompactedSegment[],
): Promise<void> {
  await volume.exclusively(() => {
    volume.map.transaction(() => {
      for (const made of published) made.list();
      const waits = volume.map.statement(
        "UPDATE segments SET retired = 2 WHERE segment = ? AND retired = 0",
      );
      for (const segment of replaced) waits.run(segment);
    });
    return Promise.resolve();
  });
}

function carryOver(
  writer: CompactedSegment,
  record: Carried,
  order: CompactionOrder,
  { relocations, damaged }: Carrying,
): void {
  try {
    const place = writer.carry(record);
    const { run, segment } = record;
    if (run === undefined) return;
    let records = relocations.get(segment);
    if (records === undefined) relocations.set(segment, records = new Map());
    let runs = records.get(run.recordOffset);
    if (runs === undefined) records.set(run.recordOffset, runs = []);
    runs.push({ payloadBlock: run.payloadBlock, blockCount: run.blockCount, place });
    order.onProgress(run.blockCount * BLOCK_BYTES);
  } catch (thrown) {
    if (!(thrown instanceof VarveError) || thrown.code !== "damaged") throw thrown;
    damaged.add(record.segment);
  }
}

/** What is to be carried over of one segment, in its order, with `undefined` for a record of which nothing is. */
function* carriedOf(
  volume: Volume,
  segment: number,
  runs: LivingRun[],
  { damaged }: Carrying,
): Generator<Carried | undefined> {
  runs.sort((a, b) => a.recordOffset - b.recordOffset || a.payloadBlock - b.payloadBlock);
  let next = 0;
  let end = SEGMENT_HEADER_BYTES;
  for (const { header, offset } of volume.segments.headers(segment)) {
    end = offset + recordBytes(header);
    for (let run = runs[next]; run?.recordOffset === offset; run = runs[++next]) {
      yield { segment, offset, seq: run.seq, run };
    }
    if (header.kind === "trim" || header.kind === "zero") {
      yield { segment, offset, seq: header.seq, run: undefined };
    }
    yield undefined;
  }
  if (end !== sizeOf(volume, segment) || next !== runs.length) damaged.add(segment);
}

/** Size of a segment, or -1 when it cannot be told. */
function sizeOf(volume: Volume, segment: number): number {
  try {
    return volume.segments.sizeBytes(segment);
  } catch (thrown) {
    if (thrown instanceof VarveError && thrown.code === "damaged") return -1;
    throw thrown;
  }
}

/** Merges ascending sources; `undefined` where a step led to nothing. */
function* inOrder(sources: Generator<Carried | undefined>[]): Generator<Carried | undefined> {
  const heads: { record: Carried; source: Generator<Carried | undefined> }[] = [];
  function* advance(source: Generator<Carried | undefined>): Generator<undefined> {
    for (let step = source.next(); !step.done; step = source.next()) {
      if (step.value !== undefined) {
        heads.push({ record: step.value, source });
        return;
      }
      yield undefined;
    }
  }
  for (const source of sources) yield* advance(source);
  while (heads.length > 0) {
    let first = 0;
    for (let i = 1; i < heads.length; i++) {
      if ((heads[i]?.record.seq ?? 0) < (heads[first]?.record.seq ?? 0)) first = i;
    }
    const [head] = heads.splice(first, 1);
    if (head === undefined) return;
    yield head.record;
    yield* advance(head.source);
  }
}

class CompactedSegment {
  readonly #volume: Volume;
  readonly #disk: Disk;
  readonly #file: DiskFile;
  readonly #number: number;
  readonly #place: string;
  #firstSeq: number;
  #records = 0;
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

  get number(): number {
    return this.#number;
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
    this.#records++;
    this.#firstSeq = Math.min(this.#firstSeq, seq);
    this.#lastSeq = Math.max(this.#lastSeq, seq);
    return place;
  }

  /** Makes the segment durable, proves it by reading it back and gives it its name. */
  async publish(): Promise<void> {
    await this.#file.sync();
    this.#close();
    this.#disk.rename(`${this.#place}.tmp`, this.#place);
    await this.#proveWhole();
    await this.#disk.syncDirectory(path.join(this.#volume.directory, VOLUME_FILES.segments));
  }

  /** Lists it in the map as part of a compaction that is not finished. To be called within a transaction. */
  list(): void {
    this.#volume.map.statement(
      "INSERT INTO segments (segment, first_seq, last_seq, bytes, compacted, retired) VALUES (?, ?, ?, ?, 1, 2)",
    ).run(this.#number, this.#firstSeq, this.#lastSeq, this.#bytes);
  }

  async #proveWhole(): Promise<void> {
    const { segments, scheduler } = this.#volume;
    let records = 0;
    let validBytes = 0;
    for (let paused = true; paused;) {
      const from = validBytes;
      paused = false;
      ({ validBytes } = segments.scan(this.#number, from, ({ header, offset }) => {
        paused = offset - from >= PROOF_BYTES;
        if (!paused && header.kind !== "meta") records++;
        return !paused;
      }));
      await pause(scheduler);
    }
    if (validBytes !== this.#bytes || records !== this.#records) {
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

/**
 * Writes the living records of condemned segments to new ones, on whatever thread: it works on files alone.
 *
 * A new segment is written under a temporary name, synced, renamed and read back. Nothing names it yet: `compaction.ts`
 * lists it when all are there. When a segment turns out to be damaged, what was made is given up and made again without
 * it: a segment that stays must never be named as replaced. Records keep their sequence, time and client. A write of
 * which only some blocks live becomes a record for each run of them, flagged as partial; trims and zeroes stay whole.
 * Segments are walked from end to end at the same time, so that only living runs are held in memory, however many
 * records there are.
 *
 * @module
 */
import { BLOCK_BYTES } from "../base/block_device.ts";
import { VarveError } from "../base/errors.ts";
import { pause, type Scheduler } from "../base/turns.ts";
import type { Retained } from "../catalog/moments.ts";
import type { Disk } from "../disk/mod.ts";
import { recordBytes, SEGMENT_HEADER_BYTES, SegmentReader } from "../journal/mod.ts";
import { type Carried, CompactedSegment, type LivingRun, type MadeSegment } from "./compacted_segment.ts";
import { EXTENT_ROW, NumberRows } from "./number_rows.ts";
import { MOVED_RUN_ROW, type MovedRun } from "./relocations.ts";

/** Work goes on for this long before others get their turn, in milliseconds. */
const SLICE_MS = 2;
/** What is written is synced in steps of this size, in bytes, so that no sync of the journal waits long behind it. */
const SYNC_BYTES = 4 << 20;

/** What to rewrite; it can be sent to a Worker. */
export interface RewriteOrder {
  /** Where the segments are. */
  readonly directory: string;
  /** 32 hexadecimal digits. */
  readonly volumeId: string;
  /** Segments whose living records are carried over. */
  readonly segments: readonly number[];
  /** Runs to carry over, as rows of `EXTENT_ROW`. */
  readonly living: Float64Array;
  /** Numbers for new segments; there are enough of them. */
  readonly numbers: readonly number[];
  /** Size at which a new segment is finished, in bytes. */
  readonly segmentBytes: number;
  /** The time that new segments are given, in microseconds. */
  readonly createdUs: number;
  /** Which moments exist. */
  readonly retained: Retained;
}

/** What came of it. */
export interface RewriteOutcome {
  /** New segments. */
  readonly made: readonly MadeSegment[];
  /** Segments of which a part cannot be proved right: nothing of them was carried over. */
  readonly damaged: readonly number[];
  /** Where runs have gone, as rows of `MOVED_RUN_ROW`, ascending by segment, record and block. */
  readonly moved: Float64Array;
}

/** Means of {@linkcode rewriteSegments}. */
export interface RewriteMeans {
  /** Gives turns. */
  readonly scheduler: Scheduler;
  /** Told of bytes that have been carried over since the last call. */
  readonly onProgress: (bytes: number) => void;
  /** Stops it when aborted. */
  readonly signal: AbortSignal;
}

/**
 * Carries the living records over, in the order of their sequences. Memory: the living runs. When it throws, `cancelled`
 * after an abort, it leaves nothing behind.
 */
export async function rewriteSegments(
  disk: Disk,
  order: RewriteOrder,
  means: RewriteMeans,
): Promise<RewriteOutcome> {
  const damaged = new Set<number>();
  const segments = new SegmentReader(disk, order.directory);
  try {
    for (;;) {
      const rewriting = new Rewriting(disk, segments, means, {
        ...order,
        segments: order.segments.filter((segment) => !damaged.has(segment)),
      });
      const made = await rewriting.run();
      if (made !== undefined) return { made, damaged: [...damaged], moved: rewriting.moved() };
      for (const segment of rewriting.damaged) damaged.add(segment);
    }
  } finally {
    segments.close();
  }
}

/** One try. */
class Rewriting {
  /** Segments of which a part cannot be proved right. */
  readonly damaged = new Set<number>();
  readonly #disk: Disk;
  readonly #segments: SegmentReader;
  readonly #means: RewriteMeans;
  readonly #order: RewriteOrder;
  readonly #living = new Map<number, LivingRun[]>();
  readonly #moved: MovedRun[] = [];
  readonly #published: CompactedSegment[] = [];
  #writer: CompactedSegment | undefined;
  #holeSeq = -1;

  constructor(disk: Disk, segments: SegmentReader, means: RewriteMeans, order: RewriteOrder) {
    this.#disk = disk;
    this.#segments = segments;
    this.#means = means;
    this.#order = order;
    for (const segment of order.segments) this.#living.set(segment, []);
    for (const run of NumberRows.of(EXTENT_ROW, order.living)) this.#living.get(run.segment)?.push(run);
  }

  /** Publishes new segments; `undefined` when some old one is damaged and nothing was made. */
  async run(): Promise<MadeSegment[] | undefined> {
    try {
      await this.#writeAll();
    } catch (thrown) {
      this.#abandon();
      throw thrown;
    }
    if (this.damaged.size === 0) return this.#published.map((made) => made.info);
    this.#abandon();
    return undefined;
  }

  /** Where runs have gone, ascending. */
  moved(): Float64Array {
    this.#moved.sort((a, b) =>
      a.segment - b.segment || a.recordOffset - b.recordOffset || a.payloadBlock - b.payloadBlock
    );
    const rows = new NumberRows(MOVED_RUN_ROW);
    for (const run of this.#moved) rows.push(run);
    return rows.toNumbers();
  }

  #abandon(): void {
    for (const made of this.#published) made.abandon();
    this.#writer?.abandon();
  }

  async #writeAll(): Promise<void> {
    const { scheduler, signal } = this.#means;
    const { segments, segmentBytes } = this.#order;
    let sliceFrom = scheduler.ticksMs();
    for (const record of inOrder(segments.map((segment) => this.#carriedOf(segment)))) {
      if (signal.aborted) throw new VarveError("cancelled", "rewrite segments: it was stopped");
      if (record !== undefined) this.#take(record);
      const writer = this.#writer;
      if (writer !== undefined && writer.bytes >= segmentBytes) await this.#publish(writer);
      else if (writer !== undefined && writer.unsyncedBytes >= SYNC_BYTES) await writer.sync();
      if (scheduler.ticksMs() - sliceFrom < SLICE_MS) continue;
      await pause(scheduler);
      sliceFrom = scheduler.ticksMs();
    }
    if (this.#writer !== undefined) await this.#publish(this.#writer);
  }

  async #publish(writer: CompactedSegment): Promise<void> {
    await writer.publish();
    this.#published.push(writer);
    this.#writer = undefined;
  }

  #take(record: Carried): void {
    if (record.run === undefined) {
      // A segment that a prune had to keep was carried over before: its holes are there twice.
      if (record.seq === this.#holeSeq) return;
      this.#holeSeq = record.seq;
    }
    this.#writer ??= this.#begin(record.seq - 1);
    try {
      const place = this.#writer.carry(record);
      if (record.run === undefined) return;
      const { segment, recordOffset, payloadBlock, blockCount } = record.run;
      this.#moved.push({
        segment,
        recordOffset,
        payloadBlock,
        blockCount,
        toSegment: place.segment,
        toOffset: place.offset,
      });
      this.#means.onProgress(blockCount * BLOCK_BYTES);
    } catch (thrown) {
      if (!isDamage(thrown)) throw thrown;
      this.damaged.add(record.segment);
    }
  }

  #begin(previousSeq: number): CompactedSegment {
    const segment = this.#order.numbers[this.#published.length];
    if (segment === undefined) throw new Error("rewrite segments: there are not enough numbers for new ones");
    return new CompactedSegment({
      ...this.#order,
      disk: this.#disk,
      segments: this.#segments,
      scheduler: this.#means.scheduler,
      segment,
      previousSeq,
      replaces: this.#order.segments,
    });
  }

  /** What is to be carried over of one segment, in its order, with `undefined` for a record of which nothing is. */
  *#carriedOf(segment: number): Generator<Carried | undefined> {
    const runs = this.#living.get(segment) ?? [];
    runs.sort((a, b) => a.recordOffset - b.recordOffset || a.payloadBlock - b.payloadBlock);
    let next = 0;
    let end = SEGMENT_HEADER_BYTES;
    for (const { header, offset } of this.#segments.headers(segment)) {
      end = offset + recordBytes(header);
      for (let run = runs[next]; run?.recordOffset === offset; run = runs[++next]) {
        yield { segment, offset, seq: run.seq, run };
      }
      if (header.kind === "trim" || header.kind === "zero") {
        yield { segment, offset, seq: header.seq, run: undefined };
      }
      yield undefined;
    }
    if (end !== this.#sizeOf(segment) || next !== runs.length) this.damaged.add(segment);
  }

  /** Size of a segment, or -1 when it cannot be told. */
  #sizeOf(segment: number): number {
    try {
      return this.#segments.sizeBytes(segment);
    } catch (thrown) {
      if (isDamage(thrown)) return -1;
      throw thrown;
    }
  }
}

function isDamage(thrown: unknown): boolean {
  return thrown instanceof VarveError && thrown.code === "damaged";
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

/**
 * Brings captured records into the recovery map, in batches, off the path of the host's writes.
 *
 * @module
 */
import type { PackedMoment } from "../catalog/packing.ts";
import type { Gaps } from "../catalog/gaps.ts";
import { Moments } from "../catalog/moments.ts";
import type { BaselineEntry, BaselineLedger } from "../catalog/baseline_ledger.ts";
import type { MapExtent, RecoveryMap } from "../catalog/recovery_map.ts";
import { inTurns, Queue, type Scheduler } from "../base/turns.ts";
import { EXTENT_ROW, MOMENT_ROW, NumberRows } from "./number_rows.ts";
import type { RecordPlace, SealedSegment } from "../journal/mod.ts";

/** Records gathered before a batch is indexed without being asked for. */
export const BATCH_RECORDS = 16_384;

/** How far the redo at the next start must reach back. */
export interface ScanPosition {
  /** Newest sequence before the position. */
  readonly seq: number;
  /** Number of the newest baseline record before it. */
  readonly baseline: number;
  /** Where the record after it lies, or would. */
  readonly place: RecordPlace;
}

/** What the indexer asks of the volume. */
export interface IndexerHost {
  /** Gives turns. */
  readonly scheduler: Scheduler;
  /** Resolves when every record captured before the call is durable in the journal. */
  makeDurable(): Promise<void>;
  /** Where the next record will lie. */
  position(): ScanPosition;
  /** Up to where the primary is durable. */
  durable(): ScanPosition;
  /** Position before the oldest text that the catalogue may not have yet, if there is one. */
  oldestText?(): ScanPosition | undefined;
  /** Segments finished since the last call. */
  takeFinished(): SealedSegment[];
  /** Gaps, which the map learns of with the position. */
  readonly gaps: Gaps;
}

/** Gathers records and indexes them. All changes of the map go through its queue. */
export class Indexer {
  /** Work on the recovery map, one piece at a time. */
  readonly queue: Queue = new Queue();
  readonly #map: RecoveryMap;
  readonly #moments: Moments;
  readonly #host: IndexerHost;
  #pendingExtents = new NumberRows(EXTENT_ROW);
  #pendingMoments = new NumberRows(MOMENT_ROW);
  readonly #baseline: BaselineLedger | undefined;
  #pendingBaseline: BaselineEntry[] = [];
  /** Baseline records that the map has not yet committed. */
  #baselineWaiting = 0;
  #indexedSeq: number;
  #unrecorded: SealedSegment[] = [];
  #waiting: Promise<void> | undefined;

  /** Indexes into `map`, which knows all up to its `indexed_seq`; `baseline` while an adopted disk is being copied. */
  constructor(map: RecoveryMap, host: IndexerHost, baseline?: BaselineLedger) {
    this.#map = map;
    this.#baseline = baseline;
    this.#moments = new Moments(map);
    this.#host = host;
    this.#indexedSeq = map.getState("indexed_seq", 0);
  }

  /** Newest sequence in the map. */
  get indexedSeq(): number {
    return this.#indexedSeq;
  }

  /** Records waiting to be indexed. */
  get pendingRecords(): number {
    return this.#pendingMoments.length + this.#pendingBaseline.length;
  }

  /** Whether the map has every record up to `seq`, and every baseline record. */
  covers(seq: number): boolean {
    return this.#indexedSeq >= seq && this.#baselineWaiting === 0;
  }

  /** Takes a baseline record. Records come in the order of the journal, commands and these together. */
  addBaseline(entry: BaselineEntry): void {
    this.#pendingBaseline.push(entry);
    this.#baselineWaiting++;
  }

  /** Takes a captured command with its extents. */
  add(moment: PackedMoment, extents: readonly MapExtent[]): void {
    this.#pendingMoments.push(moment);
    for (const extent of extents) this.#pendingExtents.push(extent);
  }

  /**
   * Resolves when the map covers `seq`, and every baseline record appended before the call. Callers that come while a
   * batch waits its turn share it.
   */
  async upTo(seq: number): Promise<void> {
    if (this.covers(seq)) return;
    this.#waiting ??= this.queue.run(() => this.#indexBatch());
    await this.#waiting;
    // The batch may have been taken just before the sequence was captured.
    if (this.#indexedSeq < seq) await this.upTo(seq);
  }

  /**
   * Order: the batch's records are durable in the journal, then the map tells of them. The other way round, a map
   * that outlived a power cut would point at records that the journal has lost.
   */
  async #indexBatch(): Promise<void> {
    this.#waiting = undefined;
    const moments = this.#pendingMoments;
    const extents = this.#pendingExtents;
    const baseline = this.#pendingBaseline;
    const end = this.#host.position();
    const finished = this.#host.takeFinished();
    this.#pendingMoments = new NumberRows(MOMENT_ROW);
    this.#pendingExtents = new NumberRows(EXTENT_ROW);
    this.#pendingBaseline = [];
    try {
      await this.#host.makeDurable();
      const database = this.#map.database;
      database.exec("BEGIN IMMEDIATE");
      try {
        if (this.#baseline !== undefined) await inTurns(this.#baseline.add(baseline), this.#host.scheduler);
        await inTurns(this.#map.addExtents(extents), this.#host.scheduler);
        this.#moments.add([...moments]);
        this.recordSegments(finished);
        this.#map.setState("indexed_seq", end.seq);
        this.savePosition(end);
        database.exec("COMMIT");
      } catch (thrown) {
        if (database.isTransaction) database.exec("ROLLBACK");
        throw thrown;
      }
      this.#indexedSeq = end.seq;
      this.#baselineWaiting -= baseline.length;
      this.#baseline?.refresh();
    } catch (thrown) {
      for (const moment of this.#pendingMoments) moments.push(moment);
      for (const extent of this.#pendingExtents) extents.push(extent);
      this.#pendingMoments = moments;
      this.#pendingExtents = extents;
      this.#pendingBaseline = baseline.concat(this.#pendingBaseline);
      this.#unrecorded.push(...finished);
      throw thrown;
    }
  }

  /** Lists finished segments in the map. To be called within a transaction. */
  recordSegments(finished: readonly SealedSegment[]): void {
    const insert = this.#map.statement(
      "INSERT OR REPLACE INTO segments (segment, first_seq, last_seq, bytes) VALUES (?, ?, ?, ?)",
    );
    for (const sealed of this.#unrecorded.concat(finished)) {
      insert.run(sealed.segment, sealed.firstSeq, sealed.lastSeq, sealed.bytes);
    }
    this.#unrecorded = [];
  }

  /**
   * Keeps where the next start has to begin: at the oldest of what is indexed, what is durable in the primary, and what
   * the catalogue has been told.
   */
  savePosition(indexed: ScanPosition): void {
    this.#host.gaps.save();
    const durable = this.#host.durable();
    const applied = durable.seq < indexed.seq ? durable : indexed;
    const text = this.#host.oldestText?.();
    const from = text !== undefined && isBefore(text.place, applied.place) ? text : applied;
    this.#map.setState("scan_segment", from.place.segment);
    this.#map.setState("scan_offset", from.place.offset);
    this.#map.setState("scan_seq", from.seq);
    this.#map.setState("scan_baseline", from.baseline);
    this.#map.setState("durable_seq", durable.seq);
  }
}

function isBefore(one: RecordPlace, other: RecordPlace): boolean {
  return one.segment !== other.segment ? one.segment < other.segment : one.offset < other.offset;
}

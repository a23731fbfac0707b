/**
 * Brings captured records into the recovery map, in batches, off the path of the host's writes.
 *
 * @module
 */
import type { PackedMoment } from "../catalog/packing.ts";
import type { BaselineEntry, BaselineLedger } from "../catalog/baseline_ledger.ts";
import type { MapExtent, RecoveryMap, StateName } from "../catalog/recovery_map.ts";
import { Queue } from "../base/turns.ts";
import type { CaptureHands } from "./capture_hands.ts";
import { EXTENT_ROW, MOMENT_ROW, NumberRows } from "./number_rows.ts";
import type { RecordPlace, SealedSegment } from "../journal/mod.ts";
import type { Told } from "./told.ts";

/** Records in a full batch, by default; it is indexed without being asked for. */
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
  /** Changes the map, a batch a transaction. */
  readonly hands: Pick<CaptureHands, "index">;
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
  /** Records in a full batch. */
  readonly batchRecords: number;
  /** What the texts tell, which the map learns of with the position. */
  readonly told: Pick<Told, "unsaved" | "save">;
}

/** Records in the order of the journal, and where that stood behind the last of them. */
interface Batch {
  readonly moments: NumberRows<PackedMoment>;
  readonly extents: NumberRows<MapExtent>;
  readonly baseline: BaselineEntry[];
}

interface ClosedBatch extends Batch {
  readonly end: ScanPosition;
  /** Segments finished before the end that no batch before has. */
  readonly finished: readonly SealedSegment[];
}

/**
 * Gathers records and indexes them, a batch a transaction, so that a transaction's memory does not grow with what waits.
 * All changes of the map go through its queue.
 */
export class Indexer {
  /** Work on the recovery map, one piece at a time. */
  readonly queue: Queue = new Queue();
  readonly #map: RecoveryMap;
  readonly #host: IndexerHost;
  readonly #baseline: BaselineLedger | undefined;
  /** Oldest first; one leaves when the map has committed it. */
  readonly #closed: ClosedBatch[] = [];
  #open: Batch = emptyBatch();
  #pendingRecords = 0;
  #baselineAdded = 0;
  #baselineIndexed = 0;
  #indexedSeq: number;
  /** Up to where the journal was made durable for a batch. */
  #durable: ScanPosition | undefined;
  #waiting: Promise<void> | undefined;

  /** Indexes into `map`, which knows all up to its `indexed_seq`; `baseline` while an adopted disk is being copied. */
  constructor(map: RecoveryMap, host: IndexerHost, baseline?: BaselineLedger) {
    this.#map = map;
    this.#baseline = baseline;
    this.#host = host;
    this.#indexedSeq = map.getState("indexed_seq", 0);
  }

  /** Newest sequence in the map. */
  get indexedSeq(): number {
    return this.#indexedSeq;
  }

  /** Records waiting to be indexed. */
  get pendingRecords(): number {
    return this.#pendingRecords;
  }

  /** Takes a baseline record that has just been appended. Records come in the order of the journal. */
  addBaseline(entry: BaselineEntry): void {
    this.#open.baseline.push(entry);
    this.#baselineAdded++;
    this.#added();
  }

  /** Takes a command that has just been appended, with its extents. */
  add(moment: PackedMoment, extents: readonly MapExtent[]): void {
    this.#open.moments.push(moment);
    for (const extent of extents) this.#open.extents.push(extent);
    this.#added();
  }

  #added(): void {
    this.#pendingRecords++;
    if (recordsIn(this.#open) >= this.#host.batchRecords) this.#closeBatch();
  }

  #closeBatch(): void {
    this.#closed.push({
      ...this.#open,
      end: this.#host.position(),
      finished: this.#host.takeFinished(),
    });
    this.#open = emptyBatch();
  }

  /**
   * Resolves when the map covers `seq`, and every baseline record appended before the call. Callers that come while a
   * batch waits its turn share it.
   */
  async upTo(seq: number): Promise<void> {
    const baseline = this.#baselineAdded;
    while (this.#indexedSeq < seq || this.#baselineIndexed < baseline) {
      await this.#indexNext();
    }
  }

  /** Resolves when the map has everything appended before the call, and lists every segment finished before it. */
  async settle(): Promise<void> {
    this.#closeBatch();
    const last = this.#closed.at(-1);
    while (last !== undefined && this.#closed.includes(last)) await this.#indexNext();
  }

  #indexNext(): Promise<void> {
    return this.#waiting ??= this.queue.run(() => this.#indexOldest());
  }

  /**
   * Order: the batch's records are durable in the journal, then the map tells of them. The other way round, a map
   * that outlived a power cut would point at records that the journal has lost.
   */
  async #indexOldest(): Promise<void> {
    this.#waiting = undefined;
    if (this.#closed.length === 0) this.#closeBatch();
    const [batch] = this.#closed;
    if (batch === undefined) return;
    await this.#makeDurable(batch.end);
    await this.#host.hands.index({
      moments: batch.moments.toNumbers(),
      extents: batch.extents.toNumbers(),
      ...(this.#baseline === undefined || batch.baseline.length === 0
        ? {}
        : { baseline: { entries: batch.baseline, sizeBytes: this.#baseline.sizeBytes } }),
      finished: batch.finished,
      told: this.#host.told.unsaved(),
      state: [["indexed_seq", batch.end.seq], ...this.#positionAfter(batch.end)],
    });
    this.#closed.shift();
    this.#pendingRecords -= recordsIn(batch);
    this.#indexedSeq = batch.end.seq;
    this.#baselineIndexed += batch.baseline.length;
    this.#baseline?.refresh();
  }

  async #makeDurable(end: ScanPosition): Promise<void> {
    if (this.#durable !== undefined && !isBefore(this.#durable.place, end.place)) return;
    const position = this.#host.position();
    await this.#host.makeDurable();
    this.#durable = position;
  }

  /** Keeps where the next start has to begin. To be called within a transaction. */
  savePosition(indexed: ScanPosition): void {
    this.#host.told.save();
    for (const [name, value] of this.#positionAfter(indexed)) this.#map.setState(name, value);
  }

  /**
   * Where the next start has to begin: at the oldest of what is indexed, what is durable in the primary, and what the
   * catalogue has been told. It stays right when it is kept later: all three only move on.
   */
  #positionAfter(indexed: ScanPosition): [StateName, number][] {
    const durable = this.#host.durable();
    const applied = durable.seq < indexed.seq ? durable : indexed;
    const text = this.#host.oldestText?.();
    const from = text !== undefined && isBefore(text.place, applied.place) ? text : applied;
    return [
      ["scan_segment", from.place.segment],
      ["scan_offset", from.place.offset],
      ["scan_seq", from.seq],
      ["scan_baseline", from.baseline],
      ["durable_seq", durable.seq],
    ];
  }
}

function emptyBatch(): Batch {
  return { moments: new NumberRows(MOMENT_ROW), extents: new NumberRows(EXTENT_ROW), baseline: [] };
}

function recordsIn(batch: Batch): number {
  return batch.moments.length + batch.baseline.length;
}

function isBefore(one: RecordPlace, other: RecordPlace): boolean {
  return one.segment !== other.segment ? one.segment < other.segment : one.offset < other.offset;
}

/**
 * The two long pieces of work behind capture: bringing what the journal has to the primary, and to the recovery map. They
 * need files alone, so that a Worker can do them with files of its own while this thread takes commands.
 *
 * When they may be done, and what breaks if they are done too early, is told in `live_volume.ts`; whoever orders them sees
 * to that. Each piece is ordered when the one before it, of its kind and volume, has ended.
 *
 * @module
 */
import { inTurns, type Scheduler } from "../base/turns.ts";
import { type BaselineEntry, BaselineLedger } from "../catalog/baseline_ledger.ts";
import { Moments } from "../catalog/moments.ts";
import type { MapExtent, RecoveryMap, StateName } from "../catalog/recovery_map.ts";
import type { SealedSegment, SegmentReader } from "../journal/mod.ts";
import { EXTENT_ROW, MOMENT_ROW, NumberRows } from "./number_rows.ts";
import type { Primary } from "./primary.ts";
import { saveTold, type UnsavedTold } from "./told.ts";

/** What the recovery map is to learn, in one transaction. */
export interface IndexOrder {
  /** Moments, as rows of `MOMENT_ROW`. */
  readonly moments: Float64Array;
  /** Extents of theirs, as rows of `EXTENT_ROW`. */
  readonly extents: Float64Array;
  /** What an adopted disk held, while it is being copied, and the size of that disk. */
  readonly baseline?: { readonly entries: readonly BaselineEntry[]; readonly sizeBytes: number };
  /** Segments that are finished. */
  readonly finished: readonly SealedSegment[];
  /** What texts have told. */
  readonly told: UnsavedTold;
  /** Numbers to keep. */
  readonly state: readonly (readonly [StateName, number])[];
}

/** Where another thread finds a volume. */
export interface CapturePlace {
  /** The volume's folder. */
  readonly directory: string;
  /** See `DiskFile.threadPath`. */
  readonly primaryPath: string;
}

/** Who does it. What fails may be ordered again. */
export interface CaptureHands {
  /**
   * Brings extents, rows of `EXTENT_ROW`, from the journal to a primary of `sizeBytes`, in their order and proved right.
   */
  apply(extents: Float64Array, sizeBytes: number): Promise<void>;
  /** Brings records to the recovery map: all of an order, or when it fails nothing. */
  index(order: IndexOrder): Promise<void>;
  /** Lets go of the volume's files; resolves when nothing of it is open any more. */
  close(): Promise<void>;
}

/** What it is done with on this thread. */
export interface LocalHandsParts {
  /** The recovery map. */
  readonly map: RecoveryMap;
  /** The live bytes. */
  readonly primary: Primary;
  /** The reading end of the journal. */
  readonly segments: SegmentReader;
  /** Gives turns. */
  readonly scheduler: Scheduler;
}

/** Does it on this thread, in turns, with the volume's own files. */
export class LocalHands implements CaptureHands {
  readonly #parts: LocalHandsParts;

  /** Works with `parts`, which stay their owner's. */
  constructor(parts: LocalHandsParts) {
    this.#parts = parts;
  }

  apply(extents: Float64Array): Promise<void> {
    const { primary, segments, scheduler } = this.#parts;
    return inTurns(applyExtents(extents, primary, segments), scheduler);
  }

  index(order: IndexOrder): Promise<void> {
    return inTurns(indexOrder(order, this.#parts.map), this.#parts.scheduler);
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}

/** See `CaptureHands.apply`; yields between slices. */
export function* applyExtents(
  extents: Float64Array,
  primary: Primary,
  segments: SegmentReader,
): Generator<void> {
  for (const extent of NumberRows.of<MapExtent>(EXTENT_ROW, extents)) {
    yield* primary.apply(extent, segments);
    yield;
  }
}

/** See `CaptureHands.index`; yields between slices. Nobody else may change the map meanwhile. */
export function* indexOrder(order: IndexOrder, map: RecoveryMap): Generator<void> {
  const { database } = map;
  database.exec("BEGIN IMMEDIATE");
  try {
    const { baseline } = order;
    if (baseline !== undefined) yield* new BaselineLedger(map, baseline.sizeBytes).add(baseline.entries);
    yield* map.addExtents(NumberRows.of(EXTENT_ROW, order.extents));
    new Moments(map).add([...NumberRows.of(MOMENT_ROW, order.moments)]);
    recordSegments(map, order.finished);
    saveTold(map, order.told);
    for (const [name, value] of order.state) map.setState(name, value);
    database.exec("COMMIT");
  } catch (thrown) {
    if (database.isTransaction) database.exec("ROLLBACK");
    throw thrown;
  }
}

/** Lists finished segments in the map. To be called within a transaction. */
export function recordSegments(map: RecoveryMap, finished: readonly SealedSegment[]): void {
  const insert = map.statement(
    "INSERT OR REPLACE INTO segments (segment, first_seq, last_seq, bytes) VALUES (?, ?, ?, ?)",
  );
  for (const { segment, firstSeq, lastSeq, bytes } of finished) insert.run(segment, firstSeq, lastSeq, bytes);
}

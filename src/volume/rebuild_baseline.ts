/**
 * What the first copy of an adopted disk had covered, told from its records.
 *
 * Records of capture go through the ledger in the order of the journal: of a stretch that was copied twice, the first
 * record counts. Parts that a compaction carried over share the range of the record they come from, so they go to the
 * map as they are. What lies behind the place where the next start begins is left to it.
 *
 * @module
 */
import { type BaselineEntry, baselineEntryOf, BaselineLedger } from "../catalog/baseline_ledger.ts";
import type { MapExtent, RecoveryMap } from "../catalog/recovery_map.ts";
import type { RecordHeader, RecordPlace } from "../journal/mod.ts";

/** Gathers `baseline` records. */
export class BaselineCoverage {
  readonly #map: RecoveryMap;
  readonly #ledger: BaselineLedger;
  #entries: BaselineEntry[] = [];
  #carried: MapExtent[] = [];
  #lastNumber = 0;

  /** Fills a map that has nothing of the baseline yet. */
  constructor(map: RecoveryMap, sizeBytes: number) {
    this.#map = map;
    map.setState("baseline_bytes", 0);
    this.#ledger = new BaselineLedger(map, sizeBytes);
  }

  /** Takes a record at its place. */
  take(header: RecordHeader, place: RecordPlace, isCaptured: boolean): void {
    const entry = baselineEntryOf(header, place);
    if (isCaptured) {
      this.#entries.push(entry);
      this.#lastNumber = Math.max(this.#lastNumber, header.client);
    } else if (entry.extent !== undefined) this.#carried.push(entry.extent);
  }

  /** Enters what was taken. To be called within a transaction; yields between slices. */
  *write(): Generator<void> {
    const entries = this.#entries.splice(0);
    const carried = this.#carried.splice(0);
    if (carried.length > 0) this.#map.addBaseline(carried);
    if (entries.length > 0) yield* this.#ledger.add(entries);
  }

  /**
   * Enters whether the copy was complete, and the number of its last record, at least `lastNumber`: the records may be
   * gone, and the next start goes by their numbers. To be called within a transaction.
   */
  finish(complete: boolean, lastNumber: number): void {
    if (complete) this.#ledger.finish();
    this.#map.setState("scan_baseline", Math.max(lastNumber, this.#lastNumber));
  }
}

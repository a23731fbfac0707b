/**
 * Gaps of a history: spans in which the primary changed and the history could not be told.
 *
 * A gap begins after `fromSeq`, the last command that the history holds, and ends with `toSeq`, a flush at which the
 * history has caught up. Both are exact moments; the sequences between them and the times from `fromUs` up to, not
 * including, `toUs` are not: nobody can tell what the volume held then.
 *
 * The journal's texts tell of gaps, and table `gaps` repeats them. Whoever moves the position from which the next start
 * reads the journal saves what is {@linkcode Gaps.unsaved} in the same
 * transaction: otherwise a gap could be known to neither.
 *
 * @module
 */
import type { RecoveryMap } from "./recovery_map.ts";

/** A gap; `toSeq` and `toUs` are `undefined` while it is open. Gaps of one volume never overlap. */
export interface Gap {
  /** Last sequence before it. */
  readonly fromSeq: number;
  /** From this time on nothing is known, in microseconds; later than the command `fromSeq`. */
  readonly fromUs: number;
  /** First sequence that is exact again. */
  readonly toSeq: number | undefined;
  /** Time of that sequence, in microseconds. */
  readonly toUs: number | undefined;
}

/** The gaps of one volume, kept with its recovery map. */
export class Gaps {
  readonly #map: RecoveryMap;
  readonly #list: Gap[];
  /** `fromSeq` of gaps that the table may not have as they are now. */
  readonly #unsaved = new Set<number>();

  /** Begins with what `map` has. */
  constructor(map: RecoveryMap) {
    this.#map = map;
    this.#list = map.statement("SELECT from_seq, from_us, to_seq, to_us FROM gaps ORDER BY from_seq").all()
      .map(
        (row): Gap => ({
          fromSeq: Number(row["from_seq"]),
          fromUs: Number(row["from_us"]),
          toSeq: numberOf(row["to_seq"]),
          toUs: numberOf(row["to_us"]),
        }),
      );
  }

  /** Every gap, oldest first. */
  get list(): readonly Gap[] {
    return this.#list;
  }

  /** The gap that has not ended, or `undefined`. */
  get open(): Gap | undefined {
    const last = this.#list.at(-1);
    return last?.toSeq === undefined ? last : undefined;
  }

  /** Commands after the newest gap's beginning are later than this, in microseconds, whatever the clock says. */
  get floorUs(): number {
    return this.#list.at(-1)?.fromUs ?? 0;
  }

  /** The gap that a sequence lies in, or `undefined`. */
  atSeq(seq: number): Gap | undefined {
    const gap = this.#list.findLast((other) => other.fromSeq < seq);
    return gap === undefined || (gap.toSeq !== undefined && gap.toSeq <= seq) ? undefined : gap;
  }

  /** The gap that a time lies in, or `undefined`. */
  atTime(timeUs: number): Gap | undefined {
    const gap = this.#list.findLast((other) => other.fromUs <= timeUs);
    return gap === undefined || (gap.toUs !== undefined && gap.toUs <= timeUs) ? undefined : gap;
  }

  /** Takes what a text of the journal says; it may have been told before. A gap that has ended stays so. */
  note(gap: Gap): void {
    const index = this.#list.findIndex((other) => other.fromSeq >= gap.fromSeq);
    const known = this.#list[index];
    if (known === undefined) this.#list.push(gap);
    else if (known.fromSeq > gap.fromSeq) this.#list.splice(index, 0, gap);
    else if (known.toSeq === undefined) this.#list[index] = gap;
    else return;
    this.#unsaved.add(gap.fromSeq);
  }

  /** Those that the table does not have as they are now, oldest first. */
  unsaved(): Gap[] {
    return this.#list.filter((gap) => {
      if (!this.#unsaved.has(gap.fromSeq)) return false;
      // Forgotten only when it is found: the transaction that was to save it may have been rolled back.
      const row = this.#map.statement("SELECT to_seq FROM gaps WHERE from_seq = ?").get(gap.fromSeq);
      if (row === undefined || numberOf(row["to_seq"]) !== gap.toSeq) return true;
      this.#unsaved.delete(gap.fromSeq);
      return false;
    });
  }

  /** Brings to the table what it does not have. To be called within a transaction. */
  save(): void {
    saveGaps(this.#map, this.unsaved());
  }
}

/** Enters gaps in the table. To be called within a transaction. */
export function saveGaps(map: RecoveryMap, gaps: readonly Gap[]): void {
  const insert = map.statement("INSERT OR REPLACE INTO gaps VALUES (?, ?, ?, ?)");
  for (const { fromSeq, fromUs, toSeq, toUs } of gaps) {
    insert.run(fromSeq, fromUs, toSeq ?? null, toUs ?? null);
  }
}

function numberOf(value: unknown): number | undefined {
  return value === null ? undefined : Number(value);
}

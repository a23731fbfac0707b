/**
 * The moments of a volume as a line that one can step along, however many there are.
 *
 * @module
 */
import type { Gap } from "../catalog/gaps.ts";
import { MOMENT_KINDS, type PackedMoment, unpackMoments } from "../catalog/packing.ts";
import { blobOf, type RecoveryMap } from "../catalog/recovery_map.ts";
import type { Line } from "./_run_finder.ts";

/** Decoded rows of moments kept: each has some 4,096 of them. */
const ROWS_MAX = 16;

/** Every retained moment. */
export interface MomentSteps {
  /** Those at which a guest promised itself something, those that retention kept singly, marks, and the newest. */
  readonly settled: Line;
  /** All. */
  readonly every: Line;
  /** What is known of a moment on a line. */
  momentAt(seq: number): PackedMoment | undefined;
  /** The last sequence at or before a time, in microseconds. */
  seqAt(timeUs: number): number | undefined;
}

type Wanted = (
  moment: PackedMoment,
  place: { readonly isFirst: boolean; readonly isNewest: boolean },
) => boolean;

/** Steps along the moments that a recovery map has. */
export class MapMomentSteps implements MomentSteps {
  readonly settled: Line = this.#line(({ kind }, { isFirst, isNewest }) =>
    kind !== MOMENT_KINDS.change || isFirst || isNewest
  );
  readonly every: Line = this.#line(() => true);
  readonly #map: RecoveryMap;
  readonly #gaps: readonly Gap[];
  readonly #rows = new Map<number, PackedMoment[]>();
  readonly #newestSeq: number;

  /** Moments of `map` up to now, without those within gaps; later ones are left out. */
  constructor(map: RecoveryMap, gaps: readonly Gap[] = []) {
    this.#map = map;
    this.#gaps = gaps;
    const open = gaps.find((gap) => gap.toSeq === undefined);
    const last = map.statement("SELECT max(last_seq) AS seq FROM moments").get()?.["seq"];
    this.#newestSeq = Math.min(open?.fromSeq ?? Infinity, Number(last ?? -1));
  }

  momentAt(seq: number): PackedMoment | undefined {
    return this.#row(seq)?.find((moment) => moment.seq === seq && this.#exists(seq)) ?? this.#keptAt(seq);
  }

  seqAt(timeUs: number): number | undefined {
    const row = this.#map.statement(
      "SELECT first_seq FROM moments WHERE first_us <= ? ORDER BY first_us DESC LIMIT 1",
    ).get(timeUs);
    const moments = row === undefined ? undefined : this.#row(Number(row["first_seq"]));
    const found = moments?.findLast((moment) => moment.timeUs <= timeUs);
    if (found !== undefined) return found.seq;
    const kept = this.#map.statement("SELECT seq FROM kept WHERE time_us <= ? ORDER BY time_us DESC LIMIT 1")
      .get(timeUs);
    return kept === undefined ? undefined : Number(kept["seq"]);
  }

  #line(wanted: Wanted): Line {
    return {
      atOrBefore: (position) => this.#last(Math.min(position, this.#newestSeq), wanted),
      after: (position) => this.#next(position, wanted),
    };
  }

  #last(position: number, wanted: Wanted): number | undefined {
    for (let row = this.#row(position); row !== undefined;) {
      const found = row.findLast((moment, index) =>
        moment.seq <= position && this.#fits(moment, index, wanted)
      );
      if (found !== undefined) return found.seq;
      row = this.#row((row[0]?.seq ?? 0) - 1);
    }
    const kept = this.#map.statement("SELECT seq FROM kept WHERE seq <= ? ORDER BY seq DESC LIMIT 1").get(
      position,
    );
    return kept === undefined ? undefined : Number(kept["seq"]);
  }

  #next(position: number, wanted: Wanted): number | undefined {
    const kept = this.#map.statement("SELECT seq FROM kept WHERE seq > ? ORDER BY seq LIMIT 1").get(position);
    if (kept !== undefined) return Number(kept["seq"]);
    for (let row = this.#row(position) ?? this.#rowAfter(position); row !== undefined;) {
      const found = row.find((moment, index) => moment.seq > position && this.#fits(moment, index, wanted));
      if (found !== undefined) return found.seq <= this.#newestSeq ? found.seq : undefined;
      row = this.#rowAfter(row.at(-1)?.seq ?? Infinity);
    }
    return undefined;
  }

  /** The first moment of a row is always wanted, so that nobody goes over many rows for one step. */
  #fits(moment: PackedMoment, index: number, wanted: Wanted): boolean {
    return this.#exists(moment.seq) &&
      wanted(moment, { isFirst: index === 0, isNewest: moment.seq === this.#newestSeq });
  }

  #exists(seq: number): boolean {
    return seq <= this.#newestSeq &&
      !this.#gaps.some((gap) => seq > gap.fromSeq && seq < (gap.toSeq ?? Infinity));
  }

  #keptAt(seq: number): PackedMoment | undefined {
    const row = this.#map.statement("SELECT seq, time_us, kind FROM kept WHERE seq = ?").get(seq);
    return row === undefined
      ? undefined
      : { seq: Number(row["seq"]), timeUs: Number(row["time_us"]), kind: Number(row["kind"]) };
  }

  #row(position: number): PackedMoment[] | undefined {
    return this.#decoded(
      this.#map.statement(
        "SELECT first_seq FROM moments WHERE first_seq <= ? ORDER BY first_seq DESC LIMIT 1",
      )
        .get(position),
    );
  }

  #rowAfter(position: number): PackedMoment[] | undefined {
    return this.#decoded(
      this.#map.statement("SELECT first_seq FROM moments WHERE first_seq > ? ORDER BY first_seq LIMIT 1")
        .get(position),
    );
  }

  #decoded(row: Record<string, unknown> | undefined): PackedMoment[] | undefined {
    if (row === undefined) return undefined;
    const firstSeq = Number(row["first_seq"]);
    let moments = this.#rows.get(firstSeq);
    if (moments === undefined) {
      const packed = this.#map.statement("SELECT packed FROM moments WHERE first_seq = ?").get(firstSeq);
      if (packed === undefined) return undefined;
      moments = unpackMoments(blobOf(packed["packed"]));
    } else this.#rows.delete(firstSeq);
    this.#rows.set(firstSeq, moments);
    for (const oldest of this.#rows.keys()) {
      if (this.#rows.size <= ROWS_MAX) break;
      this.#rows.delete(oldest);
    }
    return moments;
  }
}

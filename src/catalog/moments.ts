/**
 * Which moments exist: every sequence with its time, and what retention has thinned away.
 *
 * From the horizon on every sequence is kept. Below it single moments are kept, each standing for the time from
 * its own until the next command that history once held. Sequences and times within a gap exist nowhere.
 *
 * @module
 */
import { VarveError } from "../base/errors.ts";
import type { Gap, Gaps } from "./gaps.ts";
import { blobOf, concatenate, type RecoveryMap } from "./recovery_map.ts";
import { MOMENT_KINDS, type PackedMoment, packMoments, unpackMoments } from "./packing.ts";

/** A single moment kept below the horizon. */
export interface KeptMoment extends PackedMoment {
  /** When the next command changed the volume, in microseconds; it may be gone. */
  readonly untilUs: number;
}

/**
 * Which moments exist: those of `kept`, and all from the horizon on. What is dropped never comes back, so two such
 * statements about one history hold together, in whatever order they were made.
 */
export interface Retained {
  /** The moment from which on every sequence exists. */
  readonly horizonSeq: number;
  /** Its time, in microseconds. */
  readonly horizonUs: number;
  /** Its kind, one of `MOMENT_KINDS`. */
  readonly horizonKind: number;
  /** Single moments below the horizon, ascending. */
  readonly kept: readonly KeptMoment[];
}

/** Whether a moment exists by what a statement says. */
export function isRetained(retained: Retained, seq: number): boolean {
  return seq >= retained.horizonSeq || retained.kept.some((moment) => moment.seq === seq);
}

/** What exists when both statements hold. */
export function intersectRetained(a: Retained, b: Retained): Retained {
  const [newer, older] = a.horizonSeq >= b.horizonSeq ? [a, b] : [b, a];
  const inOlder = new Set(older.kept.map((moment) => moment.seq));
  const kept = newer.kept.filter(({ seq }) => seq >= older.horizonSeq || inOlder.has(seq));
  return { ...horizonOf(newer), kept };
}

function horizonOf({ horizonSeq, horizonUs, horizonKind }: Retained): Omit<Retained, "kept"> {
  return { horizonSeq, horizonUs, horizonKind };
}

/** Outcome of looking for a moment: the moment itself, or those around it that exist. */
export type MomentSearch =
  | { readonly found: PackedMoment }
  | {
    readonly found: undefined;
    readonly older: PackedMoment | undefined;
    readonly newer: PackedMoment | undefined;
    /** The gap that it lies in. */
    readonly gap?: Gap;
  };

const ROW_ENTRIES_MAX = 4096;

/** The moments of one volume, kept with its recovery map. */
export class Moments {
  readonly #map: RecoveryMap;
  readonly #gaps: Gaps | undefined;

  /** Works on `map`. Without `gaps` it only serves for adding, and for what lies outside of them. */
  constructor(map: RecoveryMap, gaps?: Gaps) {
    this.#map = map;
    this.#gaps = gaps;
  }

  /** Adds moments, ascending and newer than all there are. To be called within a transaction. */
  add(moments: readonly PackedMoment[]): void {
    for (let from = 0; from < moments.length; from += ROW_ENTRIES_MAX) {
      const chunk = moments.slice(from, from + ROW_ENTRIES_MAX);
      const first = chunk[0];
      const last = chunk.at(-1);
      if (first === undefined || last === undefined) return;
      const row = this.#map.statement(
        "SELECT first_seq, entries, packed FROM moments ORDER BY first_seq DESC LIMIT 1",
      ).get();
      if (row !== undefined && Number(row["entries"]) + chunk.length <= ROW_ENTRIES_MAX) {
        const packed = concatenate(blobOf(row["packed"]), packMoments(chunk));
        this.#map.statement(
          "UPDATE moments SET last_seq = ?, last_us = ?, entries = entries + ?, packed = ? WHERE first_seq = ?",
        ).run(last.seq, last.timeUs, chunk.length, packed, Number(row["first_seq"]));
      } else this.#insert(chunk);
    }
  }

  #insert(moments: readonly PackedMoment[]): void {
    const first = moments[0];
    const last = moments.at(-1);
    if (first === undefined || last === undefined) return;
    this.#map.statement("INSERT INTO moments VALUES (?, ?, ?, ?, ?, ?)").run(
      first.seq,
      last.seq,
      first.timeUs,
      last.timeUs,
      moments.length,
      packMoments(moments),
    );
  }

  /** Oldest kept moment; every volume has one from its creation on. */
  oldest(): PackedMoment | undefined {
    const kept = this.#map.statement("SELECT seq, time_us, kind FROM kept ORDER BY seq LIMIT 1").get();
    if (kept !== undefined) return momentOf(kept);
    const row = this.#map.statement(
      "SELECT first_seq AS seq, first_us AS time_us, packed FROM moments ORDER BY first_seq LIMIT 1",
    ).get();
    return row === undefined ? undefined : endOfRow(row, (moments) => moments[0]);
  }

  /** The present moment; in a gap there is none. */
  current(): MomentSearch {
    const gap = this.#gaps?.open;
    if (gap !== undefined) return this.#around(gap);
    const newest = this.newest();
    return newest === undefined
      ? { found: undefined, older: undefined, newer: undefined }
      : { found: newest };
  }

  #around(gap: Gap): MomentSearch {
    const older = this.atSeq(gap.fromSeq);
    const newer = gap.toSeq === undefined ? undefined : this.atSeq(gap.toSeq);
    return {
      found: undefined,
      older: older.found ?? older.older,
      newer: newer === undefined ? undefined : newer.found ?? newer.newer,
      gap,
    };
  }

  /** Newest moment in the map. */
  newest(): PackedMoment | undefined {
    const row = this.#map.statement(
      "SELECT last_seq AS seq, last_us AS time_us, packed FROM moments ORDER BY first_seq DESC LIMIT 1",
    ).get();
    return row === undefined ? undefined : endOfRow(row, (moments) => moments.at(-1));
  }

  /** The kept moment that shows the volume as it was at a time, if it is kept. */
  atTime(timeUs: number): MomentSearch {
    const gap = this.#gaps?.atTime(timeUs);
    if (gap !== undefined) return this.#around(gap);
    const exact = this.#lastInRow(
      this.#map.statement("SELECT packed FROM moments WHERE first_us <= ? ORDER BY first_us DESC LIMIT 1")
        .get(timeUs),
      (moment) => moment.timeUs <= timeUs,
    );
    if (exact !== undefined) return { found: exact };
    const older = this.#map.statement(
      "SELECT seq, time_us, until_us, kind FROM kept WHERE time_us <= ? ORDER BY time_us DESC LIMIT 1",
    ).get(timeUs);
    if (older !== undefined && timeUs < Number(older["until_us"])) return { found: momentOf(older) };
    const newer = this.#map.statement(
      "SELECT seq, time_us, kind FROM kept WHERE time_us > ? ORDER BY time_us LIMIT 1",
    ).get(
      timeUs,
    );
    return this.#missing(older, newer);
  }

  /** The kept moment with a sequence, if it is kept. */
  atSeq(seq: number): MomentSearch {
    const gap = this.#gaps?.atSeq(seq);
    if (gap !== undefined) return this.#around(gap);
    const exact = this.#lastInRow(
      this.#map.statement("SELECT packed FROM moments WHERE first_seq <= ? ORDER BY first_seq DESC LIMIT 1")
        .get(seq),
      (moment) => moment.seq <= seq,
    );
    if (exact?.seq === seq) return { found: exact };
    const kept = this.#map.statement("SELECT seq, time_us, kind FROM kept WHERE seq = ?").get(seq);
    if (kept !== undefined) return { found: momentOf(kept) };
    if (exact !== undefined) return { found: undefined, older: exact, newer: undefined };
    return this.#missing(
      this.#map.statement("SELECT seq, time_us, kind FROM kept WHERE seq < ? ORDER BY seq DESC LIMIT 1").get(
        seq,
      ),
      this.#map.statement("SELECT seq, time_us, kind FROM kept WHERE seq > ? ORDER BY seq LIMIT 1").get(seq),
    );
  }

  #missing(
    older: Record<string, unknown> | undefined,
    newer: Record<string, unknown> | undefined,
  ): MomentSearch {
    const firstRow = this.#map.statement("SELECT packed FROM moments ORDER BY first_seq LIMIT 1").get();
    const horizon = firstRow === undefined ? undefined : unpackMoments(blobOf(firstRow["packed"]))[0];
    return {
      found: undefined,
      older: older === undefined ? undefined : momentOf(older),
      newer: newer === undefined ? horizon : momentOf(newer),
    };
  }

  #lastInRow(
    row: Record<string, unknown> | undefined,
    matches: (moment: PackedMoment) => boolean,
  ): PackedMoment | undefined {
    if (row === undefined) return undefined;
    return unpackMoments(blobOf(row["packed"])).findLast(matches);
  }

  /** Kept moments with `fromUs <= time <= toUs`, ascending, decoded row by row; none that lies within a gap. */
  *between(fromUs: number, toUs: number): Generator<PackedMoment> {
    const gaps = this.#gaps?.list ?? [];
    let next = 0;
    for (const moment of this.#everyBetween(fromUs, toUs)) {
      while ((gaps[next]?.toSeq ?? Infinity) <= moment.seq) next++;
      if (moment.seq <= (gaps[next]?.fromSeq ?? Infinity)) yield moment;
    }
  }

  *#everyBetween(fromUs: number, toUs: number): Generator<PackedMoment> {
    const kept = this.#map.statement(
      "SELECT seq, time_us, kind FROM kept WHERE time_us BETWEEN ? AND ? ORDER BY seq",
    ).all(fromUs, toUs);
    for (const row of kept) yield momentOf(row);
    const rows = this.#map.statement(
      "SELECT first_seq FROM moments WHERE last_us >= ? AND first_us <= ? ORDER BY first_seq",
    ).all(fromUs, toUs);
    for (const { first_seq: firstSeq } of rows) {
      const row = this.#map.statement("SELECT packed FROM moments WHERE first_seq = ?").get(Number(firstSeq));
      if (row === undefined) continue;
      for (const moment of unpackMoments(blobOf(row["packed"]))) {
        if (moment.timeUs >= fromUs && moment.timeUs <= toUs) yield moment;
      }
    }
  }

  /** Single moments kept below the horizon, ascending. */
  kept(): KeptMoment[] {
    return this.#map.statement("SELECT seq, time_us, until_us, kind FROM kept ORDER BY seq").all().map((
      row,
    ) => ({
      ...momentOf(row),
      untilUs: Number(row["until_us"]),
    }));
  }

  /** Which moments exist. */
  retained(): Retained {
    const row = this.#map.statement(
      "SELECT first_seq AS seq, first_us AS time_us, packed FROM moments ORDER BY first_seq LIMIT 1",
    ).get();
    const first = row === undefined ? undefined : endOfRow(row, (moments) => moments[0]);
    return {
      horizonSeq: first?.seq ?? 0,
      horizonUs: first?.timeUs ?? 0,
      horizonKind: first?.kind ?? 0,
      kept: this.kept(),
    };
  }

  /**
   * Moves the horizon: below it only `kept` remains; from the moment with sequence `horizonSeq` on everything that is
   * there stays, single moments too, when the horizon lies below the present one. To be called within a transaction.
   */
  thin(horizonSeq: number, kept: readonly KeptMoment[]): void {
    const straddling = this.#map.statement(
      "SELECT packed FROM moments WHERE first_seq < ? AND last_seq >= ?",
    ).get(horizonSeq, horizonSeq);
    this.#map.statement("DELETE FROM moments WHERE first_seq < ?").run(horizonSeq);
    if (straddling !== undefined) {
      this.#insert(unpackMoments(blobOf(straddling["packed"])).filter((moment) => moment.seq >= horizonSeq));
    }
    this.#map.statement("DELETE FROM kept WHERE seq < ?").run(horizonSeq);
    for (const moment of kept) {
      this.#map.statement("INSERT INTO kept VALUES (?, ?, ?, ?)").run(
        moment.seq,
        moment.timeUs,
        moment.untilUs,
        moment.kind,
      );
    }
    // It never moves back: what earlier prunes have dropped below it stays dropped.
    this.#map.setState("horizon_seq", Math.max(horizonSeq, this.#map.getState("horizon_seq", 0)));
  }
}

function momentOf(row: Record<string, unknown>): PackedMoment {
  return { seq: Number(row["seq"]), timeUs: Number(row["time_us"]), kind: Number(row["kind"]) };
}

/**
 * The moment at an end of a row. When the row is damaged its columns still tell which that is, so that the volume can be
 * opened and listed, and its other moments found; of what kind it is they do not tell.
 */
function endOfRow(
  row: Record<string, unknown>,
  end: (moments: PackedMoment[]) => PackedMoment | undefined,
): PackedMoment | undefined {
  try {
    return end(unpackMoments(blobOf(row["packed"])));
  } catch (thrown) {
    if (!(thrown instanceof VarveError) || thrown.code !== "damaged") throw thrown;
    return momentOf({ ...row, kind: MOMENT_KINDS.change });
  }
}

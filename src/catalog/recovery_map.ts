/**
 * The recovery map of one volume: which bytes each block had at each sequence.
 *
 * Kept by region of 16 MiB. A batch of records adds at most one delta row to each region it touches; when enough
 * entries have gathered, a region gets a keyframe, its whole map at that sequence. A look-up paints the baseline, one
 * keyframe and the deltas after it, so its cost is bounded however long the history is. Holes over whole regions lie
 * in a tree of their own, sixteen-fold at each level, so that trimming a volume of any size writes a few rows.
 *
 * Invariants:
 * - deltas of a region never straddle a keyframe: `last_seq <= keyframe.seq` or `seq > keyframe.seq`;
 * - the map never tells of a record that is not yet durable in the journal;
 * - all of it can be rebuilt from the segments.
 *
 * @module
 */
import type { DatabaseSync, StatementSync } from "node:sqlite";
import { VarveError } from "../base/errors.ts";
import { openDatabase, transaction } from "./database.ts";
import type { Disk } from "../disk/mod.ts";
import { MAP_MIGRATIONS } from "./map_schema.ts";
import { type PackedExtent, packExtents, unpackExtents } from "./packing.ts";
import { LivingSieve } from "./region_history.ts";
import { REGION_BLOCKS, RegionPainter } from "./region_map.ts";

/** A new version of a run of blocks of the volume. */
export interface MapExtent extends PackedExtent {
  /** First block, counted from the volume's start. */
  firstBlock: number;
}

/** A region as of one sequence, and as of those around it that show the same. */
export interface ResolvedRegion {
  /** Sorted extents without overlaps, holes among them; what is left out is a hole. */
  readonly extents: PackedExtent[];
  /** So it is from this sequence on; it may have been so before. */
  readonly fromSeq: number;
  /** Up to, not including, this sequence; it may be so behind it. */
  readonly endSeq: number;
}

/** Names of the numbers kept in the `state` table. */
export type StateName =
  /** Newest sequence in the map. */
  | "indexed_seq"
  /** Where scanning begins at the next start: a segment and a byte in it. */
  | "scan_segment"
  | "scan_offset"
  /** The sequence, and the number of the baseline record, before that place. */
  | "scan_seq"
  | "scan_baseline"
  /** Newest sequence durable in the primary. */
  | "durable_seq"
  /** From this sequence on every moment is kept. */
  | "horizon_seq"
  /** Bytes of an adopted primary that the baseline has covered; the size at the adoption once it is complete. */
  | "baseline_bytes"
  /** The last number that was given to a client. */
  | "last_client";

const DELTA = 0;
const KEYFRAME = 1;
const BASELINE = 2;

const ROW_ENTRIES_MAX = 512;
const KEYFRAME_ENTRIES_MIN = 1024;
const FANOUT = 16;
const LEVELS = 8;

/** The newest hole at or before a sequence, and the next one behind it, of the nodes that a region lies in: one for each level. */
const NEWEST_WIDE_HOLE = ofEachLevel("max(seq)", "seq <= ?");
const NEXT_WIDE_HOLE = ofEachLevel("min(seq)", "seq > ?");

/** A volume's recovery map. Readers in other threads open their own, with `readOnly`. */
export class RecoveryMap {
  /** The database, for the companions of this class in the same folder. */
  readonly database: DatabaseSync;
  readonly #statements = new Map<string, StatementSync>();

  /** Opens the map at `place`, making it when it is missing unless `readOnly`. */
  constructor(place: string, options: { readOnly?: boolean; disk?: Disk } = {}) {
    this.database = openDatabase(place, { ...options, migrations: MAP_MIGRATIONS });
  }

  /** A prepared statement, made once. */
  statement(sql: string): StatementSync {
    let statement = this.#statements.get(sql);
    if (statement === undefined) {
      statement = this.database.prepare(sql);
      this.#statements.set(sql, statement);
    }
    return statement;
  }

  /** A number kept with the map; `fallback` when it has never been set. */
  getState(name: StateName, fallback: number): number {
    const row = this.statement("SELECT value FROM state WHERE name = ?").get(name);
    return row === undefined ? fallback : Number(row["value"]);
  }

  /** Keeps a number. */
  setState(name: StateName, value: number): void {
    this.statement("INSERT INTO state VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value").run(
      name,
      value,
    );
  }

  /** Runs `work` in one transaction. */
  transaction<T>(work: () => T): T {
    return transaction(this.database, work);
  }

  /**
   * Adds the extents of a batch, ascending in sequence. To be called within a transaction.
   * Yields after each region, so that a caller may take turns with other work.
   */
  *addExtents(extents: Iterable<MapExtent>): Generator<void> {
    const regions = new Map<number, PackedExtent[]>();
    for (const extent of extents) this.#splitByRegion(extent, regions);
    for (const [region, entries] of regions) {
      this.#appendDeltas(region, entries);
      yield;
    }
  }

  /** Adds content from before the first command. To be called within a transaction. */
  addBaseline(extents: readonly MapExtent[]): void {
    const regions = new Map<number, PackedExtent[]>();
    for (const extent of extents) this.#splitByRegion(extent, regions);
    for (const [region, entries] of regions) {
      const row = this.statement("SELECT id, packed FROM regions WHERE region = ? AND kind = 2").get(region);
      if (row === undefined) {
        this.#insert(region, BASELINE, 0, 0, entries.length, -1, 0, packExtents(entries));
      } else {
        this.statement("UPDATE regions SET packed = ?, entries = entries + ? WHERE id = ?").run(
          concatenate(blobOf(row["packed"]), packExtents(entries)),
          entries.length,
          Number(row["id"]),
        );
      }
    }
  }

  #splitByRegion(extent: MapExtent, regions: Map<number, PackedExtent[]>): void {
    const end = extent.firstBlock + extent.blockCount;
    for (let block = extent.firstBlock; block < end;) {
      const region = Math.floor(block / REGION_BLOCKS);
      const regionStart = region * REGION_BLOCKS;
      if (extent.segment === 0 && block === regionStart && end - block >= REGION_BLOCKS) {
        const wholeEnd = Math.floor(end / REGION_BLOCKS);
        this.#addWideHole(region, wholeEnd, extent.seq);
        block = wholeEnd * REGION_BLOCKS;
        continue;
      }
      const blockCount = Math.min(end, regionStart + REGION_BLOCKS) - block;
      let entries = regions.get(region);
      if (entries === undefined) regions.set(region, entries = []);
      entries.push({
        seq: extent.seq,
        firstBlock: block - regionStart,
        blockCount,
        segment: extent.segment,
        recordOffset: extent.recordOffset,
        payloadBlock: extent.segment === 0 ? 0 : extent.payloadBlock + (block - extent.firstBlock),
      });
      block += blockCount;
    }
  }

  #addWideHole(firstRegion: number, endRegion: number, seq: number): void {
    const insert = this.statement("INSERT OR IGNORE INTO wide_holes VALUES (?, ?, ?)");
    for (let region = firstRegion; region < endRegion;) {
      let level = 0;
      let span = 1;
      while (
        level + 1 < LEVELS && region % (span * FANOUT) === 0 && region + span * FANOUT <= endRegion
      ) {
        level++;
        span *= FANOUT;
      }
      insert.run(level, region / span, seq);
      region += span;
    }
  }

  #insert(
    region: number,
    kind: number,
    seq: number,
    lastSeq: number,
    entries: number,
    since: number,
    base: number,
    packed: Uint8Array,
  ): void {
    this.statement(
      "INSERT INTO regions (region, kind, seq, last_seq, entries, since, base, packed) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    ).run(region, kind, seq, lastSeq, entries, since, base, packed);
  }

  #appendDeltas(region: number, entries: PackedExtent[]): void {
    for (const row of inRows(entries)) this.#appendDelta(region, row);
  }

  #appendDelta(region: number, entries: PackedExtent[]): void {
    const first = entries[0];
    const last = entries.at(-1);
    if (first === undefined || last === undefined) return;
    const row = this.statement(
      "SELECT id, entries, since, base, packed FROM regions WHERE region = ? AND kind = 0 ORDER BY seq DESC LIMIT 1",
    ).get(region);
    const packed = packExtents(entries);
    const closed = row === undefined || Number(row["since"]) < 0;
    const since = (closed ? 0 : Number(row["since"])) + entries.length;
    let base = row === undefined ? 0 : Number(row["base"]);
    if (row !== undefined && closed) {
      const keyframe = this.statement(
        "SELECT entries FROM regions WHERE region = ? AND kind = 1 ORDER BY seq DESC LIMIT 1",
      ).get(region);
      base = Number(keyframe?.["entries"] ?? 0);
    }
    if (row !== undefined && !closed && Number(row["entries"]) + entries.length <= ROW_ENTRIES_MAX) {
      this.statement(
        "UPDATE regions SET last_seq = ?, entries = entries + ?, since = ?, packed = ? WHERE id = ?",
      )
        .run(
          last.seq,
          entries.length,
          since,
          concatenate(blobOf(row["packed"]), packed),
          Number(row["id"]),
        );
    } else this.#insert(region, DELTA, first.seq, last.seq, entries.length, since, base, packed);
    if (since >= Math.max(KEYFRAME_ENTRIES_MIN, base / 2)) this.#addKeyframe(region, last.seq);
  }

  /**
   * Without a keyframe a region costs more to look up, and that is all. So one that cannot be made, because a row that
   * it stands on is damaged, is put off: what is captured goes on being indexed.
   */
  #addKeyframe(region: number, seq: number): number {
    let state: PackedExtent[];
    try {
      state = this.resolveRegion(region, seq);
    } catch (thrown) {
      if (!(thrown instanceof VarveError) || thrown.code !== "damaged") throw thrown;
      this.statement(
        "UPDATE regions SET since = 0 WHERE region = ?1 AND kind = 0 AND seq = " +
          "(SELECT max(seq) FROM regions WHERE region = ?1 AND kind = 0)",
      ).run(region);
      return 0;
    }
    this.#insert(region, KEYFRAME, seq, seq, state.length, -1, 0, packExtents(state));
    this.statement("UPDATE regions SET since = -1 WHERE region = ? AND kind = 0 AND seq <= ? AND since >= 0")
      .run(
        region,
        seq,
      );
    return state.length;
  }

  /** The whole region as of `seq`: sorted extents without overlaps, holes among them; what is left out is a hole. */
  resolveRegion(region: number, seq: number): PackedExtent[] {
    // One snapshot for all of its look-ups: between them a prune in another thread may replace the region's rows.
    this.database.exec("SAVEPOINT resolve_region");
    try {
      return this.#resolve(region, seq).extents;
    } finally {
      this.database.exec("RELEASE resolve_region");
    }
  }

  /** As `resolveRegion`, for readers: throws `not-retained` when a prune has dropped the sequence meanwhile. */
  resolveRetained(region: number, seq: number): ResolvedRegion {
    this.database.exec("SAVEPOINT resolve_retained");
    try {
      this.checkRetained(seq);
      return this.#resolve(region, seq);
    } finally {
      this.database.exec("RELEASE resolve_retained");
    }
  }

  /** Throws `not-retained` when a prune has dropped a sequence. */
  checkRetained(seq: number): void {
    if (
      seq >= this.getState("horizon_seq", 0) ||
      this.statement("SELECT 1 FROM kept WHERE seq = ?").get(seq) !== undefined
    ) return;
    throw new VarveError("not-retained", `read sequence ${seq}: retention has dropped it meanwhile`, {
      hint: "Ask for a moment that is still kept.",
    });
  }

  #resolve(region: number, seq: number): ResolvedRegion {
    const painter = new RegionPainter();
    const keyframe = this.statement(
      "SELECT seq, packed FROM regions WHERE region = ? AND kind = 1 AND seq <= ? ORDER BY seq DESC LIMIT 1",
    ).get(region, seq);
    const paint = (extent: PackedExtent) => painter.paint(extent);
    // Beneath keyframes too: the first copy of an adopted disk may have come to the map after them.
    const baseline = this.statement("SELECT packed FROM regions WHERE region = ? AND kind = 2").get(region);
    if (baseline !== undefined) unpackExtents(blobOf(baseline["packed"]), paint);
    if (keyframe !== undefined) unpackExtents(blobOf(keyframe["packed"]), paint);
    const keyframeSeq = Number(keyframe?.["seq"] ?? -1);
    const holeSeq = this.#wideHoleSeq(region, seq);
    let fromSeq = Math.max(0, keyframeSeq, holeSeq);
    // Behind what this map has, more may be added at any time.
    let endSeq = Math.max(seq, this.getState("indexed_seq", 0)) + 1;
    const deltas = this.statement(
      "SELECT packed FROM regions WHERE region = ? AND kind = 0 AND seq > ? AND seq <= ? ORDER BY seq",
    ).all(region, keyframeSeq, seq);
    for (const delta of deltas) {
      unpackExtents(blobOf(delta["packed"]), (extent) => {
        if (extent.seq <= seq) {
          painter.paint(extent);
          fromSeq = Math.max(fromSeq, extent.seq);
        } else endSeq = Math.min(endSeq, extent.seq);
      });
    }
    if (holeSeq > keyframeSeq) painter.paintHole(holeSeq);
    const next = this.statement(
      "SELECT seq FROM regions WHERE region = ? AND kind = 0 AND seq > ? ORDER BY seq LIMIT 1",
    ).get(region, seq);
    endSeq = Math.min(endSeq, Number(next?.["seq"] ?? Infinity), this.#nextWideHoleSeq(region, seq));
    return { extents: painter.finish(), fromSeq, endSeq };
  }

  /** Regions that ever held data, ascending. */
  *usedRegions(): Generator<number> {
    for (
      let region = this.nextUsedRegion(0);
      region !== undefined;
      region = this.nextUsedRegion(region + 1)
    ) {
      yield region;
    }
  }

  /** Sequences of the holes over a whole region, ascending. */
  wideHoles(region: number): number[] {
    const seqs: number[] = [];
    let node = region;
    for (let level = 0; level < LEVELS; level++) {
      const rows = this.statement("SELECT seq FROM wide_holes WHERE level = ? AND node = ?").all(level, node);
      for (const row of rows) seqs.push(Number(row["seq"]));
      node = Math.floor(node / FANOUT);
    }
    return seqs.sort((a, b) => a - b);
  }

  /**
   * Versions of a region in rows, the baseline first, then ascending in sequence; of the rest only rows that begin at
   * `untilSeq` at the latest. Memory: one row, however many versions there are.
   */
  *versionsOf(
    region: number,
    untilSeq: number = Number.MAX_SAFE_INTEGER,
  ): Generator<{ isBaseline: boolean; versions: PackedExtent[] }> {
    const baseline = this.statement("SELECT packed FROM regions WHERE region = ? AND kind = 2").get(region);
    if (baseline !== undefined) yield { isBaseline: true, versions: unpacked(baseline["packed"]) };
    for (let after = -1;;) {
      const row = this.statement(
        "SELECT seq, packed FROM regions WHERE region = ? AND kind = 0 AND seq > ? AND seq <= ? ORDER BY seq LIMIT 1",
      ).get(region, after, untilSeq);
      if (row === undefined) return;
      yield { isBaseline: false, versions: unpacked(row["packed"]) };
      after = Number(row["seq"]);
    }
  }

  /** Tells of every living version of a region, in no particular order; changes nothing. */
  *livingIn(
    region: number,
    keptSeqs: readonly number[],
    onLiving: (extent: PackedExtent) => void,
  ): Generator<void> {
    const sieve = new LivingSieve(keptSeqs, this.wideHoles(region), (parts) => parts.forEach(onLiving));
    for (const { versions } of this.versionsOf(region)) {
      for (const version of versions) sieve.add(version);
      yield;
    }
    sieve.finish();
  }

  /**
   * Takes dead versions out of a region: those that no sequence of `keptSeqs` sees, the last of which is the one from
   * which all are kept. Rows that begin after it stay as they are. Nobody may change the region meanwhile; the change
   * itself is made in one transaction, after the last yield. Memory: what lives among the rows that are looked at.
   */
  *thinRegion(
    region: number,
    keptSeqs: readonly number[],
    onLiving: (extent: PackedExtent) => void,
  ): Generator<void> {
    const baseSeq = keptSeqs.at(-1) ?? 0;
    const living: { order: number; parts: PackedExtent[] }[] = [];
    const sieve = new LivingSieve(keptSeqs, this.wideHoles(region), (parts, order) => {
      living.push({ order, parts });
      parts.forEach(onLiving);
    });
    let baselineCount = 0;
    let blocks = 0;
    for (const { isBaseline, versions } of this.versionsOf(region, baseSeq)) {
      if (isBaseline) baselineCount = versions.length;
      for (const version of versions) {
        blocks += version.blockCount;
        sieve.add(version);
      }
      yield;
    }
    sieve.finish();
    for (const { parts } of living) for (const { blockCount } of parts) blocks -= blockCount;
    if (blocks === 0) return;
    living.sort((a, b) => a.order - b.order);
    const firstDelta = living.findIndex(({ order }) => order >= baselineCount);
    const split = firstDelta < 0 ? living.length : firstDelta;
    const baseline = living.slice(0, split).flatMap(({ parts }) => parts);
    const deltas = living.slice(split).flatMap(({ parts }) => parts);
    this.transaction(() => {
      this.statement("DELETE FROM regions WHERE region = ? AND seq <= ?").run(region, baseSeq);
      if (baseline.length > 0) {
        this.#insert(region, BASELINE, 0, 0, baseline.length, -1, 0, packExtents(baseline));
      }
      this.#insertOlder(region, deltas, baseSeq);
    });
  }

  /** Inserts deltas before those that are there, with keyframes up to `baseSeq`: behind it may be some already. */
  #insertOlder(region: number, deltas: PackedExtent[], baseSeq: number): void {
    let since = 0;
    let base = 0;
    for (const entries of inRows(deltas)) {
      const first = entries[0];
      const last = entries.at(-1);
      if (first === undefined || last === undefined) continue;
      since += entries.length;
      this.#insert(region, DELTA, first.seq, last.seq, entries.length, since, base, packExtents(entries));
      if (last.seq > baseSeq || since < Math.max(KEYFRAME_ENTRIES_MIN, base / 2)) continue;
      base = this.#addKeyframe(region, last.seq);
      since = 0;
    }
    // A keyframe that was there closes the rows before it, or the next delta would be appended across it.
    this.statement(
      "UPDATE regions SET since = -1 WHERE region = ? AND kind = 0 AND since >= 0 AND seq <= (SELECT max(seq) FROM regions WHERE region = ? AND kind = 1)",
    ).run(region, region);
  }

  /**
   * Changes places in a region, row by row: `move` returns an extent that is the same but for its place, or the very
   * extent it was given. Of the deltas only rows that begin at `untilSeq` at the latest are looked at. Every row is right
   * before and after, as long as bytes are at both places. To be called within a transaction.
   */
  *relocateRegion(
    region: number,
    untilSeq: number,
    move: (extent: PackedExtent) => PackedExtent,
  ): Generator<void> {
    const ids = this.statement("SELECT id FROM regions WHERE region = ? AND (kind = 1 OR seq <= ?)").all(
      region,
      untilSeq,
    );
    for (const { id } of ids) {
      const row = this.statement("SELECT packed FROM regions WHERE id = ?").get(Number(id));
      const extents = unpacked(row?.["packed"]);
      const moved = extents.map(move);
      if (moved.some((extent, i) => extent !== extents[i])) {
        this.statement("UPDATE regions SET packed = ? WHERE id = ?").run(packExtents(moved), Number(id));
      }
      yield;
    }
  }

  /** The first region at or after `region` that ever held data, or `undefined`; all between are holes. */
  nextUsedRegion(region: number): number | undefined {
    const row = this.statement("SELECT region FROM regions WHERE region >= ? ORDER BY region LIMIT 1").get(
      region,
    );
    return row === undefined ? undefined : Number(row["region"]);
  }

  /** Whether a region may have versions newer than `fromSeq` and not newer than `toSeq`; `false` is certain. */
  mayDiffer(region: number, fromSeq: number, toSeq: number): boolean {
    // Rows follow one another without overlaps, so the last one tells of all.
    const row = this.statement(
      "SELECT last_seq FROM regions WHERE region = ? AND kind = 0 AND seq <= ? ORDER BY seq DESC LIMIT 1",
    ).get(region, toSeq);
    return Number(row?.["last_seq"] ?? -1) > fromSeq || this.#wideHoleSeq(region, toSeq) > fromSeq;
  }

  #wideHoleSeq(region: number, seq: number): number {
    const newest = this.statement(NEWEST_WIDE_HOLE).get(...nodesOf(region), seq);
    return Number(newest?.["seq"] ?? -1);
  }

  #nextWideHoleSeq(region: number, seq: number): number {
    const next = this.statement(NEXT_WIDE_HOLE).get(...nodesOf(region), seq);
    return Number(next?.["seq"] ?? Infinity);
  }

  /** Closes the database. */
  close(): void {
    this.#statements.clear();
    this.database.close();
  }
}

/** One statement for all levels: most of a look-up's cost is that of calling the database. Its parameters: a node for each, a sequence. */
function ofEachLevel(chosen: string, condition: string): string {
  const parts = Array.from(
    { length: LEVELS },
    (_, level) =>
      `SELECT ${chosen} AS seq FROM wide_holes WHERE level = ${level} AND node = ?${level + 1} AND ` +
      condition.replace("?", `?${LEVELS + 1}`),
  );
  return `SELECT ${chosen} AS seq FROM (${parts.join(" UNION ALL ")})`;
}

function nodesOf(region: number): number[] {
  return Array.from({ length: LEVELS }, (_, level) => Math.floor(region / FANOUT ** level));
}

/** A blob column as bytes. */
export function blobOf(value: unknown): Uint8Array {
  if (value instanceof Uint8Array) return value;
  throw new TypeError("a packed column holds no blob");
}

/** The bytes of two blobs, one after the other. */
export function concatenate(first: Uint8Array, second: Uint8Array): Uint8Array {
  const joined = new Uint8Array(first.length + second.length);
  joined.set(first);
  joined.set(second, first.length);
  return joined;
}

/** Divides deltas into rows. The extents of one sequence stay in one row: a keyframe may follow any row. */
function* inRows(entries: PackedExtent[]): Generator<PackedExtent[]> {
  for (let from = 0; from < entries.length;) {
    let end = Math.min(from + ROW_ENTRIES_MAX, entries.length);
    while (end < entries.length && entries[end]?.seq === entries[end - 1]?.seq) end++;
    yield entries.slice(from, end);
    from = end;
  }
}

function unpacked(packed: unknown): PackedExtent[] {
  const extents: PackedExtent[] = [];
  unpackExtents(blobOf(packed), (extent) => extents.push(extent));
  return extents;
}

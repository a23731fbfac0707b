/**
 * Proves the recovery map, and that every place it refers to exists and can be read; and tells which moments see what
 * cannot.
 *
 * Each region's versions are gone through from the newest to the oldest, so that it is known of each until which
 * sequence it is seen, with one number for each block and one row of the map in memory. Bytes of segments in which
 * nothing was damaged have been proved already: there only the record's header is looked at. In the others every block
 * is read in the way that a view reads it, so what is told is what readers meet.
 *
 * The map changes meanwhile. Rows are read one at a time, and no snapshot is held: it would keep the map's log from
 * being folded in. A segment that is missing counts only when the row that named it still stands; else a prune has
 * replaced the region's rows, and the region is gone through again.
 *
 * @module
 */
import { BLOCK_BYTES } from "../base/block_device.ts";
import { VarveError } from "../base/errors.ts";
import { type PackedExtent, unpackExtents, unpackMoments } from "../catalog/packing.ts";
import { blobOf, type RecoveryMap } from "../catalog/recovery_map.ts";
import { REGION_BLOCKS } from "../catalog/region_map.ts";
import {
  CHECKSUM_BYTES,
  extentsOf,
  RECORD_HEADER_BYTES,
  type RecordHeader,
  segmentFileName,
  type SegmentReader,
} from "../journal/mod.ts";
import { VOLUME_FILES } from "../timeline/past.ts";
import type { ByteRange, Findings } from "./scrub_findings.ts";
import type { ScrubPace } from "./scrub_pace.ts";

const PIECE_BLOCKS = 64;
/** What storage reads to give a record's header, in bytes. */
const HEADER_COST_BYTES = 4096;
/** A region whose rows a prune replaces is begun anew at most so often. */
const RESTARTS_MAX = 8;
/** Problems of the database's structure that are listed at most. */
const STRUCTURE_MAX = 20;
const DELTA = 0;
const BASELINE = 2;
const ROW_NAMES = ["changes", "the whole state", "the first content"];

/** What {@linkcode scrubMap} works with. */
export interface MapScrubParts {
  /** The map. */
  readonly map: RecoveryMap;
  /** Opens the segments. */
  readonly segments: SegmentReader;
  /** Takes what is found. */
  readonly findings: Findings;
  /** Says when to rest. */
  readonly pace: ScrubPace;
}

/** Proves the map and what it refers to. */
export async function scrubMap(parts: MapScrubParts): Promise<void> {
  const scrub = new MapScrub(parts);
  await scrub.structure();
  await scrub.moments();
  await scrub.regions();
}

/** A row of `regions`, unpacked. */
interface RegionRow {
  id: number;
  kind: number;
  seq: number;
  lastSeq: number;
  packed: Uint8Array;
  /** `undefined` when it is damaged. */
  extents: PackedExtent[] | undefined;
}

/** The rows of a region were replaced while it was gone through. */
class RegionReplaced extends Error {}

class MapScrub {
  readonly #parts: MapScrubParts;
  readonly #buffer = new Uint8Array(PIECE_BLOCKS * BLOCK_BYTES);
  /** Damaged rows of the region that is gone through. */
  readonly #told = new Set<number>();

  constructor(parts: MapScrubParts) {
    this.#parts = parts;
  }

  async #spend(bytes: number, progress = true): Promise<void> {
    if (this.#parts.pace.spend(bytes, progress)) await this.#parts.pace.rest();
  }

  /** A damage of the database; its moments are those of `[from, until)`. */
  #damaged(problem: string, length: number, from = 0, until = 0): void {
    const place = this.#parts.findings.add({ file: VOLUME_FILES.map, length, problem });
    place.harmless = false;
    if (until > from) this.#parts.findings.spans.add(from, until);
  }

  /** What SQLite itself finds wrong: pages, trees, columns. */
  async structure(): Promise<void> {
    const { map } = this.#parts;
    try {
      for (const row of map.statement(`PRAGMA quick_check(${STRUCTURE_MAX})`).all()) {
        const found = String(row["quick_check"]);
        if (found !== "ok") this.#damaged(`SQLite finds: ${found}`, 0);
      }
    } catch (thrown) {
      this.#damaged(`SQLite cannot check it: ${VarveError.from(thrown, "check the map").message}`, 0);
    }
    await this.#spend(0);
  }

  /** Every packed row of moments. */
  async moments(): Promise<void> {
    for (let after = -1;;) {
      const row = this.#momentsAfter(after);
      if (row === undefined) return;
      after = Number(row["first_seq"]);
      const lastSeq = Number(row["last_seq"]);
      const packed = blobOf(row["packed"]);
      try {
        const moments = unpackMoments(packed);
        if (
          moments.length !== Number(row["entries"]) || moments[0]?.seq !== after ||
          moments.at(-1)?.seq !== lastSeq
        ) throw new VarveError("damaged", "it does not fit what it holds");
      } catch (thrown) {
        const { message } = VarveError.from(thrown, "read the recovery map");
        this.#damaged(
          `the row of moments ${after} to ${lastSeq}: ${message}`,
          packed.length,
          after,
          lastSeq + 1,
        );
      }
      await this.#spend(packed.length);
    }
  }

  #momentsAfter(seq: number): Record<string, unknown> | undefined {
    try {
      return this.#parts.map.statement(
        "SELECT first_seq, last_seq, entries, packed FROM moments WHERE first_seq > ? ORDER BY first_seq LIMIT 1",
      ).get(seq);
    } catch (thrown) {
      const { message } = VarveError.from(thrown, "read the recovery map");
      this.#damaged(`the moments after ${seq}: ${message}`, 0, seq + 1, Infinity);
      return undefined;
    }
  }

  /** Every region. */
  async regions(): Promise<void> {
    for (let region = this.#nextRegion(0); region !== undefined; region = this.#nextRegion(region + 1)) {
      this.#told.clear();
      for (let tries = 0;; tries++) {
        try {
          await this.#region(region, tries === 0, tries < RESTARTS_MAX);
          break;
        } catch (thrown) {
          if (thrown instanceof RegionReplaced) continue;
          if (thrown instanceof VarveError) throw thrown;
          // SQLite cannot read the region's rows at all, and so nobody can look anything up in it.
          const { message } = VarveError.from(thrown, "read the recovery map");
          this.#damaged(`region ${region}: ${message}`, 0, 0, Infinity);
          break;
        }
      }
    }
  }

  #nextRegion(from: number): number | undefined {
    try {
      return this.#parts.map.nextUsedRegion(from);
    } catch (thrown) {
      const { message } = VarveError.from(thrown, "read the recovery map");
      this.#damaged(`the regions from ${from} on: ${message}`, 0, 0, Infinity);
      return undefined;
    }
  }

  async #region(region: number, first: boolean, mayRestart: boolean): Promise<void> {
    const seenUntil = new Float64Array(REGION_BLOCKS).fill(Infinity);
    const holes = this.#parts.map.wideHoles(region);
    const wholes = await this.#keyframes(region, first);
    let whole = wholes;
    const overlay = async (row: RegionRow, before: number) => {
      if (row.extents === undefined) {
        whole = false;
        return;
      }
      for (const extent of row.extents.toReversed()) {
        // What is at or behind the row that came before was in it, before a prune packed the rows anew.
        if (extent.seq >= before) continue;
        while ((holes.at(-1) ?? -1) > extent.seq) seenUntil.fill(holes.pop() ?? 0);
        await this.#version(region, row, extent, seenUntil, mayRestart);
        seenUntil.fill(extent.seq, extent.firstBlock, extent.firstBlock + extent.blockCount);
      }
    };
    let before = Infinity;
    for (;;) {
      const row = this.#row(
        "kind = 0 AND seq < ? ORDER BY seq DESC",
        region,
        Math.min(before, Number.MAX_SAFE_INTEGER),
      );
      if (row === undefined) break;
      await this.#proveRow(region, row, first);
      await overlay(row, before);
      before = row.seq;
    }
    const baseline = this.#row("kind = 2 AND seq <= ?", region, Number.MAX_SAFE_INTEGER);
    if (baseline !== undefined) {
      await this.#proveRow(region, baseline, first);
      await overlay(baseline, Infinity);
    }
    if (whole) return;
    // Some versions are known from keyframes alone: what they refer to counts from each keyframe to the next.
    for (let after = -1;;) {
      const row = this.#row("kind = 1 AND seq > ? ORDER BY seq", region, after);
      if (row === undefined) return;
      after = row.seq;
      seenUntil.fill(this.#keyframeAfter(region, row.seq));
      for (const extent of row.extents ?? []) {
        await this.#version(region, row, { ...extent }, seenUntil, mayRestart, row.seq);
      }
    }
  }

  #row(where: string, region: number, seq: number): RegionRow | undefined {
    const row = this.#parts.map.statement(
      `SELECT id, kind, seq, last_seq, entries, packed FROM regions WHERE region = ? AND ${where} LIMIT 1`,
    ).get(region, seq);
    if (row === undefined) return undefined;
    const found: RegionRow = {
      id: Number(row["id"]),
      kind: Number(row["kind"]),
      seq: Number(row["seq"]),
      lastSeq: Number(row["last_seq"]),
      packed: blobOf(row["packed"]),
      extents: [],
    };
    const extents: PackedExtent[] = [];
    try {
      unpackExtents(found.packed, (extent) => extents.push(extent));
      found.extents = extents;
    } catch (thrown) {
      if (VarveError.from(thrown, "read a row").code !== "damaged") throw thrown;
      found.extents = undefined;
    }
    const misfit = found.kind === DELTA &&
      (extents[0]?.seq !== found.seq || extents.at(-1)?.seq !== found.lastSeq);
    if (misfit || extents.length !== Number(row["entries"])) found.extents = undefined;
    return found;
  }

  #keyframeAfter(region: number, seq: number): number {
    const row = this.#parts.map.statement(
      "SELECT seq FROM regions WHERE region = ? AND kind = 1 AND seq > ? ORDER BY seq LIMIT 1",
    ).get(region, seq);
    return row === undefined ? Infinity : Number(row["seq"]);
  }

  /** Proves the keyframes of a region; answers whether all are whole. */
  async #keyframes(region: number, first: boolean): Promise<boolean> {
    let whole = true;
    for (let after = -1;;) {
      const row = this.#row("kind = 1 AND seq > ? ORDER BY seq", region, after);
      if (row === undefined) return whole;
      after = row.seq;
      if (row.extents === undefined) whole = false;
      await this.#proveRow(region, row, first);
    }
  }

  async #proveRow(region: number, row: RegionRow, first: boolean): Promise<void> {
    if (row.extents === undefined && !this.#told.has(row.id)) {
      this.#told.add(row.id);
      const from = row.kind === BASELINE ? 0 : row.seq;
      // A look-up paints a keyframe and the rows behind it: a damaged row is met until the next keyframe.
      const until = row.kind === DELTA
        ? this.#keyframeAfter(region, row.lastSeq - 1)
        : this.#keyframeAfter(region, from);
      this.#damaged(
        `region ${region}, the row with ${ROW_NAMES[row.kind] ?? "something"} from sequence ${from} on: ` +
          "its checksum or what it says of itself does not match",
        row.packed.length,
        from,
        until,
      );
    }
    await this.#spend(row.packed.length, first);
  }

  /** Proves the bytes of one version, and tells what is lost where they cannot be read. */
  async #version(
    region: number,
    row: RegionRow,
    extent: PackedExtent,
    seenUntil: Float64Array,
    mayRestart: boolean,
    from = extent.seq,
  ): Promise<void> {
    if (extent.segment === 0) return;
    const { segments, findings } = this.#parts;
    let header: RecordHeader | undefined;
    let problem: string | undefined;
    await this.#spend(HEADER_COST_BYTES, false);
    try {
      header = segments.recordHeader(extent.segment, extent.recordOffset);
      problem = misfit(header, region, extent);
    } catch (thrown) {
      problem = this.#unreadable(thrown, row, mayRestart);
    }
    if (problem !== undefined) {
      this.#lost(extent, header, 0, extent.blockCount, problem, seenUntil, from);
      return;
    }
    if (!findings.segments.has(extent.segment)) return;
    for (let first = 0; first < extent.blockCount; first += PIECE_BLOCKS) {
      const count = Math.min(PIECE_BLOCKS, extent.blockCount - first);
      await this.#spend(count * BLOCK_BYTES, false);
      if (this.#read(region, extent, first, count, row, mayRestart) === undefined) continue;
      for (let block = first; block < first + count; block++) {
        const found = this.#read(region, extent, block, 1, row, mayRestart);
        if (found !== undefined) this.#lost(extent, header, block, 1, found, seenUntil, from);
      }
    }
  }

  #read(
    region: number,
    extent: PackedExtent,
    first: number,
    count: number,
    row: RegionRow,
    mayRestart: boolean,
  ): string | undefined {
    try {
      this.#parts.segments.readBlocks({
        segment: extent.segment,
        recordOffset: extent.recordOffset,
        payloadBlock: extent.payloadBlock + first,
        blockCount: count,
        seq: extent.seq,
        firstBlock: region * REGION_BLOCKS + extent.firstBlock + first,
      }, this.#buffer.subarray(0, count * BLOCK_BYTES));
      return undefined;
    } catch (thrown) {
      return this.#unreadable(thrown, row, mayRestart);
    }
  }

  /** Why bytes cannot be read; throws when that is because a prune has moved them. */
  #unreadable(thrown: unknown, row: RegionRow, mayRestart: boolean): string {
    const error = VarveError.from(thrown, "read a segment");
    if (error.code === "damaged" || error.code === "io") return error.message;
    if (error.code !== "not-found") throw error;
    if (mayRestart && !this.#stands(row)) throw new RegionReplaced();
    return "the file is missing";
  }

  /** Whether a row of the map is still there; it may have grown. */
  #stands(row: RegionRow): boolean {
    const now = this.#parts.map.statement("SELECT packed FROM regions WHERE id = ?").get(row.id);
    if (now === undefined) return false;
    const packed = blobOf(now["packed"]);
    return packed.length >= row.packed.length && row.packed.every((byte, i) => packed[i] === byte);
  }

  /** Blocks of a version cannot be read: tells the place and the moments. */
  #lost(
    extent: PackedExtent,
    header: RecordHeader | undefined,
    first: number,
    count: number,
    problem: string,
    seenUntil: Float64Array,
    from: number,
  ): void {
    const { findings } = this.#parts;
    const ranges = rangesOf(extent, header, first, count);
    const place = findings.explain(extent.segment, ranges, {
      segment: extent.segment,
      file: `${VOLUME_FILES.segments}/${segmentFileName(extent.segment)}`,
      offset: extent.recordOffset,
      length: ranges.at(-1)?.length ?? RECORD_HEADER_BYTES,
      seq: extent.seq,
      problem,
    });
    for (let i = first; i < first + count; i++) {
      const until = seenUntil[extent.firstBlock + i] ?? Infinity;
      if (!this.#isSeen(from, until)) continue;
      findings.spans.add(from, until);
      if (place === undefined) continue;
      place.blocks++;
      place.harmless = false;
    }
  }

  /** Whether a kept moment lies in `[from, until)`. */
  #isSeen(from: number, until: number): boolean {
    if (until <= from) return false;
    if (until > this.#parts.map.getState("horizon_seq", 0)) return true;
    return this.#parts.map.statement("SELECT 1 FROM kept WHERE seq >= ? AND seq < ? LIMIT 1")
      .get(from, until) !== undefined;
  }
}

/** Why a record is not what the map says it is, if it is not. */
function misfit(header: RecordHeader, region: number, extent: PackedExtent): string | undefined {
  if (header.seq !== extent.seq) return `sequence ${header.seq} lies where the map expects ${extent.seq}`;
  const firstBlock = region * REGION_BLOCKS + extent.firstBlock;
  const fits = extentsOf(header).some((held) => {
    const from = firstBlock - held.firstBlock;
    return held.payloadBlock >= 0 && from >= 0 && from + extent.blockCount <= held.blockCount &&
      held.payloadBlock + from === extent.payloadBlock;
  });
  return fits ? undefined : `the record does not hold the blocks from ${firstBlock} on`;
}

/** The bytes that a read of blocks needs: the record's header, their checksums and themselves. */
function rangesOf(
  extent: PackedExtent,
  header: RecordHeader | undefined,
  first: number,
  count: number,
): ByteRange[] {
  const { recordOffset, payloadBlock } = extent;
  const ranges = [{ offset: recordOffset, length: RECORD_HEADER_BYTES }];
  if (header === undefined) return ranges;
  const bodyAt = recordOffset + RECORD_HEADER_BYTES;
  const total = header.payloadBytes / BLOCK_BYTES;
  ranges.push({ offset: bodyAt + (payloadBlock + first) * CHECKSUM_BYTES, length: count * CHECKSUM_BYTES });
  ranges.push({
    offset: bodyAt + total * CHECKSUM_BYTES + (payloadBlock + first) * BLOCK_BYTES,
    length: count * BLOCK_BYTES,
  });
  return ranges;
}

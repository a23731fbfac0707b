/**
 * The work of a prune that takes long: reading and changing the recovery map region by region, writing new segments,
 * deleting old ones. It needs files alone, so that a Worker can do it with a map of its own; `prune.ts` orders it, and
 * says what breaks if two steps are swapped.
 *
 * The map is changed in one transaction for a region, while nobody else changes it (`exclusively`); whoever reads it
 * meanwhile, on another connection, sees the region as it was or as it will be.
 *
 * @module
 */
import path from "node:path";
import { BLOCK_BYTES } from "../base/block_device.ts";
import { VarveError } from "../base/errors.ts";
import { inTurns, pause, type Scheduler } from "../base/turns.ts";
import { foldLog } from "../catalog/database.ts";
import type { PackedExtent } from "../catalog/packing.ts";
import type { RecoveryMap } from "../catalog/recovery_map.ts";
import { REGION_BLOCKS } from "../catalog/region_map.ts";
import type { Disk } from "../disk/mod.ts";
import { CHECKSUM_BYTES, RECORD_HEADER_BYTES, segmentFileName } from "../journal/mod.ts";
import { EXTENT_ROW, NumberRows } from "./number_rows.ts";
import { Relocations } from "./relocations.ts";
import { type RewriteOrder, type RewriteOutcome, rewriteSegments } from "./rewrite.ts";

/** What lives in a group of segments. */
export interface GroupLiving {
  /** Runs of blocks, counted from the volume's start, as rows of `EXTENT_ROW`. */
  readonly living: Float64Array;
  /** Regions that they lie in. */
  readonly regions: readonly number[];
}

/** Living versions to point to their new places. */
export interface RelocationOrder {
  /** Regions to look at. */
  readonly regions: readonly number[];
  /** Nothing newer is looked at. */
  readonly baseSeq: number;
  /** Where runs have gone, as `RewriteOutcome.moved`. */
  readonly moved: Float64Array;
  /** Segments in which nothing may be left. */
  readonly doomed: readonly number[];
}

/**
 * Who does it. One piece of work at a time; each throws `cancelled` once the prune is stopped, and leaves the map and the
 * segments whole.
 */
export interface PruneHands {
  /** Bytes that live in each segment, records' overhead included; `keptSeqs` as for `RecoveryMap.livingIn`. */
  countLiving(keptSeqs: readonly number[]): Promise<Map<number, number>>;
  /** Takes dead versions from the map; resolves with the living bytes of each condemned segment that has any. */
  dropDead(keptSeqs: readonly number[], condemned: readonly number[]): Promise<Map<number, number>>;
  /** What lives in a group of segments, and is no newer than `baseSeq`. */
  collectLiving(group: readonly number[], baseSeq: number): Promise<GroupLiving>;
  /** See `rewriteSegments`; `onProgress` is told of bytes that have been carried over since the last call. */
  rewrite(order: RewriteOrder, onProgress: (bytes: number) => void): Promise<RewriteOutcome>;
  /** Points living versions to their new places. */
  relocate(order: RelocationOrder): Promise<void>;
  /** Makes durable all that the map says. To be called while nobody changes it. */
  fold(): Promise<void>;
  /** Deletes segments, durably. Once begun it is ended, also when the prune is stopped: nothing names them any more. */
  remove(segments: readonly number[]): Promise<void>;
  /** Lets go of what it holds. */
  close(): void;
}

/** What it works with. */
export interface PruneWorkParts {
  /** The recovery map. */
  readonly map: RecoveryMap;
  /** Storage. */
  readonly disk: Disk;
  /** Where the segments are. */
  readonly directory: string;
  /** Gives turns. */
  readonly scheduler: Scheduler;
  /** Runs work on the map while nobody else changes it. */
  readonly exclusively: <T>(work: () => Promise<T>) => Promise<T>;
  /** Stops it when aborted. */
  readonly signal: AbortSignal;
}

/** Does it on this thread, in turns. */
export class PruneWork implements PruneHands {
  readonly #parts: PruneWorkParts;

  /** Nothing happens before the first call. */
  constructor(parts: PruneWorkParts) {
    this.#parts = parts;
  }

  #check(): void {
    if (this.#parts.signal.aborted) throw new VarveError("cancelled", "prune: it was stopped");
  }

  countLiving(keptSeqs: readonly number[]): Promise<Map<number, number>> {
    return inTurns(this.#countLiving(keptSeqs), this.#parts.scheduler);
  }

  *#countLiving(keptSeqs: readonly number[]): Generator<void, Map<number, number>> {
    const { map } = this.#parts;
    const bytes = new Map<number, number>();
    for (const region of map.usedRegions()) {
      this.#check();
      yield* map.livingIn(region, keptSeqs, (extent) => {
        if (extent.segment === 0) return;
        bytes.set(extent.segment, (bytes.get(extent.segment) ?? 0) + storedBytes(extent));
      });
      yield;
    }
    return bytes;
  }

  async dropDead(keptSeqs: readonly number[], condemned: readonly number[]): Promise<Map<number, number>> {
    const { map, scheduler, exclusively } = this.#parts;
    const isCondemned = new Set(condemned);
    const bytes = new Map<number, number>();
    for (const region of map.usedRegions()) {
      this.#check();
      const thinning = map.thinRegion(region, keptSeqs, ({ segment, blockCount }) => {
        if (!isCondemned.has(segment)) return;
        bytes.set(segment, (bytes.get(segment) ?? 0) + blockCount * BLOCK_BYTES);
      });
      await exclusively(() => inTurns(thinning, scheduler));
    }
    return bytes;
  }

  collectLiving(group: readonly number[], baseSeq: number): Promise<GroupLiving> {
    return inTurns(this.#collectLiving(new Set(group), baseSeq), this.#parts.scheduler);
  }

  /** Dead versions have left the map already. A condemned segment holds nothing newer than the base. */
  *#collectLiving(group: ReadonlySet<number>, baseSeq: number): Generator<void, GroupLiving> {
    const { map } = this.#parts;
    const living = new NumberRows(EXTENT_ROW);
    const regions: number[] = [];
    for (const region of map.usedRegions()) {
      this.#check();
      let found = false;
      for (const { versions } of map.versionsOf(region, baseSeq)) {
        for (const extent of versions) {
          if (!group.has(extent.segment)) continue;
          living.push({ ...extent, firstBlock: region * REGION_BLOCKS + extent.firstBlock });
          found = true;
        }
        yield;
      }
      if (found) regions.push(region);
      yield;
    }
    return { living: living.toNumbers(), regions };
  }

  rewrite(order: RewriteOrder, onProgress: (bytes: number) => void): Promise<RewriteOutcome> {
    return rewriteSegments(this.#parts.disk, order, { ...this.#parts, onProgress });
  }

  async relocate({ regions, baseSeq, moved, doomed }: RelocationOrder): Promise<void> {
    const relocations = new Relocations(moved);
    const isDoomed = new Set(doomed);
    const move = (extent: PackedExtent): PackedExtent => {
      const found = relocations.move(extent);
      if (found === extent && isDoomed.has(extent.segment)) {
        throw new Error(`sequence ${extent.seq} lives in segment ${extent.segment} and was not carried over`);
      }
      return found;
    };
    for (const region of regions) {
      this.#check();
      await this.#parts.exclusively(() => this.#relocateRegion(region, baseSeq, move));
    }
  }

  async #relocateRegion(
    region: number,
    baseSeq: number,
    move: (extent: PackedExtent) => PackedExtent,
  ): Promise<void> {
    const { map, scheduler } = this.#parts;
    map.database.exec("BEGIN IMMEDIATE");
    try {
      await inTurns(map.relocateRegion(region, baseSeq, move), scheduler);
      map.database.exec("COMMIT");
    } catch (thrown) {
      if (map.database.isTransaction) map.database.exec("ROLLBACK");
      throw thrown;
    }
  }

  fold(): Promise<void> {
    return foldLog(this.#parts.map.database, this.#parts);
  }

  async remove(segments: readonly number[]): Promise<void> {
    const { disk, directory, scheduler } = this.#parts;
    for (const segment of segments) {
      disk.remove(path.join(directory, segmentFileName(segment)));
      // The file system takes milliseconds for each.
      await pause(scheduler);
    }
    await disk.syncDirectory(directory);
  }

  close(): void {}
}

function storedBytes(extent: PackedExtent): number {
  return RECORD_HEADER_BYTES + extent.blockCount * (BLOCK_BYTES + CHECKSUM_BYTES);
}

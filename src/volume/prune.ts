/**
 * Drops what retention does not keep, and gives its space back.
 *
 * A version of a block is alive when some kept moment sees it: a kept sequence lies between the version and the next
 * one of the same block. Everything from the base on is kept, so only what is older is looked at.
 *
 * The order of steps, and what breaks if two are swapped:
 * 1. The journal is told which moments remain, durably; then the map's moments are thinned. From here on nobody can ask
 *    for what is about to go. Were it later, somebody could be reading a moment whose bytes disappear. The primary is
 *    durable before that, so that the horizon never lies behind what the next start looks at.
 * 2. Region by region, in one transaction each, dead versions leave the map. Nobody can name a moment that sees them.
 * 3. Mostly-dead segments are dealt with in groups, so that memory, and the space that old and new take together, stay
 *    bounded. Living blocks of a group are written to new segments, synced, renamed into place, and listed. Old and new
 *    ones are marked as parts of a compaction that is not finished (`retired` 2): when it is interrupted, all of them are
 *    one group of the next prune, so that no segment of a half-finished one is ever dropped alone.
 * 4. Row by row of the map, living versions of the group point to their new place. Old and new segments both exist, so
 *    every row is right before and after.
 * 5. The journal is told everything about the volume again, durably: the segments that go may hold the newest texts.
 * 6. Old segments of the group are marked as retired, that is made durable, and only then are they deleted. Were they
 *    deleted first, a power cut could bring back a map that points at them.
 * A crash in between loses nothing: dead versions that are left are found by the next prune. A segment of which a part
 * cannot be proved right stays whole: its damaged blocks stay errors, and nothing else goes.
 *
 * @module
 */
import path from "node:path";
import { BLOCK_BYTES } from "../base/block_device.ts";
import { VarveError } from "../base/errors.ts";
import { inTurns } from "../base/turns.ts";
import type { MarkRow } from "../catalog/catalog.ts";
import { foldLog } from "../catalog/database.ts";
import type { PackedExtent } from "../catalog/packing.ts";
import type { MapExtent } from "../catalog/recovery_map.ts";
import { REGION_BLOCKS } from "../catalog/region_map.ts";
import type { Disk } from "../disk/mod.ts";
import type { PruneResult, RetentionPolicy } from "../engine.ts";
import { CHECKSUM_BYTES, RECORD_HEADER_BYTES, segmentFileName } from "../journal/mod.ts";
import { VOLUME_FILES } from "../timeline/past.ts";
import { momentInfo } from "../timeline/resolve.ts";
import { choosingKept, type RetentionOutcome } from "../timeline/retention.ts";
import { compactSegments, type Rewrite } from "./compaction.ts";
import type { JournalText } from "./journal_text.ts";
import { EXTENT_ROW, NumberRows } from "./number_rows.ts";
import type { Volume } from "./volume.ts";

/** A segment is rewritten when less than this share of it is alive. */
const LIVE_SHARE_MIN = 0.5;
/** A group of segments that are rewritten together has at most so many, */
const GROUP_SEGMENTS_MAX = 32;
/** and at most so many living bytes, unless it is a single one. */
const GROUP_LIVING_BYTES_MAX = 256 * 1024 * 1024;

/** What a prune is to do. */
export interface PrunePlan {
  /** What it comes to. */
  readonly result: PruneResult;
  /** Names of marks that go. */
  readonly marksLost: readonly string[];
  /** The moments that stay. */
  readonly outcome: RetentionOutcome;
  /** Kept sequences below the base, and the base, ascending. */
  readonly keptSeqs: readonly number[];
  /** Segments to rewrite or delete. */
  readonly segments: readonly number[];
  /** What each of them holds, and how much of that lives on, in bytes. */
  readonly sizes: ReadonlyMap<number, { readonly bytes: number; readonly livingBytes: number }>;
}

/** Options of {@linkcode planPrune}. */
export interface PruneOptions {
  /** Marks of the volume. */
  readonly marks: readonly MarkRow[];
  /** The policy to apply. */
  readonly policy: RetentionPolicy;
  /** The time of the decision, in microseconds. */
  readonly nowUs: number;
  /** Told how far it has come, in bytes of history. */
  readonly onProgress: (doneBytes: number, totalBytes: number) => void;
  /** Stops it when aborted. */
  readonly signal: AbortSignal;
}

/**
 * Works out what a prune would do now, exactly, and changes nothing. Everything captured must be in the map.
 * Throws `conflict` while an adopted disk is being copied: compaction would drop the records that tell what is covered.
 */
export async function planPrune(volume: Volume, options: PruneOptions): Promise<PrunePlan> {
  volume.checkPast("prune");
  const outcome = await inTurns(
    choosingKept({
      moments: volume.moments.between(0, Number.MAX_SAFE_INTEGER),
      kept: volume.moments.kept(),
      marks: options.marks,
      policy: options.policy,
      nowUs: options.nowUs,
    }),
    volume.scheduler,
  );
  if (outcome === undefined) throw new VarveError("conflict", "prune: the volume has no history");
  const keptSeqs = [...outcome.kept.map((moment) => moment.seq), outcome.base.seq];
  const liveBytes = new Map<number, number>();
  await inTurns(countLiving(volume, keptSeqs, liveBytes, options.signal), volume.scheduler);

  const segments: number[] = [];
  const sizes = new Map<number, { bytes: number; livingBytes: number }>();
  let bytesFreed = 0;
  // What the next start would scan stays as it is.
  const rows = volume.map.statement(
    "SELECT segment, bytes, coalesce(stored_bytes, bytes) AS stored, retired FROM segments WHERE retired = 2 OR (last_seq <= ? AND retired = 0 AND (compacted = 1 OR segment < ?))",
  ).all(outcome.base.seq, volume.map.getState("scan_segment", 1));
  for (const row of rows) {
    const bytes = Number(row["bytes"]);
    const living = liveBytes.get(Number(row["segment"])) ?? 0;
    if (living >= bytes * LIVE_SHARE_MIN && Number(row["retired"]) === 0) continue;
    segments.push(Number(row["segment"]));
    // What is left of a compressed segment is compressed again.
    bytesFreed += Math.round(Number(row["stored"]) * (1 - living / bytes));
    sizes.set(Number(row["segment"]), { bytes, livingBytes: living });
  }
  const oldest = outcome.kept[0] ?? outcome.base;
  return {
    result: {
      pointsLost: outcome.pointsLost,
      momentsLost: outcome.momentsLost,
      bytesFreed,
      window: {
        from: momentInfo(oldest),
        to: momentInfo({ seq: volume.lastSeq, timeUs: volume.lastTimeUs, kind: 0 }),
      },
    },
    marksLost: outcome.marksLost,
    outcome,
    keptSeqs,
    segments,
    sizes,
  };
}

function* countLiving(
  volume: Volume,
  keptSeqs: readonly number[],
  liveBytes: Map<number, number>,
  signal: AbortSignal,
): Generator<void> {
  for (const region of volume.map.usedRegions()) {
    signal.throwIfAborted();
    yield* volume.map.livingIn(region, keptSeqs, (extent) => {
      if (extent.segment === 0) return;
      liveBytes.set(extent.segment, (liveBytes.get(extent.segment) ?? 0) + storedBytes(extent));
    });
    yield;
  }
}

function storedBytes(extent: PackedExtent): number {
  return RECORD_HEADER_BYTES + extent.blockCount * (BLOCK_BYTES + CHECKSUM_BYTES);
}

/**
 * Carries out a plan. An abort leaves everything readable that the plan keeps. `rewrite` says who writes new segments;
 * default: this thread, in turns.
 */
export async function prune(
  volume: Volume,
  disk: Disk,
  plan: PrunePlan,
  options: Pick<PruneOptions, "signal" | "onProgress"> & { readonly rewrite?: Rewrite | undefined },
): Promise<void> {
  const { outcome, keptSeqs } = plan;
  const { map } = volume;
  // A segment that goes takes the records of its moments along: they are told in the journal as single ones.
  if (outcome.momentsLost > 0 || plan.segments.length > 0) {
    await volume.live.sync();
    refuseLosingPinned(volume, outcome);
    const told = await volume.live.describe(JSON.stringify(
      {
        type: "thinned",
        horizonSeq: outcome.base.seq,
        horizonUs: outcome.base.timeUs,
        horizonKind: outcome.base.kind,
        kept: outcome.kept,
      } satisfies JournalText,
    ));
    await volume.exclusively(() => {
      map.transaction(() => volume.moments.thin(outcome.base.seq, outcome.kept));
      return Promise.resolve();
    });
    told();
  }
  const unfinished = unfinishedSegments(volume);
  const isFinishing = plan.segments.some((segment) => unfinished.has(segment));
  const condemned = isFinishing ? [...new Set([...unfinished, ...plan.segments])] : plan.segments;
  for (const segment of condemned) volume.condemned.add(segment);
  try {
    const living = await dropDead(volume, keptSeqs, options.signal);
    const totalBytes = [...living.values()].reduce((sum, bytes) => sum + bytes, 0);
    let doneBytes = 0;
    for (const group of groupSegments(condemned, unfinished, living)) {
      await rewriteGroup(volume, disk, group, {
        baseSeq: outcome.base.seq,
        signal: options.signal,
        rewrite: options.rewrite,
        hasLiving: group.some((segment) => living.has(segment)),
        onProgress: (bytes) => options.onProgress(doneBytes += bytes, totalBytes),
      });
    }
  } finally {
    volume.condemned.clear();
  }
}

/** A mark may have been pinned since the plan was made. Between this and the text that thins, nobody has a turn. */
function refuseLosingPinned(volume: Volume, { base, kept }: RetentionOutcome): void {
  const stays = new Set(kept.map((moment) => moment.seq));
  const lost = volume.marks.find(({ pinned, seq }) => pinned && seq < base.seq && !stays.has(seq));
  if (lost === undefined) return;
  throw new VarveError("conflict", `prune: mark ${lost.name} has been pinned since the prune was planned`, {
    hint: "Nothing was dropped. Order the prune again.",
  });
}

/** Old and new segments of compactions that were interrupted. */
function unfinishedSegments(volume: Volume): Set<number> {
  const rows = volume.map.statement("SELECT segment FROM segments WHERE retired = 2").all();
  return new Set(rows.map((row) => Number(row["segment"])));
}

/** Takes dead versions from the map; resolves with the living bytes of each condemned segment that has any. */
async function dropDead(
  volume: Volume,
  keptSeqs: readonly number[],
  signal: AbortSignal,
): Promise<Map<number, number>> {
  const { map, condemned } = volume;
  const livingBytes = new Map<number, number>();
  for (const region of map.usedRegions()) {
    signal.throwIfAborted();
    const thinning = map.thinRegion(region, keptSeqs, ({ segment, blockCount }) => {
      if (!condemned.has(segment)) return;
      livingBytes.set(segment, (livingBytes.get(segment) ?? 0) + blockCount * BLOCK_BYTES);
    });
    await volume.exclusively(() => inTurns(thinning, volume.scheduler));
  }
  return livingBytes;
}

/**
 * Divides segments into groups, those without living bytes first, for they give space back at once. The parts of a
 * compaction that was not finished are one group, whatever its size.
 */
function* groupSegments(
  condemned: readonly number[],
  unfinished: ReadonlySet<number>,
  livingBytes: ReadonlyMap<number, number>,
): Generator<number[]> {
  const together = condemned.filter((segment) => unfinished.has(segment));
  if (together.length > 0) yield together;
  const segments = condemned.filter((segment) => !unfinished.has(segment));
  let group: number[] = [];
  let groupBytes = 0;
  const dead = segments.filter((segment) => !livingBytes.has(segment));
  for (const segment of dead.concat(segments.filter((segment) => livingBytes.has(segment)))) {
    const bytes = livingBytes.get(segment) ?? 0;
    const isFull = group.length === GROUP_SEGMENTS_MAX || groupBytes + bytes > GROUP_LIVING_BYTES_MAX;
    if (group.length > 0 && (isFull || (groupBytes === 0 && bytes > 0))) {
      yield group;
      group = [];
      groupBytes = 0;
    }
    group.push(segment);
    groupBytes += bytes;
  }
  if (group.length > 0) yield group;
}

/** Takes steps 3 to 6 of the module's comment for one group. */
async function rewriteGroup(
  volume: Volume,
  disk: Disk,
  group: readonly number[],
  options: {
    baseSeq: number;
    signal: AbortSignal;
    rewrite: Rewrite | undefined;
    hasLiving: boolean;
    onProgress: (bytes: number) => void;
  },
): Promise<void> {
  const { living, regions } = options.hasLiving
    ? await inTurns(collectLiving(volume, new Set(group), options), volume.scheduler)
    : { living: new NumberRows(EXTENT_ROW), regions: [] };
  const { relocations, damaged, made } = await compactSegments(volume, disk, {
    ...options,
    segments: group,
    living,
  });
  const doomed = new Set(group.filter((segment) => !damaged.has(segment)));
  const move = (extent: PackedExtent): PackedExtent => {
    const moved = relocations.move(extent);
    if (moved === extent && doomed.has(extent.segment)) {
      throw new Error(`sequence ${extent.seq} lives in segment ${extent.segment} and was not carried over`);
    }
    return moved;
  };
  for (const region of regions) {
    options.signal.throwIfAborted();
    await volume.exclusively(() => relocateRegion(volume, region, options.baseSeq, move));
  }
  await deleteSegments(volume, disk, { doomed: [...doomed], staying: [...made, ...damaged] }, options.signal);
}

async function relocateRegion(
  volume: Volume,
  region: number,
  baseSeq: number,
  move: (extent: PackedExtent) => PackedExtent,
): Promise<void> {
  const { map } = volume;
  map.database.exec("BEGIN IMMEDIATE");
  try {
    await inTurns(map.relocateRegion(region, baseSeq, move), volume.scheduler);
    map.database.exec("COMMIT");
  } catch (thrown) {
    if (map.database.isTransaction) map.database.exec("ROLLBACK");
    throw thrown;
  }
}

/** Runs of a group by segment, and the regions that they lie in. Dead versions have left the map already. */
function* collectLiving(
  volume: Volume,
  group: ReadonlySet<number>,
  { signal, baseSeq }: { signal: AbortSignal; baseSeq: number },
): Generator<void, { living: NumberRows<MapExtent>; regions: number[] }> {
  const living = new NumberRows(EXTENT_ROW);
  const regions: number[] = [];
  for (const region of volume.map.usedRegions()) {
    signal.throwIfAborted();
    let found = false;
    // A condemned segment holds nothing newer than the base.
    for (const { versions } of volume.map.versionsOf(region, baseSeq)) {
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
  return { living, regions };
}

async function deleteSegments(
  volume: Volume,
  disk: Disk,
  segments: { readonly doomed: readonly number[]; readonly staying: readonly number[] },
  signal: AbortSignal,
): Promise<void> {
  const { map } = volume;
  const { doomed, staying } = segments;
  if (doomed.length > 0) (await volume.live.describe(volume.describeText()))();
  await volume.exclusively(async () => {
    map.transaction(() => {
      const retire = map.statement("UPDATE segments SET retired = ? WHERE segment = ?");
      for (const segment of staying) retire.run(0, segment);
      for (const segment of doomed) retire.run(1, segment);
    });
    await foldLog(map.database, { scheduler: volume.scheduler, signal });
    const directory = path.join(volume.directory, VOLUME_FILES.segments);
    volume.forgetRegions();
    for (const segment of doomed) {
      volume.segments.forget(segment);
      disk.remove(path.join(directory, segmentFileName(segment)));
    }
    await disk.syncDirectory(directory);
    map.transaction(() => map.statement("DELETE FROM segments WHERE retired = 1").run());
  });
}

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
 * 2. Living blocks of mostly-dead segments are written to new segments, synced, renamed into place, and listed. Old and
 *    new ones are marked as parts of a compaction that is not finished (`retired` 2): when it is interrupted, all of
 *    them go into the next, so that no segment of a half-finished one is ever dropped alone.
 * 3. Region by region, in one transaction each, dead versions leave the map and living ones point to their new place.
 *    Old and new segments both exist, so every region is right before and after.
 * 4. The journal is told everything about the volume again, durably: the segments that go may hold the newest texts.
 * 5. Old segments are marked as retired, that is made durable, and only then are they deleted. Were they deleted first,
 *    a power cut could bring back a map that points at them.
 * A crash in between loses nothing: dead versions that are left are found by the next prune.
 *
 * @module
 */
import path from "node:path";
import { BLOCK_BYTES } from "../base/block_device.ts";
import { VarveError } from "../base/errors.ts";
import { inTurns } from "../base/turns.ts";
import type { MarkRow } from "../catalog/catalog.ts";
import type { PackedExtent } from "../catalog/packing.ts";
import { livingExtents } from "../catalog/region_history.ts";
import { REGION_BLOCKS } from "../catalog/region_map.ts";
import type { Disk } from "../disk/mod.ts";
import type { PruneResult, RetentionPolicy } from "../engine.ts";
import { CHECKSUM_BYTES, RECORD_HEADER_BYTES, segmentFileName } from "../journal/mod.ts";
import { VOLUME_FILES } from "../timeline/past.ts";
import { momentInfo } from "../timeline/resolve.ts";
import { chooseKept, type RetentionOutcome } from "../timeline/retention.ts";
import { compactSegments, type LivingRun, type Relocations } from "./compaction.ts";
import type { JournalText, Volume } from "./volume.ts";

/** A segment is rewritten when less than this share of it is alive. */
const LIVE_SHARE_MIN = 0.5;

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
  const outcome = chooseKept({
    moments: volume.moments.between(0, Number.MAX_SAFE_INTEGER),
    kept: volume.moments.kept(),
    marks: options.marks,
    policy: options.policy,
    nowUs: options.nowUs,
  });
  if (outcome === undefined) throw new VarveError("conflict", "prune: the volume has no history");
  const keptSeqs = [...outcome.kept.map((moment) => moment.seq), outcome.base.seq];
  const liveBytes = new Map<number, number>();
  await inTurns(countLiving(volume, keptSeqs, liveBytes, options.signal), volume.scheduler);

  const segments: number[] = [];
  let bytesFreed = 0;
  // What the next start would scan stays as it is.
  const rows = volume.map.statement(
    "SELECT segment, bytes, retired FROM segments WHERE retired = 2 OR (last_seq <= ? AND retired = 0 AND (compacted = 1 OR segment < ?))",
  ).all(outcome.base.seq, volume.map.getState("scan_segment", 1));
  for (const row of rows) {
    const bytes = Number(row["bytes"]);
    const living = liveBytes.get(Number(row["segment"])) ?? 0;
    if (living >= bytes * LIVE_SHARE_MIN && Number(row["retired"]) === 0) continue;
    segments.push(Number(row["segment"]));
    bytesFreed += bytes - living;
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
    const { baseline, deltas } = livingExtents(volume.map.regionHistory(region), keptSeqs);
    for (const extent of baseline.concat(deltas)) {
      if (extent.segment === 0) continue;
      liveBytes.set(extent.segment, (liveBytes.get(extent.segment) ?? 0) + storedBytes(extent));
    }
    yield;
  }
}

function storedBytes(extent: PackedExtent): number {
  return RECORD_HEADER_BYTES + extent.blockCount * (BLOCK_BYTES + CHECKSUM_BYTES);
}

/** Carries out a plan. An abort leaves everything readable that the plan keeps. */
export async function prune(
  volume: Volume,
  disk: Disk,
  plan: PrunePlan,
  options: Pick<PruneOptions, "signal" | "onProgress">,
): Promise<void> {
  const { outcome, keptSeqs } = plan;
  const { map } = volume;
  // A segment that goes takes the records of its moments along: they are told in the journal as single ones.
  if (outcome.momentsLost > 0 || plan.segments.length > 0) {
    await volume.live.sync();
    await volume.live.describe(JSON.stringify(
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
  }
  const condemned = new Set(plan.segments);
  const relocations = await rewriteLiving(volume, disk, keptSeqs, condemned, options);
  for (const region of map.usedRegions()) {
    options.signal.throwIfAborted();
    await volume.exclusively(() => {
      map.transaction(() => {
        const history = map.regionHistory(region);
        const living = livingExtents(history, keptSeqs);
        map.replaceRegion(
          region,
          relocate(living.baseline, relocations),
          relocate(living.deltas, relocations),
        );
      });
      return Promise.resolve();
    });
  }
  if (condemned.size > 0) await volume.live.describe(volume.describeText());
  await volume.exclusively(async () => {
    map.transaction(() => {
      map.statement("UPDATE segments SET retired = 0 WHERE retired = 2").run();
      for (const segment of condemned) {
        map.statement("UPDATE segments SET retired = 1 WHERE segment = ?").run(segment);
      }
    });
    map.database.exec("PRAGMA wal_checkpoint(TRUNCATE)");
    const directory = path.join(volume.directory, VOLUME_FILES.segments);
    volume.forgetRegions();
    for (const segment of condemned) {
      volume.segments.forget(segment);
      disk.remove(path.join(directory, segmentFileName(segment)));
    }
    await disk.syncDirectory(directory);
    map.transaction(() => map.statement("DELETE FROM segments WHERE retired = 1").run());
  });
}

async function rewriteLiving(
  volume: Volume,
  disk: Disk,
  keptSeqs: readonly number[],
  condemned: ReadonlySet<number>,
  options: Pick<PruneOptions, "signal" | "onProgress">,
): Promise<Relocations> {
  const living: LivingRun[] = [];
  await inTurns(
    (function* () {
      for (const region of volume.map.usedRegions()) {
        const { baseline, deltas } = livingExtents(volume.map.regionHistory(region), keptSeqs);
        for (const extent of baseline.concat(deltas)) {
          if (!condemned.has(extent.segment)) continue;
          living.push({ ...extent, firstBlock: region * REGION_BLOCKS + extent.firstBlock });
        }
        yield;
      }
    })(),
    volume.scheduler,
  );
  return await compactSegments(volume, disk, { living, condemned, ...options });
}

function relocate(extents: readonly PackedExtent[], relocations: Relocations): PackedExtent[] {
  return extents.map((extent) => {
    const place = relocations.get(extent.segment)?.get(extent.recordOffset)?.get(extent.payloadBlock);
    return place === undefined
      ? extent
      : { ...extent, segment: place.segment, recordOffset: place.offset, payloadBlock: 0 };
  });
}

/**
 * Has the living records of condemned segments written to new ones (`rewrite.ts`), and lists these in the map.
 *
 * All new segments are listed in one transaction when all are there, and only then is anything pointed at them. What a
 * crash or an abort leaves behind before that is removed: a compaction of which only some segments were published must
 * never pass for a finished one.
 *
 * @module
 */
import path from "node:path";
import { VarveError } from "../base/errors.ts";
import type { Disk } from "../disk/mod.ts";
import { VOLUME_FILES } from "../timeline/past.ts";
import type { MapExtent } from "../catalog/recovery_map.ts";
import type { NumberRows } from "./number_rows.ts";
import { Relocations } from "./relocations.ts";
import type { MadeSegment } from "./compacted_segment.ts";
import { type RewriteMeans, type RewriteOrder, type RewriteOutcome, rewriteSegments } from "./rewrite.ts";
import { SEGMENT_BYTES, type Volume } from "./volume.ts";

/** Carries an order out, on this thread or another; the buffer of the order's living runs is given away. */
export type Rewrite = (
  order: RewriteOrder,
  means: Omit<RewriteMeans, "scheduler">,
) => Promise<RewriteOutcome>;

/** What to compact. */
export interface CompactionOrder {
  /** Segments that will be deleted. */
  readonly segments: readonly number[];
  /** Runs to carry over; blocks count from the volume's start. */
  readonly living: NumberRows<MapExtent>;
  /** Who rewrites. Default: this thread, in turns. */
  readonly rewrite?: Rewrite | undefined;
  /** Told of bytes that have been carried over since the last call. */
  readonly onProgress: (bytes: number) => void;
  /** Stops it when aborted. */
  readonly signal: AbortSignal;
}

/** What came of a compaction. */
export interface CompactionOutcome {
  /** Where runs have gone. */
  readonly relocations: Relocations;
  /** Segments of which a part cannot be proved right: nothing of them was carried over. */
  readonly damaged: ReadonlySet<number>;
  /** Numbers of the new segments. */
  readonly made: readonly number[];
}

/** Carries the living records over, in the order of their sequences. */
export async function compactSegments(
  volume: Volume,
  disk: Disk,
  order: CompactionOrder,
): Promise<CompactionOutcome> {
  const { journal } = volume;
  if (journal === undefined) throw new VarveError("conflict", "compact segments: the volume has failed");
  const { signal, onProgress } = order;
  const rewrite = order.rewrite ??
    ((told, means) => rewriteSegments(disk, told, { ...means, scheduler: volume.scheduler }));
  const { made, damaged, moved } = await rewrite({
    directory: path.join(volume.directory, VOLUME_FILES.segments),
    volumeId: volume.id,
    segments: order.segments,
    living: order.living.toNumbers(),
    numbers: Array.from(
      { length: segmentsNeeded(volume, order.segments) },
      () => journal.takeSegmentNumber(),
    ),
    segmentBytes: SEGMENT_BYTES,
    createdUs: volume.lastTimeUs,
    retained: volume.moments.retained(),
  }, { signal, onProgress });
  const stays = new Set(damaged);
  await listSegments(volume, order.segments.filter((segment) => !stays.has(segment)), made);
  return {
    relocations: new Relocations(moved),
    damaged: stays,
    made: made.map(({ segment }) => segment),
  };
}

/**
 * More new segments than there will be. What is carried over of a record is never larger than the record: between two
 * runs of it lies a dead block at least, which is larger than the header of a record of its own. A segment's text may
 * take up to half of it.
 */
function segmentsNeeded(volume: Volume, segments: readonly number[]): number {
  let bytes = 0;
  for (const segment of segments) {
    const row = volume.map.statement("SELECT bytes FROM segments WHERE segment = ?").get(segment);
    bytes += Number(row?.["bytes"] ?? 0);
  }
  return 2 + Math.ceil(2 * bytes / SEGMENT_BYTES);
}

/** Lists new segments, and marks them and the old ones as parts of a compaction that is not finished. */
async function listSegments(
  volume: Volume,
  replaced: readonly number[],
  made: readonly MadeSegment[],
): Promise<void> {
  await volume.exclusively(() => {
    volume.map.transaction(() => {
      const list = volume.map.statement(
        "INSERT INTO segments (segment, first_seq, last_seq, bytes, compacted, retired) VALUES (?, ?, ?, ?, 1, 2)",
      );
      for (const { segment, firstSeq, lastSeq, bytes } of made) list.run(segment, firstSeq, lastSeq, bytes);
      const waits = volume.map.statement(
        "UPDATE segments SET retired = 2 WHERE segment = ? AND retired = 0",
      );
      for (const segment of replaced) waits.run(segment);
    });
    return Promise.resolve();
  });
}

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
import { VOLUME_FILES } from "../timeline/past.ts";
import type { MadeSegment } from "./compacted_segment.ts";
import type { PruneHands } from "./prune_work.ts";
import { SEGMENT_BYTES, type Volume } from "./volume.ts";

/** What to compact. */
export interface CompactionOrder {
  /** Segments that will be deleted. */
  readonly segments: readonly number[];
  /** Runs to carry over, as rows of `EXTENT_ROW`; blocks count from the volume's start. */
  readonly living: Float64Array;
  /** Told of bytes that have been carried over since the last call. */
  readonly onProgress: (bytes: number) => void;
}

/** What came of a compaction. */
export interface CompactionOutcome {
  /** Where runs have gone, as `RewriteOutcome.moved`. */
  readonly moved: Float64Array;
  /** Segments of which a part cannot be proved right: nothing of them was carried over. */
  readonly damaged: ReadonlySet<number>;
  /** Numbers of the new segments. */
  readonly made: readonly number[];
}

/** Carries the living records over, in the order of their sequences. */
export async function compactSegments(
  volume: Volume,
  hands: PruneHands,
  { segments, living, onProgress }: CompactionOrder,
): Promise<CompactionOutcome> {
  const { journal } = volume;
  if (journal === undefined) throw new VarveError("conflict", "compact segments: the volume has failed");
  const { made, damaged, moved } = await hands.rewrite({
    directory: path.join(volume.directory, VOLUME_FILES.segments),
    volumeId: volume.id,
    segments,
    living,
    numbers: Array.from({ length: segmentsNeeded(volume, segments) }, () => journal.takeSegmentNumber()),
    segmentBytes: SEGMENT_BYTES,
    createdUs: volume.lastTimeUs,
    retained: volume.moments.retained(),
  }, onProgress);
  const stays = new Set(damaged);
  await listSegments(volume, segments.filter((segment) => !stays.has(segment)), made);
  return { moved, damaged: stays, made: made.map(({ segment }) => segment) };
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

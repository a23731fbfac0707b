/**
 * Scrubbing: every checksum of a volume's history verified, and what is damaged told by the moments that it harms.
 *
 * It works from the volume's folder alone, reading, so that it can run in a Worker with a map and files of its own.
 * First each segment is proved from its first byte to its last (`scrub_segment.ts`), then the recovery map and every
 * place that it refers to (`scrub_map.ts`); a damaged place harms the moments from the sequence that wrote it to the
 * next version of the same block. Hosts may write and prunes may run meanwhile: only what was durable at the beginning
 * is looked for, and what a prune has taken away is passed over.
 *
 * Memory: one window of a segment, one row of the map, a number for each block of one region, and a bounded number of
 * findings.
 *
 * @module
 */
import path from "node:path";
import type { Scheduler } from "../base/turns.ts";
import { VarveError } from "../base/errors.ts";
import type { MarkRow } from "../catalog/catalog.ts";
import { RecoveryMap } from "../catalog/recovery_map.ts";
import type { Disk } from "../disk/mod.ts";
import type { RetentionPolicy, ScrubResult } from "../engine.ts";
import { parseSegmentFileName, type RecordPlace, segmentFileName, SegmentReader } from "../journal/mod.ts";
import { VOLUME_FILES } from "../timeline/past.ts";
import { Findings } from "./scrub_findings.ts";
import { scrubMap } from "./scrub_map.ts";
import { ScrubPace } from "./scrub_pace.ts";
import { damagedPoints } from "./scrub_points.ts";
import { scrubSegment } from "./scrub_segment.ts";

/** What to scrub. It can be sent to a Worker. */
export interface ScrubOrder {
  /** The volume's folder. */
  readonly directory: string;
  /** 32 hexadecimal digits. */
  readonly volumeId: string;
  /** Where the next record of the journal would lie; what is before it is durable. Left out: all that is there. */
  readonly end?: RecordPlace;
  /** Marks of the volume. */
  readonly marks: readonly MarkRow[];
  /** The policy, for its tiers. */
  readonly policy: RetentionPolicy;
  /** The present, in microseconds. */
  readonly nowUs: number;
  /** Bytes a second at most; left out: as fast as it goes. */
  readonly rateBytes?: number;
}

/** What a scrub is run with. */
export interface ScrubOptions {
  /** Storage. */
  readonly disk: Disk;
  /** Gives turns. */
  readonly scheduler: Scheduler;
  /** How long it works before others get their turn, in milliseconds. */
  readonly sliceMs: number;
  /** Stops it when aborted. */
  readonly signal: AbortSignal;
  /** Told how far it has come. */
  readonly onProgress: (doneBytes: number, totalBytes: number) => void;
}

/** What was found, without the times. */
export type ScrubOutcome = Omit<ScrubResult, "startedAt" | "finishedAt">;

const NEWEST_HINT =
  "The live primary still has the newest bytes: writing those blocks again makes the newest state whole in history.";
const MAP_HINT =
  "The recovery map is damaged: stop the appliance and run varve rebuild, which makes it again.";

/** Scrubs one volume. Throws `cancelled`, and `not-found` or `io` when the map cannot be opened at all. */
export async function scrubVolume(order: ScrubOrder, options: ScrubOptions): Promise<ScrubOutcome> {
  const { disk } = options;
  const map = new RecoveryMap(path.join(order.directory, VOLUME_FILES.map), { readOnly: true, disk });
  const segments = new SegmentReader(disk, path.join(order.directory, VOLUME_FILES.segments));
  try {
    const pace = new ScrubPace({
      scheduler: options.scheduler,
      signal: options.signal,
      sliceMs: options.sliceMs,
      onProgress: options.onProgress,
      ...(order.rateBytes === undefined ? {} : { rateBytes: order.rateBytes }),
    });
    const findings = new Findings();
    const tasks = listSegments(order, { disk, map, segments });
    pace.totalBytes = tasks.reduce((sum, task) => sum + task.bytes, mapBytes(order, disk));
    await pace.rest();
    for (const { segment, bytes, listed } of tasks) {
      const file = `${VOLUME_FILES.segments}/${segmentFileName(segment)}`;
      const parts = { segments, volumeId: order.volumeId, findings, pace };
      try {
        await scrubSegment(parts, { segment, file, bytes });
      } catch (thrown) {
        const error = VarveError.from(thrown, `scrub ${file}`);
        if (error.code !== "not-found") throw error;
        // One that no list names is told by the map, if it is missed.
        if (listed && isWanted(map, segment)) {
          findings.add({ segment, file, offset: 0, length: bytes, problem: "the file is missing" });
        }
      }
    }
    await scrubMap({ map, segments, findings, pace });
    return await tell(order, map, findings, pace);
  } finally {
    segments.close();
    map.close();
  }
}

interface SegmentToScrub {
  segment: number;
  bytes: number;
  /** Whether the map lists it as finished. */
  listed: boolean;
}

function listSegments(
  order: ScrubOrder,
  { disk, map, segments }: { disk: Disk; map: RecoveryMap; segments: SegmentReader },
): SegmentToScrub[] {
  const directory = path.join(order.directory, VOLUME_FILES.segments);
  const found = new Map<number, SegmentToScrub>();
  // The folder first: what a prune takes out of the list afterwards is then looked for once, and not missed.
  for (const name of disk.list(directory)) {
    const segment = parseSegmentFileName(name);
    if (segment === undefined) continue;
    const { end } = order;
    if (end !== undefined && segment > end.segment) continue;
    const bytes = segment === end?.segment ? end.offset : sizeOf(segments, segment);
    if (bytes !== undefined) found.set(segment, { segment, bytes, listed: false });
  }
  for (const row of map.statement("SELECT segment, bytes FROM segments WHERE retired = 0").all()) {
    const segment = Number(row["segment"]);
    found.set(segment, { segment, bytes: Number(row["bytes"]), listed: true });
  }
  return [...found.values()].sort((a, b) => a.segment - b.segment);
}

/** Size of a segment, or `undefined` when it has gone meanwhile. */
function sizeOf(segments: SegmentReader, segment: number): number | undefined {
  try {
    return segments.file(segment).sizeBytes();
  } catch (thrown) {
    const { code } = VarveError.from(thrown, "open a segment");
    // One that is damaged as a whole is scrubbed by the size that the map knows of it.
    if (code === "not-found" || code === "damaged") return undefined;
    throw thrown;
  }
}

/** Whether a segment is still to be there: a prune marks it as retired before it deletes it. */
function isWanted(map: RecoveryMap, segment: number): boolean {
  return map.statement("SELECT 1 FROM segments WHERE segment = ? AND retired = 0").get(segment) !== undefined;
}

function mapBytes(order: ScrubOrder, disk: Disk): number {
  return disk.stat(path.join(order.directory, VOLUME_FILES.map))?.sizeBytes ?? 0;
}

async function tell(
  order: ScrubOrder,
  map: RecoveryMap,
  findings: Findings,
  pace: ScrubPace,
): Promise<ScrubOutcome> {
  const { spans } = findings;
  const { count, points } = await damagedPoints({
    map,
    marks: order.marks,
    policy: order.policy,
    nowUs: order.nowUs,
    spans,
    pace,
  });
  const newestSeq = map.getState("indexed_seq", 0);
  const newestDamaged = spans.has(newestSeq);
  const hints = [...(findings.mapDamaged ? [MAP_HINT] : []), ...(newestDamaged ? [NEWEST_HINT] : [])];
  return {
    checkedBytes: pace.doneBytes,
    damagedPlaces: findings.count,
    places: findings.places.toSorted((a, b) =>
      a.file < b.file ? -1 : a.file > b.file ? 1 : (a.offset ?? 0) - (b.offset ?? 0)
    ),
    damagedSeqs: [...spans].map(({ from, until }) => ({
      fromSeq: from,
      toSeq: Math.max(from, Math.min(until - 1, newestSeq)),
    })),
    spansJoined: spans.joined,
    damagedPoints: count,
    points,
    newestDamaged,
    ...(hints.length === 0 ? {} : { hint: hints.join(" ") }),
  };
}

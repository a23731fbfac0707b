/**
 * Which segments a rebuild reads.
 *
 * A compaction writes new segments, and deletes those that they stand for only when all of the new ones are durable. So
 * an interrupted one is told by the files alone:
 * - all that it replaces are there: perhaps not all of the new ones are; the new ones are left out;
 * - any that it replaces is gone: all of the new ones were there before it went; the rest of the replaced are left out.
 *
 * The newest is judged first. One compaction may replace the result of another: were the older judged first, it would
 * seem finished because the newer one had begun to delete what they have in common. What is left out is deleted at the
 * next start, as after any crash.
 *
 * @module
 */
import { VarveError } from "../base/errors.ts";
import type { Retained } from "../catalog/moments.ts";
import type { Disk } from "../disk/mod.ts";
import {
  isText,
  readText,
  SEGMENT_COMPACTED,
  SEGMENT_HEADER_BYTES,
  type SegmentHeader,
  type SegmentReader,
  walkSegment,
} from "../journal/mod.ts";
import { segmentNumbers } from "./recovery.ts";
import type { JournalText } from "./journal_text.ts";

/** Bytes of a segment that could not be proved, and what follows from it. */
export interface FoundDamage {
  /** Segment number. */
  readonly segment: number;
  /** First byte. */
  readonly offset: number;
  /** Byte after the last. */
  readonly end: number;
  /** What was found, and what it comes to, for people. */
  readonly found: string;
}

/** What is known of a segment before its records are read. */
export interface FoundSegment {
  /** Its number. */
  readonly segment: number;
  /** Size in bytes. */
  readonly bytes: number;
  /** The sequence before its first record; `undefined` when nothing in it can be proved. */
  readonly previousSeq: number | undefined;
  /** The number of the last baseline record before it. */
  readonly previousBaseline: number;
}

/** The segments of a volume, sorted out. */
export interface SegmentSurvey {
  /** Those that capture wrote, ascending. */
  readonly captured: FoundSegment[];
  /** Those that a finished compaction wrote, ascending. */
  readonly compacted: FoundSegment[];
  /** Replaced by a compaction, not deleted yet. */
  readonly replaced: FoundSegment[];
  /** What the compactions say that retention had left. */
  readonly retained: Retained[];
  /** Number for the next segment. */
  readonly nextSegment: number;
  /** Segments whose own headers are damaged, or that belong elsewhere. */
  readonly damage: FoundDamage[];
}

interface Judged extends FoundSegment {
  readonly compaction: Extract<JournalText, { type: "compaction" }> | undefined;
  readonly isCompacted: boolean;
}

/** Sorts out the segments of a folder. Throws `unsupported` when one is of another version. */
export function surveySegments(
  segments: SegmentReader,
  volume: { disk: Disk; directory: string; volumeId: string },
): SegmentSurvey {
  const numbers = segmentNumbers(volume.disk, volume.directory);
  const damage: FoundDamage[] = [];
  const found = numbers.flatMap((segment) => {
    const judged = examine(segments, segment, volume, damage);
    return judged === undefined ? [] : [judged];
  });
  const there = new Set(numbers);
  const leftOut = new Set<number>();
  const replaced = new Set<number>();
  const retained: Retained[] = [];
  for (const { segment, compaction } of found.toReversed()) {
    // One whose text is damaged stays: the same record twice does no harm, a lost one does.
    if (compaction === undefined || replaced.has(segment)) continue;
    if (compaction.replaces.every((number) => there.has(number))) leftOut.add(segment);
    else {
      for (const number of compaction.replaces) replaced.add(number);
      retained.push(compaction.retained);
    }
  }
  const read = found.filter(({ segment }) => !leftOut.has(segment) && !replaced.has(segment));
  return {
    captured: read.filter(({ isCompacted }) => !isCompacted),
    compacted: read.filter(({ isCompacted }) => isCompacted),
    replaced: found.filter(({ segment }) => replaced.has(segment)),
    retained,
    nextSegment: nextSegmentNumber(volume.disk, volume.directory, found),
    damage,
  };
}

function examine(
  segments: SegmentReader,
  segment: number,
  volume: { directory: string; volumeId: string },
  damage: FoundDamage[],
): Judged | undefined {
  const bytes = segments.bytesOf(segment);
  const header = headerOf(segments, segment);
  const place = { segment, offset: 0, end: SEGMENT_HEADER_BYTES };
  if (header !== undefined && (header.volumeId !== volume.volumeId || header.segment !== segment)) {
    damage.push({
      ...place,
      found: `it is segment ${header.segment} of volume ${header.volumeId}; it is left out`,
    });
    return undefined;
  }
  const size = bytes.sizeBytes();
  const first = walkSegment(bytes, segment).next().value;
  const record = first?.kind === "record" ? first : undefined;
  const text = record === undefined || !isText(record.header.kind)
    ? undefined
    : readText(bytes, record.offset, record.header);
  const opening = text === undefined ? undefined : JSON.parse(text) as JournalText;
  const compaction = opening?.type === "compaction" && "retained" in opening ? opening : undefined;
  if (header === undefined && size > 0) {
    damage.push({ ...place, found: "the segment's header; its records are read all the same" });
  }
  return {
    segment,
    bytes: size,
    previousSeq: header?.previousSeq ?? record?.header.seq,
    previousBaseline: header?.previousBaseline ?? 0,
    compaction,
    isCompacted: header === undefined ? compaction !== undefined : (header.flags & SEGMENT_COMPACTED) !== 0,
  };
}

/** Beyond every number that any file or text of the folder tells of: a number is never used twice. */
function nextSegmentNumber(disk: Disk, directory: string, found: readonly Judged[]): number {
  let last = 0;
  for (const name of disk.list(directory)) last = Math.max(last, parseInt(/^\d{12}/.exec(name)?.[0] ?? "0"));
  for (const { compaction } of found) {
    for (const number of compaction?.replaces ?? []) last = Math.max(last, number);
  }
  return last + 1;
}

/** The error for a folder in which nothing says what volume it is. */
export function nothingTold(directory: string): VarveError {
  return new VarveError(
    "damaged",
    `read the segments in ${directory}: none of them says what volume they belong to`,
    { hint: "Every segment begins with that. Bring some of them back from a copy." },
  );
}

/** The header of a segment; `undefined` when it is torn, or the compressed file that holds it cannot be read. */
function headerOf(segments: SegmentReader, segment: number): SegmentHeader | undefined {
  try {
    return segments.header(segment);
  } catch (thrown) {
    if (thrown instanceof VarveError && thrown.code === "damaged") return undefined;
    throw thrown;
  }
}

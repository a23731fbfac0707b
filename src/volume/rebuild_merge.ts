/**
 * Merges the records of many segments by sequence, and tells which sequences are lost on the way.
 *
 * @module
 */
import {
  isCommand,
  recordBytes,
  type RecordHeader,
  type RecordPlace,
  segmentFileName,
  type SegmentReader,
  walkSegment,
} from "../journal/mod.ts";
import type { FoundDamage, FoundSegment, SegmentSurvey } from "./rebuild_segments.ts";
import type { JournalSurvey } from "./rebuild_survey.ts";

/** What a merge yields; records and losses ascend in sequence. */
export type MergedRecord =
  | {
    readonly kind: "record";
    readonly seq: number;
    readonly header: RecordHeader;
    readonly place: RecordPlace;
    /** Bytes it takes in its segment. */
    readonly bytes: number;
    /** Whether capture wrote the segment: then each command of it is a moment. */
    readonly isCaptured: boolean;
  }
  | {
    /** Records may be missing that a moment of this sequence sees. */
    readonly kind: "lost";
    readonly seq: number;
    /** A place that can never be read as a record. */
    readonly place: RecordPlace;
  }
  | {
    readonly kind: "damage";
    readonly seq: number;
    readonly damage: FoundDamage;
    /** Whether nobody knows what records lay there. */
    readonly isUnknown: boolean;
  };

/** Everything in the segments up to where the next start begins. */
export function* mergeSegments(
  segments: SegmentReader,
  found: SegmentSurvey,
  survey: JournalSurvey,
): Generator<MergedRecord> {
  const waiting = found.compacted.map((segment) => ({
    fromSeq: segment.previousSeq ?? 0,
    records: readCompacted(segments, segment, survey),
  })).sort((a, b) => b.fromSeq - a.fromSeq);
  const active: { next: MergedRecord; records: Iterator<MergedRecord> }[] = [];
  const begin = (records: Iterator<MergedRecord>) => {
    const step = records.next();
    if (step.done !== true) active.push({ next: step.value, records });
  };
  begin(readCaptured(segments, found.captured, survey));
  for (;;) {
    let lowest = active[0];
    for (const cursor of active) {
      if (lowest === undefined || cursor.next.seq < lowest.next.seq) lowest = cursor;
    }
    const idle = waiting.at(-1);
    if (idle !== undefined && (lowest === undefined || idle.fromSeq <= lowest.next.seq)) {
      waiting.pop();
      begin(idle.records);
      continue;
    }
    if (lowest === undefined) return;
    yield lowest.next;
    const step = lowest.records.next();
    if (step.done === true) active.splice(active.indexOf(lowest), 1);
    else lowest.next = step.value;
  }
}

/** The segments that capture wrote, one after the other. Above the horizon their sequences have no gaps. */
function* readCaptured(
  segments: SegmentReader,
  captured: readonly FoundSegment[],
  survey: JournalSurvey,
): Generator<MergedRecord> {
  const { retained, tail, end } = survey;
  let seq = 0;
  // What the horizon's own moment and all before it saw is told by what is left of them.
  const missing = (toSeq: number, place: RecordPlace) =>
    lostBetween(Math.max(seq, retained.horizonSeq) + 1, toSeq, place, survey);
  for (const { segment, previousSeq = seq } of captured) {
    if (segment > end.segment) return;
    const gap = [...missing(Math.min(previousSeq, tail.seq), { segment, offset: 0 })];
    if (gap.length > 0) {
      const found = `sequences ${seq + 1} to ${previousSeq} are missing before ${segmentFileName(segment)}`;
      yield { kind: "damage", seq, damage: { segment, offset: 0, end: 0, found }, isUnknown: true };
      yield* gap;
    }
    seq = Math.max(seq, previousSeq);
    let broken: RecordPlace | undefined;
    let brokenSeq = seq;
    for (const step of walkSegment(segments.bytesOf(segment), segment)) {
      const { offset } = step;
      const place = { segment, offset };
      if (segment === end.segment && offset >= end.offset) return;
      const isTail = segment > tail.segment || (segment === tail.segment && offset >= tail.offset);
      if (step.kind !== "record") {
        if (isTail) return;
        // What capture had reserved; that records are lost there the next segment would tell.
        if (step.kind === "unused" && (nextAfter(captured, segment)?.previousSeq ?? seq) === seq) break;
        yield damageOf(step, segment, seq);
        broken = place;
        brokenSeq = seq;
        continue;
      }
      const { header } = step;
      const bytes = recordBytes(header);
      if (isTail) return;
      if (isCommand(header.kind)) {
        // Records of before the horizon may be gone without a gap above it: only the damage tells.
        if (broken !== undefined) yield* lostBetween(brokenSeq + 1, header.seq - 1, broken, survey);
        else yield* missing(header.seq - 1, { segment, offset: 0 });
        broken = undefined;
        seq = header.seq;
      }
      if (step.mended) yield mendedDamage(step.header, place, bytes, seq);
      yield { kind: "record", seq, header, place, bytes, isCaptured: true };
    }
    if (broken === undefined) continue;
    const toSeq = Math.min(nextAfter(captured, segment)?.previousSeq ?? tail.seq, tail.seq);
    yield* lostBetween(brokenSeq + 1, toSeq, broken, survey);
    seq = Math.max(seq, toSeq);
  }
  yield* missing(tail.seq, { segment: captured.at(-1)?.segment ?? tail.segment, offset: 0 });
}

function nextAfter(captured: readonly FoundSegment[], segment: number): FoundSegment | undefined {
  return captured[captured.findIndex((other) => other.segment === segment) + 1];
}

/** A segment that a compaction wrote: its sequences have gaps, so damage may hide any of those around it. */
function* readCompacted(
  segments: SegmentReader,
  { segment, previousSeq }: FoundSegment,
  survey: JournalSurvey,
): Generator<MergedRecord> {
  let seq = previousSeq ?? 0;
  let broken: RecordPlace | undefined;
  for (const step of walkSegment(segments.bytesOf(segment), segment)) {
    const place = { segment, offset: step.offset };
    if (step.kind !== "record") {
      yield damageOf(step, segment, seq);
      broken ??= place;
      continue;
    }
    const { header } = step;
    if (isCommand(header.kind) && broken !== undefined) {
      yield* lostBetween(seq, header.seq, broken, survey);
      broken = undefined;
    }
    if (isCommand(header.kind)) seq = Math.max(seq, header.seq);
    const bytes = recordBytes(header);
    if (step.mended) yield mendedDamage(header, place, bytes, seq);
    yield { kind: "record", seq, header, place, bytes, isCaptured: false };
  }
  if (broken !== undefined) {
    yield* lostBetween(seq, Math.max(seq, survey.retained.horizonSeq), broken, survey);
  }
}

/**
 * Any of these sequences may be lost: said once for each moment among them, and for the last of them. Of a compacted
 * segment the first and the last belong to them, for parts of one command share a sequence.
 */
function* lostBetween(
  fromSeq: number,
  toSeq: number,
  place: RecordPlace,
  { retained, state }: JournalSurvey,
): Generator<MergedRecord> {
  if (toSeq < fromSeq) return;
  const seqs = new Set([toSeq]);
  for (const { seq } of [...retained.kept, ...state.marks, { seq: retained.horizonSeq }]) {
    if (seq >= fromSeq && seq < toSeq) seqs.add(seq);
  }
  for (const seq of [...seqs].sort((a, b) => a - b)) yield { kind: "lost", seq, place };
}

function damageOf(step: { offset: number; end: number }, segment: number, seq: number): MergedRecord {
  return {
    kind: "damage",
    seq,
    damage: {
      segment,
      offset: step.offset,
      end: step.end,
      found: `no record can be proved behind sequence ${seq}`,
    },
    isUnknown: true,
  };
}

function mendedDamage(header: RecordHeader, place: RecordPlace, bytes: number, seq: number): MergedRecord {
  return {
    kind: "damage",
    seq,
    damage: {
      segment: place.segment,
      offset: place.offset,
      end: place.offset + bytes,
      found: `a byte of the header of sequence ${header.seq} has changed: ${
        header.payloadBytes === 0 ? "nothing is lost" : "its blocks cannot be read"
      }`,
    },
    isUnknown: false,
  };
}

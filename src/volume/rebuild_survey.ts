/**
 * What a volume's segments tell before its map is made: its state, and where the next start has to begin.
 *
 * The newest text that says everything also says up to which sequence the primary, and so the journal, was durable.
 * What lies before that is history: the map is made of it, and damage in it is damage. What lies behind it is for the
 * next start to judge, exactly as after a crash: it proves every record, cuts off a torn tail, redoes the rest on the
 * primary and indexes it. A rebuild that took the tail for granted would make a volume that refuses to open; one that
 * took all of history for a tail would cut it off at the first bad byte.
 *
 * @module
 */
import { intersectRetained, isRetained, type Retained } from "../catalog/moments.ts";
import {
  isCommand,
  isText,
  readText,
  recordBytes,
  type RecordPlace,
  SEGMENT_HEADER_BYTES,
  type SegmentReader,
  walkSegment,
} from "../journal/mod.ts";
import { JournalState } from "./journal_state.ts";
import { type FoundDamage, type FoundSegment, nothingTold, type SegmentSurvey } from "./rebuild_segments.ts";
import type { JournalText } from "./journal_text.ts";

/** Where the next start begins. */
export interface TailStart extends RecordPlace {
  /** The sequence before that place. */
  readonly seq: number;
}

/** What is told of a volume. */
export interface JournalSurvey {
  /** The volume, its marks, and what retention has left. */
  readonly state: JournalState;
  /** What the map is to be thinned to: what a tail says of it is left to the next start. */
  readonly retained: Retained;
  /** Where the next start begins. */
  readonly tail: TailStart;
  /** Where the last whole record of the tail ends. */
  readonly end: RecordPlace;
  /** The last sequence before that. */
  readonly lastSeq: number;
  /** Whether the copy of an adopted disk was complete before the tail; else the next start ends it. */
  readonly baselineComplete: boolean;
  /** Texts that cannot be read, and a tail that is torn. */
  readonly damage: FoundDamage[];
}

interface PlacedText extends RecordPlace {
  readonly text: JournalText;
  readonly record: { readonly seq: number; readonly timeUs: number };
}

/** Reads the texts and the tail of a journal. Throws `damaged` when nothing says what volume it is. */
export function surveyJournal(
  segments: SegmentReader,
  found: SegmentSurvey,
  directory: string,
): JournalSurvey {
  const damage: FoundDamage[] = [];
  const { captured } = found;
  const newest = lastVolumeText(segments, captured, undefined, []);
  if (newest === undefined) throw nothingTold(directory);
  const tail = findTail(segments, found, durableSeqOf(newest));
  const { end, lastSeq, hasBaseline } = readTail(segments, captured, tail, damage);

  const texts = lastVolumeText(segments, captured, end, damage) ?? newest;
  const [first, ...later] = texts;
  if (first?.text.type !== "volume") throw nothingTold(directory);
  const state = new JournalState(first.text);
  let retained = found.retained.reduce(intersectRetained, first.text.retained);
  for (const { text, record } of later) {
    state.take(text, record);
    if (text.type === "thinned" && text.horizonSeq <= tail.seq) retained = intersectRetained(retained, text);
  }
  for (const mark of state.marks) {
    if (mark.seq > lastSeq || !isRetained(retained, mark.seq)) {
      state.take({ type: "mark-deleted", name: mark.name }, mark);
    }
  }
  return {
    state,
    retained,
    tail,
    end,
    lastSeq,
    baselineComplete: state.baselineComplete && !hasBaseline,
    damage,
  };
}

/** The newest text that says everything and those behind it, all before `end`; `undefined` when there is none. */
function lastVolumeText(
  segments: SegmentReader,
  captured: readonly FoundSegment[],
  end: RecordPlace | undefined,
  damage: FoundDamage[],
): PlacedText[] | undefined {
  let behind: PlacedText[] = [];
  for (const { segment } of captured.toReversed()) {
    if (end !== undefined && segment > end.segment) continue;
    const texts = [...textsOf(segments, segment, segment === end?.segment ? end.offset : Infinity, damage)];
    const last = texts.findLastIndex(({ text }) => text.type === "volume" && "retained" in text);
    behind = texts.slice(Math.max(0, last)).concat(behind);
    if (last >= 0) return behind;
  }
  return undefined;
}

function* textsOf(
  segments: SegmentReader,
  segment: number,
  untilOffset: number,
  damage: FoundDamage[],
): Generator<PlacedText> {
  const bytes = segments.bytesOf(segment);
  for (const step of walkSegment(bytes, segment)) {
    if (step.offset >= untilOffset) return;
    if (step.kind !== "record" || !isText(step.header.kind)) continue;
    const { header, offset } = step;
    const text = readText(bytes, offset, header);
    if (text === undefined) {
      damage.push({
        segment,
        offset,
        end: offset + recordBytes(header),
        found: `the text of a ${header.kind} record at sequence ${header.seq}`,
      });
    } else yield { segment, offset, text: JSON.parse(text) as JournalText, record: header };
  }
}

function durableSeqOf(texts: readonly PlacedText[]): number {
  return texts.reduce((seq, { text }) => text.type === "volume" ? Math.max(seq, text.durableSeq) : seq, 0);
}

/** The place behind the last record up to `durableSeq`; where damage lies there, the next record that can be proved. */
function findTail(segments: SegmentReader, found: SegmentSurvey, durableSeq: number): TailStart {
  const { captured } = found;
  const before = captured.findLastIndex(({ previousSeq }) =>
    previousSeq !== undefined && previousSeq < durableSeq
  );
  let seq = captured[before]?.previousSeq ?? 0;
  for (const { segment, previousSeq } of captured.slice(Math.max(0, before))) {
    if (previousSeq !== undefined && previousSeq >= durableSeq) {
      return { segment, offset: SEGMENT_HEADER_BYTES, seq: previousSeq };
    }
    let end = SEGMENT_HEADER_BYTES;
    for (const step of walkSegment(segments.bytesOf(segment), segment)) {
      if (step.kind !== "record" || !isCommand(step.header.kind)) continue;
      if (step.header.seq > durableSeq) {
        return seq === durableSeq
          ? { segment, offset: end, seq }
          : { segment, offset: step.offset, seq: step.header.seq - 1 };
      }
      seq = step.header.seq;
      end = step.offset + recordBytes(step.header);
    }
    if (seq === durableSeq) return { segment, offset: end, seq };
  }
  return { segment: found.nextSegment, offset: SEGMENT_HEADER_BYTES, seq: Math.max(seq, durableSeq) };
}

/** Reads what the next start will read, proving every byte; stops where it will stop. */
function readTail(
  segments: SegmentReader,
  captured: readonly FoundSegment[],
  tail: TailStart,
  damage: FoundDamage[],
): { end: RecordPlace; lastSeq: number; hasBaseline: boolean } {
  let lastSeq = tail.seq;
  let hasBaseline = false;
  let end: RecordPlace = tail;
  for (const { segment, bytes, previousSeq } of captured) {
    if (segment < tail.segment) continue;
    const isFirst = segment === tail.segment;
    const follows = segments.header(segment) !== undefined && previousSeq !== undefined &&
      (isFirst ? previousSeq <= lastSeq : previousSeq === lastSeq);
    const from = isFirst ? tail.offset : SEGMENT_HEADER_BYTES;
    const { validBytes, unusedBytes } = follows
      ? segments.scan(segment, from, ({ header }) => {
        if (header.kind === "baseline") hasBaseline = true;
        if (!isCommand(header.kind)) return true;
        if (header.seq !== lastSeq + 1) return false;
        lastSeq = header.seq;
        return true;
      })
      : { validBytes: 0, unusedBytes: 0 };
    if (follows) end = { segment, offset: validBytes };
    if (validBytes + unusedBytes === bytes) continue;
    damage.push({
      segment,
      offset: validBytes,
      end: bytes,
      found: "the journal ends here: what follows was never known to be durable, and the next start drops it",
    });
    break;
  }
  return { end, lastSeq, hasBaseline };
}

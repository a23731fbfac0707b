/**
 * What happens when a volume is opened again: the end of its journal is found, a torn tail dropped, and what the
 * primary and the recovery map may have missed is brought to them.
 *
 * The order of steps, and what breaks if two are swapped:
 * 1. Records are read from the saved position on, each proved whole, until the first that is not.
 * 2. A torn tail is cut off and what is left is written once more and synced. Were the redo first, the primary could
 *    hold a write whose record is lost at the next power cut. Were it only synced, a record that a failed sync of the
 *    life before had covered could be read and not be on storage, as the operating system takes it for written.
 *    The catalogue is told of marks and policies only now: it would outlive the records that it has them from.
 * 3. The records are redone on the primary, in order, and the primary is synced. Redoing twice does no harm.
 *    What lies before the last text `gap` is left alone: it was durable in the primary before that text was written, and
 *    hosts may have written past the journal since (`gap.ts`). Redone, it would bring old bytes back.
 *    The same goes for what a text `volume` says was durable in the primary: redone and cut off in between, an older
 *    write would stand in place of a newer one, and a rebuild, which goes by that text, would not redo it again.
 * 4. The recovery map learns of them, baseline records among them, and of the moments that prunes have dropped, and
 *    the position moves. Were it moved before step 3, a crash in between would leave the primary behind for ever.
 *
 * The work is bounded by what was captured since the last batch was indexed, not by the length of the history.
 *
 * @module
 */
import path from "node:path";
import { VarveError } from "../base/errors.ts";
import { inTurns, type Scheduler } from "../base/turns.ts";
import { foldLog } from "../catalog/database.ts";
import { intersectRetained, Moments, type Retained } from "../catalog/moments.ts";
import { MOMENT_KINDS, type PackedMoment } from "../catalog/packing.ts";
import { type BaselineEntry, baselineEntryOf, type BaselineLedger } from "../catalog/baseline_ledger.ts";
import type { MapExtent, RecoveryMap } from "../catalog/recovery_map.ts";
import type { Disk, DiskFile } from "../disk/mod.ts";
import {
  extentsOf,
  isCommand,
  parseSegmentFileName,
  type ScannedRecord,
  SEGMENT_COMPACTED,
  SEGMENT_HEADER_BYTES,
  segmentFileName,
  type SegmentReader,
} from "../journal/mod.ts";
import type { Primary } from "./primary.ts";
import type { JournalText } from "./journal_text.ts";
import type { Told } from "./told.ts";

/** How the text of `gap.ts` begins that says that all before it is in the primary. */
const GAP_TEXT = `{"type":"gap",`;
/** The end of the journal is written again in pieces of this size. */
const REWRITE_BYTES = 1 << 20;

/** What recovery works on. */
export interface RecoveryParts {
  /** Gives turns. */
  readonly scheduler: Scheduler;
  /** Where the segments are. */
  readonly directory: string;
  /** 32 hexadecimal digits; a segment of another volume is refused. */
  readonly volumeId: string;
  /** The volume's storage. */
  readonly disk: Disk;
  /** The reading end of the journal. */
  readonly segments: SegmentReader;
  /** The recovery map. */
  readonly map: RecoveryMap;
  /** What the texts tell; whoever is told of the texts tells it. */
  readonly told: Told;
  /** The live bytes, or `undefined` when they are gone: then history is opened without them. */
  readonly primary: Primary | undefined;
  /** Coverage of an adopted disk that is not copied completely yet. */
  readonly baseline: BaselineLedger | undefined;
  /** Told of every mark and meta record that is met, in order; it may have been told before. */
  readonly onText: (record: ScannedRecord) => void;
}

/** How the journal goes on. */
export interface RecoveredJournal {
  /** Last sequence in it. */
  readonly lastSeq: number;
  /** Number of the last baseline record in it. */
  readonly lastBaseline: number;
  /** Time of that sequence, in microseconds. */
  readonly lastTimeUs: number;
  /** Number for the next segment. */
  readonly nextSegment: number;
  /** Bytes of torn tail that were dropped. */
  readonly droppedBytes: number;
  /** Commands that were redone on the primary. */
  readonly redoneCommands: number;
}

interface Tail {
  lastSeq: number;
  lastBaseline: number;
  lastTimeUs: number;
  /** Up to this sequence everything is durable in the primary, as a text `gap` or `volume` says. */
  appliedSeq: number;
  droppedBytes: number;
  readonly moments: PackedMoment[];
  readonly extents: MapExtent[];
  readonly baseline: BaselineEntry[];
  /** A text says that the copy of an adopted disk is complete. */
  baselineComplete: boolean;
  readonly sealed: { segment: number; from: number; bytes: number; firstSeq: number; lastSeq: number }[];
  /** Marks and meta records, in order. */
  readonly texts: ScannedRecord[];
  /** What prunes have left, in order: the map may not have been told. */
  thinned: Retained | undefined;
  /** Segments behind a break. */
  readonly behind: string[];
  /** Segments that end with what is no record, and where: at a break, or where space was reserved. */
  readonly cuts: { place: string; validBytes: number }[];
}

/** Brings a volume to the state of its last whole record. Throws `damaged` when durable records are missing. */
export async function recoverVolume(parts: RecoveryParts): Promise<RecoveredJournal> {
  const { map, segments, disk, directory } = parts;
  await removeLeftovers(parts);
  const numbers = segmentNumbers(disk, directory);
  const indexedSeq = map.getState("indexed_seq", 0);
  const durableSeq = map.getState("durable_seq", 0);
  const tail = readTail(parts, numbers);
  if (tail.lastSeq < Math.max(indexedSeq, durableSeq)) {
    throw new VarveError(
      "damaged",
      `open the journal in ${directory}: it ends at sequence ${tail.lastSeq}, but ${
        Math.max(indexedSeq, durableSeq)
      } was durable`,
      {
        hint: "Segment files are missing or damaged. Bring them back from a copy; nothing has been changed.",
      },
    );
  }
  dropTorn(disk, tail);
  for (const sealed of tail.sealed) {
    const file = disk.open(path.join(directory, segmentFileName(sealed.segment)), { mode: "write" });
    try {
      // A position behind the header is that of a segment that was yet to be made.
      const from = sealed.from <= SEGMENT_HEADER_BYTES ? 0 : sealed.from;
      // What is compressed was durable before.
      if (!segments.isCompressed(sealed.segment)) {
        await inTurns(rewrite(file, from, sealed.bytes), parts.scheduler);
      }
      await file.sync();
    } finally {
      file.close();
    }
  }
  await disk.syncDirectory(directory);
  for (const record of tail.texts) parts.onText(record);

  if (parts.primary !== undefined) {
    const appliedSeq = Math.max(durableSeq, tail.appliedSeq);
    await inTurns(
      redo(tail.extents.filter((extent) => extent.seq > appliedSeq), parts.primary, segments),
      parts.scheduler,
    );
    await parts.primary.sync();
    // What hosts wrote past the journal is nowhere else: a failed sync of the life before may have left memory ahead.
    if (parts.told.gaps.open !== undefined) parts.primary.forgetCached();
  }

  const nextSegment = Math.max(map.getState("scan_segment", 1), (numbers.at(-1) ?? 0) + 1);
  map.transaction(() => {
    if (parts.baseline !== undefined) {
      for (const _ of parts.baseline.add(tail.baseline));
      // The map may have lost what that text says; without the primary nothing could bring it back.
      if (tail.baselineComplete) {
        parts.baseline.checkComplete();
        parts.baseline.finish();
      }
    }
    for (const _ of map.addExtents(tail.extents.filter((extent) => extent.seq > indexedSeq)));
    const moments = new Moments(map);
    moments.add(tail.moments.filter((moment) => moment.seq > indexedSeq));
    if (tail.thinned !== undefined) {
      const { horizonSeq, kept } = intersectRetained(moments.retained(), tail.thinned);
      moments.thin(horizonSeq, kept);
    }
    for (const sealed of tail.sealed) {
      map.statement(
        "INSERT OR REPLACE INTO segments (segment, first_seq, last_seq, bytes) VALUES (?, ?, ?, ?)",
      ).run(sealed.segment, sealed.firstSeq, sealed.lastSeq, sealed.bytes);
    }
    parts.told.save();
    map.setState("indexed_seq", tail.lastSeq);
    if (parts.primary === undefined) return;
    map.setState("durable_seq", tail.lastSeq);
    map.setState("scan_seq", tail.lastSeq);
    map.setState("scan_baseline", tail.lastBaseline);
    map.setState("scan_segment", nextSegment);
    map.setState("scan_offset", SEGMENT_HEADER_BYTES);
  });
  parts.baseline?.refresh();
  return {
    lastSeq: tail.lastSeq,
    lastBaseline: tail.lastBaseline,
    lastTimeUs: tail.lastTimeUs,
    nextSegment,
    droppedBytes: tail.droppedBytes,
    redoneCommands: tail.moments.length,
  };
}

/** Numbers of the segments in a folder, ascending. */
export function segmentNumbers(disk: Disk, directory: string): number[] {
  return disk.list(directory).flatMap((name) => parseSegmentFileName(name) ?? []);
}

/**
 * Finishes a compaction that a crash interrupted: exactly one of old and new segments is known to the map.
 *
 * Order: what the map says is durable, then segments go, and their names durably, then the map forgets them. A map of
 * which a killed process has left a part in memory alone would else, after a power cut, point at segments that are gone.
 */
async function removeLeftovers({ map, segments, disk, directory, scheduler }: RecoveryParts): Promise<void> {
  for (const name of disk.list(directory)) {
    if (name.endsWith(".tmp")) disk.remove(path.join(directory, name));
  }
  const known = new Map(
    map.statement("SELECT segment, retired FROM segments").all().map((row) => [
      Number(row["segment"]),
      Number(row["retired"]) === 1,
    ]),
  );
  const leftovers = segmentNumbers(disk, directory).filter((segment) =>
    known.get(segment) ?? ((segments.header(segment)?.flags ?? 0) & SEGMENT_COMPACTED) !== 0
  );
  if (leftovers.length > 0) {
    await foldLog(map.database, { scheduler, signal: new AbortController().signal });
    for (const segment of leftovers) {
      segments.forget(segment);
      disk.remove(path.join(directory, segmentFileName(segment)));
    }
    await disk.syncDirectory(directory);
  }
  map.statement("DELETE FROM segments WHERE retired = 1").run();
}

function readTail(parts: RecoveryParts, numbers: readonly number[]): Tail {
  const { map, segments, disk, directory } = parts;
  const scanSegment = map.getState("scan_segment", 1);
  const newest = new Moments(map).newest();
  const tail: Tail = {
    lastSeq: map.getState("scan_seq", 0),
    lastBaseline: map.getState("scan_baseline", 0),
    lastTimeUs: newest?.timeUs ?? 0,
    appliedSeq: 0,
    droppedBytes: 0,
    moments: [],
    extents: [],
    baseline: [],
    baselineComplete: false,
    sealed: [],
    texts: [],
    thinned: undefined,
    behind: [],
    cuts: [],
  };
  const waiting = numbers.filter((number) => number >= scanSegment);
  let broken = false;
  for (const segment of waiting) {
    const place = path.join(directory, segmentFileName(segment));
    const header = segments.header(segment);
    if (header !== undefined && (header.flags & SEGMENT_COMPACTED) !== 0) continue;
    const follows = header !== undefined && header.volumeId === parts.volumeId &&
      header.segment === segment &&
      (segment === scanSegment
        ? header.previousSeq <= tail.lastSeq && header.previousBaseline <= tail.lastBaseline
        : header.previousSeq === tail.lastSeq && header.previousBaseline === tail.lastBaseline);
    if (broken || !follows) {
      refuseCompressed(segments, segment, place);
      broken = true;
      tail.droppedBytes += disk.stat(place)?.sizeBytes ?? 0;
      tail.behind.push(place);
      segments.forget(segment);
      continue;
    }
    const from = segment === scanSegment ? map.getState("scan_offset", 0) : 0;
    const { validBytes, fileBytes, unusedBytes } = segments.scan(segment, from, (record) => {
      const { kind, seq, client } = record.header;
      if (isCommand(kind) && seq !== tail.lastSeq + 1) return false;
      if (kind === "baseline" && client > 0 && client !== tail.lastBaseline + 1) return false;
      take(record, segment, tail);
      return true;
    });
    if (fileBytes < from) {
      throw new VarveError(
        "damaged",
        `open the journal: ${place} has ${fileBytes} bytes, but ${from} of them were durable`,
        { hint: "Bring the segment back from a copy; nothing has been changed." },
      );
    }
    if (unusedBytes > 0) {
      tail.cuts.push({ place, validBytes });
      segments.forget(segment);
    } else if (validBytes < fileBytes) {
      refuseCompressed(segments, segment, place);
      broken = true;
      tail.droppedBytes += fileBytes - validBytes;
      tail.cuts.push({ place, validBytes });
      segments.forget(segment);
    }
    tail.sealed.push({
      segment,
      from,
      bytes: validBytes,
      firstSeq: header.previousSeq + 1,
      lastSeq: tail.lastSeq,
    });
  }
  return tail;
}

/** A segment was durable, and all before it, when it was compressed: a break there is damage, and nothing may be cut. */
function refuseCompressed(segments: SegmentReader, segment: number, place: string): void {
  if (!segments.isCompressed(segment)) return;
  throw new VarveError("damaged", `open the journal: the compressed segment ${place} is damaged`, {
    hint: "Bring the segment back from a copy; nothing has been changed.",
  });
}

/** Nothing behind a break was ever acknowledged as durable. Whole segments are set aside, not destroyed. */
function dropTorn(disk: Disk, tail: Tail): void {
  for (const place of tail.behind) disk.rename(place, `${place}.dropped`);
  for (const { place, validBytes } of tail.cuts) {
    const file = disk.open(place, { mode: "write" });
    file.truncate(validBytes);
    file.close();
  }
}

function take(
  { header, offset, text }: ScannedRecord,
  segment: number,
  tail: Tail,
): void {
  if (text !== undefined) {
    tail.texts.push({ header, offset, text });
    if (text.startsWith(GAP_TEXT)) tail.appliedSeq = Math.max(tail.appliedSeq, header.seq);
    const said = JSON.parse(text) as JournalText;
    if (said.type === "baseline-complete" || (said.type === "volume" && said.baselineComplete)) {
      tail.baselineComplete = true;
    }
    if (said.type === "volume") tail.appliedSeq = Math.max(tail.appliedSeq, said.durableSeq);
    if (said.type === "thinned") {
      tail.thinned = tail.thinned === undefined ? said : intersectRetained(tail.thinned, said);
    }
  }
  if (header.kind === "baseline") {
    tail.baseline.push(baselineEntryOf(header, { segment, offset }));
    tail.lastBaseline = Math.max(tail.lastBaseline, header.client);
  }
  if (!isCommand(header.kind)) return;
  tail.lastSeq = header.seq;
  tail.lastTimeUs = header.timeUs;
  const kind = header.kind === "flush" ? "flush" : header.kind === "mark" ? "mark" : "change";
  tail.moments.push({ seq: header.seq, timeUs: header.timeUs, kind: MOMENT_KINDS[kind] });
  for (const extent of extentsOf(header)) {
    const hole = extent.payloadBlock < 0;
    tail.extents.push({
      seq: header.seq,
      firstBlock: extent.firstBlock,
      blockCount: extent.blockCount,
      segment: hole ? 0 : segment,
      recordOffset: hole ? 0 : offset,
      payloadBlock: Math.max(0, extent.payloadBlock),
    });
  }
}

/** Writes a range over itself, so that the next sync covers it. */
function* rewrite(file: DiskFile, from: number, end: number): Generator<void> {
  const bytes = new Uint8Array(Math.min(REWRITE_BYTES, Math.max(0, end - from)));
  for (let at = from; at < end; at += bytes.length) {
    const part = bytes.subarray(0, Math.min(bytes.length, end - at));
    const got = file.read(at, part);
    if (got !== part.length) {
      throw new VarveError("io", `rewrite the end of ${file.path}: it has shrunk to ${at + got} bytes`);
    }
    file.write(at, part);
    yield;
  }
}

function* redo(extents: readonly MapExtent[], primary: Primary, segments: SegmentReader): Generator<void> {
  for (const extent of extents) yield* primary.apply(extent, segments);
}

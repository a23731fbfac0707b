/**
 * Makes a volume's recovery map anew from its segments alone.
 *
 * All segments are merged by sequence: those of capture follow one another, those of compactions overlap them. Headers
 * are read, bodies are not. A batch of records goes to the map in one transaction, so memory does not grow with history.
 *
 * Order, and what breaks if two are swapped: the map is made under another name, it is made durable, the old one is set
 * aside with its log, the new one takes its name. Were the old one moved first, a crash would leave none for a longer
 * time; were its log left, SQLite would play it into the new map.
 *
 * **Damage.** Where a record is lost, nobody knows which blocks it gave a new version. Until it is written again, every
 * block is therefore unproved from that sequence on: the map points at the damaged place, and reading it is an error.
 * Moments before are whole. A record of which only one byte of the header has changed is known all the same (see
 * `walkSegment`), and only its own blocks are lost.
 *
 * @module
 */
import path from "node:path";
import { blocksFor } from "../base/bytes.ts";
import { inTurns, type Scheduler } from "../base/turns.ts";
import type { MarkRow, VolumeRow } from "../catalog/catalog.ts";
import { Moments } from "../catalog/moments.ts";
import { MOMENT_KINDS, type PackedExtent, type PackedMoment, packExtents } from "../catalog/packing.ts";
import { blobOf, concatenate, type MapExtent, RecoveryMap } from "../catalog/recovery_map.ts";
import { sizeAt } from "../catalog/sizes.ts";
import { REGION_BLOCKS } from "../catalog/region_map.ts";
import type { Disk } from "../disk/mod.ts";
import {
  extentsOf,
  isCommand,
  readText,
  type RecordHeader,
  type RecordPlace,
  SegmentReader,
} from "../journal/mod.ts";
import { VOLUME_FILES } from "../timeline/past.ts";
import { BATCH_RECORDS } from "./indexer.ts";
import type { JournalText } from "./journal_text.ts";
import { BaselineCoverage } from "./rebuild_baseline.ts";
import { type MergedRecord, mergeSegments } from "./rebuild_merge.ts";
import { type FoundDamage, type SegmentSurvey, surveySegments } from "./rebuild_segments.ts";
import { type JournalSurvey, surveyJournal } from "./rebuild_survey.ts";
import { Told } from "./told.ts";

/** Ending of the name of a map that is being made. */
const UNFINISHED = ".rebuilding";
/** Ending of the name of a database that a rebuild has replaced; one is kept. */
export const REPLACED = ".before-rebuild";

/** What a rebuild works on. */
export interface RebuildOptions {
  /** Storage. */
  readonly disk: Disk;
  /** The volume's folder. */
  readonly directory: string;
  /** 32 hexadecimal digits; segments of another volume are left out. */
  readonly volumeId: string;
  /** Gives turns. */
  readonly scheduler: Scheduler;
  /** Told how far it has come, in bytes of segments. */
  readonly onProgress?: (doneBytes: number, totalBytes: number) => void;
}

/** A volume as its segments tell it. */
export interface ToldVolume {
  /** The volume. */
  readonly row: VolumeRow;
  /** Its marks. */
  readonly marks: MarkRow[];
  /** Whether it was deleted and its folder left. */
  readonly deleted: boolean;
  /** Size of its segments in bytes. */
  readonly totalBytes: number;
  /** Makes the map and puts it into place; to be called once. */
  rebuild(): Promise<RebuiltMap>;
  /** Closes the segments. */
  close(): void;
}

/** What was put into a map. */
export interface RebuiltMap {
  /** Segments read. */
  readonly segments: number;
  /** Records read; those behind the place where the next start begins are left to it. */
  readonly records: number;
  /** Moments that can be asked for. */
  readonly moments: number;
  /** What could not be proved. */
  readonly damage: FoundDamage[];
}

/** Reads what a volume's segments tell of it. Throws `damaged` when nothing says what volume it is. */
export function readVolume(options: RebuildOptions): ToldVolume {
  const directory = path.join(options.directory, VOLUME_FILES.segments);
  const segments = new SegmentReader(options.disk, directory);
  try {
    const found = surveySegments(segments, { ...options, directory });
    const survey = surveyJournal(segments, found, directory);
    const { state } = survey;
    return {
      row: { ...state.volume, id: options.volumeId },
      marks: state.marks,
      deleted: state.deleted,
      totalBytes: [...found.captured, ...found.compacted].reduce((sum, { bytes }) => sum + bytes, 0),
      rebuild: () => rebuildMap(options, segments, found, survey),
      close: () => segments.close(),
    };
  } catch (thrown) {
    segments.close();
    throw thrown;
  }
}

async function rebuildMap(
  options: RebuildOptions,
  segments: SegmentReader,
  found: SegmentSurvey,
  survey: JournalSurvey,
): Promise<RebuiltMap> {
  const { disk } = options;
  const place = path.join(options.directory, VOLUME_FILES.map);
  disk.removeDatabase(place + UNFINISHED);
  const map = new RecoveryMap(place + UNFINISHED, { disk });
  let result: RebuiltMap;
  try {
    // Nothing of it counts before it is whole.
    map.database.exec("PRAGMA synchronous = OFF");
    const builder = new MapBuilder(options, { map, segments }, found, survey);
    await builder.take(mergeSegments(segments, found, survey));
    result = builder.finish();
    map.database.exec("PRAGMA wal_checkpoint(TRUNCATE)");
  } catch (thrown) {
    map.close();
    disk.removeDatabase(place + UNFINISHED);
    throw thrown;
  }
  map.close();
  await disk.renameDatabase(place, place + REPLACED);
  await disk.renameDatabase(place + UNFINISHED, place);
  return result;
}

class MapBuilder {
  readonly #options: RebuildOptions;
  readonly #map: RecoveryMap;
  readonly #segments: SegmentReader;
  readonly #told: Told;
  readonly #moments: Moments;
  readonly #found: SegmentSurvey;
  readonly #survey: JournalSurvey;
  readonly #baseline: BaselineCoverage;
  readonly #damage: FoundDamage[];
  readonly #totalBytes: number;
  readonly #sizeBlocks: number;
  #extents: MapExtent[] = [];
  #newMoments: PackedMoment[] = [];
  #lostPlace: RecordPlace | undefined;
  #waiting = 0;
  #records = 0;
  #momentCount: number;
  #doneBytes = 0;

  constructor(
    options: RebuildOptions,
    { map, segments }: { map: RecoveryMap; segments: SegmentReader },
    found: SegmentSurvey,
    survey: JournalSurvey,
  ) {
    const { retained, state } = survey;
    this.#options = options;
    this.#map = map;
    this.#segments = segments;
    this.#told = new Told(map, sizeAt(state.sizes, 0));
    for (const gap of state.gaps) this.#told.gaps.note(gap);
    for (const size of state.sizes) this.#told.sizes.note(size);
    this.#told.clients.noteLast(state.lastClient);
    const { sizes } = this.#told;
    this.#moments = new Moments(map);
    this.#baseline = new BaselineCoverage(map, sizes.initialBytes);
    this.#found = found;
    this.#survey = survey;
    this.#damage = [...found.damage, ...survey.damage];
    this.#totalBytes = [...found.captured, ...found.compacted].reduce((sum, { bytes }) => sum + bytes, 0);
    this.#sizeBlocks = blocksFor(sizes.largestBytes);
    this.#momentCount = retained.kept.length + 1;
    map.transaction(() => {
      this.#moments.add([{
        seq: retained.horizonSeq,
        timeUs: retained.horizonUs,
        kind: retained.horizonKind,
      }]);
      this.#moments.thin(retained.horizonSeq, retained.kept);
    });
  }

  async take(merged: Iterable<MergedRecord>): Promise<void> {
    for (const item of merged) {
      if (item.kind === "record") this.#takeRecord(item);
      else if (item.kind === "lost") this.#lose(item);
      else {
        this.#damage.push(item.damage);
        if (item.isUnknown) this.#lostPlace ??= item.damage;
      }
      if (++this.#waiting < BATCH_RECORDS) continue;
      await this.#write();
    }
    await this.#write();
  }

  #takeRecord({ header, place, isCaptured, bytes }: Extract<MergedRecord, { kind: "record" }>): void {
    this.#doneBytes += bytes;
    this.#records++;
    if (header.kind === "baseline") {
      this.#baseline.take(header, place, isCaptured);
      return;
    }
    if (header.kind === "meta" && isCaptured) this.#takeText(header, place);
    if (!isCommand(header.kind)) return;
    for (const extent of extentsOf(header)) {
      const hole = extent.payloadBlock < 0;
      this.#extents.push({
        seq: header.seq,
        firstBlock: extent.firstBlock,
        blockCount: extent.blockCount,
        segment: hole ? 0 : place.segment,
        recordOffset: hole ? 0 : place.offset,
        payloadBlock: Math.max(0, extent.payloadBlock),
      });
    }
    if (!isCaptured || header.seq <= this.#survey.retained.horizonSeq) return;
    const kind = header.kind === "flush" ? "flush" : header.kind === "mark" ? "mark" : "change";
    this.#newMoments.push({ seq: header.seq, timeUs: header.timeUs, kind: MOMENT_KINDS[kind] });
  }

  /** Who a client was is told once, in the segment that has its first record. */
  #takeText(header: RecordHeader, { segment, offset }: RecordPlace): void {
    const text = readText(this.#segments.bytesOf(segment), offset, header);
    if (text === undefined) return;
    const said = JSON.parse(text) as JournalText;
    if (said.type === "client") this.#told.take(said);
  }

  /** From here on every block is unproved. */
  #lose({ seq, place }: Extract<MergedRecord, { kind: "lost" }>): void {
    const { retained, state } = this.#survey;
    this.#extents.push({ seq, ...this.#allBlocks(place) });
    // A mark tells of its moment even where its record is gone.
    const mark = state.marks.find((mark) => mark.seq === seq);
    if (mark === undefined || seq <= retained.horizonSeq) return;
    this.#newMoments.push({ seq, timeUs: mark.timeUs, kind: MOMENT_KINDS.mark });
  }

  #allBlocks(place: RecordPlace): Omit<MapExtent, "seq"> {
    return {
      firstBlock: 0,
      blockCount: this.#sizeBlocks,
      segment: place.segment,
      recordOffset: place.offset,
      payloadBlock: 0,
    };
  }

  async #write(): Promise<void> {
    const { database } = this.#map;
    database.exec("BEGIN IMMEDIATE");
    await inTurns(this.#baseline.write(), this.#options.scheduler);
    await inTurns(this.#map.addExtents(this.#extents), this.#options.scheduler);
    this.#moments.add(this.#newMoments);
    this.#told.clients.save();
    database.exec("COMMIT");
    this.#momentCount += this.#newMoments.length;
    this.#extents = [];
    this.#newMoments = [];
    this.#waiting = 0;
    this.#options.onProgress?.(Math.min(this.#doneBytes, this.#totalBytes), this.#totalBytes);
  }

  finish(): RebuiltMap {
    const map = this.#map;
    const { tail, lastSeq, baselineComplete } = this.#survey;
    map.transaction(() => {
      const numbers = this.#found.captured.filter(({ segment }) => segment <= tail.segment)
        .map(({ previousBaseline }) => previousBaseline);
      this.#baseline.finish(baselineComplete, Math.max(0, ...numbers.slice(-1)));
      if (this.#lostPlace !== undefined) this.#loseBaseline(this.#lostPlace);
      this.#listSegments();
      this.#told.save();
      map.setState("indexed_seq", tail.seq);
      map.setState("durable_seq", tail.seq);
      map.setState("scan_seq", tail.seq);
      map.setState("scan_segment", tail.segment);
      map.setState("scan_offset", tail.offset);
    });
    this.#options.onProgress?.(this.#totalBytes, this.#totalBytes);
    return {
      segments: this.#found.captured.length + this.#found.compacted.length,
      records: this.#records,
      moments: this.#momentCount + lastSeq - tail.seq,
      damage: this.#damage,
    };
  }

  /** What was lost may have been content of an adopted disk: beneath all that is known of it, nothing is proved. */
  #loseBaseline(place: RecordPlace): void {
    const rows = this.#map.statement("SELECT id, region, packed FROM regions WHERE kind = 2").all();
    if (rows.length === 0) return;
    const whole: MapExtent = { seq: 0, ...this.#allBlocks(place) };
    const known = new Map(rows.map((row) => [Number(row["region"]), row]));
    for (let region = 0; region * REGION_BLOCKS < whole.blockCount; region++) {
      const row = known.get(region);
      const part: PackedExtent = {
        ...whole,
        blockCount: Math.min(REGION_BLOCKS, whole.blockCount - region * REGION_BLOCKS),
        payloadBlock: region * REGION_BLOCKS,
      };
      if (row === undefined) {
        this.#map.addBaseline([{ ...part, firstBlock: region * REGION_BLOCKS }]);
        continue;
      }
      this.#map.statement("UPDATE regions SET packed = ?, entries = entries + 1 WHERE id = ?").run(
        concatenate(packExtents([part]), blobOf(row["packed"])),
        Number(row["id"]),
      );
    }
  }

  #listSegments(): void {
    const insert = this.#map.statement(
      "INSERT INTO segments (segment, first_seq, last_seq, bytes, compacted, retired) VALUES (?, ?, ?, ?, ?, ?)",
    );
    const { captured, compacted, replaced } = this.#found;
    const { tail, retained } = this.#survey;
    for (const [index, { segment, previousSeq = 0, bytes }] of captured.entries()) {
      if (segment >= tail.segment) break;
      const lastSeq = captured[index + 1]?.previousSeq ?? tail.seq;
      insert.run(segment, previousSeq + 1, lastSeq, bytes, 0, 0);
    }
    for (const { segment, previousSeq = 0, bytes } of compacted) {
      insert.run(segment, previousSeq + 1, retained.horizonSeq, bytes, 1, 0);
    }
    for (const { segment, bytes } of replaced) insert.run(segment, 0, 0, bytes, 0, 1);
  }
}

/**
 * One protected volume: its live device, its history, and its life from creation to deletion.
 *
 * @module
 */
import path from "node:path";
import type { BlockDevice } from "../base/block_device.ts";
import type { Clock } from "../base/clock.ts";
import { VarveError } from "../base/errors.ts";
import { type Scheduler, systemScheduler } from "../base/turns.ts";
import type { MarkRow, VolumeRow } from "../catalog/catalog.ts";
import { BaselineLedger } from "../catalog/baseline_ledger.ts";
import type { ClientIdentity } from "../catalog/clients.ts";
import type { Gap, Gaps } from "../catalog/gaps.ts";
import { REBUILD_HINT } from "../catalog/database.ts";
import { isRetained, Moments, type Retained } from "../catalog/moments.ts";
import { RecoveryMap } from "../catalog/recovery_map.ts";
import type { Sizes } from "../catalog/sizes.ts";
import type { Disk, SpaceGuard } from "../disk/mod.ts";
import { JournalWriter, type ScannedRecord, SegmentReader } from "../journal/mod.ts";
import { VOLUME_FILES } from "../timeline/past.ts";
import type { ChangeSpan } from "../timeline/changes.ts";
import { RegionCache, View } from "../timeline/view.ts";
import { BASELINE_BYTES_PER_SECOND, scanBaseline } from "./baseline.ts";
import { textOfGap } from "./gap_texts.ts";
import type { JournalText } from "./journal_text.ts";
import { JournalState } from "./journal_state.ts";
import { type CaptureHands, type CapturePlace, LocalHands } from "./capture_hands.ts";
import { BATCH_RECORDS } from "./indexer.ts";
import { LiveVolume } from "./live_volume.ts";
import { Primary } from "./primary.ts";
import { type PruneHands, PruneWork } from "./prune_work.ts";
import { type RecoveredJournal, recoverVolume } from "./recovery.ts";
import type { ResizeEnd } from "./resize.ts";
import { Told } from "./told.ts";

/** Size at which a segment is finished and the next begun, in bytes. */
export const SEGMENT_BYTES = 64 * 1024 * 1024;

/** A prune looks at a segment that is not full when it has at least this size, in bytes. */
const SEAL_BYTES_MIN = 1024 * 1024;

/** What a volume needs from around it. */
export interface VolumeSurroundings {
  /** Storage. */
  readonly disk: Disk;
  /** Time. */
  readonly clock: Clock;
  /** Turns. Default: the event loop. */
  readonly scheduler?: Scheduler;
  /** The volume's folder. */
  readonly directory: string;
  /** The volume as the catalogue has it now; every new segment repeats it. */
  readonly describe: () => { volume: VolumeRow; marks: MarkRow[] };
  /** Keeps watch over the space, given the primary's place. Default: nobody does. */
  readonly guard?: (primaryPath: string) => SpaceGuard;
  /** Size at which a segment is finished. Default {@linkcode SEGMENT_BYTES}. */
  readonly segmentBytes?: number;
  /** Records that the recovery map learns of at once. Default {@linkcode BATCH_RECORDS}. */
  readonly batchRecords?: number | undefined;
  /** Finds somebody else to do the long work of capture, given who does it on this thread. Default: nobody. */
  readonly handsFor?: ((local: CaptureHands, place: CapturePlace) => CaptureHands) | undefined;
  /** Bytes a second at which an adopted disk is copied. Default {@linkcode BASELINE_BYTES_PER_SECOND}. */
  readonly baselineBytesPerSecond?: number | undefined;
  /** Whether hosts may write past a history that has no space. Asked each time. Default: never. */
  readonly passthrough?: () => boolean;
  /** Sequences that prunes must keep whatever the policy says. Asked at each prune. Default: none. */
  readonly held?: () => ReadonlySet<number>;
  /** Told when a gap in the history begins and when it has ended. */
  readonly onGap?: (gap: Gap) => void;
  /** Told what a prune has left of the history: marks of other moments go. */
  readonly onThinned: (retained: Retained) => void;
  /** Told what marks and meta records found at the start say, in order; it may have been told before. */
  readonly onText: (text: JournalText, record: ScannedRecord) => void;
  /** Told of failures in the background. */
  readonly onFailure: (error: VarveError) => void;
}

/** A volume that is open. */
export class Volume {
  /** 32 hexadecimal digits. */
  readonly id: string;
  /** The volume's folder. */
  readonly directory: string;
  /** Its recovery map. */
  readonly map: RecoveryMap;
  /** Its moments. */
  readonly moments: Moments;
  /** Gaps in its history. */
  readonly gaps: Gaps;
  /** The sizes that it has had. */
  readonly sizes: Sizes;
  readonly #told: Told;
  /** The reading end of its journal. */
  readonly segments: SegmentReader;
  /** The writing end, or `undefined` when the volume has failed. */
  readonly journal: JournalWriter | undefined;
  /** What recovery did when the volume was opened. */
  readonly recovered: RecoveredJournal;
  /** Why the live device cannot be used, or `undefined`. History can be read all the same. */
  readonly failure: VarveError | undefined;
  readonly #regions: RegionCache;
  readonly #primary: Primary | undefined;
  readonly #createdUs: number;
  /** Segments that a prune under way is going to delete: nothing else works on them. */
  readonly condemned: Set<number> = new Set<number>();
  /** Work of others that lasts no longer than the volume is open. */
  readonly #guests = new Set<Promise<unknown>>();
  /** Gives turns. */
  readonly scheduler: Scheduler;
  readonly #space: SpaceGuard | undefined;
  readonly #surroundings: VolumeSurroundings;
  readonly #stop = new AbortController();
  readonly #state: JournalState;
  readonly #live: LiveVolume | undefined;
  readonly #baselineBytesPerSecond: number;
  /** Coverage of an adopted disk until all of it is copied. */
  #ledger: BaselineLedger | undefined;
  #baselineRun: Promise<void> | undefined;
  #resizing = false;

  private constructor(
    row: VolumeRow,
    parts: {
      surroundings: VolumeSurroundings;
      map: RecoveryMap;
      told: Told;
      segments: SegmentReader;
      journal: JournalWriter | undefined;
      primary: Primary | undefined;
      recovered: RecoveredJournal;
      failure: VarveError | undefined;
      ledger: BaselineLedger | undefined;
      space: SpaceGuard | undefined;
      state: JournalState;
    },
  ) {
    this.id = row.id;
    this.directory = parts.surroundings.directory;
    this.map = parts.map;
    this.#told = parts.told;
    this.gaps = parts.told.gaps;
    this.sizes = parts.told.sizes;
    this.moments = new Moments(parts.map, parts.told.gaps);
    this.segments = parts.segments;
    this.journal = parts.journal;
    this.recovered = parts.recovered;
    this.failure = parts.failure;
    this.#regions = new RegionCache(parts.map);
    this.#primary = parts.primary;
    this.#createdUs = row.createdUs;
    this.scheduler = parts.surroundings.scheduler ?? systemScheduler;
    this.#surroundings = parts.surroundings;
    this.#state = parts.state;
    this.#baselineBytesPerSecond = parts.surroundings.baselineBytesPerSecond ?? BASELINE_BYTES_PER_SECOND;
    this.#ledger = parts.ledger;
    this.#space = parts.space;
    this.#live = this.#goLive();
  }

  /**
   * Opens a volume and brings it to the state of its last whole record. A primary that is missing or too short does
   * not keep its history from being opened: then `failure` tells why there is no live device.
   */
  static async open(row: VolumeRow, surroundings: VolumeSurroundings): Promise<Volume> {
    const { disk, directory, clock } = surroundings;
    const segmentsDirectory = path.join(directory, VOLUME_FILES.segments);
    const map = new RecoveryMap(path.join(directory, VOLUME_FILES.map), { disk });
    const segments = new SegmentReader(disk, segmentsDirectory);
    let primary: Primary | undefined;
    try {
      if (map.getState("baseline_bytes", -1) < 0) {
        throw new VarveError(
          "damaged",
          `open the recovery map in ${directory}: it is missing or was never finished`,
          {
            hint: REBUILD_HINT,
          },
        );
      }
      // The catalogue learns of a size after the map: where the map has none, the volume was never resized.
      const told = new Told(map, row.sizeBytes);
      const { gaps, sizes } = told;
      const isCopied = () => map.getState("baseline_bytes", 0) >= sizes.initialBytes;
      const ledger = isCopied() ? undefined : new BaselineLedger(map, sizes.initialBytes);
      let failure: VarveError | undefined;
      try {
        primary = openPrimary(row, disk);
        checkPrimary(primary, row, sizes.newestBytes);
        primary.setSize(sizes.largestBytes);
      } catch (thrown) {
        primary?.close();
        primary = undefined;
        failure = VarveError.from(thrown, "open the primary");
      }
      const recovered = await recoverVolume({
        directory: segmentsDirectory,
        volumeId: row.id,
        disk,
        segments,
        map,
        told,
        primary,
        baseline: ledger,
        scheduler: surroundings.scheduler ?? systemScheduler,
        onText: (record) => {
          const text = JSON.parse(record.text ?? "null") as JournalText;
          told.take(text);
          // What was captured while the volume was larger is redone, as far as there is something left of the primary.
          primary?.setSize(sizes.largestBytes);
          if (text.type !== "volume") surroundings.onText(text, record);
        },
      });
      if (primary !== undefined) {
        try {
          checkPrimary(primary, row, sizes.newestBytes);
          primary.setSize(sizes.newestBytes);
        } catch (thrown) {
          failure = VarveError.from(thrown, "open the primary");
          primary.close();
          primary = undefined;
        }
      }
      const state = new JournalState({
        type: "volume",
        ...surroundings.describe(),
        sizes: [...sizes.list],
        lastClient: told.clients.last,
        retained: new Moments(map).retained(),
        baselineComplete: isCopied(),
        gaps: gaps.list.map(textOfGap),
        durableSeq: recovered.lastSeq,
      });
      let opened: Volume | undefined;
      const space = surroundings.guard?.(row.primaryPath);
      const journal = primary === undefined ? undefined : new JournalWriter(disk, {
        ...(space === undefined ? {} : { space }),
        directory: segmentsDirectory,
        volumeId: row.id,
        nextSegment: recovered.nextSegment,
        lastSeq: recovered.lastSeq,
        lastBaseline: recovered.lastBaseline,
        segmentBytes: surroundings.segmentBytes ?? SEGMENT_BYTES,
        clock,
        describe: () => opened?.describeText() ?? "",
      });
      return opened = new Volume(row, {
        surroundings,
        map,
        told,
        segments,
        journal,
        primary,
        recovered,
        failure,
        ledger: isCopied() ? undefined : ledger,
        space,
        state,
      });
    } catch (thrown) {
      segments.close();
      map.close();
      primary?.close();
      throw thrown;
    }
  }

  #goLive(): LiveVolume | undefined {
    if (this.#primary === undefined || this.journal === undefined) return undefined;
    const { clock, passthrough, onGap, onFailure, handsFor, batchRecords = BATCH_RECORDS } =
      this.#surroundings;
    const primaryPath = this.#primary.threadPath;
    const local = new LocalHands({
      map: this.map,
      primary: this.#primary,
      segments: this.segments,
      scheduler: this.scheduler,
    });
    return new LiveVolume({
      primary: this.#primary,
      journal: this.journal,
      segments: this.segments,
      map: this.map,
      hands: primaryPath === undefined
        ? local
        : handsFor?.(local, { directory: this.directory, primaryPath }) ?? local,
      told: this.#told,
      clock,
      batchRecords,
      scheduler: this.scheduler,
      lastTimeUs: Math.max(this.recovered.lastTimeUs, this.#createdUs),
      ...(this.#ledger === undefined ? {} : { baseline: { ledger: this.#ledger, timeUs: this.#createdUs } }),
      ...(this.#space === undefined ? {} : { space: this.#space }),
      // What an adopted disk held must not be overwritten before history has a copy of it.
      passthrough: () => this.baselineComplete && (passthrough?.() ?? false),
      onGap: onGap ?? (() => {}),
      onFailure,
      view: (seq) => this.#view(seq, () => this.sizeBytes),
      onText: (text, record) => this.#state.take(JSON.parse(text) as JournalText, record),
      lastText: () => this.#state.deleted ? undefined : this.describeText(),
    });
  }

  /** The text that says everything about the volume; it opens every segment. */
  describeText(): string {
    return JSON.stringify(this.#state.text({
      volume: this.#surroundings.describe().volume,
      durableSeq: this.durableSeq,
      baselineComplete: this.baselineComplete,
      gaps: this.gaps.list.map(textOfGap),
    }));
  }

  /**
   * Says in the journal, durably, that the volume was deleted, so that a rebuild does not bring it back. A volume whose
   * primary is gone gets a segment for it. Returns the segment that says it last.
   */
  async describeDeletion(): Promise<number> {
    const text = JSON.stringify({ type: "volume-deleted" } satisfies JournalText);
    if (this.#live !== undefined) {
      // Never told: should the catalogue not forget the volume, the next start is to meet this text.
      await this.#live.describe(text);
      return this.#live.position.place.segment;
    }
    const journal = this.journal ?? new JournalWriter(this.#surroundings.disk, {
      directory: path.join(this.directory, VOLUME_FILES.segments),
      volumeId: this.id,
      nextSegment: this.recovered.nextSegment,
      lastSeq: this.recovered.lastSeq,
      lastBaseline: this.recovered.lastBaseline,
      segmentBytes: SEGMENT_BYTES,
      clock: this.#surroundings.clock,
      describe: () => this.describeText(),
    });
    journal.append(
      {
        kind: "meta",
        flags: 0,
        seq: this.recovered.lastSeq,
        timeUs: this.lastTimeUs,
        offset: 0,
        length: 0,
        firstBlock: 0,
        client: 0,
      },
      new TextEncoder().encode(text),
    );
    await journal.sync();
    const { segment } = journal.position;
    if (journal !== this.journal) await journal.close();
    return segment;
  }

  /** Whether history holds a copy of everything that an adopted primary held. */
  get baselineComplete(): boolean {
    return this.#ledger === undefined;
  }

  /** Size in bytes, now. */
  get sizeBytes(): number {
    return this.#live?.sizeBytes ?? this.sizes.newestBytes;
  }

  /** Bytes of the primary that have a copy in history, or never held anything. */
  get baselineBytes(): number {
    return this.#ledger?.coveredBytes ?? this.sizeBytes;
  }

  /** Throws `conflict` while history does not hold all that an adopted primary held: then no moment can be proved. */
  checkPast(tried: string): void {
    if (this.#ledger === undefined) return;
    const done = `${this.baselineBytes} of ${this.sizeBytes} bytes of the adopted disk are copied`;
    throw new VarveError(
      "conflict",
      this.#live === undefined
        ? `${tried}: only ${done}, and its primary cannot be used`
        : `${tried}: only ${done}; every write is captured meanwhile`,
      {
        hint: this.#live === undefined
          ? "Bring the primary back as it was and start the appliance again."
          : "Wait until varve volume show reports the state ready.",
        details: { doneBytes: this.baselineBytes, totalBytes: this.sizeBytes },
      },
    );
  }

  /** The live device; throws when the primary has failed. */
  get live(): LiveVolume {
    if (this.#live !== undefined) return this.#live;
    throw this.failure ?? new VarveError("conflict", "use the live volume: there is none");
  }

  /** Whether there is a live device. */
  get isLive(): boolean {
    return this.#live !== undefined;
  }

  /** Marks as the journal tells them up to now; the catalogue may learn of the last ones a moment later. */
  get marks(): readonly MarkRow[] {
    return this.#state.marks;
  }

  /** Sequences that prunes must keep whatever the policy says. */
  heldSeqs(): ReadonlySet<number> {
    return this.#surroundings.held?.() ?? new Set();
  }

  /** Whether a moment is there; false from the instant on at which a prune has decided to drop it. */
  isRetained(seq: number): boolean {
    return isRetained(this.#state.retained, seq);
  }

  /** Newest sequence. */
  get lastSeq(): number {
    return this.#live?.lastSeq ?? this.recovered.lastSeq;
  }

  /** Time of the newest sequence, in microseconds. */
  get lastTimeUs(): number {
    return this.#live?.lastTimeUs ?? Math.max(this.recovered.lastTimeUs, this.#createdUs);
  }

  /** Gaps that reach into what is retained, oldest first. */
  retainedGaps(): Gap[] {
    const oldest = this.moments.oldest()?.seq ?? 0;
    return this.gaps.list.filter(({ toSeq }) => toSeq === undefined || toSeq > oldest);
  }

  /** The newest moment that can be told, indexed or not. */
  get newest(): { seq: number; timeUs: number } {
    const last = { seq: this.lastSeq, timeUs: this.lastTimeUs };
    const fromSeq = this.gaps.open?.fromSeq;
    if (fromSeq === undefined || fromSeq === last.seq) return last;
    const search = this.moments.atSeq(fromSeq);
    return search.found ?? search.older ?? last;
  }

  /** Newest sequence durable in the primary and in the history. */
  get durableSeq(): number {
    return this.#live?.durableSeq ?? this.map.getState("durable_seq", 0);
  }

  /** Newest sequence in the recovery map. */
  get indexedSeq(): number {
    return this.#live?.indexer.indexedSeq ?? this.map.getState("indexed_seq", 0);
  }

  /** Copies what is missing of an adopted disk in the background; resolves when that is complete, or was stopped. */
  completeBaseline(): Promise<void> {
    return this.#baselineRun ??= this.#copyBaseline();
  }

  async #copyBaseline(): Promise<void> {
    const live = this.#live;
    const ledger = this.#ledger;
    if (live?.baseline === undefined || ledger === undefined) return;
    const isComplete = await scanBaseline({
      scheduler: this.scheduler,
      live,
      copier: live.baseline,
      ledger,
      map: this.map,
      bytesPerSecond: this.#baselineBytesPerSecond,
      onFailure: this.#surroundings.onFailure,
      signal: this.#stop.signal,
    });
    if (isComplete) this.#ledger = undefined;
  }

  /** The newest clients that changed it, and those that are connected; without a live device nobody is. */
  newestClients(limit: number): { identity: ClientIdentity; isConnected: boolean }[] {
    return this.#live?.connections.newest(limit) ??
      this.#told.clients.newest(limit).map((identity) => ({ identity, isConnected: false }));
  }

  /** Resolves when the recovery map covers everything captured before the call. */
  async settle(): Promise<void> {
    await this.#live?.indexer.upTo(this.#live.lastSeq);
  }

  /** As `settle`; besides, finishes the present segment when it is of some size, so that a prune can look at it. */
  async settleSegments(): Promise<void> {
    const { live, journal } = this;
    await live.sync();
    await this.settle();
    if (journal !== undefined && journal.position.offset >= SEAL_BYTES_MIN) journal.seal();
    // Capture goes on meanwhile: the position behind the seal is what the next start may begin at, not the newest.
    const position = live.position;
    await Promise.all([live.indexer.settle(), live.sync()]);
    await this.exclusively(() => {
      this.map.transaction(() => {
        if (position.seq >= this.map.getState("scan_seq", 0)) live.indexer.savePosition(position);
      });
      return Promise.resolve();
    });
  }

  /** Does the work of a prune on this thread, in turns, until `signal` is aborted. */
  pruneWork({ signal }: { readonly signal: AbortSignal }): PruneHands {
    return new PruneWork({
      map: this.map,
      disk: this.#surroundings.disk,
      directory: path.join(this.directory, VOLUME_FILES.segments),
      scheduler: this.scheduler,
      exclusively: (work) => this.exclusively(work),
      signal,
    });
  }

  /** Has the marks forgotten of which a prune has left no moment. */
  forgetMarks(retained: Retained): void {
    this.#surroundings.onThinned(retained);
  }

  /** Runs work on the recovery map when no batch is being indexed. */
  async exclusively<T>(work: () => Promise<T>): Promise<T> {
    return await this.live.indexer.queue.run(work);
  }

  /** The volume as of a sequence; resolves when the map covers it. Its bytes never change. See `checkPast`. */
  view(seq: number): Promise<BlockDevice> {
    return this.#view(seq, () => this.sizes.at(seq));
  }

  /** The size is asked for when the map covers the sequence: a resize that is under way is known then. */
  async #view(seq: number, sizeBytes: () => number): Promise<BlockDevice> {
    this.checkPast(`read sequence ${seq}`);
    await this.#live?.indexer.upTo(seq);
    return new View({ regions: this.#regions, segments: this.segments }, seq, sizeBytes());
  }

  /**
   * Gives the live device another size; see `resize.ts` for the order. Resolves when journal and map have it. Throws
   * `conflict` while an adopted disk is being copied, while there is a gap, or while another resize is under way, and
   * `cancelled` when `signal` is aborted before the journal has been told.
   */
  async resize(sizeBytes: number, signal?: AbortSignal): Promise<ResizeEnd> {
    const { live } = this;
    this.checkPast("resize");
    if (this.#resizing) throw new VarveError("conflict", "resize: the volume is being resized already");
    this.#resizing = true;
    try {
      const end = await live.resize(sizeBytes, signal);
      return {
        ...end,
        finish: async () => {
          try {
            await end.finish();
          } finally {
            this.#resizing = false;
          }
        },
      };
    } catch (thrown) {
      this.#resizing = false;
      throw thrown;
    }
  }

  /**
   * What tells where the volume changed after one moment up to another. Both must be in the map; throws `not-retained`
   * when one does not exist, and as `checkPast`. To be asked for again after every turn: a prune may drop moments meanwhile.
   */
  changes(fromSeq: number, toSeq: number): ChangeSpan {
    this.checkPast(`read the changes since sequence ${fromSeq}`);
    for (const seq of [fromSeq, toSeq]) {
      if (this.moments.atSeq(seq).found !== undefined) continue;
      throw new VarveError(
        "not-retained",
        `read the changes up to a moment: sequence ${seq} is not retained`,
        {
          hint: "Ask for moments that are still kept.",
        },
      );
    }
    return { regions: this.#regions, fromSeq, toSeq };
  }

  /** Forgets resolved regions: compaction has moved bytes. */
  forgetRegions(): void {
    this.#regions.clear();
  }

  /** Bytes that history takes: segments and maps. */
  historyBytes(disk: Disk): number {
    const directory = path.join(this.directory, VOLUME_FILES.segments);
    const places = disk.list(directory).map((name) => path.join(directory, name));
    for (const suffix of ["", "-wal", "-shm"]) {
      places.push(path.join(this.directory, VOLUME_FILES.map + suffix));
    }
    return places.reduce((sum, place) => sum + (disk.stat(place)?.sizeBytes ?? 0), 0);
  }

  /** Runs work of others on this volume; when the volume is closed, `signal` is aborted and the closing waits for it. */
  async whileOpen<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    if (this.#stop.signal.aborted) throw new VarveError("cancelled", "work on a volume: it is being closed");
    const running = work(this.#stop.signal);
    this.#guests.add(running);
    try {
      return await running;
    } finally {
      this.#guests.delete(running);
    }
  }

  /** Makes everything durable and closes the volume. */
  async close(): Promise<void> {
    this.#stop.abort();
    await Promise.allSettled(this.#guests);
    await this.#baselineRun?.catch(() => {});
    if (this.#live !== undefined) {
      await this.#live.close();
      return;
    }
    try {
      await this.journal?.close();
    } finally {
      this.segments.close();
      this.#primary?.close();
      this.map.close();
    }
  }
}

function openPrimary(row: VolumeRow, disk: Disk): Primary {
  const isDevice = disk.stat(row.primaryPath)?.kind === "block";
  return new Primary(disk.open(row.primaryPath, { mode: "write" }), 0, {
    isDevice,
    isManaged: row.primaryManaged,
  });
}

/** Throws `io` unless the primary is at least as long as the volume. */
function checkPrimary(primary: Primary, row: VolumeRow, sizeBytes: number): void {
  const found = primary.storedBytes;
  if (found >= sizeBytes) return;
  throw new VarveError(
    "io",
    `open the primary ${row.primaryPath}: it has ${found} bytes, the volume has ${sizeBytes}`,
    { hint: "Something else has shortened it; recover the volume from its history to a new disk." },
  );
}

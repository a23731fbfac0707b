/**
 * The live block device of a volume: every command goes to the journal first and to the primary later.
 *
 * The order of steps, and what breaks if two are swapped:
 *
 * 1. A command is appended to the journal and entered in the overlay, which live reads consult first.
 * 2. `commit` hands the journal to the kernel. Only then may the host be answered: otherwise the death of this
 *    process could take an acknowledged write with it.
 * 3. The journal is synced.
 * 4. The extents that the sync covered are applied to the primary. Before step 3 the kernel could put the primary's
 *    page on storage and lose the journal's: after a power cut the primary would hold a write that history never saw.
 * 5. The primary is synced. A FLUSH is answered here, and the redo position moves here: moved earlier, a power cut
 *    could lose what step 4 had written while the next start no longer redoes it.
 * 6. The recovery map learns of records that step 3 has covered, in batches, whenever it suits.
 *
 * Steps 3 and 4 are also taken {@linkcode APPLY_DELAY_MS} after the first change that waits for them. Step 5 may take
 * seconds on slow storage, so steps 3, 4 and 6 go on meanwhile for what came later; what the next start would have to redo
 * stays bounded, because a writer waits when it is too much.
 *
 * A command that the journal refuses for want of space may pass it: `gap.ts` tells how. `resize.ts` tells how the size
 * changes.
 *
 * @module
 */
import { BLOCK_BYTES, type BlockDevice, type CommandOptions, type Extent } from "../base/block_device.ts";
import { blockOf, blocksFor, checkRange } from "../base/bytes.ts";
import type { Clock } from "../base/clock.ts";
import { VarveError } from "../base/errors.ts";
import type { Scheduler, Timer } from "../base/turns.ts";
import { Connections, type NewClient } from "../catalog/clients.ts";
import { MOMENT_KINDS } from "../catalog/packing.ts";
import type { MapExtent, RecoveryMap } from "../catalog/recovery_map.ts";
import type { SpaceGuard } from "../disk/mod.ts";
import {
  extentsOf,
  type JournalWriter,
  type NewRecord,
  RECORD_FUA,
  SEGMENT_HEADER_BYTES,
  type SegmentReader,
} from "../journal/mod.ts";
import type { BaselineLedger } from "../catalog/baseline_ledger.ts";
import { BaselineCopier } from "./baseline_copier.ts";
import { type CaptureHands, recordSegments } from "./capture_hands.ts";
import { type GapParts, GapPassage } from "./gap.ts";
import { type Change, Durability, lengthOf } from "./durability.ts";
import { BATCH_RECORDS, Indexer, type ScanPosition } from "./indexer.ts";
import type { JournalText } from "./journal_text.ts";
import { liveExtents } from "./live_extents.ts";
import type { Primary } from "./primary.ts";
import { gapInTheWay, resize, type ResizeEnd, type ResizeHost } from "./resize.ts";
import type { Told } from "./told.ts";
import { holeWithEdges, wholeBlocks } from "./widening.ts";
import { isNoSpace, Wall } from "./wall.ts";

/** How long a change waits at most until it is on its way to the primary, in milliseconds. */
export const APPLY_DELAY_MS = 40;
/** After so long without a full batch the map learns of what there is, in milliseconds. */
const INDEX_DELAY_MS = 1000;
/** Work in the background that failed is tried again after so long, in milliseconds. */
const RETRY_MS = 500;
/** Blocks in overlays above which a writer is asked to wait. */
const OVERLAY_BLOCKS_MAX = 65_536;
/** Records not in the map yet above which a writer is asked to wait. */
const PENDING_RECORDS_MAX = 4 * BATCH_RECORDS;
/** Records, and bytes of them, that the next start would have to redo, above which a writer is asked to wait. */
const REDO_RECORDS_MAX = 262_144;
const REDO_BYTES_MAX = 1024 * 1024 * 1024;
/** Such bytes above which the primary is synced without being asked, so that no writer has to wait for it. */
const SYNC_BYTES = REDO_BYTES_MAX / 4;
/** Bytes that went past the journal and are not durable yet, above which a writer is asked to wait. */
const PASSED_BYTES_MAX = 64 * 1024 * 1024;

/** What a live volume is put together from; it takes over all of it. */
export interface LiveVolumeParts extends Omit<GapParts, "gaps"> {
  /** What the texts tell. */
  readonly told: Told;
  /** The live bytes. */
  readonly primary: Primary;
  /** The writing end of the journal. */
  readonly journal: JournalWriter;
  /** The reading end. */
  readonly segments: SegmentReader;
  /** The recovery map. */
  readonly map: RecoveryMap;
  /** Bring what is in the journal to the primary and to the map. */
  readonly hands: CaptureHands;
  /** Tells the time. */
  readonly clock: Clock;
  /** Gives turns. */
  readonly scheduler: Scheduler;
  /** Records that the map learns of at once. */
  readonly batchRecords: number;
  /** Time of the last record, in microseconds. */
  readonly lastTimeUs: number;
  /** Coverage of an adopted disk that is not copied completely yet, and the time of its adoption in microseconds. */
  readonly baseline?: { readonly ledger: BaselineLedger; readonly timeUs: number };
  /** Keeps watch over the space. Default: nobody does. */
  readonly space?: SpaceGuard;
  /** Told of failures in the background; the next call by a host meets them too. */
  readonly onFailure: (error: VarveError) => void;
  /** Told of every text in the journal as it is appended. */
  readonly onText: (text: string, record: { seq: number; timeUs: number }) => void;
  /** A text to end the last segment with when the volume is closed. */
  readonly lastText: () => string | undefined;
}

type CommandKind = "write" | "trim" | "zero" | "flush" | "mark";

/** The live device. See the module's comment for the order of its work. */
export class LiveVolume implements BlockDevice {
  readonly readOnly = false;
  /** Brings records into the recovery map. */
  readonly indexer: Indexer;
  /** Keeps the old content of an adopted disk that is not copied completely yet. */
  readonly baseline: BaselineCopier | undefined;
  /** Connections to it. */
  readonly connections: Connections;
  readonly #parts: LiveVolumeParts;
  readonly #gap: GapPassage;
  readonly #durability: Durability;
  readonly #wall: Wall;
  /** Positions before texts that are not known to be in the catalogue, oldest first. */
  readonly #textsUnderWay = new Set<ScanPosition>();
  #sizeBytes: number;
  #lastTimeUs: number;
  #applyTimer: Timer | undefined;
  #indexTimer: Timer | undefined;
  #indexing = false;
  #failure: VarveError | undefined;
  #closed = false;

  /** Begins with an empty overlay: everything in the journal is in the primary and durable. */
  constructor(parts: LiveVolumeParts) {
    this.#parts = parts;
    this.#sizeBytes = parts.primary.sizeBytes;
    this.connections = new Connections(parts.told.clients);
    this.#lastTimeUs = parts.lastTimeUs;
    this.#durability = new Durability({
      ...parts,
      position: () => this.position,
      relieved: (work) => this.#wall.relieved(work),
    });
    this.indexer = new Indexer(parts.map, {
      hands: parts.hands,
      makeDurable: () => this.#durability.reach("journal"),
      position: () => this.position,
      durable: () => this.#durability.durable,
      oldestText: () => this.#textsUnderWay.values().next().value,
      takeFinished: () => parts.journal.takeFinished(),
      told: parts.told,
      batchRecords: parts.batchRecords,
    }, parts.baseline?.ledger);
    this.baseline = parts.baseline && new BaselineCopier({ ...parts, ...parts.baseline }, (entry) => {
      this.indexer.addBaseline(entry);
      this.#scheduleIndex();
    });
    this.#wall = new Wall(parts.space);
    this.#wall.owes({
      overlayBytes: () => this.#durability.waitingBlocks * BLOCK_BYTES,
      unusedBytes: () => parts.journal.unusedBytes,
      records: () => this.indexer.pendingRecords,
    });
    this.#gap = new GapPassage({ ...parts, gaps: parts.told.gaps }, {
      sizeBytes: () => this.#sizeBytes,
      newest: () => ({ seq: this.lastSeq, timeUs: this.#lastTimeUs }),
      read: (offset, target) => this.read(offset, target),
      pass: (change) => this.#durability.pass(change),
      capture: (change) => this.#captureChange(change, {}),
      captureFlush: () => this.#captureFlush({}),
      drain: () => this.#durability.reach("primary"),
      describe: async (text) => (await this.describe(text))(),
      exclusively: (work) => this.indexer.queue.run(work),
      pressure: () => this.#backlogPressure(),
    });
  }

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  /** Newest sequence. */
  get lastSeq(): number {
    return this.#parts.journal.lastSeq;
  }

  /** Time of the newest sequence, in microseconds. */
  get lastTimeUs(): number {
    return this.#lastTimeUs;
  }

  /** Newest sequence that survives power loss in the primary and in the history. */
  get durableSeq(): number {
    return this.#durability.durable.seq;
  }

  /** Newest sequence, and where the record after it will lie. */
  get position(): ScanPosition {
    const { lastSeq, lastBaseline, position } = this.#parts.journal;
    return { seq: lastSeq, baseline: lastBaseline, place: position };
  }

  read(offset: number, target: Uint8Array): void {
    checkRange("read", offset, target.length, this.sizeBytes);
    this.#readCaptured(offset, target);
    this.#gap.paint(offset, target);
  }

  #readCaptured(offset: number, target: Uint8Array): void {
    if (this.#durability.isEmpty) {
      this.#parts.primary.read(offset, target);
      return;
    }
    const end = offset + target.length;
    let at = offset;
    while (at < end) {
      const extent = this.#durability.find(blockOf(at));
      let until = Math.min(end, (blockOf(at) + 1) * BLOCK_BYTES);
      while (until < end && isSame(this.#durability.find(blockOf(until)), extent)) {
        until = Math.min(end, until + BLOCK_BYTES);
      }
      const part = target.subarray(at - offset, until - offset);
      if (extent === undefined) this.#parts.primary.read(at, part);
      else if (extent.segment === 0) part.fill(0);
      else this.#readJournal(extent, at, part);
      at = until;
    }
  }

  #readJournal(extent: MapExtent, offset: number, target: Uint8Array): void {
    const { segment, recordOffset } = extent;
    if (this.#parts.journal.isBuffered({ segment, offset: recordOffset })) this.commit();
    const firstBlock = blockOf(offset);
    const blockCount = blocksFor(offset + target.length) - firstBlock;
    const aligned = offset % BLOCK_BYTES === 0 && target.length === blockCount * BLOCK_BYTES;
    const bytes = aligned ? target : new Uint8Array(blockCount * BLOCK_BYTES);
    this.#parts.segments.readBlocks({
      segment,
      recordOffset,
      payloadBlock: extent.payloadBlock + (firstBlock - extent.firstBlock),
      blockCount,
      seq: extent.seq,
      firstBlock,
    }, bytes);
    if (aligned) return;
    const from = offset - firstBlock * BLOCK_BYTES;
    target.set(bytes.subarray(from, from + target.length));
  }

  /** A whole block as it is now; beyond the end of the volume it is padded with zeroes. */
  #readBlock(block: number): Uint8Array {
    const bytes = new Uint8Array(BLOCK_BYTES);
    const start = block * BLOCK_BYTES;
    this.read(start, bytes.subarray(0, Math.min(BLOCK_BYTES, this.sizeBytes - start)));
    return bytes;
  }

  write(offset: number, data: Uint8Array, options: CommandOptions = {}): void {
    this.#checkCommand("write", offset, data.length);
    if (data.length > 0) this.#change({ kind: "write", offset, data }, options);
  }

  #captureWrite(offset: number, data: Uint8Array, options: CommandOptions): void {
    const payload = wholeBlocks(offset, data, (block) => this.#readBlock(block));
    this.#capture("write", 0, offset, data.length, blockOf(offset), options, payload);
  }

  trim(offset: number, length: number, options: CommandOptions = {}): void {
    this.#checkCommand("trim", offset, length);
    if (length > 0) this.#change({ kind: "trim", offset, length }, options);
  }

  zero(offset: number, length: number, options: CommandOptions = {}): void {
    this.#checkCommand("zero", offset, length);
    if (length > 0) this.#change({ kind: "zero", offset, length }, options);
  }

  /** Captures a change, or lets it pass while there is a gap. */
  #change(change: Change, options: CommandOptions): void {
    if (this.#gap.take(change)) return;
    try {
      this.#captureChange(change, options);
    } catch (thrown) {
      if (!this.#gap.refused(thrown, change)) throw thrown;
    }
  }

  #captureChange(change: Change, options: CommandOptions): void {
    this.baseline?.cover(change.offset, lengthOf(change));
    if (change.kind === "write") this.#captureWrite(change.offset, change.data, options);
    else this.#captureHole(change.kind, change.offset, change.length, options);
  }

  #captureHole(
    kind: "trim" | "zero",
    offset: number,
    length: number,
    options: CommandOptions,
    sizeBytes: number = this.sizeBytes,
  ): void {
    const { flags, firstBlock, payload } = holeWithEdges(
      offset,
      length,
      sizeBytes,
      (block) => this.#readBlock(block),
    );
    this.#capture(kind, flags, offset, length, firstBlock, options, payload);
  }

  #checkCommand(kind: CommandKind | "prepare" | "resize", offset: number, length: number): void {
    checkRange(kind, offset, length, this.sizeBytes);
    if (this.#closed) throw new VarveError("conflict", `${kind}: the volume is closed`);
    const { waitingBlocks, passedBytes } = this.#durability;
    if (
      this.#failure !== undefined && (waitingBlocks > OVERLAY_BLOCKS_MAX || passedBytes > PASSED_BYTES_MAX)
    ) throw this.#failure;
  }

  #capture(
    kind: CommandKind,
    flags: number,
    offset: number,
    length: number,
    firstBlock: number,
    options: CommandOptions,
    payload: Uint8Array[],
  ): void {
    this.#introduce(options.client);
    // Strictly ascending, so that a time names exactly one sequence.
    let timeUs = Math.max(this.#parts.clock.nowUs(), this.#lastTimeUs + 1, this.#parts.told.gaps.floorUs + 1);
    // A mark is the last thing in its millisecond, so that a time with three digits names it exactly.
    if (kind === "mark") timeUs += 999 - timeUs % 1000;
    const record: NewRecord = {
      kind,
      flags: flags | (options.fua ? RECORD_FUA : 0),
      seq: this.lastSeq + 1,
      timeUs,
      offset,
      length,
      firstBlock,
      client: options.client ?? 0,
    };
    const place = this.#parts.journal.append(record, ...payload);
    this.#lastTimeUs = record.timeUs;
    const payloadBytes = payload.reduce((sum, part) => sum + part.length, 0);
    const extents = extentsOf({ ...record, payloadBytes }).map((extent): MapExtent => ({
      seq: record.seq,
      firstBlock: extent.firstBlock,
      blockCount: extent.blockCount,
      segment: extent.payloadBlock < 0 ? 0 : place.segment,
      recordOffset: extent.payloadBlock < 0 ? 0 : place.offset,
      payloadBlock: Math.max(0, extent.payloadBlock),
    }));
    this.#durability.take(extents, payloadBytes);
    const momentKind = kind === "flush" ? "flush" : kind === "mark" ? "mark" : "change";
    this.indexer.add({ seq: record.seq, timeUs: record.timeUs, kind: MOMENT_KINDS[momentKind] }, extents);
    this.#schedule();
  }

  /** Who a client is stands in the journal ahead of its first command, and so is durable when that is. */
  #introduce(client: number | undefined): void {
    const identity = client === undefined ? undefined : this.connections.stranger(client);
    if (identity === undefined) return;
    this.#appendText(JSON.stringify({ type: "client", ...identity } satisfies JournalText));
    this.connections.introduced(identity);
  }

  /** Gives a new connection the number to send its commands with; see {@linkcode Connections.admit}. */
  admit(client: NewClient): number {
    return this.connections.admit(client, this.#parts.clock.nowUs());
  }

  #schedule(): void {
    this.#applyTimer ??= this.#parts.scheduler.after(APPLY_DELAY_MS, () => {
      this.#applyTimer = undefined;
      const isMuch = this.#durability.undurableBytes > SYNC_BYTES;
      this.#inBackground(this.#durability.reach(isMuch ? "primary" : "apply"));
    });
    this.#scheduleIndex();
  }

  #scheduleIndex(): void {
    if (this.#indexing) return;
    // What fails is tried again after a while: a failure that comes at once would leave nobody else a turn.
    if (this.indexer.pendingRecords >= this.#parts.batchRecords && this.#failure === undefined) this.#index();
    else this.#indexTimer ??= this.#parts.scheduler.after(INDEX_DELAY_MS, () => this.#index());
  }

  #index(): void {
    this.#indexTimer?.cancel();
    this.#indexTimer = undefined;
    this.#indexing = true;
    this.#inBackground(this.#indexAll());
    this.#inBackground(this.#durability.reach("primary"));
  }

  async #indexAll(): Promise<void> {
    try {
      do await this.indexer.upTo(this.lastSeq); while (
        this.indexer.pendingRecords >= this.#parts.batchRecords
      );
    } finally {
      this.#indexing = false;
      if (this.indexer.pendingRecords > 0 && !this.#closed) {
        this.#indexTimer ??= this.#parts.scheduler.after(INDEX_DELAY_MS, () => this.#index());
      }
    }
  }

  #inBackground(work: Promise<unknown>): void {
    work.then(() => this.#failure = undefined, (thrown) => {
      this.#failure = VarveError.from(thrown, "keep the volume durable");
      this.#parts.onFailure(this.#failure);
      if (this.#closed) return;
      if (isNoSpace(thrown)) this.#wall.relieve(thrown);
      this.#retry();
    });
  }

  #retry(): void {
    this.#applyTimer ??= this.#parts.scheduler.after(RETRY_MS, () => {
      this.#applyTimer = undefined;
      this.#inBackground(this.#durability.reach("apply"));
    });
    this.#indexTimer ??= this.#parts.scheduler.after(RETRY_MS, () => this.#index());
  }

  commit(): void {
    this.#parts.journal.commit();
  }

  held(): Promise<void> | undefined {
    return this.#gap.held();
  }

  pressure(): Promise<void> | undefined {
    return this.held()?.catch(() => {}) ?? this.#backlogPressure();
  }

  #backlogPressure(): Promise<void> | undefined {
    const { indexer } = this;
    if (this.#durability.passedBytes > PASSED_BYTES_MAX) {
      const durable = this.#durability.reach("primary");
      this.#inBackground(durable);
      return durable.catch(() => {});
    }
    const overfull = this.#durability.waitingBlocks > OVERLAY_BLOCKS_MAX
      ? this.#durability.drainedTo(OVERLAY_BLOCKS_MAX * 3 / 4)
      : indexer.pendingRecords > PENDING_RECORDS_MAX
      ? indexer.upTo(Math.min(indexer.indexedSeq + 1, this.lastSeq))
      : this.lastSeq - this.#durability.durable.seq > REDO_RECORDS_MAX ||
          this.#durability.undurableBytes > REDO_BYTES_MAX
      ? this.#durability.reach("primary")
      : undefined;
    // A failure is met by the next command.
    return overfull?.catch(() => {});
  }

  prepare(offset: number, length: number): Promise<void> | undefined {
    return this.baseline?.prepare(offset, length, {
      scheduler: this.#parts.scheduler,
      sync: async () => {
        await this.#durability.reach("journal");
        await this.pressure();
      },
      check: () => this.#checkCommand("prepare", offset, length),
    });
  }

  async flush(options: CommandOptions = {}): Promise<void> {
    this.#checkCommand("flush", 0, 0);
    let refusal: unknown;
    try {
      if (!this.#gap.diverts) this.#captureFlush(options);
    } catch (thrown) {
      // The promise of a flush needs no record: it is kept all the same.
      if (!isNoSpace(thrown)) throw thrown;
      refusal = thrown;
    }
    await this.sync();
    this.#wall.flushed(refusal);
  }

  #captureFlush(options: CommandOptions): { seq: number; timeUs: number } {
    this.#capture("flush", 0, 0, 0, 0, options, []);
    return { seq: this.lastSeq, timeUs: this.#lastTimeUs };
  }

  async sync(): Promise<void> {
    const held = this.held();
    if (held !== undefined) await held;
    await this.#durability.reach("primary");
  }

  /**
   * Names this moment: resolves with its sequence and time when the mark is durable. The caller calls `told` when the
   * catalogue has it.
   */
  async mark(text: string): Promise<{ seq: number; timeUs: number; told: () => void }> {
    this.#checkCommand("mark", 0, 0);
    this.#gap.checkMark();
    const before = this.position;
    this.#capture("mark", 0, 0, 0, 0, {}, [new TextEncoder().encode(text)]);
    const moment = { seq: this.lastSeq, timeUs: this.#lastTimeUs };
    this.#parts.onText(text, moment);
    return { ...moment, told: await this.#makeTextDurable(before) };
  }

  /**
   * Keeps a description in the journal that takes no sequence of its own; resolves when it is durable, with a function
   * for the caller to call when what it says is kept where it belongs.
   */
  async describe(text: string): Promise<() => void> {
    const before = this.position;
    this.#appendText(text);
    return await this.#makeTextDurable(before);
  }

  /**
   * Until the caller has kept what a text says, the next start must read it: a position saved behind it would hide it
   * for good, or until a power cut takes that position back.
   */
  async #makeTextDurable(before: ScanPosition): Promise<() => void> {
    this.#textsUnderWay.add(before);
    await this.#durability.reach("journal");
    return () => this.#textsUnderWay.delete(before);
  }

  #appendText(text: string): void {
    const moment = { seq: this.lastSeq, timeUs: this.#lastTimeUs };
    this.#parts.journal.append({
      kind: "meta",
      flags: 0,
      ...moment,
      offset: 0,
      length: 0,
      firstBlock: 0,
      client: 0,
    }, new TextEncoder().encode(text));
    this.#parts.onText(text, moment);
  }

  /** Takes steps 1 to 7 of `resize.ts`. Calls must not overlap. */
  resize(sizeBytes: number, signal?: AbortSignal): Promise<ResizeEnd> {
    const host: ResizeHost = {
      sizeBytes: () => this.#sizeBytes,
      setSize: (sizeBytes) => this.#sizeBytes = sizeBytes,
      lastSeq: () => this.lastSeq,
      check: () => {
        this.#checkCommand("resize", 0, 0);
        if (signal?.aborted) throw new VarveError("cancelled", "resize: the volume is being closed");
        if (this.#gap.diverts || this.#parts.told.gaps.open !== undefined) throw gapInTheWay();
      },
      readBlock: (block) => this.#readBlock(block),
      captureBlocks: ({ offset, length }, firstBlock, payload) =>
        this.#capture("write", 0, offset, length, firstBlock, {}, [payload]),
      captureHole: (kind, offset, length) => this.#captureHole(kind, offset, length, {}, offset + length),
      captureFlush: () => this.#captureFlush({}),
      appendText: (text) => {
        const before = this.position;
        this.#appendText(text);
        return before;
      },
      makeTextDurable: (before) => this.#makeTextDurable(before),
      drain: () => this.#durability.reach("primary"),
      pressure: () => this.#backlogPressure(),
      exclusively: (work) => this.indexer.queue.run(work),
    };
    return resize(sizeBytes, this.#parts, host);
  }

  extents(offset: number, length: number, max?: number): Extent[] {
    checkRange("map", offset, length, this.sizeBytes);
    const layers = {
      held: this.#gap.heldRanges,
      overlays: this.#durability.waiting,
      primary: this.#parts.primary,
    };
    return liveExtents(layers, offset, length, max);
  }

  /** Says what is durable now, so that a rebuild leaves nothing to be proved again. No segment is begun for it. */
  #appendLastText(): void {
    if (this.#parts.journal.position.offset === SEGMENT_HEADER_BYTES) return;
    const text = this.#parts.lastText();
    if (text !== undefined) this.#appendText(text);
  }

  /** Makes everything durable, indexes it and closes the parts. Safe to call after a failure. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#applyTimer?.cancel();
    this.#indexTimer?.cancel();
    const { hands, journal, map, primary, segments } = this.#parts;
    try {
      await this.#gap.close();
      await this.#durability.reach("primary");
      await this.indexer.upTo(this.lastSeq);
      this.#appendLastText();
      await journal.close();
      await this.indexer.queue.run(() => {
        map.transaction(() => {
          recordSegments(map, journal.takeFinished());
          this.indexer.savePosition(this.position);
        });
        return Promise.resolve();
      });
    } finally {
      await this.#durability.idle();
      await this.indexer.queue.idle();
      await journal.close().catch(() => {});
      await hands.close();
      this.#wall.close();
      segments.close();
      primary.close();
      map.close();
    }
  }
}

/** Whether two look-ups met the same extent: one extent of a sequence has each block. */
function isSame(one: MapExtent | undefined, other: MapExtent | undefined): boolean {
  return one?.seq === other?.seq && one?.firstBlock === other?.firstBlock;
}

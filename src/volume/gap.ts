/**
 * Writing past a history that has no space, and catching up afterwards: the policy `onFull: "passthrough"`.
 *
 * A command is in one of three modes. **Capture**: it goes to the journal, as ever. **Hold**: it waits in memory, and
 * its answer with it, while a gap is being opened. **Direct**: it goes to the primary alone.
 *
 * Into a gap, from the first command that the journal refuses for want of space:
 * 1. Commands are held from this one on, in order; live reads see them. Nothing of them is acknowledged.
 * 2. Everything captured is made durable in the journal, applied to the primary, and durable there. Were something left
 *    to be applied, it would later overwrite what step 4 writes.
 * 3. A text `gap` is durable in the journal: the history does not know what comes. Were it later than step 4, a power
 *    cut could leave bytes in the primary that the history neither holds nor misses. A text says besides that every
 *    command before it is durable in the primary, so that the next start redoes none of them: that would bring old bytes
 *    back over what step 4 has written. It is true because of step 2.
 * 4. The held commands go to the primary, then every other as it arrives. The chunk is noted before the primary changes,
 *    so that no change is ever missed.
 * When step 2 or 3 fails, the held commands are refused and nothing of them has happened.
 *
 * Out of it, when there is room:
 * 5. Commands are captured again. Moments from here to step 8 lie within the gap: the history is still behind.
 * 6. Each changed chunk is read from the live device and captured as a write of Varve's own, without a turn for others
 *    in between. Commands of hosts are captured in their order around it, so that the newest version of a block in the
 *    history is what the live device shows, whichever was last. After a restart nobody knows the changed chunks: the
 *    whole primary is compared with the history.
 * 7. A flush follows the last chunk in the same turn: its sequence is the first exact moment, and it is made durable.
 * 8. A text `gap-end` is durable. Were it before step 7, a power cut could leave a gap that has ended at a sequence that
 *    the journal has lost.
 * When the space ends between 5 and 8, the same gap goes on with step 1, and with a text of its own at step 3.
 *
 * A restart within a gap begins with step 5, as soon as there is room.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { BLOCK_BYTES, type BlockDevice } from "../base/block_device.ts";
import { isZero } from "../base/bytes.ts";
import type { Clock } from "../base/clock.ts";
import { VarveError } from "../base/errors.ts";
import { inTurns, Queue, type Scheduler, type Timer } from "../base/turns.ts";
import type { Gap, Gaps } from "../catalog/gaps.ts";
import type { RecoveryMap } from "../catalog/recovery_map.ts";
import type { JournalWriter } from "../journal/mod.ts";
import { ChunkSet } from "./chunk_set.ts";
import { type Change, lengthOf } from "./durability.ts";
import { textOfGap } from "./gap_texts.ts";
import type { Primary } from "./primary.ts";

/** How long after a gap was opened, or after a try in vain, there is another look for room, in milliseconds. */
export const RETRY_MS = 1000;
/** The longest such pause: each catching up that runs out of space doubles it. */
const RETRY_MS_MAX = 60_000;
/** Room that there must be before capture begins again, besides room for the changed chunks, in bytes. */
const RESUME_BYTES = 16 << 20;
/** Room for changed chunks beyond which no more is asked for, in bytes. */
const CHANGED_BYTES_MAX = 256 << 20;
/** Most bytes of commands that wait while a gap is being opened. */
const HELD_BYTES_MAX = 256 << 20;
/** Bytes compared or copied at a time. */
const PIECE_BYTES = 64 << 10;
/** Stretch that is skipped as a whole where primary and history have a hole. */
const STRETCH_BYTES = 16 << 20;

/** What the passage works on. */
export interface GapParts {
  /** Gives turns. */
  readonly scheduler: Scheduler;
  /** Tells the time. */
  readonly clock: Clock;
  /** The live bytes. */
  readonly primary: Primary;
  /** The writing end of the journal. */
  readonly journal: JournalWriter;
  /** The recovery map. */
  readonly map: RecoveryMap;
  /** Gaps so far. */
  readonly gaps: Gaps;
  /** Whether a gap may be opened now. */
  readonly passthrough: () => boolean;
  /** Told when a gap begins and when it has ended. */
  readonly onGap: (gap: Gap) => void;
  /** Told of failures in the background. */
  readonly onFailure: (error: VarveError) => void;
  /** The volume as of a sequence, but as large as it is now. */
  readonly view: (seq: number) => Promise<BlockDevice>;
}

interface SeqTime {
  readonly seq: number;
  readonly timeUs: number;
}

/** What the passage asks of the live device. */
export interface GapHost {
  /** Size of the volume in bytes; it does not change while there is a gap. */
  sizeBytes(): number;
  /** Newest sequence, and its time in microseconds. */
  newest(): SeqTime;
  /** Fills `target` with what hosts see. */
  read(offset: number, target: Uint8Array): void;
  /** Writes a change to the primary past the journal. */
  pass(change: Change): void;
  /** Captures a change of Varve's own. */
  capture(change: Change): void;
  /** Captures a flush; returns its sequence and time. */
  captureFlush(): SeqTime;
  /** Resolves when everything captured is durable in the journal and in the primary. */
  drain(): Promise<void>;
  /** Resolves when a text is durable in the journal. */
  describe(text: string): Promise<void>;
  /** Runs work on the recovery map when no batch is being indexed. */
  exclusively(work: () => Promise<void>): Promise<void>;
  /** Resolves when the device takes more; `undefined` when it does already. */
  pressure(): Promise<void> | undefined;
}

/** Takes commands past the journal when it has no space. See the module's comment for the order of its work. */
export class GapPassage {
  readonly #parts: GapParts;
  readonly #host: GapHost;
  /** Opening and leaving, one after the other. */
  readonly #work = new Queue();
  #mode: "capture" | "hold" | "direct" = "capture";
  #held: Change[] = [];
  #heldBytes = 0;
  #opening: PromiseWithResolvers<void> | undefined;
  #changed: ChunkSet | undefined;
  /** Whether it is not known which chunks have changed: then all are in the set, and compared before they are copied. */
  #suspect = false;
  #retryMs = RETRY_MS;
  #timer: Timer | undefined;
  #closed = false;

  /** Goes on with a gap that the last life of the volume left open. */
  constructor(parts: GapParts, host: GapHost) {
    this.#parts = parts;
    this.#host = host;
    if (parts.gaps.open === undefined) return;
    this.#suspect = true;
    this.#changedChunks().add(0, host.sizeBytes());
    this.#schedule();
  }

  #changedChunks(): ChunkSet {
    return this.#changed ??= new ChunkSet(this.#host.sizeBytes());
  }

  /** Whether commands are not captured. */
  get diverts(): boolean {
    return this.#mode !== "capture";
  }

  /** Resolves when the held commands have happened, rejects when they are refused; `undefined` when none is held. */
  held(): Promise<void> | undefined {
    return this.#opening?.promise;
  }

  /** Takes a change that must not be captured now; false when it is to be captured. */
  take(change: Change): boolean {
    if (this.#mode === "capture") return false;
    if (this.#mode === "hold") this.#hold(change);
    else this.#pass(change);
    return true;
  }

  /** Told that the journal refused a command; true when a gap is being opened instead and the change is held. */
  refused(thrown: unknown, change?: Change): boolean {
    if (!(thrown instanceof VarveError) || thrown.code !== "no-space") return false;
    if (this.#closed || !this.#parts.passthrough()) return false;
    if (this.#mode === "capture") this.#begin();
    if (change !== undefined) this.#hold(change);
    return true;
  }

  /** Throws `conflict` in a gap: nothing in it can be named. */
  checkMark(): void {
    if (this.#parts.gaps.open === undefined && this.#mode === "capture") return;
    throw new VarveError("conflict", "mark: the volume is in a gap of its history, its storage is full", {
      hint:
        "Make space for the history, and mark again when varve volume show reports the capture as running.",
    });
  }

  /** Shows in `target`, which holds the volume's bytes from `offset` on, what the held commands will do. */
  paint(offset: number, target: Uint8Array): void {
    for (const change of this.#held) {
      const from = Math.max(offset, change.offset);
      const until = Math.min(offset + target.length, change.offset + lengthOf(change));
      if (from >= until) continue;
      const part = target.subarray(from - offset, until - offset);
      if (change.kind === "write") {
        part.set(change.data.subarray(from - change.offset, until - change.offset));
      } else part.fill(0);
    }
  }

  /** Ranges of held commands, ascending: what `paint` may show there is not known to be a hole. */
  get heldRanges(): { offset: number; length: number }[] {
    return this.#held
      .map((change) => ({ offset: change.offset, length: lengthOf(change) }))
      .sort((a, b) => a.offset - b.offset);
  }

  /** Ends what is under way. A gap that is open stays open. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#timer?.cancel();
    await this.#work.idle();
  }

  #begin(): void {
    this.#mode = "hold";
    const opening = Promise.withResolvers<void>();
    // Whoever waits is told; it is no failure when nobody does.
    opening.promise.catch(() => {});
    this.#opening = opening;
    void this.#work.run(() => this.#open(opening));
  }

  #hold(change: Change): void {
    const bytes = change.kind === "write" ? change.data.length : 0;
    if (this.#heldBytes + bytes > HELD_BYTES_MAX) {
      throw new VarveError("no-space", `${change.kind}: too much waits already for a gap to be opened`);
    }
    this.#heldBytes += bytes;
    this.#held.push(change.kind === "write" ? { ...change, data: change.data.slice() } : change);
  }

  #pass(change: Change): void {
    this.#changedChunks().add(change.offset, lengthOf(change));
    this.#host.pass(change);
  }

  async #open(opening: PromiseWithResolvers<void>): Promise<void> {
    let told = false;
    try {
      await this.#host.drain();
      const { gaps, clock } = this.#parts;
      const newest = this.#host.newest();
      const fromUs = Math.max(clock.nowUs(), newest.timeUs + 1, gaps.floorUs + 1);
      const gap = gaps.open ?? { fromSeq: newest.seq, fromUs, toSeq: undefined, toUs: undefined };
      const begins = gaps.open === undefined;
      await this.#tell(gap);
      told = true;
      if (begins) this.#parts.onGap(gap);
      await inTurns(this.#passHeld(), this.#parts.scheduler);
      opening.resolve();
    } catch (thrown) {
      this.#held = [];
      this.#heldBytes = 0;
      this.#mode = told ? "direct" : "capture";
      opening.reject(VarveError.from(thrown, "write past the history"));
    } finally {
      this.#opening = undefined;
      this.#schedule();
    }
  }

  /** Leaves hold mode in the step that finds nothing held any more. */
  *#passHeld(): Generator<void> {
    for (let change = this.#held[0]; change !== undefined; change = this.#held[0]) {
      this.#pass(change);
      this.#held.shift();
      yield;
    }
    this.#heldBytes = 0;
    this.#mode = "direct";
  }

  /**
   * Tells the journal, then the map. No batch is indexed meanwhile, so that no position behind the text is saved before
   * the map knows of the gap. A map that cannot be written to is told with the next position. A text that was appended
   * and is not durable yet may be found by the next start all the same, so what it says counts from then on.
   */
  async #tell(gap: Gap): Promise<void> {
    const { gaps, map, journal } = this.#parts;
    await this.#host.exclusively(async () => {
      const before = journal.position;
      try {
        await this.#host.describe(JSON.stringify(textOfGap(gap)));
      } catch (thrown) {
        const { segment, offset } = journal.position;
        if (segment !== before.segment || offset !== before.offset) gaps.note(gap);
        throw thrown;
      }
      gaps.note(gap);
      try {
        map.transaction(() => gaps.save());
      } catch (thrown) {
        this.#parts.onFailure(VarveError.from(thrown, "enter a gap in the recovery map"));
      }
    });
  }

  #schedule(): void {
    if (this.#closed || this.#parts.gaps.open === undefined) return;
    this.#timer ??= this.#parts.scheduler.after(this.#retryMs, () => {
      this.#timer = undefined;
      void this.#work.run(() => this.#leave());
    });
  }

  async #leave(): Promise<void> {
    try {
      if (this.#parts.gaps.open === undefined || this.#mode === "hold" || !this.#hasRoom()) return;
      this.#mode = "capture";
      if (await this.#catchUp()) this.#retryMs = RETRY_MS;
      else this.#retryMs = Math.min(this.#retryMs * 2, RETRY_MS_MAX);
    } catch (thrown) {
      this.#retryMs = Math.min(this.#retryMs * 2, RETRY_MS_MAX);
      if (this.#closed || this.refused(thrown)) return;
      this.#parts.onFailure(VarveError.from(thrown, "bring the history up to the primary"));
    } finally {
      this.#schedule();
    }
  }

  #hasRoom(): boolean {
    const changed = this.#changedChunks();
    const changedBytes = this.#suspect ? 0 : changed.count * changed.chunkBytes;
    return this.#parts.journal.makeRoom(RESUME_BYTES + Math.min(changedBytes, CHANGED_BYTES_MAX));
  }

  /** Steps 6 to 8; false when commands are held again meanwhile, or the volume is closed. */
  async #catchUp(): Promise<boolean> {
    const { gaps, scheduler, view } = this.#parts;
    // Of the state before any command of this catching up: what hosts change meanwhile is captured anyway.
    const past = this.#suspect ? await view(this.#host.newest().seq) : undefined;
    let exact: SeqTime | undefined;
    while (exact === undefined) {
      if (this.#interrupted) return false;
      exact = await inTurns(this.#copy(past), scheduler);
      if (exact === undefined) await this.#host.pressure();
    }
    await this.#host.drain();
    const gap = gaps.open;
    if (gap === undefined) return true;
    const ended: Gap = { ...gap, toSeq: exact.seq, toUs: exact.timeUs };
    try {
      await this.#tell(ended);
    } finally {
      if (gaps.open === undefined) {
        this.#changed = undefined;
        this.#suspect = false;
        this.#parts.onGap(ended);
      }
    }
    return true;
  }

  get #interrupted(): boolean {
    return this.#closed || this.#mode !== "capture";
  }

  /** Captures chunks until all are in, and the flush behind them; `undefined` when it has to stop before. */
  *#copy(past: BlockDevice | undefined): Generator<void, SeqTime | undefined> {
    const changed = this.#changedChunks();
    const sizeBytes = this.#host.sizeBytes();
    for (let chunk = changed.next(0); chunk !== undefined; chunk = changed.next(chunk)) {
      const start = chunk * changed.chunkBytes;
      const end = Math.min(start + changed.chunkBytes, sizeBytes);
      if (past === undefined || !this.#isHole(past, start, end)) {
        for (let at = start; at < end; at += PIECE_BYTES) {
          if (this.#interrupted) return undefined;
          this.#copyPiece(at, Math.min(PIECE_BYTES, end - at), past);
          yield;
        }
      }
      changed.delete(chunk);
      if (this.#host.pressure() !== undefined) return undefined;
    }
    return this.#interrupted ? undefined : this.#host.captureFlush();
  }

  /** Whether primary and history have a hole over the whole stretch around a chunk. */
  #isHole(past: BlockDevice, chunkStart: number, chunkEnd: number): boolean {
    const { primary } = this.#parts;
    const start = Math.floor(chunkStart / STRETCH_BYTES) * STRETCH_BYTES;
    const end = Math.min(Math.max(start + STRETCH_BYTES, chunkEnd), past.sizeBytes);
    if ((primary.seek(start, "data") ?? end) < end) return false;
    return past.extents(start, end - start).every((extent) => extent.kind === "hole");
  }

  #copyPiece(offset: number, length: number, past: BlockDevice | undefined): void {
    const bytes = new Uint8Array(length);
    this.#host.read(offset, bytes);
    let from = 0;
    let until = length;
    if (past !== undefined) {
      const known = new Uint8Array(length);
      try {
        past.read(offset, known);
      } catch {
        // A block of the history that is damaged is no reason to leave the present out of it.
        known.set(bytes.subarray(0, length).map((byte) => byte ^ 0xff));
      }
      const differs = (at: number) =>
        Buffer.compare(bytes.subarray(at, at + BLOCK_BYTES), known.subarray(at, at + BLOCK_BYTES)) !== 0;
      while (from < until && !differs(from)) from += BLOCK_BYTES;
      if (from >= until) return;
      let last = Math.floor((length - 1) / BLOCK_BYTES) * BLOCK_BYTES;
      while (!differs(last)) last -= BLOCK_BYTES;
      until = Math.min(length, last + BLOCK_BYTES);
    }
    const data = bytes.subarray(from, until);
    this.#host.capture(
      isZero(data)
        ? { kind: "zero", offset: offset + from, length: data.length }
        : { kind: "write", offset: offset + from, data },
    );
  }
}

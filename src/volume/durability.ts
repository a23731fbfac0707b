/**
 * Brings what was captured to durable storage: the journal's sync, the primary, the primary's sync. `live_volume.ts` tells
 * the order of these steps and what breaks if two are swapped; here they are taken.
 *
 * @module
 */
import { Queue } from "../base/turns.ts";
import type { MapExtent } from "../catalog/recovery_map.ts";
import type { JournalWriter } from "../journal/mod.ts";
import type { CaptureHands } from "./capture_hands.ts";
import type { ScanPosition } from "./indexer.ts";
import type { NumberRows } from "./number_rows.ts";
import { Overlay } from "./overlay.ts";
import type { Primary } from "./primary.ts";

/** A change that a host asked for. */
export type Change =
  | { readonly kind: "write"; readonly offset: number; readonly data: Uint8Array }
  | { readonly kind: "trim" | "zero"; readonly offset: number; readonly length: number };

/** How many bytes a change is about. */
export function lengthOf(change: Change): number {
  return change.kind === "write" ? change.data.length : change.length;
}

/** What a change without data counts as, in bytes of memory. */
const CHANGE_BYTES = 128;

/** What it works on. */
export interface DurabilityParts {
  /** The live bytes. */
  readonly primary: Primary;
  /** The writing end of the journal. */
  readonly journal: JournalWriter;
  /** Bring the journal's bytes to the primary. */
  readonly hands: Pick<CaptureHands, "apply">;
  /** Newest sequence, and where the record after it will lie. */
  readonly position: () => ScanPosition;
  /** Runs work for acknowledged commands, once more with the reserve when it finds no space. */
  readonly relieved: (work: () => Promise<void>) => Promise<void>;
}

/** What has been captured and is not durable in the primary yet. */
export class Durability {
  readonly #parts: DurabilityParts;
  readonly #journalSyncs = new Queue();
  readonly #applications = new Queue();
  readonly #primarySyncs = new Queue();
  /** Oldest first; the last one takes new changes. */
  #overlays: Overlay[];
  /** Applied to the primary, which has not been synced since. No read needs to find them any more. */
  #unsynced: NumberRows<MapExtent>[] = [];
  /**
   * Changes that went to the primary past the journal since it was last synced, oldest first. They are older than every
   * extent that waits: a gap is opened when nothing does.
   */
  #passed: Change[] = [];
  #passedBytes = 0;
  /** Whether these are to be written again before a sync can be trusted. */
  #passedInDoubt = false;
  /** Syncs of the primary that have failed, and whether what they covered still waits to be applied again. */
  #failedSyncs = 0;
  #inDoubt = false;
  /** What the last sync of the journal covered: every overlay before `open`. */
  #synced: { open: Overlay; end: ScanPosition; bytes: number };
  /** Up to where the primary has it all, and up to where it is durable there. */
  #applied: ScanPosition;
  #durable: ScanPosition;
  /** Bytes captured since this exists, and how many of them were captured by then. */
  #capturedBytes = 0;
  #appliedBytes = 0;
  #durableBytes = 0;
  /** Who waits until only so many blocks wait for the primary. */
  #waitingForRoom: { readonly blocks: number; resolve(): void }[] = [];
  /** Steps that have not begun. */
  #next: {
    journal?: Promise<void>;
    apply?: { synced: Promise<void>; done: Promise<void> };
    primary?: Promise<void>;
  } = {};

  /** Begins with nothing: everything in the journal is in the primary and durable. */
  constructor(parts: DurabilityParts) {
    this.#parts = parts;
    this.#applied = this.#durable = parts.position();
    const open = new Overlay();
    this.#overlays = [open];
    this.#synced = { open, end: this.#applied, bytes: 0 };
  }

  /** Up to where the primary is durable. */
  get durable(): ScanPosition {
    return this.#durable;
  }

  /** Bytes captured since then. */
  get undurableBytes(): number {
    return this.#capturedBytes - this.#durableBytes;
  }

  /** What the primary does not have yet, oldest first. */
  get waiting(): readonly Overlay[] {
    return this.#overlays;
  }

  /** Whether the primary has everything that was captured. */
  get isEmpty(): boolean {
    return this.#overlays.every((overlay) => overlay.isEmpty);
  }

  /** Blocks that the primary does not have yet: a measure of the memory taken. */
  get waitingBlocks(): number {
    return this.#overlays.reduce((sum, overlay) => sum + overlay.blockCount, 0);
  }

  /** Memory that changes take which went past the journal and are not durable yet, in bytes. */
  get passedBytes(): number {
    return this.#passedBytes;
  }

  /**
   * Writes a change to the primary past the journal: in a gap of the history alone. A copy of it is kept until it is
   * durable, because nothing else could bring it back after a sync that has failed.
   */
  pass(change: Change): void {
    this.#writePast(change);
    const kept = change.kind === "write" ? { ...change, data: change.data.slice() } : change;
    this.#passed.push(kept);
    this.#passedBytes += memoryOf(kept);
  }

  #writePast(change: Change): void {
    if (change.kind === "write") this.#parts.primary.write(change.offset, change.data);
    else this.#parts.primary.zero(change.offset, change.length);
  }

  /** In one turn: a host that reads meanwhile would be shown what a newer change has replaced. */
  #passAgain(): void {
    for (const change of this.#passed) this.#writePast(change);
    this.#passedInDoubt = false;
  }

  /** Takes the extents of a command that has been appended to the journal. */
  take(extents: readonly MapExtent[], payloadBytes: number): void {
    this.#capturedBytes += payloadBytes;
    const overlay = this.#overlays.at(-1);
    for (const extent of extents) overlay?.add(extent);
  }

  /** The newest extent over a block that the primary does not have yet, or `undefined`. */
  find(block: number): MapExtent | undefined {
    for (let i = this.#overlays.length - 1; i >= 0; i--) {
      const extent = this.#overlays[i]?.find(block);
      if (extent !== undefined) return extent;
    }
    return undefined;
  }

  /** Resolves when no step is under way. */
  async idle(): Promise<void> {
    await this.#journalSyncs.idle();
    await this.#applications.idle();
    await this.#primarySyncs.idle();
  }

  /**
   * Takes the steps of `live_volume.ts` up to the one named, for everything captured before the call.
   * Calls that wait for the same step share it.
   */
  reach(step: "journal" | "apply" | "primary"): Promise<void> {
    switch (step) {
      case "journal":
        return this.#next.journal ??= this.#journalSyncs.run(() => {
          delete this.#next.journal;
          return this.#parts.relieved(() => this.#syncJournal());
        });
      case "apply": {
        const synced = this.reach("journal");
        if (this.#next.apply?.synced === synced) return this.#next.apply.done;
        // The journal's next sync does not wait for this.
        const done = synced.then(() =>
          this.#applications.run(() => this.#parts.relieved(() => this.#apply()))
        );
        this.#next.apply = { synced, done };
        return done;
      }
      case "primary":
        return this.reach("apply").then(() => this.#syncPrimary());
    }
  }

  /**
   * Makes durable in the primary what was applied before the call. After a failed sync the operating system takes for
   * written what it has not written, and the next sync would succeed without it: all that was applied since the last
   * good one is applied again, in its order. What went past the journal is written again at once, as no overlay shows
   * it to live reads.
   */
  #syncPrimary(): Promise<void> {
    return this.#next.primary ??= this.#primarySyncs.run(async () => {
      delete this.#next.primary;
      if (this.#inDoubt) await this.reach("apply");
      const [end, bytes] = [this.#applied, this.#appliedBytes];
      const covered = new Set(this.#unsynced);
      const passed = this.#passed.length;
      try {
        await this.#parts.primary.sync();
      } catch (thrown) {
        this.#overlays = this.#unsynced.map((extents) => Overlay.of(extents)).concat(this.#overlays);
        this.#unsynced = [];
        this.#failedSyncs++;
        this.#inDoubt = this.#passedInDoubt = true;
        try {
          this.#passAgain();
        } catch {
          // Before the next sync it is tried again.
        }
        throw thrown;
      }
      for (const change of this.#passed.splice(0, passed)) this.#passedBytes -= memoryOf(change);
      this.#unsynced = this.#unsynced.filter((extents) => !covered.has(extents));
      this.#durable = end;
      this.#durableBytes = bytes;
    });
  }

  /** Resolves when at most so many blocks wait for the primary: sooner than all of them are there. */
  drainedTo(blocks: number): Promise<void> {
    const room = new Promise<void>((resolve) => this.#waitingForRoom.push({ blocks, resolve }));
    return Promise.race([room, this.reach("apply")]);
  }

  #tellOfRoom(): void {
    if (this.#waitingForRoom.length === 0) return;
    const waiting = this.waitingBlocks;
    for (const { blocks, resolve } of this.#waitingForRoom) if (waiting <= blocks) resolve();
    this.#waitingForRoom = this.#waitingForRoom.filter(({ blocks }) => waiting > blocks);
  }

  async #syncJournal(): Promise<void> {
    const [end, bytes] = [this.#parts.position(), this.#capturedBytes];
    // The overlay that takes new changes is never among those covered.
    let open = this.#overlays.at(-1);
    if (open === undefined || !open.isEmpty) this.#overlays.push(open = new Overlay());
    await this.#parts.journal.sync();
    this.#synced = { open, end, bytes };
  }

  async #apply(): Promise<void> {
    const { open, end, bytes } = this.#synced;
    if (this.#passedInDoubt) this.#passAgain();
    let failedSyncs: number;
    do {
      failedSyncs = this.#failedSyncs;
      for (const overlay of before(this.#overlays, open)) {
        await this.#parts.hands.apply(overlay.remaining().toNumbers(), this.#parts.primary.sizeBytes);
        // A sync has failed meanwhile: older overlays wait again, and this one comes after them.
        if (failedSyncs !== this.#failedSyncs) break;
        this.#overlays = this.#overlays.filter((other) => other !== overlay);
        this.#unsynced.push(overlay.extents);
        this.#tellOfRoom();
      }
    } while (failedSyncs !== this.#failedSyncs);
    this.#inDoubt = false;
    this.#applied = end;
    this.#appliedBytes = bytes;
  }
}

/** The elements before one of a list. */
function before<T>(list: readonly T[], element: T): T[] {
  const index = list.indexOf(element);
  if (index < 0) throw new Error("an overlay that no sync has covered is gone");
  return list.slice(0, index);
}

function memoryOf(change: Change): number {
  return CHANGE_BYTES + (change.kind === "write" ? change.data.length : 0);
}

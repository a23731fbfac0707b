/**
 * A file of the simulated disk: what storage holds for certain, what it may hold, and what a power cut leaves of it.
 */
import type { SeededRandom } from "../base/seeded_random.ts";
import { PAGE_BYTES, SparseBytes } from "./_sparse_bytes.ts";

/** Storage changes sectors of this size wholly or not at all. */
const SECTOR_BYTES = 512;

/** A change that no sync has covered yet. */
interface Change {
  readonly kind: "write" | "discard" | "resize";
  readonly offset: number;
  readonly length: number;
  /** What was written; shared with the pages of the file, so never changed. */
  readonly bytes: Uint8Array | undefined;
  /** Size of the file afterwards. */
  readonly sizeBytes: number;
  /** A failed sync has covered it: later ones pass it by, as operating systems take it for written. */
  abandoned: boolean;
}

/** What a sync covers: the changes up to a place in the list, taken when the sync begins. */
export interface SyncCover {
  readonly changes: ReadonlySet<Change>;
}

/** Contents of a file, living as long as a name or a handle leads to it. */
export class FileNode {
  readonly kind = "file";
  readonly inode: number;
  /** What reads see. */
  live = new SparseBytes();
  #durable = new SparseBytes();
  #changes: Change[] = [];
  /** Reserved ranges of pages, ascending: first, end. */
  #reserved: { first: number; end: number }[] = [];
  #reservedPages = 0;

  constructor(inode: number) {
    this.inode = inode;
  }

  /** Bytes of storage taken, reservations included. */
  get allocatedBytes(): number {
    return (this.live.pages.size + this.#reservedPages) * PAGE_BYTES;
  }

  /** Changes that no sync has covered yet. */
  get unsyncedChanges(): number {
    return this.#changes.length;
  }

  #isReserved(page: number): boolean {
    return this.#reserved.some((range) => page >= range.first && page < range.end);
  }

  /** Bytes of storage that writing a range would take newly. */
  costOf(offset: number, length: number): number {
    let pages = 0;
    const end = Math.ceil((offset + length) / PAGE_BYTES);
    for (let page = Math.floor(offset / PAGE_BYTES); page < end; page++) {
      if (!this.live.pages.has(page) && !this.#isReserved(page)) pages++;
    }
    return pages * PAGE_BYTES;
  }

  /** Writes a copy of `bytes`. */
  write(offset: number, bytes: Uint8Array): void {
    // A Buffer's own slice would share its memory.
    const copy = new Uint8Array(bytes);
    const sizeBytes = Math.max(this.live.sizeBytes, offset + copy.length);
    this.#change({ kind: "write", offset, length: copy.length, bytes: copy, sizeBytes });
  }

  /** Makes a range a hole. */
  discard(offset: number, length: number): void {
    const end = Math.min(offset + length, this.live.sizeBytes);
    if (end <= offset) return;
    const { sizeBytes } = this.live;
    this.#giveBack(Math.ceil(offset / PAGE_BYTES), Math.floor(end / PAGE_BYTES));
    this.#change({ kind: "discard", offset, length: end - offset, bytes: undefined, sizeBytes });
  }

  /** Sets the size, and gives back what is reserved beyond it. */
  resize(sizeBytes: number): void {
    this.#change({ kind: "resize", offset: 0, length: 0, bytes: undefined, sizeBytes });
    this.#giveBack(Math.ceil(sizeBytes / PAGE_BYTES), Infinity);
    this.#countReserved();
  }

  /** Pages from `first` up to `end` are no longer reserved. */
  #giveBack(first: number, end: number): void {
    this.#reserved = this.#reserved.flatMap((range) =>
      [
        { first: range.first, end: Math.min(range.end, first) },
        { first: Math.max(range.first, end), end: range.end },
      ].filter((left) => left.first < left.end)
    );
  }

  /** Sets space aside. */
  reserve(offset: number, length: number): void {
    const first = Math.floor(offset / PAGE_BYTES);
    const end = Math.ceil((offset + length) / PAGE_BYTES);
    const last = this.#reserved.at(-1);
    if (last !== undefined && first <= last.end && first >= last.first) last.end = Math.max(last.end, end);
    else this.#reserved.push({ first, end });
    this.#countReserved();
  }

  #countReserved(): void {
    this.#reservedPages = 0;
    for (const { first, end } of this.#reserved) {
      for (let page = first; page < end; page++) if (!this.live.pages.has(page)) this.#reservedPages++;
    }
  }

  #change(change: Omit<Change, "abandoned">): void {
    const before = this.live.pages.size;
    applyChange(this.live, { ...change, abandoned: false }, undefined);
    if (this.#reserved.length > 0) {
      if (change.kind === "write") {
        // Reserved pages that are written are no longer reserved but taken.
        this.#reservedPages -= Math.min(this.#reservedPages, this.#reservedShare(change, before));
      } else if (change.kind === "discard") this.#countReserved();
    }
    this.#changes.push({ ...change, abandoned: false });
  }

  #reservedShare(change: Omit<Change, "abandoned">, pagesBefore: number): number {
    const taken = this.live.pages.size - pagesBefore;
    if (taken === 0) return 0;
    const first = Math.floor(change.offset / PAGE_BYTES);
    const end = Math.ceil((change.offset + change.length) / PAGE_BYTES);
    const within = this.#reserved.reduce(
      (sum, range) => sum + Math.max(0, Math.min(end, range.end) - Math.max(first, range.first)),
      0,
    );
    return Math.min(taken, within);
  }

  /** What a sync that begins now will cover. */
  cover(): SyncCover {
    return { changes: new Set(this.#changes.filter((change) => !change.abandoned)) };
  }

  /** A sync has ended well. */
  settle(cover: SyncCover): void {
    const written = this.#changes.filter((change) => cover.changes.has(change) && !change.abandoned);
    for (const change of written) applyChange(this.#durable, change, undefined);
    this.#changes = this.#changes.flatMap((change) => {
      // What is written later says the size, too: one of before cannot come back and cut it off.
      if (change.abandoned && change.kind === "resize" && written.length > 0) return [];
      if (change.abandoned) return written.reduce((parts, newer) => without(parts, newer), [change]);
      return cover.changes.has(change) ? [] : [change];
    });
  }

  /** A sync has failed: what it covered is never written by a later one, and survives or not. */
  abandon(cover: SyncCover): void {
    for (const change of cover.changes) change.abandoned = true;
  }

  /** Whether something is in doubt. */
  get isInDoubt(): boolean {
    return this.#changes.some((change) => change.abandoned);
  }

  /** What is in doubt turns out to have survived, wholly or in part, or not; what waits for a sync stays. */
  forgetCached(random: SeededRandom): void {
    if (!this.isInDoubt) return;
    this.#survive(this.#changes.filter((change) => change.abandoned), random);
    this.#changes = this.#changes.filter((change) => !change.abandoned);
    this.live = this.#durable.clone();
    for (const change of this.#changes) applyChange(this.live, change, undefined);
    this.#countReserved();
  }

  /** Flips one bit of what storage holds, behind everybody's back. */
  flipBit(offset: number, bit: number): void {
    for (const bytes of [this.live, this.#durable]) {
      const byte = new Uint8Array(1);
      if (bytes.read(offset, byte) === 1) bytes.put(offset, Uint8Array.of((byte[0] ?? 0) ^ (1 << bit)));
    }
  }

  /** The power fails: each unsynced change, and each change of the size, survives wholly, in part, or not at all. */
  cutPower(random: SeededRandom): void {
    this.#survive(this.#changes, random);
    this.live = this.#durable.clone();
    this.#changes = [];
    if (random.oneIn(2)) this.#reserved = [];
    this.#countReserved();
  }

  #survive(changes: readonly Change[], random: SeededRandom): void {
    const survivor = this.#durable;
    let sizeBytes = survivor.sizeBytes;
    // Often all or nothing survives; mixtures find other mistakes.
    const mood = random.below(4);
    for (const change of changes) {
      const fate = mood === 0 ? 0 : mood === 1 ? 1 : random.below(3);
      if (fate === 0) continue;
      if (change.kind === "resize") {
        survivor.resize(change.sizeBytes);
        sizeBytes = change.sizeBytes;
        continue;
      }
      applyChange(survivor, change, fate === 1 ? undefined : random);
      if (change.sizeBytes > sizeBytes && (mood === 1 || !random.oneIn(4))) sizeBytes = change.sizeBytes;
    }
    survivor.sizeBytes = Math.max(survivor.sizeBytes, sizeBytes);
    survivor.resize(sizeBytes);
  }
}

/** What is left of changes beside a newer one. */
function without(changes: readonly Change[], newer: Change): Change[] {
  return changes.flatMap((change) => {
    const end = change.offset + change.length;
    const until = newer.offset + newer.length;
    if (end <= newer.offset || until <= change.offset) return [change];
    return [partOf(change, change.offset, newer.offset), partOf(change, until, end)].filter((part) =>
      part.length > 0
    );
  });
}

function partOf(change: Change, from: number, end: number): Change {
  return {
    ...change,
    offset: from,
    length: end - from,
    bytes: change.bytes?.subarray(from - change.offset, end - change.offset),
  };
}

/** Applies a change to contents: all of it, or with a random source those sectors that it picks. */
function applyChange(target: SparseBytes, change: Change, torn: SeededRandom | undefined): void {
  if (change.kind === "resize") {
    target.resize(change.sizeBytes);
    return;
  }
  target.sizeBytes = Math.max(target.sizeBytes, change.sizeBytes);
  if (torn === undefined) {
    applyPart(target, change, change.offset, change.offset + change.length);
    return;
  }
  const end = change.offset + change.length;
  let survives = torn.oneIn(2);
  for (let at = change.offset; at < end; survives = !survives) {
    const sectors = torn.oneIn(3)
      ? 1 + torn.below(Math.ceil(change.length / SECTOR_BYTES))
      : 1 + torn.below(4);
    const until = Math.min(end, (Math.floor(at / SECTOR_BYTES) + sectors) * SECTOR_BYTES);
    if (survives) applyPart(target, change, at, until);
    at = until;
  }
}

function applyPart(target: SparseBytes, change: Change, from: number, end: number): void {
  if (change.bytes === undefined) target.clear(from, end - from);
  else target.put(from, change.bytes.subarray(from - change.offset, end - change.offset));
}

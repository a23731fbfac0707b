/**
 * Transactions of a journal that were read and proved at another moment of the same disk.
 *
 * Invariant: what is remembered of a transaction holds at every moment from that of the newest change of its blocks up to the last
 * one at which they were seen unchanged.
 *
 * @module
 */
import type { DeviceMoment } from "../moment_device.ts";

/** A block of the file system that a transaction has newer content of. */
export interface Tag {
  /** Which block. */
  readonly block: number;
  /** Whether the first four bytes were replaced. */
  readonly escaped: boolean;
  /** Block of the log that has the content, counted from its start. */
  readonly position: number;
  /** Sequence of its transaction. */
  readonly sequence: number;
  /** As stored. */
  readonly checksum: number;
  /** Whether the content was found to match the checksum. */
  isProved: boolean;
}

/** A committed transaction. */
export interface Transaction {
  /** Its number in the log. */
  readonly sequence: number;
  /** Where it begins in the log, and how many blocks it takes there. */
  readonly position: number;
  readonly blockCount: number;
  /** What it has newer content of, and blocks older copies of which it voids. */
  readonly tags: readonly Tag[];
  readonly revokes: readonly number[];
  /** When it was committed, in seconds since 1970. */
  readonly commitTime: bigint;
}

/** A run of bytes of the device. */
export interface LogRange {
  readonly offset: number;
  readonly length: number;
}

interface Remembered {
  readonly transaction: Transaction;
  readonly ranges: readonly LogRange[];
  readonly fromSeq: number;
  untilSeq: number;
}

/** Transactions remembered for one place in the log: it is written round and round. */
const SAME_PLACE_MAX = 4;
/** Tags and revokes in all that is remembered. */
const RECORDS_MAX = 200_000;

/** What is remembered of one journal. */
export class LogMemory {
  readonly #places = new Map<number, Remembered[]>();
  #records = 0;

  /** The memory of the journal that `key` tells apart from every other one of the device. */
  static of({ notes, scope }: DeviceMoment, key: string): LogMemory {
    const name = `${scope}log ${key}`;
    const known = notes.get(name);
    if (known instanceof LogMemory) return known;
    const memory = new LogMemory();
    notes.set(name, memory);
    return memory;
  }

  /** The transaction with a number that begins at a place, when it is proved to be the same at `moment`. */
  find(moment: DeviceMoment, position: number, sequence: number): Transaction | undefined {
    for (const remembered of this.#places.get(position) ?? []) {
      if (remembered.transaction.sequence !== sequence || !holdsAt(remembered, moment)) continue;
      for (const { offset, length } of remembered.ranges) moment.relyOn(offset, length);
      return remembered.transaction;
    }
    return undefined;
  }

  /** Remembers a transaction that was read at `moment`; `ranges` are all of its blocks. */
  add(moment: DeviceMoment, transaction: Transaction, ranges: readonly LogRange[]): void {
    this.#records += 1 + transaction.tags.length + transaction.revokes.length;
    if (this.#records > RECORDS_MAX) {
      this.#places.clear();
      this.#records = 1 + transaction.tags.length + transaction.revokes.length;
    }
    const others = this.#places.get(transaction.position) ?? [];
    const dropped = others.length === SAME_PLACE_MAX ? others.pop()?.transaction : undefined;
    if (dropped !== undefined) this.#records -= 1 + dropped.tags.length + dropped.revokes.length;
    const added = { transaction, ranges, fromSeq: newestChange(moment, ranges), untilSeq: moment.seq };
    this.#places.set(transaction.position, [added, ...others]);
  }
}

function holdsAt(remembered: Remembered, moment: DeviceMoment): boolean {
  if (moment.seq < remembered.fromSeq) return false;
  if (moment.seq <= remembered.untilSeq) return true;
  if (newestChange(moment, remembered.ranges) > remembered.untilSeq) return false;
  remembered.untilSeq = moment.seq;
  return true;
}

function newestChange(moment: DeviceMoment, ranges: readonly LogRange[]): number {
  return ranges.reduce(
    (newest, { offset, length }) => Math.max(newest, moment.newestChange(offset, length)),
    0,
  );
}

/**
 * Keeps what an adopted disk held before the first command, while hosts are already writing to it.
 *
 * The order of steps, and what breaks if two are swapped:
 *
 * 1. Before a command is captured, the chunks that it touches and that are not covered yet are read from the primary.
 *    When that fails, the command fails: nothing of it is appended.
 * 2. What was read is appended to the journal as baseline records, each for whole chunks, and those chunks count as
 *    covered in memory. Were they counted before the append, a full disk could leave a chunk that is never copied.
 * 3. The command's own record is appended behind them. Were it appended first, a torn journal could keep the command
 *    and lose what it replaces, and the redo at the next start would destroy the only copy.
 * 4. The journal is synced, which covers both, and only then the primary changes (see `live_volume.ts`). So a chunk
 *    that is not covered is as it was adopted, whatever happens.
 * 5. The recovery map learns of extents and coverage in one transaction, in the order of the journal, and the position
 *    of the next start never passes a baseline record that is not in the map. Were it to pass one, the chunk would
 *    count as not covered at the next start although the primary has changed, and history would get the new content
 *    in place of the old.
 *
 * The scan (`baseline.ts`) brings chunks that nobody writes to through steps 1 and 2, and trims and zeroes over much
 * that is not covered come through {@linkcode BaselineCopier.prepare} first: the command itself stays one record, its
 * sender waits, other connections and the memory do not.
 *
 * @module
 */
import { BLOCK_BYTES } from "../base/block_device.ts";
import { blockOf, blocksFor, isZero } from "../base/bytes.ts";
import { VarveError } from "../base/errors.ts";
import { pause, type Scheduler } from "../base/turns.ts";
import { type BaselineEntry, baselineEntryOf, type BaselineLedger } from "../catalog/baseline_ledger.ts";
import type { ChunkBitmap } from "../catalog/chunk_bitmap.ts";
import type { JournalWriter } from "../journal/mod.ts";
import type { Primary } from "./primary.ts";

/** Bytes read at a time; a larger chunk is read whole. */
export const PIECE_BYTES: number = 1 << 20;
/** Bytes not covered that a command may copy within its own call. */
const INLINE_BYTES_MAX = 4 << 20;
/** Bytes copied between two syncs of the journal. */
const SYNC_BYTES = 64 << 20;
/** Work goes on for this long before others get their turn, in milliseconds. */
const SLICE_MS = 2;

/** What the copier works on. */
export interface BaselineParts {
  /** The adopted disk. */
  readonly primary: Primary;
  /** Where its content goes. */
  readonly journal: JournalWriter;
  /** Size of the chunks and their number. */
  readonly ledger: BaselineLedger;
  /** Time of the records: that of the adoption, in microseconds. */
  readonly timeUs: number;
}

/** A stretch of chunks being copied piece by piece; between two pieces others may cover parts of it. */
export interface CopyCursor {
  /** The next chunk to look at. */
  at: number;
  /** The chunk after the last. */
  readonly end: number;
  /** Chunks from here to `at` were read and are zero, but no record says so yet; `undefined` when there are none. */
  zeroFrom?: number | undefined;
  /** Bytes read at a time; left out: {@linkcode PIECE_BYTES}. At least a chunk is read whatever it says. */
  readonly pieceBytes?: number;
  /** Up to this chunk one is read at a time: a larger piece could not be read. */
  singleUntil?: number;
}

/** Copies chunks to the journal before they change. */
export class BaselineCopier {
  /** Size of a chunk in bytes. */
  readonly chunkBytes: number;
  /** Number of chunks. */
  readonly chunkCount: number;
  readonly #parts: BaselineParts;
  readonly #sizeBytes: number;
  /** Chunks with a record in the journal, be it durable or not. */
  readonly #covered: ChunkBitmap;
  readonly #keep: (entry: BaselineEntry) => void;
  #piece: Uint8Array | undefined;

  /** Goes on from what the recovery map has; `keep` is told of every record, in the order of the journal. */
  constructor(parts: BaselineParts, keep: (entry: BaselineEntry) => void) {
    this.#parts = parts;
    this.#sizeBytes = parts.primary.sizeBytes;
    this.chunkBytes = parts.ledger.chunkBytes;
    this.chunkCount = parts.ledger.chunkCount;
    this.#covered = parts.ledger.load();
    this.#keep = keep;
  }

  /** To be called before a command that changes `[offset, offset + length)`, or blocks that this range cuts. */
  cover(offset: number, length: number): void {
    const cursor = this.#cursorOver(offset, length);
    if (this.#covered.nextAbsent(cursor.at, cursor.end) === cursor.end) return;
    while (!this.#step(cursor).done);
  }

  /**
   * Covers a range in turns when that is too much for one call of {@linkcode BaselineCopier.cover}; `undefined` when
   * it is not. `sync` makes the journal durable, `check` throws when the volume takes no more.
   */
  prepare(
    offset: number,
    length: number,
    host: { scheduler: Scheduler; sync: () => Promise<void>; check: () => void },
  ): Promise<void> | undefined {
    const cursor = this.#cursorOver(offset, length);
    const missing = cursor.end - cursor.at - this.#covered.count(cursor.at, cursor.end);
    if (missing * this.chunkBytes <= Math.max(INLINE_BYTES_MAX, this.chunkBytes)) return undefined;
    return this.#coverInTurns(cursor, host);
  }

  async #coverInTurns(
    cursor: CopyCursor,
    { scheduler, sync, check }: { scheduler: Scheduler; sync: () => Promise<void>; check: () => void },
  ): Promise<void> {
    let unsynced = 0;
    for (;;) {
      check();
      const turn = this.turn(cursor, scheduler);
      if (turn.done) return;
      unsynced += turn.bytes;
      if (unsynced >= SYNC_BYTES) {
        await sync();
        unsynced = 0;
      } else await pause(scheduler);
    }
  }

  #cursorOver(offset: number, length: number): CopyCursor {
    // The volume may have grown since it was adopted; nothing of that part was there before.
    return {
      at: Math.min(this.chunkCount, Math.floor(offset / this.chunkBytes)),
      end: Math.min(this.chunkCount, Math.ceil((offset + length) / this.chunkBytes)),
    };
  }

  /** Takes steps until others should get their turn. */
  turn(
    cursor: CopyCursor,
    scheduler: Scheduler,
    onUnreadable?: (error: VarveError) => void,
  ): { bytes: number; done: boolean } {
    const until = scheduler.ticksMs() + SLICE_MS;
    let bytes = 0;
    for (;;) {
      const step = this.#step(cursor, onUnreadable);
      bytes += step.bytes;
      if (step.done || bytes >= (cursor.pieceBytes ?? PIECE_BYTES) || scheduler.ticksMs() >= until) {
        return { bytes, done: step.done };
      }
    }
  }

  /**
   * Looks at the next chunks of a stretch that are not covered: a hole of any size, or a piece that is read. Tells how
   * many bytes were read, and whether the end is reached. Chunks that cannot be read are left out when `onUnreadable`
   * takes the failure; else it is thrown.
   */
  #step(
    cursor: CopyCursor,
    onUnreadable?: (error: VarveError) => void,
  ): { bytes: number; done: boolean } {
    const next = this.#covered.nextAbsent(cursor.at, cursor.end);
    // Chunks that were covered before they were read here may hold anything.
    if (next > cursor.at) this.#recordZeroes(cursor);
    cursor.at = next;
    if (next === cursor.end) {
      this.#recordZeroes(cursor);
      return { bytes: 0, done: true };
    }
    const data = this.#parts.primary.seek(next * this.chunkBytes, "data");
    const dataChunk = data === undefined
      ? cursor.end
      : Math.min(cursor.end, Math.floor(data / this.chunkBytes));
    if (dataChunk > next) {
      cursor.zeroFrom ??= next;
      cursor.at = this.#covered.nextPresent(next, dataChunk);
      return { bytes: 0, done: false };
    }
    const isSingle = next < (cursor.singleUntil ?? 0);
    const wantedBytes = isSingle ? 0 : cursor.pieceBytes ?? PIECE_BYTES;
    const pieceChunks = Math.max(1, Math.floor(wantedBytes / this.chunkBytes));
    const end = this.#covered.nextPresent(next, Math.min(cursor.end, next + pieceChunks));
    let bytes: Uint8Array;
    try {
      bytes = this.#read(next, end);
    } catch (thrown) {
      if (onUnreadable === undefined) throw thrown;
      this.#recordZeroes(cursor);
      if (end - next > 1) cursor.singleUntil = end;
      else {
        cursor.at++;
        onUnreadable(VarveError.from(thrown, "read an adopted disk"));
      }
      return { bytes: 0, done: false };
    }
    this.#copyPiece(cursor, bytes);
    return { bytes: bytes.length, done: false };
  }

  /** Whole blocks, valid until the next call; beyond the end of the volume the last is padded with zeroes. */
  #read(firstChunk: number, endChunk: number): Uint8Array {
    const start = firstChunk * this.chunkBytes;
    const length = Math.min(endChunk * this.chunkBytes, this.#sizeBytes) - start;
    const bytes = this.#buffer(blocksFor(length) * BLOCK_BYTES);
    bytes.fill(0, length);
    this.#parts.primary.read(start, bytes.subarray(0, length));
    return bytes;
  }

  #copyPiece(cursor: CopyCursor, bytes: Uint8Array): void {
    const start = cursor.at * this.chunkBytes;
    for (const run of runsOf(bytes, this.chunkBytes / BLOCK_BYTES)) {
      if (run.fromBlock === run.endBlock) {
        cursor.zeroFrom ??= cursor.at;
        cursor.at += run.chunks;
        continue;
      }
      this.#recordZeroes(cursor);
      const payload = bytes.subarray(run.fromBlock * BLOCK_BYTES, run.endBlock * BLOCK_BYTES);
      this.#record(cursor.at, cursor.at + run.chunks, blockOf(start) + run.fromBlock, payload);
      cursor.at += run.chunks;
    }
  }

  #buffer(length: number): Uint8Array {
    if (this.#piece === undefined || this.#piece.length < length) this.#piece = new Uint8Array(length);
    return this.#piece.subarray(0, length);
  }

  #recordZeroes(cursor: CopyCursor): void {
    const { zeroFrom, at } = cursor;
    if (zeroFrom === undefined) return;
    this.#record(zeroFrom, at, blockOf(zeroFrom * this.chunkBytes), new Uint8Array(0));
    cursor.zeroFrom = undefined;
  }

  #record(firstChunk: number, endChunk: number, firstBlock: number, payload: Uint8Array): void {
    const offset = firstChunk * this.chunkBytes;
    const record = {
      kind: "baseline",
      flags: 0,
      seq: 0,
      timeUs: this.#parts.timeUs,
      offset,
      length: Math.min(endChunk * this.chunkBytes, this.#sizeBytes) - offset,
      firstBlock,
      client: this.#parts.journal.lastBaseline + 1,
    } as const;
    const place = this.#parts.journal.append(record, payload);
    this.#covered.add(firstChunk, endChunk);
    this.#keep(baselineEntryOf({ ...record, payloadBytes: payload.length }, place));
  }
}

/** Chunks that become one record, with the blocks in it from the first to the last that is not zero. */
interface ChunkRun {
  chunks: number;
  readonly fromBlock: number;
  endBlock: number;
}

/** Adjacent chunks share a record when both are zero, or where the data of one goes on in the next. */
function runsOf(bytes: Uint8Array, chunkBlocks: number): ChunkRun[] {
  const runs: ChunkRun[] = [];
  const blocks = bytes.length / BLOCK_BYTES;
  for (let first = 0; first < blocks; first += chunkBlocks) {
    let fromBlock = first;
    let endBlock = Math.min(blocks, first + chunkBlocks);
    while (fromBlock < endBlock && isZeroBlock(bytes, fromBlock)) fromBlock++;
    while (endBlock > fromBlock && isZeroBlock(bytes, endBlock - 1)) endBlock--;
    const last = runs.at(-1);
    const isZero = fromBlock === endBlock;
    if (
      last !== undefined &&
      (last.fromBlock === last.endBlock ? isZero : !isZero && last.endBlock === fromBlock)
    ) {
      last.chunks++;
      if (!isZero) last.endBlock = endBlock;
    } else runs.push({ chunks: 1, fromBlock, endBlock });
  }
  return runs;
}

function isZeroBlock(bytes: Uint8Array, block: number): boolean {
  return isZero(bytes.subarray(block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES));
}

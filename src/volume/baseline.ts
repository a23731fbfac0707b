/**
 * The scan that copies an adopted disk in the background, so that history stands without the primary.
 *
 * It goes over the chunks that nothing has covered yet, skips holes, and has {@linkcode BaselineCopier} append the rest
 * to the journal. It keeps to a rate, to a quarter of it while hosts send commands, and waits while they are made to
 * wait. It can be stopped at any time: the next start goes on with what the recovery map does not have.
 *
 * The end, in this order: the map has every chunk; a text in the journal says so, durably; the map forgets the pages of
 * coverage. Were the text first, a power cut could leave a journal that calls itself complete and is not. Were the pages
 * forgotten first, a crash could leave a journal that never says it. Until they are forgotten the next start reads the
 * text again: a map that has lost the end has it from there.
 *
 * @module
 */
import { VarveError } from "../base/errors.ts";
import type { Scheduler } from "../base/turns.ts";
import type { BaselineLedger } from "../catalog/baseline_ledger.ts";
import type { RecoveryMap } from "../catalog/recovery_map.ts";
import { type BaselineCopier, PIECE_BYTES } from "./baseline_copier.ts";
import type { LiveVolume } from "./live_volume.ts";
import type { JournalText } from "./journal_text.ts";

/** Bytes a second that the scan reads unless told otherwise. */
export const BASELINE_BYTES_PER_SECOND: number = 128 * 1024 * 1024;

/** How much slower it is while hosts send commands. */
const BUSY_FACTOR = 4;
/** What is read at a time is at most what the rate allows in so long, in milliseconds. */
const PIECE_MS = 10;
/** Time after a failure until it is tried again, in milliseconds. */
const RETRY_MS = 30_000;

/** What the scan works with. */
export interface BaselineScanParts {
  /** Gives turns. */
  readonly scheduler: Scheduler;
  /** The live device of the adopted disk. */
  readonly live: LiveVolume;
  /** Copies chunks. */
  readonly copier: BaselineCopier;
  /** The coverage in the recovery map. */
  readonly ledger: BaselineLedger;
  /** The recovery map. */
  readonly map: RecoveryMap;
  /** The rate to keep to. */
  readonly bytesPerSecond: number;
  /** Told of every failure; the scan tries again later. */
  readonly onFailure: (error: VarveError) => void;
  /** Stops the scan when aborted. */
  readonly signal: AbortSignal;
}

/** Copies what is not copied yet; resolves with false when it was stopped before the end. */
export async function scanBaseline(parts: BaselineScanParts): Promise<boolean> {
  const { scheduler, signal } = parts;
  while (!signal.aborted) {
    try {
      await describe(parts.live, { type: "baseline-begun" });
      const failure = await copyMissing(parts);
      if (failure !== undefined) throw failure;
      if (signal.aborted) return false;
      await finish(parts);
      return true;
    } catch (thrown) {
      if (signal.aborted) return false;
      parts.onFailure(VarveError.from(thrown, "copy an adopted disk"));
      await wait(scheduler, RETRY_MS, signal);
    }
  }
  return false;
}

/** Goes over all chunks once. What cannot be read is left for the next time; the last such failure is told. */
async function copyMissing(
  { scheduler, live, copier, bytesPerSecond, signal }: BaselineScanParts,
): Promise<VarveError | undefined> {
  const pieceBytes = Math.min(PIECE_BYTES, bytesPerSecond * PIECE_MS / 1000);
  const cursor = { at: 0, end: copier.chunkCount, pieceBytes };
  let failure: VarveError | undefined;
  let seenSeq = live.lastSeq;
  while (!signal.aborted) {
    const { bytes, done } = copier.turn(cursor, scheduler, (error) => failure = error);
    if (done) break;
    await live.pressure();
    const isBusy = live.lastSeq !== seenSeq;
    seenSeq = live.lastSeq;
    await wait(scheduler, bytes / bytesPerSecond * 1000 * (isBusy ? BUSY_FACTOR : 1), signal);
  }
  return failure;
}

async function finish({ live, ledger, map }: BaselineScanParts): Promise<void> {
  await live.indexer.upTo(live.lastSeq);
  await live.indexer.queue.run(() => {
    ledger.checkComplete();
    return Promise.resolve();
  });
  const told = await live.describe(JSON.stringify({ type: "baseline-complete" } satisfies JournalText));
  try {
    await live.indexer.queue.run(() => {
      map.transaction(() => ledger.finish());
      return Promise.resolve();
    });
  } finally {
    told();
  }
}

async function describe(live: LiveVolume, text: JournalText): Promise<void> {
  const told = await live.describe(JSON.stringify(text));
  told();
}

/** Resolves after a time, or as soon as it is aborted. */
function wait(scheduler: Scheduler, delayMs: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const end = () => {
      timer.cancel();
      signal.removeEventListener("abort", end);
      resolve();
    };
    const timer = scheduler.after(delayMs, end);
    signal.addEventListener("abort", end);
    if (signal.aborted) end();
  });
}

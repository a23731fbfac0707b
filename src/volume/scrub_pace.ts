/**
 * How fast a scrub may go: not above a rate, in turns with other work, and not at all once it is cancelled.
 *
 * @module
 */
import { VarveError } from "../base/errors.ts";
import { pause, type Scheduler } from "../base/turns.ts";

/** A wait shorter than this is put off, in milliseconds. */
const WAIT_MS_MIN = 5;
/** The signal is looked at so often while waiting, in milliseconds. */
const WAIT_MS_MAX = 200;

/** Options of {@linkcode ScrubPace}. */
export interface ScrubPaceOptions {
  /** Gives turns. */
  readonly scheduler: Scheduler;
  /** Stops the work when aborted. */
  readonly signal: AbortSignal;
  /** Bytes a second at most; left out: as fast as it goes. */
  readonly rateBytes?: number;
  /** How long it works before others get their turn, in milliseconds. */
  readonly sliceMs: number;
  /** Told how far it has come. */
  readonly onProgress: (doneBytes: number, totalBytes: number) => void;
}

/** Counts what is read. After each piece: `if (pace.spend(bytes)) await pace.rest();` */
export class ScrubPace {
  /** Bytes checked. */
  doneBytes = 0;
  /** Bytes that there are to check. */
  totalBytes = 0;
  readonly #options: ScrubPaceOptions;
  readonly #startedMs: number;
  #spentBytes = 0;
  #sliceEndMs: number;

  /** Begins now. */
  constructor(options: ScrubPaceOptions) {
    this.#options = options;
    this.#startedMs = options.scheduler.ticksMs();
    this.#sliceEndMs = this.#startedMs + options.sliceMs;
  }

  /** Counts bytes read, and whether they are `progress`; answers whether it is time to rest. */
  spend(bytes: number, progress = true): boolean {
    this.#spentBytes += bytes;
    if (progress) this.doneBytes += bytes;
    const now = this.#options.scheduler.ticksMs();
    return now >= this.#sliceEndMs || this.#dueMs() > now + WAIT_MS_MIN;
  }

  /** When so much may have been read. */
  #dueMs(): number {
    const { rateBytes } = this.#options;
    return rateBytes === undefined ? 0 : this.#startedMs + this.#spentBytes / rateBytes * 1000;
  }

  /** Lets others have their turn, and waits as long as the rate wants it. Throws `cancelled`. */
  async rest(): Promise<void> {
    const { scheduler, signal, onProgress } = this.#options;
    onProgress(this.doneBytes, Math.max(this.totalBytes, this.doneBytes));
    do {
      if (signal.aborted) throw new VarveError("cancelled", "scrub: it was cancelled");
      await pause(scheduler, Math.min(WAIT_MS_MAX, Math.max(0, this.#dueMs() - scheduler.ticksMs())));
    } while (this.#dueMs() > scheduler.ticksMs());
    if (signal.aborted) throw new VarveError("cancelled", "scrub: it was cancelled");
    this.#sliceEndMs = scheduler.ticksMs() + this.#options.sliceMs;
  }
}

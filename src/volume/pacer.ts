/**
 * Long work in the background that takes only a share of the machine.
 *
 * @module
 */
import { VarveError } from "../base/errors.ts";
import { pause, type Scheduler } from "../base/turns.ts";

/** How much of the machine background work may take. */
export interface Pace {
  /** Share of one core, above 0 and up to 1. */
  readonly coreShare: number;
  /** Bytes read from storage in a second, at most. */
  readonly bytesPerSecond: number;
}

/** Work goes on for this long before others get their turn, in milliseconds. */
const SLICE_MS = 2;
/** A rest is put off until so much of it has gathered, in milliseconds. */
const REST_MS_MIN = 5;

/** Runs work in slices and rests between them. */
export class Pacer {
  readonly #scheduler: Scheduler;
  readonly #pace: Pace;
  readonly #signal: AbortSignal;
  /** Rest that is due, in milliseconds. */
  #restMs = 0;

  /** Keeps to `pace` until `signal` is aborted. */
  constructor(scheduler: Scheduler, pace: Pace, signal: AbortSignal) {
    this.#scheduler = scheduler;
    this.#pace = pace;
    this.#signal = signal;
  }

  /**
   * Runs a generator that yields the number of bytes it has just dealt with to its end. `afterStep` is awaited after each
   * step. Throws `cancelled` when the signal is aborted.
   */
  async run<T>(work: Generator<number, T>, afterStep?: (bytes: number) => Promise<void>): Promise<T> {
    const { coreShare, bytesPerSecond } = this.#pace;
    let sliceFrom = this.#scheduler.ticksMs();
    for (;;) {
      const from = this.#scheduler.ticksMs();
      const step = work.next();
      const to = this.#scheduler.ticksMs();
      if (step.done) return step.value;
      const workedMs = to - from;
      this.#restMs += Math.max(
        workedMs * (1 / coreShare - 1),
        step.value / bytesPerSecond * 1000 - workedMs,
        0,
      );
      await afterStep?.(step.value);
      if (to - sliceFrom >= SLICE_MS || this.#restMs >= REST_MS_MIN) {
        await pause(this.#scheduler, this.#restMs);
        this.#restMs = 0;
        sliceFrom = this.#scheduler.ticksMs();
      }
      if (this.#signal.aborted) throw new VarveError("cancelled", "work in the background: it was stopped");
    }
  }
}

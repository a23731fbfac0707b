/**
 * Taking turns on one thread: long synchronous work in slices, so that capture never waits long; and the scheduler
 * that gives the turns, handed in as an argument so that a simulation can give its own.
 *
 * @module
 */

/** Work that waits for its time. */
export interface Timer {
  /** Takes it back; does nothing once it has begun. */
  cancel(): void;
}

/** Gives turns. */
export interface Scheduler {
  /** Milliseconds on a clock that never steps back. */
  ticksMs(): number;
  /** Runs `work` once, after `delayMs` at the earliest and never before this returns. */
  after(delayMs: number, work: () => void): Timer;
}

/** The event loop of this thread. */
export const systemScheduler: Scheduler = {
  ticksMs: () => performance.now(),
  after(delayMs, work) {
    const id = setTimeout(work, delayMs);
    return { cancel: () => clearTimeout(id) };
  },
};

/** Lets the event loop turn; resolves after `delayMs` at the earliest. */
export function pause(scheduler: Scheduler, delayMs = 0): Promise<void> {
  return new Promise((resolve) => scheduler.after(delayMs, resolve));
}

/** Work goes on for this long before others get their turn, in milliseconds. */
const SLICE_MS = 2;

/** Runs a generator to its end, letting the event loop turn at a yield once a slice of time is used up. */
export async function inTurns<T>(
  work: Generator<void, T>,
  scheduler: Scheduler = systemScheduler,
): Promise<T> {
  let until = scheduler.ticksMs() + SLICE_MS;
  for (;;) {
    const step = work.next();
    if (step.done) return step.value;
    if (scheduler.ticksMs() >= until) {
      await pause(scheduler);
      until = scheduler.ticksMs() + SLICE_MS;
    }
  }
}

/** Runs asynchronous pieces of work strictly one after the other. */
export class Queue {
  #last: Promise<unknown> = Promise.resolve();

  /** Runs `work` when all before it has ended, whatever their outcome. */
  run<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#last.then(work, work);
    this.#last = result.catch(() => {});
    return result;
  }

  /** Resolves when all work given so far has ended. */
  async idle(): Promise<void> {
    await this.#last;
  }
}

/**
 * Taking turns on one thread: long synchronous work in slices, so that capture never waits long.
 *
 * @module
 */

/** Work goes on for this long before others get their turn, in milliseconds. */
const SLICE_MS = 2;

/** Runs a generator to its end, letting the event loop turn at a yield once a slice of time is used up. */
export async function inTurns<T>(work: Generator<void, T>): Promise<T> {
  let until = performance.now() + SLICE_MS;
  for (;;) {
    const step = work.next();
    if (step.done) return step.value;
    if (performance.now() >= until) {
      await new Promise((resolve) => setTimeout(resolve, 0));
      until = performance.now() + SLICE_MS;
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

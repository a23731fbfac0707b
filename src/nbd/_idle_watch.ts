/** Notices a client that leaves the server waiting for too long. */
import type { Scheduler, Timer } from "../base/turns.ts";

/** Costs two readings of the clock for each wait, and one timer at a time; nothing when there is no limit. */
export class IdleWatch {
  readonly #scheduler: Scheduler;
  readonly #timeoutMs: number;
  readonly #onIdle: () => void;
  #sinceMs: number | undefined;
  #timer: Timer | undefined;

  /** Calls `onIdle` while a wait has taken `timeoutMs`, again and again; 0 means never. */
  constructor(scheduler: Scheduler, timeoutMs: number, onIdle: () => void) {
    this.#scheduler = scheduler;
    this.#timeoutMs = timeoutMs;
    this.#onIdle = onIdle;
    if (timeoutMs > 0) this.#arm(timeoutMs);
  }

  /** Waits for something that is up to the client. */
  during<T>(wait: Promise<T>): Promise<T> {
    return this.#timeoutMs === 0 ? wait : this.#timed(wait);
  }

  /** Ends the watch. */
  end(): void {
    this.#timer?.cancel();
  }

  async #timed<T>(wait: Promise<T>): Promise<T> {
    this.#sinceMs = this.#scheduler.ticksMs();
    try {
      return await wait;
    } finally {
      this.#sinceMs = undefined;
    }
  }

  #arm(delayMs: number): void {
    this.#timer = this.#scheduler.after(delayMs, () => this.#look());
  }

  #look(): void {
    const waitedMs = this.#sinceMs === undefined ? 0 : this.#scheduler.ticksMs() - this.#sinceMs;
    if (waitedMs >= this.#timeoutMs) this.#onIdle();
    this.#arm(waitedMs >= this.#timeoutMs ? this.#timeoutMs : this.#timeoutMs - waitedMs);
  }
}

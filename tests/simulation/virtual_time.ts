/**
 * Time of the simulation: a scheduler whose events run in order of their time, and a wall clock that sometimes steps
 * back. Nothing waits for real time, and the seed decides what is left to chance.
 */
import { setImmediate } from "node:timers";
import type { Clock } from "../../src/base/clock.ts";
import type { SeededRandom } from "../../src/base/seeded_random.ts";
import type { Scheduler, Timer } from "../../src/base/turns.ts";

interface Event {
  readonly atMs: number;
  /** Decides between events of one time. */
  readonly tie: number;
  readonly order: number;
  readonly work: () => void;
  cancelled: boolean;
}

/** The scheduler and the clock in one. */
export class VirtualTime implements Scheduler, Clock {
  /** Events run so far. */
  ran = 0;
  readonly #random: SeededRandom;
  #nowMs = 0;
  #order = 0;
  /** Sorted, the next event last. */
  #events: Event[] = [];
  #wallUs = Date.UTC(2026, 0, 1) * 1000;

  constructor(random: SeededRandom) {
    this.#random = random;
  }

  /** Moves on a little at each call, so that slices of work end at varying places. */
  ticksMs(): number {
    this.#nowMs += this.#random.below(400) / 1000;
    return this.#nowMs;
  }

  nowUs(): number {
    return Math.floor(this.#wallUs + this.#nowMs * 1000);
  }

  /** Moves the wall clock alone, as a machine that slept or whose clock was set; `us` may be negative. */
  stepWall(us: number): void {
    this.#wallUs += us;
  }

  after(delayMs: number, work: () => void): Timer {
    const event: Event = {
      atMs: this.#nowMs + Math.max(0, delayMs),
      tie: this.#random.bits(),
      order: this.#order++,
      work,
      cancelled: false,
    };
    let low = 0;
    let high = this.#events.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      const other = this.#events[middle];
      if (other !== undefined && comesBefore(event, other)) low = middle + 1;
      else high = middle;
    }
    this.#events.splice(low, 0, event);
    return { cancel: () => void (event.cancelled = true) };
  }

  /** Forgets every event: the process that waited for them is gone. */
  clear(): void {
    this.#events = [];
  }

  /** Runs the next event and all that follows from it without waiting; false when there is none. */
  async runNext(): Promise<boolean> {
    for (;;) {
      const event = this.#events.pop();
      if (event === undefined) return false;
      if (event.cancelled) continue;
      this.#nowMs = Math.max(this.#nowMs, event.atMs);
      this.ran++;
      event.work();
      await settle();
      return true;
    }
  }
}

function comesBefore(one: Event, other: Event): boolean {
  if (one.atMs !== other.atMs) return one.atMs < other.atMs;
  return one.tie !== other.tie ? one.tie < other.tie : one.order < other.order;
}

/** Resolves when every promise that can go on has done so. */
export function settle(): Promise<void> {
  return new Promise((resolve) => void setImmediate(resolve));
}

/**
 * The clock, handed in as an argument so that a simulation can run on its own.
 *
 * @module
 */

/** Tells the time. */
export interface Clock {
  /** Microseconds since 1970-01-01T00:00:00Z; a safe integer. It may step backwards. */
  nowUs(): number;
}

let originMs = performance.timeOrigin;

/**
 * The machine's own clock. The digits below a millisecond come from the monotonic clock, which stands still while the
 * machine sleeps and knows of no correction: it is set by the wall clock again as soon as the two part.
 */
export const systemClock: Clock = {
  nowUs: () => {
    const wallMs = Date.now();
    const sinceMs = performance.now();
    if (Math.abs(originMs + sinceMs - wallMs) > 2) originMs = wallMs - sinceMs;
    return Math.floor((originMs + sinceMs) * 1000);
  },
};

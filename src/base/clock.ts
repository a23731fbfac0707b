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

/** The machine's own clock. */
export const systemClock: Clock = {
  nowUs: () => Math.floor((performance.timeOrigin + performance.now()) * 1000),
};

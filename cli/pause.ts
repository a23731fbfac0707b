/**
 * Waiting.
 *
 * @module
 */

/** Resolves when the time is over, or earlier when `over` resolves; the timer does not outlive it. */
export async function pause(ms: number, over?: Promise<unknown>): Promise<void> {
  const late = Promise.withResolvers<void>();
  const timer = setTimeout(late.resolve, ms);
  await Promise.race(over === undefined ? [late.promise] : [late.promise, over]);
  clearTimeout(timer);
}

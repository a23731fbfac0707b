/**
 * Times as DOS kept them.
 *
 * ```text
 * date  u16: year - 1980 in 7 bits, month (1-12) in 4, day (1-31) in 5
 * time  u16: hour in 5 bits, minute in 6, seconds / 2 in 5
 * ```
 *
 * @module
 */

/**
 * Nanoseconds since 1970 of a date and a time, and some more units of 10 ms. The guest means its local time and does not say which
 * that is: it is taken as UTC. A month or day of 0 counts as 1.
 */
export function dosTimeNs(date: number, time: number, hundredths = 0): bigint {
  const ms = Date.UTC(
    1980 + (date >>> 9),
    Math.max(1, (date >>> 5) & 15) - 1,
    Math.max(1, date & 31),
    time >>> 11,
    (time >>> 5) & 63,
    2 * (time & 31),
    10 * hundredths,
  );
  return BigInt(ms) * 1_000_000n;
}

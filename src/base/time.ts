/**
 * Points in time. The engine counts whole microseconds since 1970 (UTC, without leap seconds); people read and
 * write RFC 3339. A safe integer reaches from 1684 to 2255.
 *
 * @module
 */

/**
 * Writes a time in RFC 3339, UTC, with `Z`: `2026-11-22T10:15:00.000000Z`.
 *
 * Digits that are left out are cut off, not rounded, so that the text never names a later moment.
 *
 * @param us Microseconds since 1970, a safe integer.
 * @param digits Digits of the second's fraction.
 */
export function formatTime(us: number, digits: 0 | 3 | 6 = 6): string {
  const ms = Math.floor(us / 1000);
  const iso = new Date(ms).toISOString();
  switch (digits) {
    case 0:
      return `${iso.slice(0, -5)}Z`;
    case 3:
      return iso;
    case 6:
      return `${iso.slice(0, -1)}${String(us - ms * 1000).padStart(3, "0")}Z`;
  }
}

const RFC3339 =
  /^(\d{4})-(\d{2})-(\d{2})[Tt ](\d{2}):(\d{2}):(\d{2})(?:\.(\d+))?(?:[Zz]|([+-])(\d{2}):(\d{2}))?$/;

/**
 * Reads a date with a time of day, as RFC 3339 writes it, and returns microseconds since 1970.
 *
 * Two liberties: a space may stand for the `T`, and without an offset the time is UTC. Digits of the fraction
 * beyond the sixth are cut off.
 *
 * @returns `undefined` when the text has another form, when the calendar has no such day, when the clock shows
 * no such time (a leap second is not a time here), or when it is out of the range of a safe integer.
 */
export function parseRfc3339(text: string): number | undefined {
  const match = RFC3339.exec(text);
  if (match === null) return undefined;
  const [year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0] = match.slice(1, 7).map(Number);
  const offsetHours = Number(match[9] ?? 0);
  const offsetMinutes = Number(match[10] ?? 0);
  if (hour > 23 || minute > 59 || second > 59 || offsetHours > 23 || offsetMinutes > 59) return undefined;

  const date = new Date(0);
  date.setUTCFullYear(year, month - 1, day); // Date.UTC would take the years 0 to 99 for 1900 to 1999.
  if (date.getUTCMonth() !== month - 1 || date.getUTCDate() !== day) return undefined;
  date.setUTCHours(hour, minute, second);

  const offsetMs = (offsetHours * 60 + offsetMinutes) * 60_000 * (match[8] === "-" ? -1 : 1);
  const fractionUs = Number((match[7] ?? "").slice(0, 6).padEnd(6, "0"));
  const us = (date.getTime() - offsetMs) * 1000 + fractionUs;
  return Number.isSafeInteger(us) ? us : undefined;
}

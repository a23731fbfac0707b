/**
 * Sizes and durations as people write them.
 *
 * @module
 */
import { VarveError } from "./errors.ts";

const SIZE_PREFIXES = ["", "K", "M", "G", "T", "P"] as const;
const SIZE_HINT = "Write a whole number of bytes, or a number with a unit: 4096, 512M, 1.5G, 1TiB " +
  "(K, M, G, T, P count by 1024 with or without iB) or 10GB (KB, MB, GB, TB, PB count by 1000).";

/**
 * Reads a size in bytes: `4096`, `512M`, `1.5G`, `1TiB`, `10GB`.
 *
 * A bare letter counts by 1024, as in qemu-img and LVM; a letter with `iB` says so, and a letter with `B`
 * counts by 1000. Letters may be small. A fraction is rounded down to a whole byte.
 *
 * @throws {VarveError} `invalid` when the text is not a size, or is above 2^53 - 1 bytes.
 */
export function parseSize(text: string): number {
  const match = /^(\d+(?:\.\d+)?) ?(?:([KMGTP])(I?B)?|B)?$/i.exec(text.trim());
  const prefix = match?.[2]?.toUpperCase() ?? "";
  const base = match?.[3]?.toUpperCase() === "B" ? 1000 : 1024;
  const number = match?.[1] ?? "";
  const wantsWhole = prefix === "" && number.includes(".");
  const bytes = Math.floor(Number(number) * base ** SIZE_PREFIXES.findIndex((each) => each === prefix));
  if (match === null || wantsWhole || !Number.isSafeInteger(bytes)) {
    throw new VarveError("invalid", `Reading a size: found ${JSON.stringify(text)}`, { hint: SIZE_HINT });
  }
  return bytes;
}

/** Writes a size for people, with at most one digit after the point: `0 B`, `512 MiB`, `1.5 GiB`. */
export function formatSize(bytes: number): string {
  let value = bytes;
  let step = 0;
  // The rounded figure decides, so that a byte below 1 MiB does not become "1024 KiB".
  while (Math.round(value * 10) >= 10240 && step < SIZE_PREFIXES.length - 1) {
    value /= 1024;
    step++;
  }
  const prefix = SIZE_PREFIXES[step];
  return `${Math.round(value * 10) / 10} ${prefix}${step === 0 ? "B" : "iB"}`;
}

const SECOND_MS = 1000;
const MINUTE_MS = 60 * SECOND_MS;
const HOUR_MS = 60 * MINUTE_MS;
const DAY_MS = 24 * HOUR_MS;

/** Largest first: the order in which a sum is written. */
const DURATION_UNITS_MS: readonly (readonly [unit: string, ms: number])[] = [
  ["y", 365 * DAY_MS],
  ["w", 7 * DAY_MS],
  ["d", DAY_MS],
  ["h", HOUR_MS],
  ["m", MINUTE_MS],
  ["s", SECOND_MS],
  ["ms", 1],
];
const DURATION_HINT =
  "Write a number with a unit, or a sum of them, largest unit first: 500ms, 30s, 15m, 24h, " +
  "7d, 4w, 1y, 1h30m.";

/**
 * Reads a duration in milliseconds: `500ms`, `30s`, `15m`, `24h`, `7d`, `4w`, `1y`, or a sum such as `1h30m`.
 *
 * A day is 24 hours and a year 365 days. Each unit stands at most once, the largest first, so that a slip such
 * as `30m1h` is found. A fraction is rounded down to a whole millisecond.
 *
 * @throws {VarveError} `invalid` when the text is not a duration.
 */
export function parseDuration(text: string): number {
  const parts = [...text.trim().matchAll(/(\d+(?:\.\d+)?)(ms|[ywdhms])/gy)];
  const consumed = parts.reduce((length, part) => length + part[0].length, 0);
  let totalMs = 0;
  let smallestRank = -1;
  let ordered = true;
  for (const [, number, unit] of parts) {
    const rank = DURATION_UNITS_MS.findIndex(([each]) => each === unit);
    ordered &&= rank > smallestRank;
    smallestRank = rank;
    totalMs += Number(number) * (DURATION_UNITS_MS[rank]?.[1] ?? NaN);
  }
  const wholeMs = Math.floor(totalMs);
  if (parts.length === 0 || consumed !== text.trim().length || !ordered || !Number.isSafeInteger(wholeMs)) {
    throw new VarveError("invalid", `Reading a duration: found ${JSON.stringify(text)}`, {
      hint: DURATION_HINT,
    });
  }
  return wholeMs;
}

/**
 * Writes a duration so that {@linkcode parseDuration} reads the same number again: `1h30m`, `7d`, `0s`.
 * Weeks are written as days. Takes whole milliseconds from 0 on.
 */
export function formatDuration(ms: number): string {
  if (!Number.isSafeInteger(ms) || ms < 0) throw new RangeError(`Formatting a duration: found ${ms} ms`);
  let text = "";
  let restMs = ms;
  for (const [unit, unitMs] of DURATION_UNITS_MS) {
    if (unit === "w") continue;
    const count = Math.floor(restMs / unitMs);
    restMs -= count * unitMs;
    if (count > 0) text += `${count}${unit}`;
  }
  return text === "" ? "0s" : text;
}

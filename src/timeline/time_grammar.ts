/**
 * The one grammar in which people name a moment: on the command line, in HTTP, in paths and in NBD names.
 *
 * ```text
 * now
 * 2026-11-22T10:15:00.5Z   RFC 3339; a space for the T, no offset (then UTC), no seconds, or the date alone
 * seq:12345                a sequence
 * mark:NAME                a mark
 * 10:13  10:13:05.250      the latest past moment at which the appliance's clock showed this
 * 1h30m ago  3 days ago    hours and below are exact, days and above keep the time of day
 * yesterday 14:00          also: today, last monday, two days ago, the day before yesterday; am and pm; noon
 * ```
 *
 * A time of day and the words are read in the appliance's zone unless `UTC`, `GMT` or an offset such as `+02:00`
 * follows. A day without a time of day is its first instant. Words never name the future, and beside them a time
 * of day reaches to the millisecond. What is vague (`last night`), ambiguous (`monday`) or has words left over is
 * refused, because a name never resolves silently to something else.
 *
 * @module
 */
import { type Component, en } from "chrono-node";
import { VarveError } from "../base/errors.ts";
import { parseRfc3339 } from "../base/time.ts";

/** What a text of the grammar names, before anybody looks whether it is retained. */
export type TimeExpression =
  /** The present. */
  | { kind: "now" }
  /** The last sequence at or before a time, in microseconds since 1970. */
  | { kind: "time"; us: number }
  /** An exact sequence. */
  | { kind: "seq"; seq: number }
  /** The moment that somebody named. */
  | { kind: "mark"; name: string };

/** What a text is read against. */
export interface TimeContext {
  /** The present, in microseconds since 1970. */
  nowUs: number;
  /** The appliance's time zone: an IANA name such as `Europe/Berlin`, or an offset such as `+02:00`. */
  zone: string;
}

/** The forms that the grammar accepts, as a sentence for people. */
export const TIME_FORMS =
  "Accepted are: now, 2026-11-22T10:15:00Z, 2026-11-22 10:15, 2026-11-22, seq:12345, mark:NAME, 10:13, " +
  "10:13:05, 10m ago, 2 hours ago, 1h30m ago, yesterday 14:00, last monday 09:00.";

/**
 * Reads a text of the time grammar.
 *
 * An absolute time may lie in the future; whether it is in the window is for the caller to find out.
 *
 * @throws {VarveError} `invalid`, field `at`, with {@linkcode TIME_FORMS} as the hint.
 */
export function parseTimeExpression(text: string, context: TimeContext): TimeExpression {
  const trimmed = text.trim();
  if (trimmed === "now") return { kind: "now" };
  if (trimmed.startsWith("mark:")) {
    const name = trimmed.slice("mark:".length);
    if (name === "") throw badTime(text, "the mark has no name");
    return { kind: "mark", name };
  }
  if (trimmed.startsWith("seq:")) {
    const seq = Number(trimmed.slice("seq:".length));
    if (!/^seq:\d+$/.test(trimmed) || !Number.isSafeInteger(seq)) {
      throw badTime(text, "a sequence is a whole number");
    }
    return { kind: "seq", seq };
  }
  if (/^\d{4}-/.test(trimmed)) {
    const us = parseDate(trimmed);
    if (us === undefined) throw badTime(text, "no such date or time of day");
    return { kind: "time", us };
  }
  if (trimmed.length > WORDS_LENGTH_MAX) throw badTime(text, "not a form of the time grammar");

  const [, words = "", utc, offset] = ZONE_SUFFIX.exec(trimmed) ?? [];
  const zone = offset ?? (utc === undefined ? context.zone : "UTC");
  const here: Here = {
    text,
    words,
    now: Temporal.Instant.fromEpochNanoseconds(BigInt(context.nowUs) * 1000n)
      .toZonedDateTimeISO(zone),
  };
  try {
    const found = parseTimeOfDay(here) ?? parseAgo(here) ?? parseDay(here);
    const us = Number(found.epochNanoseconds / 1000n);
    if (us > context.nowUs) throw badTime(text, "words cannot name the future");
    if (!Number.isSafeInteger(us)) throw badTime(text, "no such time");
    return { kind: "time", us };
  } catch (thrown) {
    // Temporal throws RangeError for a clock time such as 25:00 and for spans beyond its calendar.
    if (thrown instanceof RangeError) throw badTime(text, "no such time");
    throw thrown;
  }
}

/** A text whose meaning depends on the present, without its zone. */
interface Here {
  text: string;
  words: string;
  now: Temporal.ZonedDateTime;
}

/** Text comes from anybody who may look up a path; some of the patterns below take quadratic time. */
const WORDS_LENGTH_MAX = 100;

const ZONE_SUFFIX = /^(.*?)(?:\s*(Z|UTC|GMT)|\s+([+-](?:[01]\d|2[0-3]):[0-5]\d))?$/is;

function badTime(text: string, found: string): VarveError {
  return new VarveError("invalid", `Reading the time ${JSON.stringify(text)}: ${found}`, {
    field: "at",
    hint: TIME_FORMS,
  });
}

/** RFC 3339, or a prefix of it that ends after the minutes or after the date. */
function parseDate(text: string): number | undefined {
  const match = /^([\d-]+)(?:[Tt ](\d{2}:\d{2})(:\d{2}(?:\.\d+)?)?)?([Zz]|[+-]\d{2}:\d{2})?$/.exec(text);
  if (match === null) return undefined;
  const [, date, minutes = "00:00", seconds = ":00", offset = "Z"] = match;
  return parseRfc3339(`${date}T${minutes}${seconds}${offset}`);
}

/** `10:13`: looks back from tomorrow, because a clock set back over midnight shows tomorrow's first minutes twice. */
function parseTimeOfDay(here: Here): Temporal.ZonedDateTime | undefined {
  const match = /^(\d{1,2}:\d{2})(:[0-5]\d)?(\.\d+)?$/.exec(here.words);
  if (match === null) return undefined;
  const [, minutes = "", seconds = ":00", fraction = ""] = match;
  if (fraction !== "" && match[2] === undefined) return undefined;
  const time = Temporal.PlainTime.from(`${minutes.padStart(5, "0")}${seconds}${fraction.slice(0, 7)}`);
  // Daylight saving skips an hour, and some zones have skipped a day: four days back is always enough.
  for (let days = 1; days >= -4; days--) {
    const date = here.now.toPlainDate().add({ days });
    const past = instantsAt(date.toPlainDateTime(time), here.now.timeZoneId)
      .filter((each) => Temporal.ZonedDateTime.compare(each, here.now) <= 0);
    if (past.length > 0) return past.at(-1);
  }
  throw badTime(here.text, `no clock in ${here.now.timeZoneId} showed this time of day lately`);
}

/** The instants at which a zone's clock shows a time: one, two where it is set back, none where it is set forward. */
function instantsAt(clock: Temporal.PlainDateTime, zone: string): Temporal.ZonedDateTime[] {
  const earlier = clock.toZonedDateTime(zone, { disambiguation: "earlier" });
  const later = clock.toZonedDateTime(zone, { disambiguation: "later" });
  if (earlier.equals(later)) return [earlier];
  return earlier.toPlainDateTime().equals(clock) ? [earlier, later] : [];
}

const AGO_UNITS = {
  milliseconds: ["ms", "millisecond", "milliseconds"],
  seconds: ["s", "sec", "secs", "second", "seconds"],
  minutes: ["m", "min", "mins", "minute", "minutes"],
  hours: ["h", "hr", "hrs", "hour", "hours"],
  days: ["d", "day", "days"],
  weeks: ["w", "week", "weeks"],
  months: ["month", "months"],
  years: ["y", "year", "years"],
} as const;
const NUMBER_WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"];
const AGO_PART = /(\d+|an?\b|[a-z]+(?=\s))\s*([a-z]+)(?:\s*,\s*|\s+and\s+|\s*)/gy;

/** `10m ago`, `two hours ago`, `1h30m ago`, `1 day and 2 hours ago`. */
function parseAgo(here: Here): Temporal.ZonedDateTime | undefined {
  const span = /^(.*[a-z])\s+ago$/s.exec(here.words)?.[1];
  if (span === undefined) return undefined;
  const duration: Temporal.DurationLike = {};
  let consumed = 0;
  for (const [part, number = "", unit] of span.matchAll(AGO_PART)) {
    const field = Object.entries(AGO_UNITS).find(([, names]) => names.some((name) => name === unit))?.[0];
    const count = /^an?$/.test(number)
      ? 1
      : /^\d/.test(number)
      ? Number(number)
      : NUMBER_WORDS.indexOf(number);
    if (field === undefined || count < 0) break;
    if (field in duration) throw badTime(here.text, `it counts ${field} twice`);
    Object.assign(duration, { [field]: count });
    consumed += part.length;
  }
  if (consumed !== span.length) throw badTime(here.text, "not a span of time");
  return here.now.subtract(duration);
}

/** What is left to chrono. It would also take `last week`, `noon` or `5 march`, which name no one moment. */
const WORDS = /^(?:yesterday|today|(?:the\s+)?day before yesterday|(?:on\s+)?last\s+\w+day|.*\bago)\b/i;
const VAGUE = /\b(?:morning|afternoon|evening|night|midnight|few|couple|several)\b/i;
const SEVERAL_DAYS = /\b(?:yesterday|today|ago|last)\b.*\b(?:yesterday|today|ago|last)\b/i;

/** A day in words, alone or with a time of day: `yesterday 14:00`, `last monday 9am`, `2 days ago at 10:00`. */
function parseDay(here: Here): Temporal.ZonedDateTime {
  // Chrono knows no zones, and its arithmetic goes through the process's own: it is shown the appliance's date at
  // noon, which no clock change reaches, and asked for the parts of its answer, never for the instant.
  const noon = here.now.toPlainDate().toZonedDateTime({ timeZone: "UTC", plainTime: "12:00" });
  const results = en.casual.parse(here.words, { instant: new Date(noon.epochMilliseconds), timezone: 0 });
  const [result] = results;
  if (!WORDS.test(here.words) || results.length !== 1 || result?.text !== here.words || result.end) {
    throw badTime(here.text, "not a form of the time grammar");
  }
  if (VAGUE.test(here.words) || SEVERAL_DAYS.test(here.words)) {
    throw badTime(here.text, "more than one moment could be meant");
  }
  if (result.start.isCertain("timezoneOffset")) {
    throw badTime(here.text, "a zone is written as UTC, GMT or an offset");
  }
  const part = (name: Component) => result.start.get(name) ?? 0;
  const date = new Temporal.PlainDate(part("year"), part("month"), part("day"));
  if (!result.start.isCertain("hour")) return date.toZonedDateTime(here.now.timeZoneId);
  const time = new Temporal.PlainTime(part("hour"), part("minute"), part("second"), part("millisecond"));
  const found = instantsAt(date.toPlainDateTime(time), here.now.timeZoneId).at(-1);
  if (found === undefined) {
    throw badTime(here.text, `the clock in ${here.now.timeZoneId} was set forward over this time`);
  }
  return found;
}

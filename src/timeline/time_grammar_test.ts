import assert from "node:assert/strict";
import fc from "fast-check";
import { VarveError } from "../base/errors.ts";
import { formatTime, parseRfc3339 } from "../base/time.ts";
import { parseTimeExpression } from "./time_grammar.ts";

/** Reads `text` as if it were `now` (RFC 3339) in `zone`, and writes the time found, without the zeroes at its end. */
function timeOf(text: string, now: string, zone = "Europe/Berlin"): string {
  const nowUs = parseRfc3339(now);
  assert.ok(nowUs !== undefined, now);
  const found = parseTimeExpression(text, { nowUs, zone });
  assert.equal(found.kind, "time", text);
  return found.kind === "time" ? formatTime(found.us).replace(/\.?0*Z$/, "Z") : "";
}

function assertRefused(text: string, now: string, zone = "Europe/Berlin"): void {
  assert.throws(
    () => timeOf(text, now, zone),
    (error) =>
      error instanceof VarveError && error.code === "invalid" && error.field === "at" &&
      error.message.includes(JSON.stringify(text)) && (error.hint ?? "").includes("mark:NAME"),
    text,
  );
}

/** A Wednesday; Berlin is an hour ahead of UTC. */
const WEDNESDAY = "2026-11-25T13:07:09.500007Z";

Deno.test("parseTimeExpression() reads now, sequences and marks", () => {
  const context = { nowUs: 0, zone: "UTC" };
  assert.deepEqual(parseTimeExpression("now", context), { kind: "now" });
  assert.deepEqual(parseTimeExpression("seq:12345", context), { kind: "seq", seq: 12345 });
  assert.deepEqual(parseTimeExpression("seq:0", context), { kind: "seq", seq: 0 });
  assert.deepEqual(parseTimeExpression("mark:before upgrade", context), {
    kind: "mark",
    name: "before upgrade",
  });
  assert.deepEqual(parseTimeExpression("mark:now", context), { kind: "mark", name: "now" });
  for (const text of ["seq:", "seq:-1", "seq:1.5", "seq:1e3", "seq: 1", "seq:9007199254740993", "mark:"]) {
    assertRefused(text, WEDNESDAY);
  }
});

Deno.test("parseTimeExpression() reads dates in UTC unless an offset stands, whatever the zone", () => {
  const cases: [string, string][] = [
    ["2026-11-22T10:15:00Z", "2026-11-22T10:15:00Z"],
    ["2026-11-22T10:15:00.123456Z", "2026-11-22T10:15:00.123456Z"],
    ["2026-11-22 10:15:00", "2026-11-22T10:15:00Z"],
    ["2026-11-22T10:15", "2026-11-22T10:15:00Z"],
    ["2026-11-22 10:15+02:00", "2026-11-22T08:15:00Z"],
    ["2026-11-22", "2026-11-22T00:00:00Z"],
    [" 2026-11-22 ", "2026-11-22T00:00:00Z"],
    ["2199-01-01", "2199-01-01T00:00:00Z"],
  ];
  for (const [text, time] of cases) assert.equal(timeOf(text, WEDNESDAY), time, text);
  for (
    const text of ["2026-11", "2026-11-31", "2026-11-22T10", "2026-11-22T24:00", "2026-11-22 10:15 or so"]
  ) {
    assertRefused(text, WEDNESDAY);
  }
});

Deno.test("parseTimeExpression() takes a time of day for the latest past one in the zone", () => {
  const cases: [string, string][] = [
    ["10:13", "2026-11-25T09:13:00Z"],
    ["9:05", "2026-11-25T08:05:00Z"],
    ["14:07", "2026-11-25T13:07:00Z"],
    ["14:07:09.500007", "2026-11-25T13:07:09.500007Z"],
    ["14:07:09.500008", "2026-11-24T13:07:09.500008Z"],
    ["14:08", "2026-11-24T13:08:00Z"],
    ["14:08 UTC", "2026-11-24T14:08:00Z"],
    ["10:13Z", "2026-11-25T10:13:00Z"],
    ["10:13 -05:30", "2026-11-24T15:43:00Z"],
  ];
  for (const [text, time] of cases) assert.equal(timeOf(text, WEDNESDAY), time, text);
  for (
    const text of [
      "24:00",
      "25:00",
      "10:60",
      "10:13:60",
      "10:13.5",
      "10",
      "10:1",
      "10:13 CET",
      "10:13 +99:00",
    ]
  ) {
    assertRefused(text, WEDNESDAY);
  }
});

Deno.test("parseTimeExpression() finds a time of day around the clock changes of Berlin", () => {
  // On 29 March 2026 the clock goes from 02:00 to 03:00, on 25 October from 03:00 back to 02:00.
  assert.equal(
    timeOf("02:30", "2026-03-29T10:00:00Z"),
    "2026-03-28T01:30:00Z",
    "skipped today, so yesterday's",
  );
  assert.equal(timeOf("03:30", "2026-03-29T10:00:00Z"), "2026-03-29T01:30:00Z");
  assert.equal(timeOf("02:30", "2026-10-25T10:00:00Z"), "2026-10-25T01:30:00Z", "shown twice, so the second");
  assert.equal(
    timeOf("02:30", "2026-10-25T01:00:00Z"),
    "2026-10-25T00:30:00Z",
    "the second is still to come",
  );
  assert.equal(timeOf("02:30", "2026-10-25T00:00:00Z"), "2026-10-24T00:30:00Z", "both are still to come");
});

Deno.test("parseTimeExpression() finds a time of day across a day that a zone skipped and a clock set back over midnight", () => {
  // Samoa had no 30 December 2011.
  assert.equal(timeOf("12:00", "2011-12-30T12:00:00Z", "Pacific/Apia"), "2011-12-29T22:00:00Z");
  // Newfoundland went from 00:01 on 6 November 2011 back to 23:01 on the 5th.
  assert.equal(timeOf("00:00:30", "2011-11-06T02:50:00Z", "America/St_Johns"), "2011-11-06T02:30:30Z");
});

Deno.test("parseTimeExpression() subtracts spans: exact up to hours, by the calendar from days on", () => {
  const cases: [string, string][] = [
    ["10m ago", "2026-11-25T12:57:09.500007Z"],
    ["500ms ago", "2026-11-25T13:07:09.000007Z"],
    ["2 hours ago", "2026-11-25T11:07:09.500007Z"],
    ["an hour ago", "2026-11-25T12:07:09.500007Z"],
    ["two hours ago", "2026-11-25T11:07:09.500007Z"],
    ["1h30m ago", "2026-11-25T11:37:09.500007Z"],
    ["1 day, 2 hours and 3 minutes ago", "2026-11-24T11:04:09.500007Z"],
    ["0s ago", "2026-11-25T13:07:09.500007Z"],
    ["3 days ago", "2026-11-22T13:07:09.500007Z"],
    ["2 weeks ago", "2026-11-11T13:07:09.500007Z"],
    ["3 months ago", "2026-08-25T12:07:09.500007Z"],
    ["a year ago", "2025-11-25T13:07:09.500007Z"],
  ];
  for (const [text, time] of cases) assert.equal(timeOf(text, WEDNESDAY), time, text);
  assert.equal(timeOf("12 hours ago", "2026-03-29T10:00:00Z"), "2026-03-28T22:00:00Z");
  assert.equal(
    timeOf("1 day ago", "2026-03-29T10:00:00Z"),
    "2026-03-28T11:00:00Z",
    "noon by the clock on both days",
  );
  for (const text of ["10x ago", "1h1h ago", "m ago", "10 ago", "1h foo ago", "-1h ago", "1e9999y ago"]) {
    assertRefused(text, WEDNESDAY);
  }
  for (const years of ["400", "999999999", "9".repeat(40)]) assertRefused(`${years} years ago`, WEDNESDAY);
});

Deno.test("parseTimeExpression() reads a day in words, at its first instant or at a time of day", () => {
  const cases: [string, string][] = [
    ["yesterday 14:00", "2026-11-24T13:00:00Z"],
    ["Yesterday at 14:00", "2026-11-24T13:00:00Z"],
    ["yesterday 14:00:05.250", "2026-11-24T13:00:05.25Z"],
    ["yesterday 9am", "2026-11-24T08:00:00Z"],
    ["yesterday noon", "2026-11-24T11:00:00Z"],
    ["yesterday 14:00 UTC", "2026-11-24T14:00:00Z"],
    ["yesterday", "2026-11-23T23:00:00Z"],
    ["today", "2026-11-24T23:00:00Z"],
    ["today 00:10", "2026-11-24T23:10:00Z"],
    ["the day before yesterday 10:00", "2026-11-23T09:00:00Z"],
    ["2 days ago at 10:00", "2026-11-23T09:00:00Z"],
    ["last monday 09:00", "2026-11-23T08:00:00Z"],
    ["last wednesday 09:00", "2026-11-18T08:00:00Z"],
    ["last friday", "2026-11-19T23:00:00Z"],
  ];
  for (const [text, time] of cases) assert.equal(timeOf(text, WEDNESDAY), time, text);
});

Deno.test("parseTimeExpression() refuses a clock time that was skipped and takes the second of two", () => {
  assertRefused("yesterday 02:30", "2026-03-30T10:00:00Z");
  assert.equal(timeOf("yesterday 02:30", "2026-10-26T10:00:00Z"), "2026-10-25T01:30:00Z");
});

Deno.test("parseTimeExpression() refuses what is vague, ambiguous, in the future or not consumed as a whole", () => {
  const texts = [
    "",
    " ",
    "Now",
    "just now",
    "noon",
    "midnight",
    "yesterday midnight",
    "last night",
    "yesterday morning",
    "this week",
    "last week",
    "last 2 hours",
    "a few hours ago",
    "monday",
    "monday 09:00",
    "next friday",
    "tomorrow",
    "today 23:00",
    "in 5 minutes",
    "2 hours later",
    "5 november",
    "11/22",
    "22.11.2026",
    "2026",
    "yesterday 14:00 foo",
    "foo yesterday 14:00",
    "yesterday 25:00",
    "yesterday 10:00-11:00",
    "yesterday 14:00 EST",
    "yesterday 5 march",
    "yesterday last monday",
    "last monday yesterday",
    "2 hours before yesterday",
    "last holiday",
    "yesterday" + " ".repeat(200) + "14:00",
  ];
  for (const text of texts) assertRefused(text, WEDNESDAY);
});

const zones = fc.constantFrom(
  "UTC",
  "Europe/Berlin",
  "America/New_York",
  "Asia/Kolkata",
  "Australia/Lord_Howe",
  "+05:45",
);
const nows = fc.integer({ min: Date.UTC(2000, 0) * 1000, max: Date.UTC(2100, 0) * 1000 });

Deno.test("parseTimeExpression() reads back every time that formatTime() writes", () => {
  fc.assert(fc.property(nows, nows, zones, (us, nowUs, zone) => {
    assert.deepEqual(parseTimeExpression(formatTime(us), { nowUs, zone }), { kind: "time", us });
  }));
});

Deno.test("parseTimeExpression() never takes words for the future, and finds a time of day within two days", () => {
  const twoDigits = (below: number) =>
    fc.integer({ min: 0, max: below - 1 }).map((n) => String(n).padStart(2, "0"));
  const clock = fc.tuple(twoDigits(24), twoDigits(60)).map((parts) => parts.join(":"));
  const spans = fc.tuple(
    fc.integer({ min: 0, max: 99 }),
    fc.constantFrom("s", "m", "h", " days", " weeks", " months"),
  )
    .map(([count, unit]) => `${count}${unit} ago`);
  fc.assert(fc.property(nows, zones, clock, spans, (nowUs, zone, time, span) => {
    const ago = parseTimeExpression(span, { nowUs, zone });
    assert.ok(ago.kind === "time" && ago.us <= nowUs, span);
    const latest = parseTimeExpression(time, { nowUs, zone });
    assert.ok(latest.kind === "time" && latest.us <= nowUs && nowUs - latest.us < 49 * 3600e6, time);
    const shown = new Date(latest.us / 1000).toLocaleTimeString("en-GB", {
      timeZone: zone,
      timeStyle: "short",
    });
    assert.equal(shown, time);
  }));
});

Deno.test("parseTimeExpression() does not depend on the zone of the process", () => {
  const before = Deno.env.get("TZ");
  try {
    for (const processZone of ["America/New_York", "Europe/Berlin", "Pacific/Apia", "UTC"]) {
      Deno.env.set("TZ", processZone);
      for (const day of ["2026-03-08", "2026-03-29", "2026-10-25", "2026-11-01"]) {
        const now = `${day}T23:00:00Z`;
        const yesterday = formatTime((parseRfc3339(`${day}T00:00:00Z`) ?? NaN) - 86400e6, 0).slice(0, 10);
        assert.equal(timeOf("yesterday 02:30", now, "UTC"), `${yesterday}T02:30:00Z`, processZone);
        assert.equal(timeOf("today 02:30", now, "UTC"), `${day}T02:30:00Z`, processZone);
        assert.equal(timeOf("2h ago", now, "UTC"), `${day}T21:00:00Z`, processZone);
      }
    }
  } finally {
    if (before === undefined) Deno.env.delete("TZ");
    else Deno.env.set("TZ", before);
  }
});

import assert from "node:assert/strict";
import fc from "fast-check";
import { formatTime, parseRfc3339 } from "./time.ts";

const NOV_22 = Date.UTC(2026, 10, 22, 10, 15, 0) * 1000;

Deno.test("formatTime() writes as many digits as asked and cuts the rest off", () => {
  assert.equal(formatTime(NOV_22 + 123_999), "2026-11-22T10:15:00.123999Z");
  assert.equal(formatTime(NOV_22 + 123_999, 3), "2026-11-22T10:15:00.123Z");
  assert.equal(formatTime(NOV_22 + 999_999, 0), "2026-11-22T10:15:00Z");
  assert.equal(formatTime(NOV_22 + 7), "2026-11-22T10:15:00.000007Z");
});

Deno.test("formatTime() cuts towards the past before 1970 as well", () => {
  assert.equal(formatTime(-1), "1969-12-31T23:59:59.999999Z");
  assert.equal(formatTime(-1, 3), "1969-12-31T23:59:59.999Z");
  assert.equal(formatTime(-1, 0), "1969-12-31T23:59:59Z");
});

Deno.test("parseRfc3339() reads every form of RFC 3339 and our liberties", () => {
  const cases: [string, number][] = [
    ["2026-11-22T10:15:00Z", NOV_22],
    ["2026-11-22t10:15:00z", NOV_22],
    ["2026-11-22 10:15:00", NOV_22],
    ["2026-11-22T10:15:00+00:00", NOV_22],
    ["2026-11-22T12:15:00+02:00", NOV_22],
    ["2026-11-21T23:45:00-10:30", NOV_22],
    ["2026-11-22T10:15:00.5Z", NOV_22 + 500_000],
    ["2026-11-22T10:15:00.123456Z", NOV_22 + 123_456],
    ["2026-11-22T10:15:00.123456999999Z", NOV_22 + 123_456],
    ["2024-02-29T00:00:00Z", Date.UTC(2024, 1, 29) * 1000],
    ["1969-12-31T23:59:59.999999Z", -1],
  ];
  for (const [text, us] of cases) assert.equal(parseRfc3339(text), us, text);
});

Deno.test("parseRfc3339() refuses other forms, and days and times that do not exist", () => {
  const texts = [
    "",
    "2026-11-22",
    "2026-11-22T10:15",
    "2026-11-22T10:15:00.Z",
    "2026-11-22T10:15:00+02",
    "2026-11-22T10:15:00+0200",
    "2026-11-22T10:15:00+24:00",
    "2026-11-22T10:15:00+02:60",
    "2026-11-22T24:00:00Z",
    "2026-11-22T10:60:00Z",
    "2026-11-22T10:15:60Z",
    "2026-02-29T00:00:00Z",
    "2026-04-31T00:00:00Z",
    "2026-00-10T00:00:00Z",
    "2026-13-10T00:00:00Z",
    "2026-11-00T00:00:00Z",
    "0099-01-01T00:00:00Z",
    "9999-01-01T00:00:00Z",
    "x2026-11-22T10:15:00Z",
    "2026-11-22T10:15:00Z ",
  ];
  for (const text of texts) assert.equal(parseRfc3339(text), undefined, text);
});

Deno.test("parseRfc3339() reads back exactly what formatTime() wrote", () => {
  fc.assert(fc.property(fc.integer({ min: -9e15, max: 9e15 }), (us) => {
    assert.equal(parseRfc3339(formatTime(us)), us);
    const atMs = parseRfc3339(formatTime(us, 3)) ?? NaN;
    assert.ok(us - atMs >= 0 && us - atMs < 1000);
  }));
});

import assert from "node:assert/strict";
import fc from "fast-check";
import { VarveError } from "./errors.ts";
import { formatDuration, formatSize, parseDuration, parseSize } from "./units.ts";

Deno.test("parseSize() reads every documented form", () => {
  const cases: [string, number][] = [
    ["0", 0],
    ["4096", 4096],
    ["4096B", 4096],
    ["1K", 1024],
    ["512M", 512 * 1024 ** 2],
    ["10G", 10 * 1024 ** 3],
    ["10g", 10 * 1024 ** 3],
    ["10GiB", 10 * 1024 ** 3],
    ["10 GiB", 10 * 1024 ** 3],
    ["10GB", 10_000_000_000],
    ["1.5G", 1_610_612_736],
    ["1TiB", 1024 ** 4],
    ["2P", 2 * 1024 ** 5],
    ["0.3K", 307],
    [" 1M ", 1024 ** 2],
  ];
  for (const [text, bytes] of cases) assert.equal(parseSize(text), bytes, text);
});

Deno.test("parseSize() refuses everything else and says what it accepts", () => {
  for (
    const text of ["", "G", "-1", "1.5", "1.G", "10X", "10GG", "10iB", "1e3", "0x10", "1,5G", "9P9", "9999P"]
  ) {
    assert.throws(
      () => parseSize(text),
      (error) =>
        error instanceof VarveError && error.code === "invalid" &&
        error.message.includes(JSON.stringify(text)) && (error.hint ?? "").includes("1.5G"),
      text,
    );
  }
});

Deno.test("formatSize() keeps one digit after the point", () => {
  const cases: [number, string][] = [
    [0, "0 B"],
    [1, "1 B"],
    [1023, "1023 B"],
    [1024, "1 KiB"],
    [1536, "1.5 KiB"],
    [1024 ** 2 - 1, "1 MiB"],
    [1_610_612_736, "1.5 GiB"],
    [1024 ** 4, "1 TiB"],
    [Number.MAX_SAFE_INTEGER, "8 PiB"],
  ];
  for (const [bytes, text] of cases) assert.equal(formatSize(bytes), text);
});

Deno.test("parseSize() reads what formatSize() wrote, to the digit shown", () => {
  fc.assert(fc.property(fc.integer({ min: 1024, max: 2 ** 52 }), (bytes) => {
    const again = parseSize(formatSize(bytes));
    assert.ok(Math.abs(again - bytes) <= bytes * 0.05, `${bytes} became ${again}`);
  }));
});

Deno.test("parseDuration() reads every documented form", () => {
  const cases: [string, number][] = [
    ["0s", 0],
    ["500ms", 500],
    ["30s", 30_000],
    ["15m", 900_000],
    ["24h", 86_400_000],
    ["7d", 604_800_000],
    ["4w", 2_419_200_000],
    ["1y", 31_536_000_000],
    ["1h30m", 5_400_000],
    ["1.5h", 5_400_000],
    ["1m5ms", 60_005],
  ];
  for (const [text, ms] of cases) assert.equal(parseDuration(text), ms, text);
});

Deno.test("parseDuration() refuses everything else and says what it accepts", () => {
  for (const text of ["", "5", "h", "-1h", "1h 30m", "30m1h", "1h1h", "1H", "1month", "1h30", "999999999y"]) {
    assert.throws(
      () => parseDuration(text),
      (error) =>
        error instanceof VarveError && error.code === "invalid" &&
        error.message.includes(JSON.stringify(text)) && (error.hint ?? "").includes("1h30m"),
      text,
    );
  }
});

Deno.test("parseDuration() reads back exactly what formatDuration() wrote", () => {
  fc.assert(fc.property(fc.integer({ min: 0, max: 1e13 }), (ms) => {
    assert.equal(parseDuration(formatDuration(ms)), ms);
  }));
});

Deno.test("formatDuration() writes the largest units first and refuses what is not a duration", () => {
  assert.equal(formatDuration(0), "0s");
  assert.equal(formatDuration(5_400_000), "1h30m");
  assert.equal(formatDuration(7 * 86_400_000), "7d");
  assert.equal(formatDuration(31_536_000_000 + 1), "1y1ms");
  for (const ms of [-1, 0.5, NaN, Infinity]) assert.throws(() => formatDuration(ms), RangeError);
});

import assert from "node:assert/strict";
import { formatTime, parseRfc3339 } from "../base/time.ts";
import { VarveError } from "../base/errors.ts";
import { Moments } from "../catalog/moments.ts";
import { MOMENT_KINDS } from "../catalog/packing.ts";
import { RecoveryMap } from "../catalog/recovery_map.ts";
import { placeInSpan, resolveMoment, spanOf } from "./resolve.ts";

const START = parseRfc3339("2026-01-01T00:00:00Z") ?? NaN;
const SECOND = 1_000_000;
const NOW = START + 3600 * SECOND;

/** Sequences 0 to 9, a second apart; of those before 5 only 2 is left. The mark `m` is the last thing in its millisecond. */
function withHistory(work: (resolve: (text: string) => number) => void): void {
  const map = new RecoveryMap(":memory:");
  try {
    const moments = new Moments(map);
    const all = Array.from({ length: 10 }, (_, seq) => ({
      seq,
      timeUs: START + seq * SECOND + (seq === 7 ? 999 : 0),
      kind: seq === 7 ? MOMENT_KINDS.mark : MOMENT_KINDS.change,
    }));
    map.transaction(() => {
      moments.add(all);
      moments.thin(5, all.slice(2, 3).map((moment) => ({ ...moment, untilUs: START + 3 * SECOND })));
    });
    work((text) => {
      const found = resolveMoment(text, { moments, findMark, nowUs: NOW, zone: "UTC" });
      assert.equal(found.time, formatTime(all[found.seq]?.timeUs ?? NaN));
      return found.seq;
    });
  } finally {
    map.close();
  }
}

function findMark(name: string) {
  return name === "m"
    ? { name, seq: 7, timeUs: START + 7 * SECOND + 999, pinned: false, note: undefined }
    : undefined;
}

function refusal(work: () => unknown): VarveError {
  try {
    work();
  } catch (thrown) {
    if (thrown instanceof VarveError) return thrown;
    throw thrown;
  }
  throw new Error("it was not refused");
}

Deno.test("resolveMoment() finds the moment that each kind of text names", () => {
  withHistory((resolve) => {
    const cases: [string, number][] = [
      ["now", 9],
      ["mark:m", 7],
      ["seq:2", 2],
      ["seq:5", 5],
      ["seq:9", 9],
      ["2026-01-01T00:00:05Z", 5],
      ["2026-01-01T00:00:05.999999Z", 5],
      ["2026-01-01T00:00:02.5Z", 2],
      ["2026-01-01T00:30:00Z", 9],
      ["10m ago", 9],
    ];
    for (const [text, seq] of cases) assert.equal(resolve(text), seq, text);
  });
});

Deno.test("resolveMoment() takes a time with up to three digits for its whole millisecond", () => {
  withHistory((resolve) => {
    assert.equal(resolve("2026-01-01T00:00:07Z"), 7);
    assert.equal(resolve("2026-01-01T00:00:07.000Z"), 7);
    assert.equal(resolve("2026-01-01T00:00:07.000999Z"), 7);
    assert.equal(resolve("2026-01-01T00:00:07.000998Z"), 6);
    assert.equal(resolve("2026-01-01T00:00:07.0000Z"), 6);
  });
});

Deno.test("resolveMoment() refuses what is not there and names the moments around it", () => {
  withHistory((resolve) => {
    const cases: [string, number | undefined, number | undefined][] = [
      ["seq:3", 2, 5],
      ["seq:1", undefined, 2],
      ["seq:10", 9, undefined],
      ["2026-01-01T00:00:03Z", 2, 5],
      ["2026-01-01T00:00:04.9Z", 2, 5],
      ["2026-01-01T00:00:01Z", undefined, 2],
      ["2025-01-01", undefined, 2],
      ["2026-01-01T02:00:00Z", 9, undefined],
    ];
    for (const [text, older, newer] of cases) {
      const { code, field, details, message } = refusal(() => resolve(text));
      assert.deepEqual([code, field], ["not-retained", "at"], text);
      const seqOf = (moment: unknown) => (moment as { seq: number } | undefined)?.seq;
      assert.deepEqual([seqOf(details?.["older"]), seqOf(details?.["newer"])], [older, newer], text);
      for (const seq of [older, newer]) {
        if (seq !== undefined) assert.ok(message.includes(`seq:${seq}`), message);
      }
    }
    assert.equal(refusal(() => resolve("mark:none")).code, "not-found");
    assert.equal(refusal(() => resolve("whenever")).code, "invalid");
  });
});

Deno.test("resolveMoment() says so when there is no history at all", () => {
  const map = new RecoveryMap(":memory:");
  const context = { moments: new Moments(map), findMark, nowUs: NOW, zone: "UTC" };
  assert.equal(refusal(() => resolveMoment("now", context)).code, "not-retained");
  map.close();
});

Deno.test("spanOf() takes both of its ends in, by time, sequence or mark", () => {
  const context = { findMark, nowUs: NOW, zone: "UTC" };
  const places = (from: string | undefined, to: string | undefined) => {
    const span = spanOf({
      ...(from === undefined ? {} : { from }),
      ...(to === undefined ? {} : { to }),
    }, context);
    return Array.from(
      { length: 10 },
      (_, seq) => placeInSpan(span, { seq, time: formatTime(START + seq * SECOND + (seq === 7 ? 999 : 0)) }),
    );
  };
  const within = (from: string | undefined, to: string | undefined) =>
    places(from, to).flatMap((place, seq) => place === "within" ? [seq] : []);
  assert.deepEqual(within(undefined, undefined).length, 10);
  assert.deepEqual(within("seq:3", "seq:5"), [3, 4, 5]);
  assert.deepEqual(within("mark:m", undefined), [7, 8, 9]);
  assert.deepEqual(within(undefined, "mark:m").at(-1), 7);
  assert.deepEqual(within("2026-01-01T00:00:03Z", "2026-01-01T00:00:07Z"), [3, 4, 5, 6, 7]);
  assert.deepEqual(within("2026-01-01T00:00:07.001Z", "now"), [8, 9]);
  const around = places("seq:3", "2026-01-01T00:00:07Z");
  assert.deepEqual([around[2], around[3], around[7], around[8]], ["before", "within", "within", "after"]);
  assert.equal(refusal(() => spanOf({ from: "mark:none" }, context)).field, "from");
  assert.equal(refusal(() => spanOf({ to: "whenever" }, context)).field, "to");
});

import assert from "node:assert/strict";
import { parseRfc3339 } from "../base/time.ts";
import type { MarkRow } from "../catalog/catalog.ts";
import { MOMENT_KINDS } from "../catalog/packing.ts";
import type { PointInfo } from "../engine.ts";
import { listPoints, type PointsInput } from "./points.ts";

/** Runs the listing to its end. */
function allPoints(input: PointsInput): PointInfo[] {
  const work = listPoints(input);
  for (;;) {
    const step = work.next();
    if (step.done) return step.value;
  }
}

const START = parseRfc3339("2026-01-01T00:00:00Z") ?? NaN;
const MINUTE = 60_000_000;
const ALL: PointInfo["kind"][] = ["created", "mark", "flush", "tier"];

const MOMENTS = [
  { seq: 0, timeUs: START, kind: MOMENT_KINDS.created },
  { seq: 1, timeUs: START + 5 * MINUTE, kind: MOMENT_KINDS.change },
  { seq: 2, timeUs: START + 10 * MINUTE, kind: MOMENT_KINDS.flush },
  { seq: 3, timeUs: START + 20 * MINUTE, kind: MOMENT_KINDS.mark },
  { seq: 4, timeUs: START + 70 * MINUTE, kind: MOMENT_KINDS.flush },
  { seq: 5, timeUs: START + 80 * MINUTE, kind: MOMENT_KINDS.change },
  { seq: 6, timeUs: START + 130 * MINUTE, kind: MOMENT_KINDS.flush },
];

const MARKS: MarkRow[] = [
  { name: "one", seq: 3, timeUs: START + 20 * MINUTE, pinned: true, note: "why" },
  { name: "two", seq: 3, timeUs: START + 20 * MINUTE, pinned: false, note: undefined },
];

function points(kinds: PointInfo["kind"][], nowUs = START + 140 * MINUTE): string[] {
  const policy = { continuous: "1m", tiers: [{ every: "1h", for: "7d" }] };
  return allPoints({ moments: MOMENTS, marks: MARKS, policy, nowUs, kinds: new Set(kinds) }).map((point) =>
    [point.seq, point.kind, point.name ?? point.tier].filter((part) => part !== undefined).join(" ")
  );
}

Deno.test("listPoints() lists what is asked for, each moment once, ascending", () => {
  assert.deepEqual(points(ALL), [
    "0 created",
    "2 tier 1h",
    "3 mark one",
    "3 mark two",
    "4 tier 1h",
    "6 flush",
  ]);
  assert.deepEqual(points(["created"]), ["0 created"]);
  assert.deepEqual(points(["mark"]), ["3 mark one", "3 mark two"]);
  assert.deepEqual(points(["flush"]), ["2 flush", "4 flush", "6 flush"]);
  assert.deepEqual(points(["tier"]), ["2 tier 1h", "4 tier 1h"]);
  assert.deepEqual(points([]), []);
});

Deno.test("listPoints() shows the pick of an interval only when the interval has ended", () => {
  assert.deepEqual(points(["tier"], START + 180 * MINUTE), ["2 tier 1h", "4 tier 1h", "6 tier 1h"]);
});

Deno.test("listPoints() shows a moment by a kind that was asked for", () => {
  const created = MOMENTS.slice(0, 1);
  const policy = { continuous: "1m", tiers: [{ every: "1h", for: "7d" }] };
  const list = (kinds: PointInfo["kind"][]) =>
    allPoints({ moments: created, marks: [], policy, nowUs: START + 120 * MINUTE, kinds: new Set(kinds) });
  assert.deepEqual(list(["tier"]).map(({ kind }) => kind), ["tier"]);
  assert.deepEqual(list(["tier", "created"]).map(({ kind, tier }) => [kind, tier]), [["created", "1h"]]);
});

Deno.test("listPoints() tells name, note and pin of a mark, and its time with six digits", () => {
  const [one, two] = allPoints({
    moments: MOMENTS,
    marks: MARKS,
    policy: { continuous: "1m", tiers: [] },
    nowUs: START,
    kinds: new Set(["mark"]),
  });
  const time = "2026-01-01T00:20:00.000000Z";
  assert.deepEqual(one, { time, seq: 3, kind: "mark", name: "one", pinned: true, note: "why" });
  assert.deepEqual(two, { time, seq: 3, kind: "mark", name: "two", pinned: false });
});

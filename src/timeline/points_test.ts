import assert from "node:assert/strict";
import fc from "fast-check";
import { parseRfc3339 } from "../base/time.ts";
import type { MarkRow } from "../catalog/catalog.ts";
import { MOMENT_KINDS, type PackedMoment } from "../catalog/packing.ts";
import type { PointInfo } from "../engine.ts";
import { listingStart, listPoints, type PointsInput } from "./points.ts";

function allPoints(input: PointsInput): PointInfo[] {
  return [...listPoints(input)].filter((point) => point !== undefined);
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

/** Histories of some hundreds of moments, with policies whose intervals are of about the same length. */
const HISTORY = fc.record({
  steps: fc.array(
    fc.record({
      afterUs: fc.integer({ min: 1, max: 200 * MINUTE }),
      kind: fc.constantFrom(MOMENT_KINDS.change, MOMENT_KINDS.change, MOMENT_KINDS.flush, MOMENT_KINDS.mark),
    }),
    { maxLength: 300 },
  ),
  tiers: fc.constantFrom(
    [],
    [{ every: "1h", for: "7d" }],
    [{ every: "10m", for: "1d" }, { every: "1h", for: "3d" }, { every: "1d", for: "30d" }],
  ),
  kinds: fc.subarray(ALL),
}).map(({ steps, tiers, kinds }): PointsInput & { moments: PackedMoment[] } => {
  const moments: PackedMoment[] = [{ seq: 0, timeUs: START, kind: MOMENT_KINDS.created }];
  for (const { afterUs, kind } of steps) {
    const last = moments.at(-1);
    moments.push({ seq: (last?.seq ?? 0) + 1, timeUs: (last?.timeUs ?? 0) + afterUs, kind });
  }
  return {
    moments,
    marks: moments.filter(({ kind }) => kind === MOMENT_KINDS.mark).map(({ seq, timeUs }) => ({
      name: `m${seq}`,
      seq,
      timeUs,
      pinned: false,
      note: undefined,
    })),
    policy: { continuous: "1m", tiers: [...tiers] },
    nowUs: (moments.at(-1)?.timeUs ?? 0) + MINUTE,
    kinds: new Set(kinds),
  };
});

Deno.test("a listing that begins behind any moment is the end of the whole listing", () => {
  fc.assert(fc.property(HISTORY, fc.nat(), (input, choice) => {
    const whole = allPoints(input);
    const after = input.moments[choice % input.moments.length];
    assert(after !== undefined);
    const fromUs = listingStart(after, input.policy, input.kinds);
    const rest = allPoints({ ...input, moments: input.moments.filter(({ timeUs }) => timeUs >= fromUs) });
    assert.deepEqual(
      rest.filter(({ seq }) => seq > after.seq),
      whole.filter(({ seq }) => seq > after.seq),
    );
  }));
});

Deno.test("a long listing keeps no more than its latest moments in memory", () => {
  const kinds = new Set(ALL);
  const policy = { continuous: "1m", tiers: [{ every: "1h", for: "7d" }, { every: "1d", for: "30d" }] };
  let taken = 0;
  function* moments(): Generator<PackedMoment> {
    for (; taken < 50_000; taken++) {
      const kind = taken % 10 === 0 ? MOMENT_KINDS.flush : MOMENT_KINDS.change;
      yield { seq: taken, timeUs: START + taken * MINUTE, kind };
    }
  }
  let listed = 0;
  for (const point of listPoints({ moments: moments(), marks: [], policy, nowUs: START, kinds })) {
    if (point === undefined) continue;
    listed++;
    assert(taken - point.seq < 2048, `${point.seq} is listed when ${taken} were taken`);
  }
  assert.equal(listed, 5000);
});

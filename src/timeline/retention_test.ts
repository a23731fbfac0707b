import assert from "node:assert/strict";
import fc from "fast-check";
import type { MarkRow } from "../catalog/catalog.ts";
import type { KeptMoment } from "../catalog/moments.ts";
import { MOMENT_KINDS, type PackedMoment } from "../catalog/packing.ts";
import type { RetentionPolicy } from "../engine.ts";
import {
  checkPolicy,
  chooseKept,
  choosingKept,
  DEFAULT_POLICY,
  durationUs,
  TierPicker,
} from "./retention.ts";

const SECOND = 1_000_000;
const NOW = 1_000_000 * SECOND;

const policies: fc.Arbitrary<RetentionPolicy> = fc.tuple(
  fc.integer({ min: 0, max: 100 }),
  fc.array(fc.tuple(fc.integer({ min: 1, max: 60 }), fc.integer({ min: 1, max: 200 })), { maxLength: 3 }),
).map(([continuous, tiers]) => {
  let previous = continuous;
  return {
    continuous: `${continuous}s`,
    tiers: tiers.map(([every, longer]) => {
      previous += Math.max(every, longer);
      return { every: `${every}s`, for: `${previous}s` };
    }),
  };
});

/** Moments ascending in time, from the creation of the volume on, ending before the present. */
const histories = fc.array(
  fc.tuple(fc.integer({ min: 1, max: 20 * SECOND }), fc.integer({ min: 1, max: 3 })),
  {
    maxLength: 80,
  },
).map((steps) => {
  let timeUs = NOW - steps.reduce((sum, [step]) => sum + step, 0);
  const moments: PackedMoment[] = [{ seq: 0, timeUs, kind: MOMENT_KINDS.created }];
  for (const [index, [step, kind]] of steps.entries()) {
    moments.push({ seq: index + 1, timeUs: timeUs += step, kind });
  }
  return moments;
});

const markPlaces = fc.array(fc.tuple(fc.nat(), fc.boolean()), { maxLength: 6 });

function marksOf(moments: readonly PackedMoment[], places: readonly [number, boolean][]): MarkRow[] {
  return places.flatMap(([place, pinned], i) => {
    const moment = moments[place % moments.length];
    return moment === undefined
      ? []
      : [{ name: `m${i}`, seq: moment.seq, timeUs: moment.timeUs, pinned, note: undefined }];
  });
}

/** The sequences that can be named after a decision. */
function remaining(
  moments: readonly PackedMoment[],
  outcome: { base: PackedMoment; kept: readonly PackedMoment[] },
) {
  const singles = new Set(outcome.kept.map(({ seq }) => seq));
  return moments.filter(({ seq }) => seq >= outcome.base.seq || singles.has(seq));
}

Deno.test("chooseKept() keeps every moment younger than the continuous span, the one before, and every pinned mark", () => {
  fc.assert(fc.property(histories, markPlaces, policies, (moments, places, policy) => {
    const marks = marksOf(moments, places);
    const outcome = chooseKept({ moments, kept: [], marks, policy, nowUs: NOW });
    assert.ok(outcome !== undefined);
    const horizonUs = NOW - durationUs(policy.continuous, "continuous");
    const left = remaining(moments, outcome);
    for (const moment of moments) if (moment.timeUs >= horizonUs) assert.ok(left.includes(moment));
    const current = moments.findLast(({ timeUs }) => timeUs <= horizonUs) ?? moments[0];
    assert.equal(outcome.base, current);
    const longestUs = durationUs(policy.tiers.at(-1)?.for ?? policy.continuous, "for");
    for (const mark of marks) {
      const stays = left.some(({ seq }) => seq === mark.seq);
      if (mark.pinned || mark.timeUs >= NOW - longestUs) assert.ok(stays, mark.name);
      assert.equal(outcome.marksLost.includes(mark.name), !stays);
    }
    const lost = moments.filter((moment) => !left.includes(moment));
    assert.equal(outcome.momentsLost, lost.length);
    assert.equal(outcome.pointsLost, lost.filter(({ kind }) => kind >= MOMENT_KINDS.flush).length);
  }));
});

Deno.test("chooseKept() keeps one moment of each interval of a tier: its last flush, or else its last", () => {
  fc.assert(fc.property(histories, policies, (moments, policy) => {
    const outcome = chooseKept({ moments, kept: [], marks: [], policy, nowUs: NOW });
    assert.ok(outcome !== undefined);
    const older = moments.filter(({ seq }) => seq < outcome.base.seq);
    const expected = new Set<number>();
    for (const tier of policy.tiers) {
      const everyUs = durationUs(tier.every, "every");
      const intervals = new Map<number, PackedMoment[]>();
      for (const moment of older) {
        if (moment.timeUs < NOW - durationUs(tier.for, "for")) continue;
        const interval = Math.floor(moment.timeUs / everyUs);
        intervals.set(interval, [...intervals.get(interval) ?? [], moment]);
      }
      for (const within of intervals.values()) {
        const pick = within.findLast(({ kind }) => kind === MOMENT_KINDS.flush) ?? within.at(-1);
        if (pick !== undefined) expected.add(pick.seq);
      }
    }
    assert.deepEqual(outcome.kept.map(({ seq }) => seq), [...expected].sort((a, b) => a - b));
    for (const { seq, untilUs } of outcome.kept) {
      assert.equal(untilUs, moments[seq + 1]?.timeUs, "until the next command");
    }
  }));
});

Deno.test("chooseKept() later, on what it has left, keeps a subset of it, and moments stand for the same span", () => {
  const input = [histories, markPlaces, policies, fc.nat({ max: 300 * SECOND })] as const;
  fc.assert(fc.property(...input, (moments, places, policy, laterUs) => {
    const marks = marksOf(moments, places);
    const first = chooseKept({ moments, kept: [], marks, policy, nowUs: NOW });
    assert.ok(first !== undefined);
    const left = remaining(moments, first);
    const again = chooseKept({ moments: left, kept: first.kept, marks, policy, nowUs: NOW });
    assert.deepEqual(
      again,
      { ...first, momentsLost: 0, pointsLost: 0, marksLost: [] },
      "the same again changes nothing",
    );
    const second = chooseKept({ moments: left, kept: first.kept, marks, policy, nowUs: NOW + laterUs });
    assert.ok(second !== undefined && second.base.seq >= first.base.seq);
    const names = new Set(left.map(({ seq }) => seq));
    for (const { seq, untilUs } of second.kept) {
      assert.ok(names.has(seq));
      assert.equal(untilUs, moments[seq + 1]?.timeUs, "the command that ended it may be gone");
    }
  }));
});

Deno.test("choosingKept() gives others their turn and never reads far ahead", () => {
  let given = 0;
  const moments = function* () {
    for (let seq = 0; seq < 100_000; seq++) {
      given++;
      yield { seq, timeUs: NOW - 200_000_000 + seq * 1000, kind: MOMENT_KINDS.change };
    }
  };
  const policy = { continuous: "1s", tiers: [{ every: "10s", for: "1h" }] };
  const choice = choosingKept({ moments: moments(), kept: [], marks: [], policy, nowUs: NOW });
  let before = 0;
  for (let step = choice.next();; step = choice.next()) {
    assert.ok(given - before <= 2000, `${given - before} moments without a turn`);
    before = given;
    if (!step.done) continue;
    assert.equal(step.value?.kept.length, 10);
    assert.equal(step.value.momentsLost, 100_000 - 1 - 10);
    break;
  }
});

Deno.test("chooseKept() has nothing to say of no history, and a single moment is its base", () => {
  const rest = { marks: [], policy: DEFAULT_POLICY, nowUs: NOW };
  assert.equal(chooseKept({ moments: [], kept: [], ...rest }), undefined);
  const only = { seq: 0, timeUs: 5, kind: MOMENT_KINDS.created };
  const kept: KeptMoment[] = [];
  assert.deepEqual(chooseKept({ moments: [only], kept, ...rest }), {
    base: only,
    kept: [],
    momentsLost: 0,
    pointsLost: 0,
    marksLost: [],
  });
});

Deno.test("TierPicker gives the pick of the last interval only when it has ended", () => {
  const picker = new TierPicker({ every: "10s", for: "1h" }, NOW);
  const start = NOW - 100 * SECOND;
  const moment = (seq: number, afterSeconds: number, kind: number = MOMENT_KINDS.change) => ({
    seq,
    timeUs: start + afterSeconds * SECOND,
    kind,
  });
  assert.equal(picker.next({ seq: 0, timeUs: NOW - 3601 * SECOND, kind: MOMENT_KINDS.flush }), undefined);
  assert.equal(picker.next(moment(1, 0)), undefined, "what is too old is no pick");
  assert.equal(picker.next(moment(2, 3, MOMENT_KINDS.flush)), undefined);
  assert.equal(picker.next(moment(3, 9)), undefined);
  assert.equal(picker.next(moment(4, 10))?.seq, 2);
  assert.equal(picker.last(start + 20 * SECOND - 1), undefined);
  assert.equal(picker.last(start + 20 * SECOND)?.seq, 4);
  assert.equal(picker.next(moment(5, 95))?.seq, 4);
});

Deno.test("checkPolicy() takes policies that make sense and names the field of those that do not", () => {
  checkPolicy(DEFAULT_POLICY);
  checkPolicy({ continuous: "0s", tiers: [], maxBytes: 1, grace: "1d", onFull: "passthrough" });
  const cases: [RetentionPolicy, string][] = [
    [{ continuous: "soon", tiers: [] }, "continuous"],
    [{ continuous: "1h", tiers: [{ every: "x", for: "1d" }] }, "tiers[0].every"],
    [{ continuous: "1h", tiers: [{ every: "500ms", for: "1d" }] }, "tiers[0].every"],
    [{ continuous: "1h", tiers: [{ every: "1h", for: "" }] }, "tiers[0].for"],
    [{ continuous: "0s", tiers: [{ every: "2h", for: "1h" }] }, "tiers[0].for"],
    [{ continuous: "1d", tiers: [{ every: "1h", for: "24h" }] }, "tiers[0].for"],
    [{ continuous: "1h", tiers: [{ every: "1h", for: "2d" }, { every: "1d", for: "1d" }] }, "tiers[1].for"],
    [{ continuous: "1h", tiers: [], grace: "?" }, "grace"],
    [{ continuous: "1h", tiers: [], maxBytes: 0 }, "maxBytes"],
    [{ continuous: "1h", tiers: [], maxBytes: 1.5 }, "maxBytes"],
  ];
  for (const [policy, field] of cases) {
    assert.throws(
      () => checkPolicy(policy),
      { name: "VarveError", code: "invalid", field },
      JSON.stringify(policy),
    );
  }
});

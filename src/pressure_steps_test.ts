import assert from "node:assert/strict";
import fc from "fast-check";
import type { MarkRow } from "./catalog/catalog.ts";
import type { KeptMoment } from "./catalog/moments.ts";
import { MOMENT_KINDS, type PackedMoment } from "./catalog/packing.ts";
import { marksUnder, pressureSteps } from "./pressure_steps.ts";
import { chooseKept, DEFAULT_POLICY, durationUs } from "./timeline/retention.ts";

const HOUR_US = 3_600_000_000;
const NOW_US = 1_795_000_000_000_000;

Deno.test("pressureSteps() begin with the policy in force and end with nothing but the present and pinned marks", () => {
  const steps = pressureSteps(DEFAULT_POLICY, 36 * 3_600_000);
  assert.deepEqual(steps[0], { policy: DEFAULT_POLICY, marksShare: 1 });
  assert.deepEqual(steps.at(-1), { policy: { continuous: "0s", tiers: [] }, marksShare: 0 });
  assert.equal(steps[1]?.policy.continuous, "18h");
  assert.deepEqual(steps[1]?.policy.tiers[0], { every: "1m", for: "24h" });
  const resolution = steps.findIndex(({ policy }) => policy.continuous === "0s");
  const span = steps.findIndex(({ policy }) => policy.tiers.at(-1)?.for !== "30d");
  const marks = steps.findIndex(({ marksShare }) => marksShare < 1);
  assert(0 < resolution && resolution < span && span < marks);
});

Deno.test("pressureSteps() are as many for every policy with the same age", () => {
  const age = 5 * 60_000;
  const count = pressureSteps(DEFAULT_POLICY, age).length;
  assert.equal(pressureSteps({ continuous: "1s", tiers: [] }, age).length, count);
  assert(count < 50);
});

Deno.test("each of the pressureSteps() keeps no more than the one before it, the youngest longest", () => {
  fc.assert(fc.property(
    fc.array(fc.record({ gap: fc.integer({ min: 1, max: 2 * HOUR_US }), flush: fc.boolean() }), {
      minLength: 5,
      maxLength: 80,
    }),
    (gaps) => {
      let timeUs = NOW_US;
      const moments: PackedMoment[] = gaps.map(({ gap, flush }, index) => {
        timeUs -= gap;
        return { seq: gaps.length - index, timeUs, kind: flush ? MOMENT_KINDS.flush : MOMENT_KINDS.change };
      }).reverse();
      const oldestUs = moments[0]?.timeUs ?? 0;
      let before = Infinity;
      let baseBefore = -1;
      for (const { policy } of pressureSteps(DEFAULT_POLICY, (NOW_US - oldestUs) / 1000)) {
        const outcome = chooseKept({ moments, kept: [] as KeptMoment[], marks: [], policy, nowUs: NOW_US });
        assert(outcome !== undefined);
        assert(outcome.base.seq >= baseBefore, "the full resolution shrinks from its old end");
        baseBefore = outcome.base.seq;
        for (const tier of policy.tiers) assert(durationUs(tier.every, "every") > 0);
        const alive = moments.length - outcome.momentsLost;
        // Tiers of other intervals may pick other moments; they never keep many more.
        assert(alive <= before + policy.tiers.length);
        before = Math.min(before, alive);
      }
      assert.equal(before, 1);
    },
  ));
});

Deno.test("marksUnder() lets the older half go first, and never a pinned one", () => {
  const marks: MarkRow[] = [1, 2, 3, 4, 5].map((seq) => ({
    name: `m${seq}`,
    seq,
    timeUs: seq,
    pinned: seq === 1,
    note: undefined,
  }));
  const kept = (marksShare: number) =>
    marksUnder({ policy: DEFAULT_POLICY, marksShare }, marks).filter((mark) => mark.pinned).map((mark) =>
      mark.seq
    );
  assert.deepEqual(kept(1), [1, 2, 3, 4, 5]);
  assert.deepEqual(kept(0.5), [1, 4, 5]);
  assert.deepEqual(kept(0), [1]);
});

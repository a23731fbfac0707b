import assert from "node:assert/strict";
import fc from "fast-check";
import { MOMENT_KINDS, type PackedMoment } from "../catalog/packing.ts";
import { Moments } from "../catalog/moments.ts";
import { RecoveryMap } from "../catalog/recovery_map.ts";
import { MapMomentSteps } from "./_moment_steps.ts";

const kinds = fc.array(
  fc.constantFrom(MOMENT_KINDS.change, MOMENT_KINDS.change, MOMENT_KINDS.flush, MOMENT_KINDS.mark),
  {
    minLength: 1,
    maxLength: 80,
  },
);

Deno.test("MapMomentSteps steps along what a list of all moments has, pruned or not, without those in gaps", () => {
  const input = [
    kinds,
    fc.nat(60),
    fc.uniqueArray(fc.nat(59), { maxLength: 5 }),
    fc.nat(70),
    fc.nat(9),
  ] as const;
  fc.assert(
    fc.property(...input, (all, horizonRaw, keptRaw, gapFrom, gapLength) => {
      const map = new RecoveryMap(":memory:");
      const moments = new Moments(map);
      const list = all.map((kind, seq): PackedMoment => ({
        seq,
        timeUs: seq * 10,
        kind: seq === 0 ? MOMENT_KINDS.created : kind,
      }));
      map.transaction(() => moments.add(list));
      const horizon = Math.min(horizonRaw, list.length - 1);
      const kept = keptRaw.filter((seq) => seq < horizon).sort((a, b) => a - b);
      map.transaction(() =>
        moments.thin(
          horizon,
          kept.flatMap((seq) => {
            const moment = list[seq];
            return moment === undefined ? [] : [{ ...moment, untilUs: moment.timeUs + 10 }];
          }),
        )
      );
      const gap = {
        fromSeq: Math.max(horizon, gapFrom),
        fromUs: 0,
        toSeq: Math.max(horizon, gapFrom) + gapLength,
        toUs: 0,
      };
      const steps = new MapMomentSteps(map, [gap]);
      const every = list.filter(({ seq }) =>
        kept.includes(seq) || (seq >= horizon && (seq <= gap.fromSeq || seq >= gap.toSeq))
      );
      const newest = list.at(-1)?.seq;
      const settled = every.filter(({ seq, kind }) =>
        seq <= horizon || kind !== MOMENT_KINDS.change || seq === newest
      );
      for (const [line, seqs] of [[steps.every, every], [steps.settled, settled]] as const) {
        for (let position = -1; position <= list.length; position++) {
          assert.equal(
            line.atOrBefore(position),
            seqs.findLast(({ seq }) => seq <= position)?.seq,
            `at ${position}`,
          );
          assert.equal(
            line.after(position),
            seqs.find(({ seq }) => seq > position)?.seq,
            `after ${position}`,
          );
        }
      }
      for (const moment of list) {
        assert.deepEqual(steps.momentAt(moment.seq), every.find(({ seq }) => seq === moment.seq));
      }
      assert.equal(steps.seqAt(-1), undefined);
      assert.equal(steps.seqAt(1e9), newest);
      map.close();
    }),
    { numRuns: 150 },
  );
});

Deno.test("MapMomentSteps ends before a gap that is open, and goes over few rows where nobody ever flushed", () => {
  const map = new RecoveryMap(":memory:");
  const moments = new Moments(map);
  map.transaction(() => {
    for (let first = 0; first < 40_000; first += 4000) {
      moments.add(Array.from({ length: 4000 }, (_, index) => ({
        seq: first + index,
        timeUs: first + index,
        kind: first + index === 0 ? MOMENT_KINDS.created : MOMENT_KINDS.change,
      })));
    }
  });
  const steps = new MapMomentSteps(map, [{ fromSeq: 30_000, fromUs: 0, toSeq: undefined, toUs: undefined }]);
  assert.equal(steps.every.atOrBefore(1e9), 30_000);
  assert.equal(steps.settled.atOrBefore(1e9), 30_000, "the newest is settled");
  assert.equal(steps.every.after(30_000), undefined);
  let count = 0;
  for (let seq = steps.settled.after(-1); seq !== undefined; seq = steps.settled.after(seq)) count++;
  assert.ok(count >= 8 && count <= 12, `${count} settled moments`);
  map.close();
});

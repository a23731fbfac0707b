import assert from "node:assert/strict";
import { type Gap, Gaps } from "./gaps.ts";
import { Moments } from "./moments.ts";
import { RecoveryMap } from "./recovery_map.ts";

function withMap(work: (map: RecoveryMap) => void): void {
  const map = new RecoveryMap(":memory:");
  try {
    work(map);
  } finally {
    map.close();
  }
}

function gap(fromSeq: number, fromUs: number, toSeq?: number, toUs?: number): Gap {
  return { fromSeq, fromUs, toSeq, toUs };
}

Deno.test("Gaps tells which gap a sequence or a time lies in, its ends excluded", () => {
  withMap((map) => {
    const gaps = new Gaps(map);
    const first = gap(10, 1005, 20, 2000);
    const second = gap(20, 2005, 21, 2100);
    const third = gap(30, 3005);
    for (const each of [third, first, second]) gaps.note(each);
    assert.deepEqual(gaps.list, [first, second, third]);
    assert.equal(gaps.open, third);
    const bySeq: [number, Gap | undefined][] = [[10, undefined], [11, first], [19, first], [20, undefined]];
    for (
      const [seq, found] of [...bySeq, [21, undefined], [30, undefined], [31, third], [1e9, third]] as const
    ) {
      assert.equal(gaps.atSeq(seq), found, `sequence ${seq}`);
    }
    const byTime: [number, Gap | undefined][] = [[1004, undefined], [1005, first], [1999, first], [
      2000,
      undefined,
    ]];
    for (const [us, found] of [...byTime, [2050, second], [3004, undefined], [3005, third]] as const) {
      assert.equal(gaps.atTime(us), found, `time ${us}`);
    }
  });
});

Deno.test("Gaps keeps what it was told through a reopening, whatever is told twice or late", () => {
  withMap((map) => {
    const gaps = new Gaps(map);
    gaps.note(gap(5, 100));
    map.transaction(() => gaps.save());
    assert.deepEqual(new Gaps(map).list, [gap(5, 100)]);
    gaps.note(gap(5, 100, 9, 200));
    gaps.note(gap(5, 100));
    assert.equal(gaps.open, undefined, "a gap that has ended stays so");
    map.transaction(() => gaps.save());
    assert.deepEqual(new Gaps(map).list, [gap(5, 100, 9, 200)]);
  });
});

Deno.test("Gaps saves again what a transaction that was rolled back did not keep", () => {
  withMap((map) => {
    const gaps = new Gaps(map);
    gaps.note(gap(5, 100));
    assert.throws(() =>
      map.transaction(() => {
        gaps.save();
        throw new Error("rolled back");
      })
    );
    assert.deepEqual(new Gaps(map).list, []);
    map.transaction(() => gaps.save());
    assert.deepEqual(new Gaps(map).list, [gap(5, 100)]);
  });
});

Deno.test("Moments shows nothing within a gap and names the moments around it", () => {
  withMap((map) => {
    const gaps = new Gaps(map);
    const moments = new Moments(map, gaps);
    const all = Array.from({ length: 40 }, (_, seq) => ({ seq, timeUs: 1000 + seq * 10, kind: 1 }));
    map.transaction(() => moments.add(all));
    gaps.note(gap(10, 1103, 20, 1200));
    gaps.note(gap(35, 1354));
    const around = { found: undefined, older: all[10], newer: all[20], gap: gaps.list[0] };
    for (const search of [moments.atSeq(11), moments.atSeq(19), moments.atTime(1103), moments.atTime(1199)]) {
      assert.deepEqual(search, around);
    }
    assert.deepEqual(moments.atTime(1102), { found: all[10] });
    assert.deepEqual(moments.atTime(1200), { found: all[20] });
    assert.deepEqual(moments.current(), {
      found: undefined,
      older: all[35],
      newer: undefined,
      gap: gaps.list[1],
    });
    const listed = [...moments.between(0, 1e9)].map(({ seq }) => seq);
    assert.deepEqual(
      listed,
      all.map(({ seq }) => seq).filter((seq) => seq <= 10 || (seq >= 20 && seq <= 35)),
    );
    map.transaction(() => moments.thin(30, [{ seq: 5, timeUs: 1050, kind: 1, untilUs: 1060 }]));
    assert.deepEqual(moments.atSeq(15), {
      ...around,
      older: { seq: 5, timeUs: 1050, kind: 1 },
      newer: all[30],
    });
  });
});

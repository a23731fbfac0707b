import assert from "node:assert/strict";
import { intersectRetained, isRetained, type KeptMoment, Moments, type Retained } from "./moments.ts";
import { MOMENT_KINDS, type PackedMoment } from "./packing.ts";
import { RecoveryMap } from "./recovery_map.ts";

function moment(seq: number, timeUs: number, kind: number = MOMENT_KINDS.change): PackedMoment {
  return { seq, timeUs, kind };
}

/** Moments of the sequences from 0 to `last`, ten microseconds apart from 1000 on. */
function regular(last: number): PackedMoment[] {
  return Array.from({ length: last + 1 }, (_, seq) => moment(seq, 1000 + seq * 10, seq % 4));
}

function withMoments(work: (moments: Moments, map: RecoveryMap) => void): void {
  const map = new RecoveryMap(":memory:");
  try {
    work(new Moments(map), map);
  } finally {
    map.close();
  }
}

function kept(from: PackedMoment, untilUs: number): KeptMoment {
  return { ...from, untilUs };
}

Deno.test("Moments finds by time and by sequence what a list of all moments finds", () => {
  withMoments((moments, map) => {
    const all = regular(10_000);
    // In batches of all sizes: some fill a row, some are appended to one.
    for (let from = 0, size = 1; from < all.length; from += size, size = size * 3 % 5003) {
      map.transaction(() => moments.add(all.slice(from, from + size)));
    }
    assert.deepEqual(moments.oldest(), all[0]);
    assert.deepEqual(moments.newest(), all.at(-1));
    for (const index of [0, 1, 2, 4094, 4095, 4096, 4097, 9999, 10_000]) {
      const timeUs = 1000 + index * 10;
      assert.deepEqual(moments.atTime(timeUs), { found: all[index] });
      assert.deepEqual(moments.atTime(timeUs + 9), { found: all[index] });
      assert.deepEqual(moments.atSeq(index), { found: all[index] });
    }
    assert.deepEqual(moments.atTime(999), { found: undefined, older: undefined, newer: all[0] });
    assert.deepEqual(moments.atSeq(10_001), { found: undefined, older: all.at(-1), newer: undefined });
    for (
      const [fromUs, toUs] of [[0, 5000], [1000, 1000], [41_951, 41_969], [60_000, 1e9], [
        999_999,
        1e9,
      ]] as const
    ) {
      assert.deepEqual(
        [...moments.between(fromUs, toUs)],
        all.filter(({ timeUs }) => timeUs >= fromUs && timeUs <= toUs),
        `${fromUs}-${toUs}`,
      );
    }
    assert.ok(Number(map.database.prepare("SELECT count(*) AS n FROM moments").get()?.["n"]) < 20);
  });
});

Deno.test("Moments of an empty map are none", () => {
  withMoments((moments) => {
    assert.equal(moments.oldest(), undefined);
    assert.equal(moments.newest(), undefined);
    assert.deepEqual(moments.atTime(5), { found: undefined, older: undefined, newer: undefined });
    assert.deepEqual(moments.atSeq(5), { found: undefined, older: undefined, newer: undefined });
    assert.deepEqual([...moments.between(0, 1e15)], []);
  });
});

Deno.test("Moments.thin() leaves single moments below the horizon and everything from it on", () => {
  withMoments((moments, map) => {
    const all = regular(9000);
    map.transaction(() => moments.add(all));
    const at = (seq: number) => all[seq] ?? moment(-1, -1);
    const single = [kept(at(100), at(101).timeUs), kept(at(500), at(501).timeUs)];
    map.transaction(() => moments.thin(5000, single));
    assert.equal(map.getState("horizon_seq", 0), 5000);
    assert.deepEqual(moments.kept(), single);
    assert.deepEqual([...moments.between(0, 1e15)], [at(100), at(500), ...all.slice(5000)]);
    assert.deepEqual(moments.oldest(), at(100));

    assert.deepEqual(moments.atSeq(100), { found: at(100) });
    assert.deepEqual(moments.atSeq(5000), { found: at(5000) });
    assert.deepEqual(moments.atSeq(4999), { found: undefined, older: at(500), newer: at(5000) });
    assert.deepEqual(moments.atSeq(101), { found: undefined, older: at(100), newer: at(500) });
    assert.deepEqual(moments.atSeq(99), { found: undefined, older: undefined, newer: at(100) });

    assert.deepEqual(moments.atTime(at(500).timeUs), { found: at(500) });
    assert.deepEqual(
      moments.atTime(at(501).timeUs - 1),
      { found: at(500) },
      "it stands until the next command",
    );
    assert.deepEqual(moments.atTime(at(501).timeUs), { found: undefined, older: at(500), newer: at(5000) });
    assert.deepEqual(moments.atTime(at(100).timeUs + 10), {
      found: undefined,
      older: at(100),
      newer: at(500),
    });
    assert.deepEqual(moments.atTime(at(100).timeUs - 1), {
      found: undefined,
      older: undefined,
      newer: at(100),
    });
    assert.deepEqual(moments.atTime(at(5000).timeUs - 1), {
      found: undefined,
      older: at(500),
      newer: at(5000),
    });
    assert.deepEqual(moments.atTime(at(5000).timeUs), { found: at(5000) });

    map.transaction(() => moments.add([moment(9001, 1e6)]));
    map.transaction(() => moments.thin(9001, [kept(at(500), at(501).timeUs)]));
    assert.deepEqual([...moments.between(0, 1e15)], [at(500), moment(9001, 1e6)]);
    assert.deepEqual(moments.newest(), moment(9001, 1e6));
  });
});

Deno.test("Moments.thin() below the present horizon drops only what is older: a policy may have become longer", () => {
  withMoments((moments, map) => {
    const all = regular(100);
    map.transaction(() => moments.add(all));
    const at = (seq: number) => all[seq] ?? moment(-1, -1);
    const single = [10, 20, 30].map((seq) => kept(at(seq), at(seq + 1).timeUs));
    map.transaction(() => moments.thin(50, single));
    map.transaction(() => moments.thin(20, []));
    assert.deepEqual([...moments.between(0, 1e15)], [at(20), at(30), ...all.slice(50)]);
    assert.deepEqual(moments.atSeq(20), { found: at(20) });
    assert.deepEqual(moments.atTime(at(31).timeUs), { found: undefined, older: at(30), newer: at(50) });
    assert.throws(() => map.resolveRetained(0, 25), /retention has dropped it/);
    assert.deepEqual(map.resolveRetained(0, 20).extents, []);
  });
});

Deno.test("intersectRetained() holds what both statements hold, in either order", () => {
  const random = (seed: number) => () => (seed = seed * 1103515245 + 12345 & 0x7fffffff) / 0x7fffffff;
  for (let seed = 1; seed < 50; seed++) {
    const next = random(seed);
    const statement = (): Retained => {
      const horizonSeq = Math.floor(next() * 20);
      const kept = Array.from({ length: horizonSeq }, (_, seq) => seq).filter(() => next() < 0.5)
        .map((seq) => ({ seq, timeUs: seq, untilUs: seq + 1, kind: 1 }));
      return { horizonSeq, horizonUs: horizonSeq, horizonKind: 1, kept };
    };
    const [a, b] = [statement(), statement()];
    const both = intersectRetained(a, b);
    assert.deepEqual(intersectRetained(b, a).kept, both.kept);
    for (let seq = 0; seq < 25; seq++) {
      assert.equal(isRetained(both, seq), isRetained(a, seq) && isRetained(b, seq), `seed ${seed}, ${seq}`);
    }
  }
});

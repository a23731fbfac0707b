import assert from "node:assert/strict";
import path from "node:path";
import type { PackedExtent } from "./packing.ts";
import { type MapExtent, RecoveryMap } from "./recovery_map.ts";
import { REGION_BLOCKS } from "./region_map.ts";

/** Numbers that look random and are the same each time: mulberry32, as Tommy Ettinger published it. */
function randomSource(seed: number): (limit: number) => number {
  let state = seed;
  return (limit) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ state >>> 15, state | 1);
    mixed ^= mixed + Math.imul(mixed ^ mixed >>> 7, mixed | 61);
    return ((mixed ^ mixed >>> 14) >>> 0) % limit;
  };
}

function extent(
  seq: number,
  firstBlock: number,
  blockCount: number,
  segment = 1,
  payloadBlock = 0,
): MapExtent {
  return segment === 0
    ? { seq, firstBlock, blockCount, segment, recordOffset: 0, payloadBlock: 0 }
    : { seq, firstBlock, blockCount, segment, recordOffset: seq * 10_000, payloadBlock };
}

function add(map: RecoveryMap, extents: readonly MapExtent[]): void {
  map.transaction(() => {
    for (const _ of map.addExtents(extents));
  });
}

function countRows(map: RecoveryMap, sql: string): number {
  return Number(map.database.prepare(`SELECT count(*) AS n FROM ${sql}`).get()?.["n"]);
}

/** The newest version of each block, as it was at one sequence. Sequence, segment and place tell versions apart. */
function namesOf(state: readonly PackedExtent[]): string[] {
  const names = new Array<string>(REGION_BLOCKS).fill("hole");
  for (const { seq, firstBlock, blockCount, segment, recordOffset, payloadBlock } of state) {
    for (let i = 0; i < blockCount && segment > 0; i++) {
      names[firstBlock + i] = `${seq} ${segment}:${recordOffset}+${payloadBlock + i}`;
    }
  }
  return names;
}

/** Every change, kept as a list and looked through from its start. */
class NaiveMap {
  readonly extents: MapExtent[] = [];

  stateAt(region: number, seq: number): string[] {
    const start = region * REGION_BLOCKS;
    const names = new Array<string>(REGION_BLOCKS).fill("hole");
    for (const each of this.extents) {
      if (each.seq > seq) continue;
      const from = Math.max(each.firstBlock, start);
      const to = Math.min(each.firstBlock + each.blockCount, start + REGION_BLOCKS);
      for (let block = from; block < to; block++) {
        names[block - start] = each.segment === 0
          ? "hole"
          : `${each.seq} ${each.segment}:${each.recordOffset}+${each.payloadBlock + block - each.firstBlock}`;
      }
    }
    return names;
  }
}

const REGIONS = 3;

function randomExtents(random: (limit: number) => number, seq: number): MapExtent[] {
  const end = REGIONS * REGION_BLOCKS;
  switch (random(120)) {
    case 0:
      return [extent(seq, 0, 40 * REGION_BLOCKS, 0)];
    case 1:
      return [extent(seq, random(REGION_BLOCKS), end, 0)];
    case 2:
      return [extent(seq, (1 + random(2)) * REGION_BLOCKS - 3, 6 + random(20), 2)];
    case 3:
    case 4:
    case 5: {
      // A trim that cuts blocks at both of its ends.
      const first = random(end - 100);
      return [extent(seq, first, 1, 2), extent(seq, first + 1, 50, 0), extent(seq, first + 51, 1, 2, 1)];
    }
    default: {
      const first = random(4) === 0 ? random(end - 8) : random(200);
      return [extent(seq, first, 1 + random(8), 1 + random(3), random(5))];
    }
  }
}

Deno.test("RecoveryMap tells what a naive model tells, with and without keyframes, by few rows", () => {
  const map = new RecoveryMap(":memory:");
  const naive = new NaiveMap();
  const random = randomSource(1);
  const baseline = [extent(0, 10, 20, 9), extent(0, REGION_BLOCKS - 2, 5, 9)];
  map.transaction(() => map.addBaseline(baseline.slice(0, 1)));
  map.transaction(() => map.addBaseline(baseline.slice(1)));
  naive.extents.push(...baseline);
  let seq = 0;
  const check = (times: number) => {
    for (let i = 0; i < times; i++) {
      const at = random(seq + 1);
      const region = random(REGIONS + 1);
      assert.deepEqual(
        namesOf(map.resolveRegion(region, at)),
        naive.stateAt(region, at),
        `region ${region} at ${at}`,
      );
    }
  };
  for (let batch = 0; batch < 60; batch++) {
    const added: MapExtent[] = [];
    for (let i = 1 + random(200); i > 0; i--) added.push(...randomExtents(random, ++seq));
    add(map, added);
    naive.extents.push(...added);
    check(batch < 10 ? 5 : 1);
  }
  check(60);
  assert.ok(countRows(map, "regions WHERE kind = 1") >= 2, "there are keyframes");
  const straddling = countRows(
    map,
    `regions AS delta JOIN regions AS keyframe ON keyframe.region = delta.region AND keyframe.kind = 1
     WHERE delta.kind = 0 AND delta.seq <= keyframe.seq AND delta.last_seq > keyframe.seq`,
  );
  assert.equal(straddling, 0, "no delta straddles a keyframe");
  map.close();
});

Deno.test("RecoveryMap reads a bounded number of rows for a region, however long its history", () => {
  const map = new RecoveryMap(":memory:");
  const random = randomSource(2);
  let seq = 0;
  const rowsFor = (at: number) =>
    countRows(
      map,
      `regions WHERE region = 0 AND kind = 0 AND seq <= ${at} AND seq > coalesce(
         (SELECT max(seq) FROM regions WHERE region = 0 AND kind = 1 AND seq <= ${at}), -1)`,
    );
  const entriesFor = (at: number) =>
    Number(
      map.database.prepare(
        `SELECT sum(entries) AS n FROM regions WHERE region = 0 AND kind = 0 AND seq <= ? AND seq > coalesce(
         (SELECT max(seq) FROM regions WHERE region = 0 AND kind = 1 AND seq <= ?), -1)`,
      ).get(at, at)?.["n"],
    );
  for (let batch = 0; batch < 100; batch++) {
    add(map, Array.from({ length: 100 }, () => extent(++seq, random(REGION_BLOCKS - 4), 1 + random(4))));
  }
  for (let at = 500; at <= seq; at += 500) {
    assert.ok(rowsFor(at) <= 8, `${rowsFor(at)} deltas for sequence ${at}`);
    assert.ok(entriesFor(at) <= 4096 + 512, `${entriesFor(at)} entries for sequence ${at}`);
  }
  assert.ok(countRows(map, "regions") < seq / 50);
  map.close();
});

Deno.test("RecoveryMap keeps nothing for an empty volume and a few rows for a hole over all of it", () => {
  const blocks = 2 ** 40 / 4096;
  const map = new RecoveryMap(":memory:");
  assert.equal(countRows(map, "regions") + countRows(map, "wide_holes"), 0);
  assert.deepEqual([...map.usedRegions()], []);
  assert.equal(map.nextUsedRegion(0), undefined);
  assert.deepEqual(map.resolveRegion(12_345, 7), []);
  add(map, [extent(1, 0, blocks, 0)]);
  assert.equal(countRows(map, "wide_holes"), 1);
  add(map, [extent(2, 5, blocks - 10, 0)]);
  assert.ok(countRows(map, "wide_holes") < 150, `${countRows(map, "wide_holes")} wide holes`);
  assert.equal(countRows(map, "regions"), 2, "the cut regions at both ends");
  const hole = (seq: number) => [
    { seq, firstBlock: 0, blockCount: REGION_BLOCKS, segment: 0, recordOffset: 0, payloadBlock: 0 },
  ];
  assert.deepEqual(map.resolveRegion(12_345, 0), []);
  assert.deepEqual(map.resolveRegion(12_345, 1), hole(1));
  assert.deepEqual(map.resolveRegion(12_345, 2), hole(2));
  assert.deepEqual(map.resolveRegion(12_345, 99), hole(2));
  map.close();
});

Deno.test("RecoveryMap.versionsOf() has every version, and thinRegion() leaves what is seen", () => {
  const map = new RecoveryMap(":memory:");
  const random = randomSource(3);
  const versions: MapExtent[] = [];
  for (let seq = 1; seq <= 3000; seq++) versions.push(extent(seq, random(300), 1 + random(3), 1 + random(2)));
  for (let from = 0; from < versions.length; from += 700) add(map, versions.slice(from, from + 700));
  add(map, [extent(3001, 0, 20 * REGION_BLOCKS, 0)]);
  const baseline = extent(0, 4, 4, 9);
  map.transaction(() => map.addBaseline([baseline]));
  const rows = [...map.versionsOf(0)];
  assert.deepEqual(rows.map(({ isBaseline }) => isBaseline), rows.map((_, i) => i === 0));
  assert.deepEqual(rows.flatMap((row) => row.versions), [baseline, ...versions]);
  assert.ok(rows.length > 5 && rows.every((row) => row.versions.length <= 512));
  assert.ok([...map.versionsOf(0, 600)].flatMap((row) => row.versions).length < 1500);

  const naive = new NaiveMap();
  naive.extents.push(baseline, ...versions, extent(3001, 0, 20 * REGION_BLOCKS, 0));
  for (const _ of map.thinRegion(0, [777, 1500, 2500], () => {}));
  for (const seq of [777, 1500, 2500, 2999, 3000, 3001]) {
    assert.deepEqual(namesOf(map.resolveRegion(0, seq)), naive.stateAt(0, seq), `sequence ${seq}`);
  }
  add(map, [extent(3002, 7, 1)]);
  assert.equal(map.resolveRegion(0, 3002).find(({ firstBlock }) => firstBlock === 7)?.seq, 3002);
  for (const _ of map.thinRegion(0, [3001], () => {}));
  assert.deepEqual([...map.versionsOf(0)].flatMap((row) => row.versions), [extent(3002, 7, 1)]);
  map.close();
});

Deno.test("RecoveryMap knows its used regions in order", () => {
  const map = new RecoveryMap(":memory:");
  add(map, [extent(1, 9 * REGION_BLOCKS, 1), extent(2, 4 * REGION_BLOCKS - 1, 2)]);
  assert.deepEqual([...map.usedRegions()], [3, 4, 9]);
  assert.deepEqual([0, 4, 5, 9, 10].map((region) => map.nextUsedRegion(region)), [3, 4, 9, 9, undefined]);
  map.close();
});

Deno.test("RecoveryMap keeps its numbers, and a failed transaction changes none", () => {
  const map = new RecoveryMap(":memory:");
  assert.equal(map.getState("indexed_seq", 5), 5);
  map.setState("indexed_seq", 2 ** 53 - 1);
  assert.throws(() =>
    map.transaction(() => {
      map.setState("indexed_seq", 1);
      throw new Error("stop");
    }), /stop/);
  assert.equal(map.getState("indexed_seq", 5), 2 ** 53 - 1);
  map.close();
});

/** A map in a file, with a reader of its own, as another thread has it. */
function withReader(work: (writer: RecoveryMap, reader: RecoveryMap) => void): void {
  const directory = Deno.makeTempDirSync({ prefix: "varve-map-" });
  try {
    const place = path.join(directory, "map.sqlite");
    const writer = new RecoveryMap(place);
    const reader = new RecoveryMap(place, { readOnly: true });
    work(writer, reader);
    reader.close();
    writer.close();
  } finally {
    Deno.removeSync(directory, { recursive: true });
  }
}

Deno.test("a read-only RecoveryMap sees what a writer has committed, and cannot write", () => {
  withReader((writer, reader) => {
    assert.deepEqual(reader.resolveRegion(0, 9), []);
    add(writer, [extent(1, 0, 1)]);
    assert.deepEqual(reader.resolveRegion(0, 9).map(({ seq }) => seq), [1]);
    writer.database.exec("BEGIN");
    for (const _ of writer.addExtents([extent(2, 0, 1)]));
    assert.deepEqual(
      reader.resolveRegion(0, 9).map(({ seq }) => seq),
      [1],
      "what is not committed is not seen",
    );
    assert.deepEqual(writer.resolveRegion(0, 9).map(({ seq }) => seq), [2]);
    writer.database.exec("COMMIT");
    assert.deepEqual(reader.resolveRegion(0, 9).map(({ seq }) => seq), [2]);
    assert.throws(() => reader.setState("indexed_seq", 1));
  });
});

Deno.test("a read-only RecoveryMap resolves from one state, even when a prune replaces the region in its midst", () => {
  withReader((writer, reader) => {
    const versions = Array.from({ length: 1500 }, (_, i) => extent(i + 1, i % 100, 1));
    for (let from = 0; from < versions.length; from += 100) add(writer, versions.slice(from, from + 100));
    const expected = namesOf(writer.resolveRegion(0, 1500));
    const prepare = reader.statement.bind(reader);
    let replaced = false;
    reader.statement = (sql) => {
      if (!replaced && sql.includes("kind = 0")) {
        replaced = true;
        // The rows of the new map have other bounds than those of the old.
        for (const _ of writer.thinRegion(0, [1400], () => {}));
      }
      return prepare(sql);
    };
    assert.deepEqual(namesOf(reader.resolveRegion(0, 1500)), expected);
    assert.ok(replaced);
    assert.deepEqual(namesOf(reader.resolveRegion(0, 1500)), expected);
  });
});

import assert from "node:assert/strict";
import path from "node:path";
import { BLOCK_BYTES } from "../base/block_device.ts";
import { VarveError } from "../base/errors.ts";
import { systemScheduler } from "../base/turns.ts";
import type { PackedMoment } from "../catalog/packing.ts";
import { parseSegmentFileName, segmentFileName, SegmentReader, walkSegment } from "../journal/mod.ts";
import { VOLUME_FILES } from "../timeline/past.ts";
import { assertBytes, TestRandom, TestVolume } from "./_testing.ts";
import { planPrune, prune, type PruneOptions, type PrunePlan } from "./prune.ts";
import { readVolume, type RebuiltMap, type ToldVolume } from "./rebuild.ts";

const SIZE = 24 * BLOCK_BYTES + 700;
const HOUR_US = 3_600_000_000;

/** Everything that a rebuild must give back. */
interface Told {
  moments: PackedMoment[];
  kept: unknown[];
  marks: unknown[];
  policy: string;
  lastSeq: number;
}

function tell(test: TestVolume): Told {
  const { moments } = test.volume;
  return {
    moments: [...moments.between(0, Number.MAX_SAFE_INTEGER)],
    kept: moments.kept(),
    marks: test.marks.toSorted((a, b) => a.seq - b.seq || (a.name < b.name ? -1 : 1)).map((mark) => ({
      ...mark,
      note: mark.note ?? null,
    })),
    policy: test.row.policy,
    lastSeq: test.volume.lastSeq,
  };
}

/** Reads and rebuilds; the old map is deleted before unless it is to be set aside. */
async function rebuild(
  test: TestVolume,
  options: { keepMap?: boolean } = {},
): Promise<RebuiltMap & Pick<ToldVolume, "row" | "marks" | "deleted">> {
  if (!options.keepMap) test.disk.removeDatabase(path.join(test.directory, VOLUME_FILES.map));
  const told = readVolume({
    disk: test.disk,
    directory: test.directory,
    volumeId: test.row.id,
    scheduler: systemScheduler,
  });
  try {
    const { row, marks, deleted } = told;
    return { ...await told.rebuild(), row, marks, deleted };
  } finally {
    told.close();
  }
}

async function runPrune(
  test: TestVolume,
  continuous: string,
  tiers: { every: string; for: string }[],
  common: Pick<PruneOptions, "signal" | "onProgress"> = {
    onProgress: () => {},
    signal: new AbortController().signal,
  },
): Promise<PrunePlan> {
  await test.volume.settleSegments();
  const policy = { continuous, tiers };
  const plan = await planPrune(test.volume, { marks: test.marks, policy, nowUs: test.clock.us, ...common });
  await prune(test.volume, test.disk, plan, common);
  for (const name of plan.marksLost) test.marks.splice(test.marks.findIndex((mark) => mark.name === name), 1);
  return plan;
}

/** Random commands, marks and changes of them, on the volume and on a model. */
async function live(test: TestVolume, random: TestRandom, past: Uint8Array[], steps: number): Promise<void> {
  const model = past.at(-1)?.slice() ?? new Uint8Array(SIZE);
  const { live } = test.volume;
  for (let step = 0; step < steps; step++) {
    test.clock.us += random.below(HOUR_US / 2);
    const offset = random.below(SIZE - 1);
    const length = 1 + random.below(Math.min(SIZE - offset, 5 * BLOCK_BYTES));
    if (random.below(5) === 0) {
      live[random.below(2) === 0 ? "zero" : "trim"](offset, length);
      model.fill(0, offset, offset + length);
    } else {
      const data = random.bytes(length);
      live.write(offset, data);
      model.set(data, offset);
    }
    past.push(model.slice());
    if (random.below(6) === 0) {
      await live.flush();
      past.push(model.slice());
    }
    if (random.below(12) === 0) {
      const mark = { name: `m${live.lastSeq + 1}`, pinned: random.below(2) === 0, note: undefined };
      const moment = await live.mark(JSON.stringify({ type: "mark", ...mark }));
      past.push(model.slice());
      test.marks.push({ ...mark, ...moment });
    }
    const index = random.below(test.marks.length + 20);
    const mark = test.marks[index];
    if (mark !== undefined && random.below(2) === 0) {
      const change = { pinned: !mark.pinned, note: `note ${step}` };
      await live.describe(JSON.stringify({ type: "mark-changed", name: mark.name, ...change }));
      test.marks[index] = { ...mark, ...change };
    } else if (mark !== undefined) {
      await live.describe(JSON.stringify({ type: "mark-deleted", name: mark.name }));
      test.marks.splice(index, 1);
    }
    if (random.below(30) === 0) {
      const policy = { continuous: `${1 + random.below(9)}h`, tiers: [] };
      await live.describe(JSON.stringify({ type: "policy", policy }));
      test.row = { ...test.row, policy: JSON.stringify(policy) };
    }
  }
}

async function assertSame(test: TestVolume, before: Told, past: Uint8Array[], when: string): Promise<void> {
  assert.deepEqual(tell(test), before, when);
  for (const { seq } of before.moments) {
    assertBytes(await test.contentAt(seq), past[seq], `${when}, sequence ${seq}`);
  }
}

Deno.test("rebuild gives the same moments, marks, policy and bytes, whatever was captured, marked, pruned and cut", async () => {
  for (let seed = 1; seed <= 5; seed++) {
    await using test = new TestVolume(SIZE, 150_000);
    const random = new TestRandom(seed);
    await test.create();
    let past: Uint8Array[] = [new Uint8Array(SIZE)];
    for (let round = 0; round < 5; round++) {
      const when = `seed ${seed}, round ${round}`;
      await live(test, random, past, 40);
      if (random.below(3) > 0) {
        const hours = 1 + random.below(20);
        await runPrune(test, `${hours}h`, [{
          every: `${1 + random.below(5)}h`,
          for: `${hours + 1 + random.below(80)}h`,
        }]);
      }
      if (random.below(3) === 0) await live(test, random, past, 5);
      const inOrder = random.below(2) === 0;
      if (!inOrder) await test.volume.live.flush().then(() => past.push(past.at(-1) ?? new Uint8Array()));
      await test.volume.settle();
      const before = tell(test);
      if (inOrder) await test.close();
      else await test.cutPower(() => random.below(2) === 0);
      for (let time = 0; time < 2; time++) {
        const told = await rebuild(test, { keepMap: time === 1 });
        assert.deepEqual(told.damage.filter(({ found }) => !found.startsWith("the journal ends here")), []);
        assert.deepEqual(
          told.marks.map((mark) => ({ ...mark, note: mark.note ?? null })).toSorted((a, b) =>
            a.seq - b.seq || (a.name < b.name ? -1 : 1)
          ),
          before.marks,
          when,
        );
        assert.equal(told.row.policy, before.policy, when);
        assert.equal(told.moments, before.moments.length, when);
        assert.equal(told.deleted, false);
      }
      await test.open();
      await assertSame(test, before, past, `${when}, ${inOrder ? "closed" : "cut"}`);
      assertBytes(test.primaryContent(), past[before.lastSeq], `${when}, primary`);
      past = past.slice(0, before.lastSeq + 1);
    }
  }
});

Deno.test("rebuild keeps what a power cut left, torn tail or not, and the volume opens as it would have", async () => {
  for (let seed = 50; seed < 56; seed++) {
    await using test = new TestVolume(SIZE, 60_000);
    const random = new TestRandom(seed);
    await test.create();
    let past = [new Uint8Array(SIZE)];
    for (let life = 0; life < 3; life++) {
      await live(test, random, past, 30);
      await test.volume.live.flush();
      past.push(past.at(-1) ?? new Uint8Array(SIZE));
      const flushedSeq = test.volume.lastSeq;
      for (let i = 0; i < 20; i++) {
        const data = random.bytes(1 + random.below(9000));
        test.volume.live.write(i * 500, data);
        const model = past.at(-1)?.slice() ?? new Uint8Array(SIZE);
        model.set(data, i * 500);
        past.push(model);
      }
      test.volume.live.commit();
      await test.cutPower(() => random.below(2) === 0);
      await rebuild(test);
      await test.open();
      const { lastSeq } = test.volume;
      assert(lastSeq >= flushedSeq, `seed ${seed}: ends at ${lastSeq}, ${flushedSeq} was flushed`);
      past = past.slice(0, lastSeq + 1);
      for (let seq = 0; seq <= lastSeq; seq += 7) {
        assertBytes(await test.contentAt(seq), past[seq], `seed ${seed}, life ${life}, sequence ${seq}`);
      }
      assertBytes(test.primaryContent(), past[lastSeq], `seed ${seed}, life ${life}, primary`);
    }
  }
});

/** All files of the segments folder. */
function segmentFiles(test: TestVolume): Map<string, Uint8Array> {
  const directory = path.join(test.directory, VOLUME_FILES.segments);
  return new Map(
    test.disk.list(directory).map((name) => {
      const file = test.disk.open(path.join(directory, name));
      const bytes = new Uint8Array(file.sizeBytes());
      file.read(0, bytes);
      file.close();
      return [name, bytes];
    }),
  );
}

function putSegments(test: TestVolume, files: ReadonlyMap<string, Uint8Array>): void {
  const directory = path.join(test.directory, VOLUME_FILES.segments);
  for (const name of test.disk.list(directory)) test.disk.remove(path.join(directory, name));
  for (const [name, bytes] of files) {
    const file = test.disk.open(path.join(directory, name), { mode: "create-new" });
    file.write(0, bytes);
    file.close();
  }
}

Deno.test("rebuild finishes or drops a compaction, wherever it was interrupted", async () => {
  await using test = new TestVolume(SIZE, 60_000);
  const random = new TestRandom(7);
  await test.create();
  const past = [new Uint8Array(SIZE)];
  await live(test, random, past, 150);
  await test.close();
  await test.open();
  await test.volume.live.flush();
  past.push(past.at(-1) ?? new Uint8Array(SIZE));
  await test.volume.settleSegments();
  const old = segmentFiles(test);
  await runPrune(test, "4h", [{ every: "3h", for: "200h" }]);
  const before = tell(test);
  await test.close();
  const after = segmentFiles(test);
  const gone = [...old.keys()].filter((name) => !after.has(name));
  const made = [...after.keys()].filter((name) => !old.has(name));
  assert(gone.length > 3 && made.length >= 1, `${gone.length} replaced by ${made.length}`);
  const cases: [string, Map<string, Uint8Array>][] = [
    ["all old and new ones there", new Map([...old, ...after])],
    ["the first old one gone", new Map([...old, ...after].filter(([name]) => name !== gone[0]))],
    ["the last old one gone", new Map([...old, ...after].filter(([name]) => name !== gone.at(-1)))],
    [
      "every other old one gone",
      new Map([...old, ...after].filter(([name]) => gone.indexOf(name) % 2 !== 0)),
    ],
    ["all old ones gone", after],
  ];
  for (const [when, files] of cases) {
    putSegments(test, files);
    for (let time = 0; time < 2; time++) {
      assert.deepEqual((await rebuild(test)).damage, [], when);
    }
    await test.open();
    await assertSame(test, before, past, when);
    const left = segmentFiles(test);
    // As long as nothing was deleted, nobody knows whether all of the new ones were there.
    const [kept, dropped] = files === cases[0]?.[1] ? [gone, made] : [made, gone];
    assert(
      kept.every((name) => left.has(name)),
      `${when}: ${kept.join()} are left of ${[...left.keys()].join()}`,
    );
    assert(!dropped.some((name) => left.has(name)), `${when}: ${[...left.keys()].join()}`);
    await test.close();
  }
});

Deno.test("a prune that was aborted while blocks moved is done again as a whole, also after a rebuild", async () => {
  for (const between of ["nothing", "a restart", "a power cut", "a rebuild"]) {
    await using test = new TestVolume(SIZE, 60_000);
    await test.create();
    const past = [new Uint8Array(SIZE)];
    await live(test, new TestRandom(9), past, 150);
    await test.close();
    await test.open();
    const stop = new AbortController();
    const onProgress = (done: number, total: number) => void (done === total && stop.abort());
    const aborted = runPrune(test, "4h", [{ every: "3h", for: "200h" }], { onProgress, signal: stop.signal });
    await assert.rejects(aborted, { name: "AbortError" });
    // The prune had thinned the moments before it was aborted, and with them went marks.
    const { moments } = test.volume;
    for (const mark of test.marks.filter(({ seq }) => moments.atSeq(seq).found === undefined)) {
      test.marks.splice(test.marks.indexOf(mark), 1);
    }
    const before = tell(test);
    const unfinished = test.volume.map.statement("SELECT segment FROM segments WHERE retired = 2").all();
    assert(unfinished.length > 3);
    if (between === "a power cut") await test.cutPower();
    else if (between !== "nothing") await test.close();
    if (between === "a rebuild") assert.deepEqual((await rebuild(test)).damage, []);
    if (between !== "nothing") await test.open();
    await assertSame(test, before, past, between);
    // Under this policy none of those segments would be touched for its own sake.
    await runPrune(test, "400h", []);
    if (between === "nothing" || between === "a restart") {
      const files = new Set(segmentFiles(test).keys());
      for (const { segment } of unfinished) assert(!files.has(segmentFileName(Number(segment))), between);
    }
    await assertSame(test, before, past, `${between}, after another prune`);
    await test.close();
    assert.deepEqual((await rebuild(test)).damage, [], between);
    await test.open();
    await assertSame(test, before, past, `${between}, another prune and a rebuild`);
  }
});

Deno.test("a prune that drops no moment but rewrites segments of marks and flushes loses none of them", async () => {
  await using test = new TestVolume(SIZE, 3000);
  await test.create();
  for (let i = 0; i < 200; i++) {
    test.clock.us += HOUR_US;
    await test.volume.live.flush();
  }
  await test.close();
  await test.open();
  test.volume.live.write(0, new Uint8Array(10));
  const files = segmentFiles(test).size;
  await runPrune(test, "1h", [{ every: "1h", for: "400h" }]);
  assert(segmentFiles(test).size < files);
  const before = tell(test);
  assert(before.moments.length > 190);
  await test.close();
  assert.deepEqual((await rebuild(test)).damage, []);
  await test.open();
  assert.deepEqual(tell(test), before);
});

Deno.test("a prune that a crash kept from the map is finished at the next start", async () => {
  await using test = new TestVolume(SIZE);
  const { live } = await test.create();
  for (let i = 0; i < 10; i++) live.write(i * 1000, new Uint8Array(10).fill(i));
  await test.volume.settle();
  const horizon = test.volume.moments.atSeq(8).found;
  const thinned = {
    type: "thinned",
    horizonSeq: 8,
    horizonUs: horizon?.timeUs,
    horizonKind: horizon?.kind,
    kept: [],
  };
  await live.describe(JSON.stringify(thinned));
  await test.cutPower();
  await test.open();
  assert.deepEqual([...test.volume.moments.between(0, Infinity)].map(({ seq }) => seq), [8, 9, 10]);
  const before = tell(test);
  await test.close();
  await rebuild(test);
  await test.open();
  assert.deepEqual(tell(test), before);
});

Deno.test("Volume.open() names varve rebuild when the map is missing or damaged", async () => {
  await using test = new TestVolume(SIZE);
  await test.create();
  await test.close();
  const place = path.join(test.directory, VOLUME_FILES.map);
  test.disk.removeDatabase(place);
  const expected = (error: unknown) =>
    error instanceof VarveError && error.code === "damaged" &&
    (error.hint ?? "").includes("varve rebuild --data DIR");
  await assert.rejects(test.open(), expected);
  await Deno.writeTextFile(place, "this is no database".repeat(100));
  await assert.rejects(test.open(), expected);
  // Without a record there is nothing to tell of it either.
  await assert.rejects(rebuild(test, { keepMap: true }), { code: "damaged" });
});

Deno.test("rebuild after any one flipped byte never gives wrong bytes, and tells of it", async () => {
  await using test = new TestVolume(SIZE, 60_000);
  const random = new TestRandom(11);
  await test.create();
  const past = [new Uint8Array(SIZE)];
  await live(test, random, past, 60);
  await runPrune(test, "8h", [{ every: "3h", for: "200h" }]);
  await live(test, random, past, 20);
  await test.volume.live.flush();
  past.push(past.at(-1) ?? new Uint8Array(SIZE));
  await test.volume.settle();
  const before = tell(test);
  await test.close();
  const files = segmentFiles(test);
  const names = [...files.keys()];
  let unreadable = 0;
  let told = 0;
  for (let round = 0; round < 40; round++) {
    const name = names[random.below(names.length)] ?? "";
    const bytes = files.get(name)?.slice() ?? new Uint8Array(1);
    const offsets = [...walk(test, name)];
    // Half of the flips hit a header, where they harm most.
    const at = round % 2 === 0
      ? random.below(bytes.length)
      : (offsets[random.below(offsets.length)] ?? 0) + random.below(64);
    bytes[at] = (bytes[at] ?? 0) ^ (1 + random.below(255));
    putSegments(test, new Map([...files, [name, bytes]]));
    const when = `byte ${at} of ${name}`;
    const result = await rebuild(test);
    told += Math.min(1, result.damage.length);
    await test.open();
    assert.equal(test.volume.lastSeq, before.lastSeq, when);
    assert.deepEqual(
      test.volume.moments.kept().map(({ seq }) => seq),
      before.kept.map((moment) => (moment as PackedMoment).seq),
      when,
    );
    let bad = 0;
    for (const { seq } of before.moments) {
      const view = await test.volume.view(seq);
      for (let offset = 0; offset < SIZE; offset += BLOCK_BYTES) {
        const block = new Uint8Array(Math.min(BLOCK_BYTES, SIZE - offset));
        try {
          view.read(offset, block);
        } catch (thrown) {
          assert(thrown instanceof VarveError && thrown.code === "damaged", `${when}: ${thrown}`);
          bad++;
          continue;
        }
        assertBytes(block, past[seq]?.subarray(offset, offset + block.length), `${when}, sequence ${seq}`);
      }
    }
    unreadable += bad;
    assert(bad < before.moments.length * 15, `${when}: ${bad} blocks of ${before.moments.length} moments`);
    await test.close();
  }
  assert(unreadable > 0 && told > 10, `${unreadable} blocks, ${told} told`);
});

function* walk(test: TestVolume, name: string): Generator<number> {
  const segments = new SegmentReader(test.disk, path.join(test.directory, VOLUME_FILES.segments));
  const segment = parseSegmentFileName(name) ?? 0;
  for (const { offset } of walkSegment(segments.bytesOf(segment), segment)) yield offset;
  segments.close();
}

Deno.test("rebuild after a lost stretch makes unproved what it may have changed, and nothing before", async () => {
  await using test = new TestVolume(SIZE, 1 << 20);
  const { live } = await test.create();
  for (let i = 0; i < 24; i++) live.write(i * BLOCK_BYTES, new Uint8Array(BLOCK_BYTES).fill(i + 1));
  for (let i = 0; i < 12; i++) live.write(i * BLOCK_BYTES, new Uint8Array(BLOCK_BYTES).fill(i + 101));
  await live.flush();
  await test.close();
  const files = segmentFiles(test);
  const [name = ""] = files.keys();
  const offsets = [...walk(test, name)];
  const bytes = files.get(name)?.slice() ?? new Uint8Array();
  // One meta record is at the start: the heads of sequences 26 and 27.
  for (const offset of offsets.slice(26, 28)) bytes.fill(0xff, offset, offset + 64);
  putSegments(test, new Map([...files, [name, bytes]]));
  const result = await rebuild(test);
  assert.equal(result.damage.length, 1);
  await test.open();
  assert.equal(test.volume.lastSeq, 37);
  const block = new Uint8Array(BLOCK_BYTES);
  const before = await test.volume.view(25);
  for (let i = 0; i < 24; i++) {
    before.read(i * BLOCK_BYTES, block);
    assert.equal(block[0], i === 0 ? 101 : i + 1);
  }
  const after = await test.volume.view(37);
  for (let i = 0; i < 24; i++) {
    if (i >= 3 && i < 12) {
      after.read(i * BLOCK_BYTES, block);
      assert.equal(block[0], i + 101);
    } else {
      assert.throws(() => after.read(i * BLOCK_BYTES, block), { code: "damaged" });
    }
  }
  const search = test.volume.moments.atSeq(26);
  assert.equal(search.found, undefined);
  assert.equal(search.older?.seq, 25);
});

Deno.test("rebuild brings back an adopted disk, whole or in the middle of its first copy", async () => {
  await using test = new TestVolume(SIZE, 60_000);
  const content = new TestRandom(3).bytes(SIZE);
  content.fill(0, 5 * BLOCK_BYTES, 9 * BLOCK_BYTES);
  const file = test.disk.open(test.row.primaryPath, { mode: "create" });
  file.write(0, content);
  await file.sync();
  await test.create({ adopt: true });
  await test.volume.live.write(100, new Uint8Array(300));
  await test.close();
  const whole = segmentFiles(test);
  await rebuild(test);
  await test.open();
  assert(test.volume.baselineComplete);
  assertBytes(await test.contentAt(0), content, "the adopted disk");
  await test.close();
  // Without what came after the first copy it is unfinished, and is taken up again.
  const [first = ""] = whole.keys();
  const offsets = [...walk(test, first)];
  putSegments(test, new Map([[first, whole.get(first)?.slice(0, offsets[2]) ?? new Uint8Array()]]));
  const again = test.disk.open(test.row.primaryPath, { mode: "write" });
  again.write(0, content);
  await rebuild(test);
  await test.open();
  assert(!test.volume.baselineComplete);
  await test.volume.completeBaseline();
  assertBytes(await test.contentAt(0), content, "the disk that was adopted again");
});

Deno.test("rebuild knows a deleted volume, and refuses a folder that says nothing", async () => {
  await using test = new TestVolume(SIZE);
  await test.create();
  test.volume.live.write(0, new Uint8Array(5000).fill(1));
  await test.volume.describeDeletion();
  await test.close();
  assert.equal((await rebuild(test)).deleted, true);
  await test.open();
  test.volume.live.write(0, new Uint8Array(5000).fill(2));
  await test.close();
  assert.equal((await rebuild(test)).deleted, false, "it was opened and written to again");
  test.disk.remove(test.row.primaryPath);
  await test.open();
  await test.volume.describeDeletion();
  await test.close();
  assert.equal((await rebuild(test)).deleted, true, "its primary was gone when it was deleted");

  putSegments(test, new Map([["000000000001.seg", new Uint8Array(500)]]));
  await assert.rejects(rebuild(test), { code: "damaged" });
});

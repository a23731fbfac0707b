import assert from "node:assert/strict";
import { BLOCK_BYTES } from "../base/block_device.ts";
import { VarveError } from "../base/errors.ts";
import type { PackedMoment } from "../catalog/packing.ts";
import { segmentFileName } from "../journal/mod.ts";
import {
  assertSame,
  HOUR_US,
  live,
  putSegments,
  rebuild,
  runPrune,
  segmentFiles,
  SIZE,
  tell,
  walk,
} from "./_rebuild_testing.ts";
import { assertBytes, TestRandom, TestVolume } from "./_testing.ts";

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
    const { map } = test.volume;
    const { relocateRegion } = map;
    map.relocateRegion = function* () {
      stop.abort();
      yield stop.signal.throwIfAborted();
    };
    const aborted = runPrune(test, "4h", [{ every: "3h", for: "200h" }], {
      onProgress: () => {},
      signal: stop.signal,
    });
    await assert.rejects(aborted, { name: "AbortError" });
    map.relocateRegion = relocateRegion;
    // The prune had thinned the moments before it was aborted, and with them went marks.
    const { moments } = test.volume;
    for (const mark of test.marks.filter(({ seq }) => moments.atSeq(seq).found === undefined)) {
      test.marks.splice(test.marks.indexOf(mark), 1);
    }
    const before = tell(test);
    const unfinished = test.volume.map.statement("SELECT segment FROM segments WHERE retired = 2").all();
    assert(unfinished.length > 1, `${unfinished.length} segments are left unfinished`);
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
  (await live.describe(JSON.stringify(thinned)))();
  await test.cutPower();
  await test.open();
  assert.deepEqual([...test.volume.moments.between(0, Infinity)].map(({ seq }) => seq), [8, 9, 10]);
  const before = tell(test);
  await test.close();
  await rebuild(test);
  await test.open();
  assert.deepEqual(tell(test), before);
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
  for (let round = 0; round < 24; round++) {
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

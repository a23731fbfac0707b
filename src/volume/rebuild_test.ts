import assert from "node:assert/strict";
import path from "node:path";
import { BLOCK_BYTES } from "../base/block_device.ts";
import { VarveError } from "../base/errors.ts";
import { VOLUME_FILES } from "../timeline/past.ts";
import {
  assertSame,
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

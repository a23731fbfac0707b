import assert from "node:assert/strict";
import path from "node:path";
import { BLOCK_BYTES } from "../base/block_device.ts";
import { VarveError } from "../base/errors.ts";
import { segmentFileName } from "../journal/mod.ts";
import { VOLUME_FILES } from "../timeline/past.ts";
import { assertBytes, TestRandom, TestVolume } from "./_testing.ts";
import type { LiveVolume } from "./live_volume.ts";

const SIZE = 40 * BLOCK_BYTES + 1234;

/** Applies one random change to the device and to the model. */
function randomChange(random: TestRandom, live: LiveVolume, model: Uint8Array): void {
  const offset = random.below(SIZE);
  const length = 1 + random.below(Math.min(SIZE - offset, random.below(4) === 0 ? 6 * BLOCK_BYTES : 3000));
  switch (random.below(4)) {
    case 0:
      live.trim(offset, length);
      model.fill(0, offset, offset + length);
      break;
    case 1:
      live.zero(offset, length);
      model.fill(0, offset, offset + length);
      break;
    default: {
      const data = random.bytes(length);
      live.write(offset, data);
      model.set(data, offset);
    }
  }
}

Deno.test("Volume reads back what a model holds, now and at every sequence", async () => {
  for (let seed = 1; seed <= 6; seed++) {
    await using test = new TestVolume(SIZE);
    const random = new TestRandom(seed);
    const { live } = await test.create();
    const model = new Uint8Array(SIZE);
    const past = [model.slice()];
    for (let step = 0; step < 120; step++) {
      test.clock.us += random.below(1000);
      randomChange(random, live, model);
      past.push(model.slice());
      if (random.below(10) === 0) {
        await live.flush();
        past.push(model.slice());
      }
      const from = random.below(SIZE);
      const target = new Uint8Array(1 + random.below(SIZE - from));
      live.read(from, target);
      assertBytes(target, model.slice(from, from + target.length), `seed ${seed}, step ${step}, live read`);
    }
    for (const seq of [0, 1, 17, 60, past.length - 1]) {
      assertBytes(await test.contentAt(seq), past[seq], `seed ${seed}, sequence ${seq}`);
    }
    await live.flush();
    assertBytes(test.primaryContent(), model, `seed ${seed}, primary after flush`);
    await test.close();
    await test.open();
    for (let seq = 0; seq < past.length; seq += 7) {
      assertBytes(await test.contentAt(seq), past[seq], `seed ${seed}, sequence ${seq} after reopening`);
    }
  }
});

Deno.test("Volume keeps every flushed write through power cuts, and history is never behind the primary", async () => {
  for (let seed = 100; seed < 115; seed++) {
    await using test = new TestVolume(SIZE);
    const random = new TestRandom(seed);
    await test.create();
    test.disk.beforeSync = () => new Promise((resolve) => setTimeout(resolve, random.below(20)));
    let past = [new Uint8Array(SIZE)];
    for (let life = 0; life < 4; life++) {
      const { live } = test.volume;
      const model = past.at(-1)?.slice() ?? new Uint8Array(SIZE);
      let flushedSeq = live.lastSeq;
      const flushes: Promise<void>[] = [];
      for (let step = random.below(60); step > 0; step--) {
        test.clock.us += random.below(5000);
        randomChange(random, live, model);
        past.push(model.slice());
        switch (random.below(12)) {
          case 0: {
            const answer = live.flush();
            const { lastSeq } = live;
            flushes.push(answer.then(() => void (flushedSeq = Math.max(flushedSeq, lastSeq)), () => {}));
            past.push(model.slice());
            break;
          }
          case 1:
            live.commit();
            break;
          case 2:
            await test.volume.settle();
            break;
          case 3:
            await new Promise((resolve) => setTimeout(resolve, random.below(50)));
        }
      }
      await new Promise((resolve) => setTimeout(resolve, random.below(70)));
      const acknowledgedSeq = flushedSeq;
      await test.cutPower(() => random.below(2) === 0);
      await Promise.all(flushes);
      await test.open();
      const { lastSeq } = test.volume;
      assert(
        lastSeq >= acknowledgedSeq,
        `seed ${seed}, life ${life}: ends at ${lastSeq}, ${acknowledgedSeq} was flushed`,
      );
      assertBytes(await test.contentAt(lastSeq), past[lastSeq], `seed ${seed}, life ${life}, newest moment`);
      assertBytes(test.primaryContent(), past[lastSeq], `seed ${seed}, life ${life}, primary`);
      past = past.slice(0, lastSeq + 1);
      for (let seq = 0; seq <= lastSeq; seq += 5) {
        assertBytes(await test.contentAt(seq), past[seq], `seed ${seed}, life ${life}, sequence ${seq}`);
      }
    }
  }
});

Deno.test("Volume.open() makes history readable when the primary is gone", async () => {
  await using test = new TestVolume(SIZE);
  const { live } = await test.create();
  const data = new TestRandom(7).bytes(9000);
  live.write(100, data);
  await live.flush();
  await test.close();
  test.disk.remove(test.row.primaryPath);
  await test.open();
  assert.throws(() => test.volume.live, (error) => error instanceof VarveError && error.code === "not-found");
  assertBytes((await test.contentAt(2)).slice(100, 9100), data, "history");
});

Deno.test("Volume.open() tells the marks that a crash kept from the catalogue", async () => {
  await using test = new TestVolume(SIZE);
  await test.create();
  await test.volume.live.mark(JSON.stringify({ type: "mark", name: "before", pinned: true }));
  await test.cutPower();
  await test.open();
  assert.deepEqual(test.texts, [{ type: "mark", name: "before", pinned: true }]);
});

Deno.test("Volume.open() cuts off what was reserved for the journal, and does not call it torn", async () => {
  await using test = new TestVolume(SIZE);
  const { live } = await test.create();
  live.write(0, new Uint8Array(BLOCK_BYTES).fill(1));
  await live.flush();
  const place = path.join(test.directory, VOLUME_FILES.segments, segmentFileName(1));
  const written = live.position.place.offset;
  assert((test.disk.stat(place)?.sizeBytes ?? 0) > written, "space is reserved beyond what is written");
  await test.cutPower();
  await test.open();
  assert.equal(test.volume.recovered.droppedBytes, 0);
  assert.equal(test.disk.stat(place)?.sizeBytes, written);
  assert.deepEqual(await test.contentAt(1), new Uint8Array(SIZE).fill(1, 0, BLOCK_BYTES));
});

Deno.test("Volume.completeBaseline() copies an adopted disk, so that history stands without it", async () => {
  await using test = new TestVolume(SIZE);
  const before = new TestRandom(11).bytes(SIZE);
  before.fill(0, 3 * BLOCK_BYTES, 9 * BLOCK_BYTES);
  const file = test.disk.open(test.row.primaryPath, { mode: "create" });
  file.write(0, before);
  await file.sync();
  await test.disk.syncDirectory(test.directory);
  const { live } = await test.create({ adopt: true });
  live.write(5000, new Uint8Array(10_000).fill(7));
  await live.flush();
  file.discard(0, SIZE);
  assertBytes(await test.contentAt(0), before, "adopted");
  const after = before.slice();
  after.fill(7, 5000, 15_000);
  assertBytes(await test.contentAt(1), after, "after");
});

Deno.test("LiveVolume gives marks the last microsecond of their millisecond, and times ascend strictly", async () => {
  await using test = new TestVolume(SIZE);
  const { live } = await test.create();
  const first = await live.mark(JSON.stringify({ type: "mark", name: "a", pinned: false }));
  test.clock.us -= 5_000_000;
  live.write(0, new Uint8Array(1));
  assert.equal(first.timeUs % 1000, 999);
  assert.equal(live.lastTimeUs, first.timeUs + 1);
});

Deno.test("LiveVolume refuses a range beyond its end and changes nothing", async () => {
  await using test = new TestVolume(SIZE);
  const { live } = await test.create();
  for (const change of [() => live.write(SIZE - 1, new Uint8Array(2)), () => live.trim(SIZE, 1)]) {
    assert.throws(change, (error) => error instanceof VarveError && error.code === "out-of-range");
  }
  assert.equal(live.lastSeq, 0);
});

Deno.test("LiveVolume leaves others their turn while storage fails at once", async () => {
  await using test = new TestVolume(SIZE);
  test.batchRecords = 4;
  await test.create();
  test.disk.beforeSync = () => Promise.reject(new Error("the device is gone"));
  for (let block = 0; block < 20; block++) test.volume.live.write(block * 4096, new Uint8Array(4096).fill(1));
  await new Promise((resolve) => setTimeout(resolve, 200));
  assert(test.failures.length > 0 && test.failures.length < 5, `${test.failures.length} failures`);
  assert.throws(() => test.volume.live.write(0, new Uint8Array(4096)), /the device is gone/);
  await assert.rejects(test.volume.close());
});

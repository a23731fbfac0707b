import assert from "node:assert/strict";
import { BLOCK_BYTES } from "../base/block_device.ts";
import { VarveError } from "../base/errors.ts";
import { pause, type Scheduler, systemScheduler } from "../base/turns.ts";
import { planPrune, prune } from "./prune.ts";
import { ALMOST_FULL, assertBytes, TestRandom, TestVolume, TightDisk } from "./_testing.ts";

const SIZE = 5 * 65_536 + 3 * BLOCK_BYTES + 1234;
const SEGMENT_BYTES = 48 << 10;

/** Time goes fifty times as fast. */
const fast: Scheduler = {
  ticksMs: () => systemScheduler.ticksMs(),
  after: (delayMs, work) => systemScheduler.after(delayMs / 50, work),
};

function newVolume(): { test: TestVolume; disk: TightDisk } {
  const disk = new TightDisk();
  const test = new TestVolume(SIZE, SEGMENT_BYTES, disk);
  test.passthrough = true;
  test.scheduler = fast;
  return { test, disk };
}

/** Resolves when no gap is open. */
async function gapClosed(test: TestVolume): Promise<void> {
  for (let tries = 0; test.volume.gaps.open !== undefined; tries++) {
    assert(tries < 4000, "the gap never ends");
    await pause(systemScheduler, 5);
  }
}

/** Writes until the journal has no space and a gap is open. */
async function fillIntoGap(test: TestVolume, disk: TightDisk, model: Uint8Array): Promise<void> {
  const { live } = test.volume;
  for (let writes = 0; test.volume.gaps.open === undefined; writes++) {
    test.clock.us += 1000;
    if (writes === 12) disk.fullFrom = ALMOST_FULL;
    const at = writes * 20_000 % (SIZE - 20_000);
    const data = new Uint8Array(20_000).fill(1 + writes);
    live.write(at, data);
    model.set(data, at);
    live.commit();
    await live.held();
  }
}

/** No moment within a gap can be found, by sequence or time, and what is named instead are its ends. */
function assertGapsHidden(test: TestVolume): void {
  const { moments, gaps } = test.volume;
  for (const gap of gaps.list) {
    const { fromSeq, fromUs, toSeq, toUs } = gap;
    const seqs = [fromSeq + 1, (toSeq ?? fromSeq + 4) - 1].filter((seq) =>
      seq > fromSeq && seq < (toSeq ?? Infinity)
    );
    const times = toUs === undefined
      ? [fromUs, fromUs + 5000]
      : [fromUs, Math.floor((fromUs + toUs) / 2), toUs - 1];
    for (
      const search of [
        ...seqs.map((seq) => moments.atSeq(seq)),
        ...times.map((us) => moments.atTime(us)),
      ]
    ) {
      assert(search.found === undefined, `a moment in the gap after ${fromSeq} is found`);
      assert.equal(search.older?.seq, fromSeq);
      assert.equal(search.newer?.seq, toSeq);
    }
    assert.equal(moments.atTime(fromUs - 1).found?.seq, fromSeq);
  }
  for (const { seq } of moments.between(0, Number.MAX_SAFE_INTEGER)) {
    assert(gaps.atSeq(seq) === undefined, `sequence ${seq} lies in a gap and is listed`);
  }
}

Deno.test("hosts write past a full history, the gap is told, and after it the history is exact again", async () => {
  const { test, disk } = newVolume();
  await using _ = test;
  const { live } = await test.create();
  const model = new Uint8Array(SIZE);
  await fillIntoGap(test, disk, model);
  const before = live.lastSeq;
  live.trim(70_000, 90_000);
  model.fill(0, 70_000, 160_000);
  live.write(3, Uint8Array.of(1, 2, 3));
  model.set([1, 2, 3], 3);
  await live.flush();
  assert.equal(live.lastSeq, before, "nothing is captured in a gap");
  assertBytes(test.primaryContent(), model, "primary in the gap");
  await assert.rejects(live.mark("{}"), { name: "VarveError", code: "conflict" });
  await test.volume.settle();
  assert.equal(test.volume.newest.seq, before);
  assert.equal(test.volume.moments.current().found, undefined);
  assertGapsHidden(test);

  disk.fullFrom = undefined;
  await gapClosed(test);
  await test.volume.settle();
  const [gap] = test.volume.gaps.list;
  assert.equal(gap?.fromSeq, before);
  assert.deepEqual(test.gaps.map(({ toSeq }) => toSeq), [undefined, live.lastSeq]);
  assertBytes(await test.contentAt(live.lastSeq), model, "first moment after the gap");
  assertGapsHidden(test);
  const marked = await live.mark("{}");
  assertBytes(await test.contentAt(marked.seq), model, "a mark after the gap");
  await test.close();
  await test.open();
  assert.deepEqual(test.volume.gaps.list, [gap]);
});

Deno.test("a write waits unacknowledged while its gap is opened, is read already, and reaches the primary after the gap's text", async () => {
  const { test, disk } = newVolume();
  await using _ = test;
  const { live } = await test.create();
  const syncs: (() => void)[] = [];
  disk.fullFrom = ALMOST_FULL;
  const data = new Uint8Array(20_000).fill(9);
  while (live.held() === undefined) live.write(40_000, data);
  disk.beforeSync = () => new Promise((resolve) => syncs.push(resolve));
  live.write(0, Uint8Array.of(7));
  live.zero(40_001, 1);
  live.commit();
  let acknowledged = false;
  const held = live.held()?.then(() => acknowledged = true);
  const target = new Uint8Array(2);
  while (!acknowledged) {
    live.read(0, target.subarray(0, 1));
    live.read(40_001, target.subarray(1));
    assert.deepEqual(target, Uint8Array.of(7, 0));
    const told = test.volume.gaps.open !== undefined;
    assert(told || test.primaryContent()[0] === 0, "the primary is ahead of the gap's text");
    syncs.shift()?.();
    await pause(systemScheduler, 1);
  }
  await held;
  assert.equal(test.primaryContent()[0], 7);
  disk.beforeSync = () => Promise.resolve();
});

Deno.test("when not even the gap's text finds space, writes are refused, nothing of them happens, and later ones go on", async () => {
  const { test, disk } = newVolume();
  await using _ = test;
  const { live } = await test.create();
  live.write(0, new Uint8Array(BLOCK_BYTES).fill(1));
  await live.flush();
  await test.close();
  await test.open();
  disk.fullFrom = 0;
  const again = test.volume.live;
  again.write(0, Uint8Array.of(2));
  again.commit();
  const sync = again.sync();
  await assert.rejects(again.held() ?? Promise.resolve(), { name: "VarveError", code: "no-space" });
  await assert.rejects(sync, { code: "no-space" });
  const target = new Uint8Array(1);
  again.read(0, target);
  assert.deepEqual([target[0], test.primaryContent()[0]], [1, 1]);
  assert.deepEqual(test.volume.gaps.list, []);
  disk.fullFrom = undefined;
  again.write(0, Uint8Array.of(3));
  await again.flush();
  assert.equal((await test.contentAt(again.lastSeq))[0], 3);
});

Deno.test("without the policy a full history refuses the write, and nothing is held", async () => {
  const { test, disk } = newVolume();
  await using _ = test;
  test.passthrough = false;
  const { live } = await test.create();
  disk.fullFrom = 0;
  assert.throws(() => live.write(0, Uint8Array.of(1)), { name: "VarveError", code: "no-space" });
  assert.equal(live.held(), undefined);
});

Deno.test("a restart within a gap never brings old bytes back, and finds every change by comparing", async () => {
  for (const orderly of [true, false]) {
    const { test, disk } = newVolume();
    await using _ = test;
    // Too slow for the map to learn of anything: the next start reads the whole journal.
    test.scheduler = systemScheduler;
    await test.create();
    const model = new Uint8Array(SIZE);
    await fillIntoGap(test, disk, model);
    const { live } = test.volume;
    // Over what the journal holds last, and over what it never held.
    for (let at = 0; at < SIZE - 30_000; at += 29_000) {
      live.write(at, new Uint8Array(500).fill(201));
      model.fill(201, at, at + 500);
    }
    await live.flush();
    const fromSeq = test.volume.gaps.open?.fromSeq;
    if (orderly) await test.close();
    else await test.cutPower();
    test.scheduler = fast;
    await test.open();
    assert.equal(test.volume.gaps.open?.fromSeq, fromSeq);
    assertBytes(test.primaryContent(), model, "primary after the restart");
    disk.fullFrom = undefined;
    await gapClosed(test);
    assertBytes(await test.contentAt(test.volume.lastSeq), model, "first moment after the gap");
    assertBytes(test.primaryContent(), model, "primary after the gap");
    assertGapsHidden(test);
  }
});

/**
 * Makes the primary tell memory from storage: a sync that fails leaves in memory alone what it should have covered, and
 * nobody writes that any more. Returns what storage has, and whether syncs and writes are to fail.
 */
function splitPrimary(
  test: TestVolume,
  disk: TightDisk,
): { storage: Uint8Array; fails: boolean; failsWrites: boolean } {
  const state = { storage: new Uint8Array(SIZE), fails: false, failsWrites: false };
  const open = disk.open.bind(disk);
  disk.open = (place, options) => {
    const file = open(place, options);
    if (place !== test.row.primaryPath) return file;
    let waiting: { offset: number; bytes: Uint8Array }[] = [];
    const { write, discard, sync } = { write: file.write, discard: file.discard, sync: file.sync };
    file.write = (offset, ...parts) => {
      if (state.failsWrites) throw new VarveError("io", `write to ${place}: EIO: i/o error`);
      write.call(file, offset, ...parts);
      for (const [at, part] of parts.entries()) {
        const before = parts.slice(0, at).reduce((sum, { length }) => sum + length, 0);
        waiting.push({ offset: offset + before, bytes: part.slice() });
      }
    };
    file.discard = (offset, length) => {
      discard.call(file, offset, length);
      waiting.push({ offset, bytes: new Uint8Array(length) });
    };
    file.sync = async () => {
      const covered = waiting;
      waiting = [];
      await sync.call(file);
      if (state.fails) throw new VarveError("io", `sync ${place}: EIO: i/o error`);
      for (const { offset, bytes } of covered) state.storage.set(bytes, offset);
    };
    file.forgetCached = () => write.call(file, 0, state.storage);
    return file;
  };
  return state;
}

Deno.test("a restart within a gap after failed syncs brings into the history what storage has kept", async () => {
  const { test, disk } = newVolume();
  await using _ = test;
  const state = splitPrimary(test, disk);
  await test.create();
  const model = new Uint8Array(SIZE);
  await fillIntoGap(test, disk, model);
  const { live } = test.volume;
  live.write(0, new Uint8Array(BLOCK_BYTES).fill(99));
  await live.flush();
  // Storage keeps the 99; memory shows again what the history holds.
  state.fails = true;
  live.write(0, model.subarray(0, BLOCK_BYTES));
  await assert.rejects(live.flush(), { code: "io" });
  await assert.rejects(test.close());
  state.fails = false;
  await test.open();
  disk.fullFrom = undefined;
  await gapClosed(test);
  const newest = await test.contentAt(test.volume.lastSeq);
  assert.equal(newest[0], 99);
  assertBytes(state.storage, newest, "what storage has after the gap");
});

Deno.test("a flush within a gap that comes after a failed one makes durable what both were for", async () => {
  const { test, disk } = newVolume();
  await using _ = test;
  const state = splitPrimary(test, disk);
  await test.create();
  await fillIntoGap(test, disk, new Uint8Array(SIZE));
  const { live } = test.volume;
  live.write(5000, Uint8Array.of(1, 2, 3));
  live.zero(5001, 1);
  state.fails = true;
  await assert.rejects(live.flush(), { code: "io" });
  state.fails = false;
  await live.flush();
  assert.deepEqual(state.storage.slice(5000, 5003), Uint8Array.of(1, 0, 3));
  // Nor when the failed one could not write it again at once.
  live.write(6000, Uint8Array.of(4));
  state.fails = state.failsWrites = true;
  await assert.rejects(live.flush(), { code: "io" });
  state.fails = state.failsWrites = false;
  await live.flush();
  assert.equal(state.storage[6000], 4);
});

Deno.test("hosts that write within a gap and never flush are asked to wait until the primary is durable", async () => {
  const { test, disk } = newVolume();
  await using _ = test;
  const state = splitPrimary(test, disk);
  await test.create();
  await fillIntoGap(test, disk, new Uint8Array(SIZE));
  const { live } = test.volume;
  const data = new Uint8Array(SIZE).fill(77);
  let passedBytes = 0;
  for (; live.pressure() === undefined; passedBytes += SIZE) {
    assert(passedBytes < 65 << 20, `${passedBytes} bytes wait in memory`);
    live.write(0, data);
  }
  assert(passedBytes > 32 << 20, `asked to wait after ${passedBytes} bytes`);
  await live.pressure();
  assert.equal(live.pressure(), undefined);
  assertBytes(state.storage, data, "what storage has");
});

Deno.test("a clock set back during a gap makes no later command lie before the gap's beginning", async () => {
  const { test, disk } = newVolume();
  await using _ = test;
  const { live } = await test.create();
  await fillIntoGap(test, disk, new Uint8Array(SIZE));
  test.clock.us -= 3_600_000_000;
  disk.fullFrom = undefined;
  await gapClosed(test);
  const [gap] = test.volume.gaps.list;
  assert(gap?.toUs !== undefined && gap.toUs > gap.fromUs);
  await live.flush();
  await test.volume.settle();
  assertGapsHidden(test);
  assert(live.lastTimeUs > gap.toUs);
});

Deno.test("a prune keeps no moment of a gap, and what it keeps on both sides stays exact", async () => {
  const { test, disk } = newVolume();
  await using _ = test;
  const { live } = await test.create();
  const model = new Uint8Array(SIZE);
  await fillIntoGap(test, disk, model);
  // Captured while the history catches up: a tier would choose one of these, the last of its interval.
  live.write(100, Uint8Array.of(5));
  model[100] = 5;
  test.clock.us += 59_000_000;
  disk.fullFrom = undefined;
  await gapClosed(test);
  const [gap] = test.volume.gaps.list;
  assert(gap?.toSeq !== undefined && gap.toSeq > gap.fromSeq + 1);
  const after = model.slice();
  for (let minute = 0; minute < 200; minute++) {
    test.clock.us += 60_000_000;
    live.write(minute * 1000, Uint8Array.of(minute));
    model[minute * 1000] = minute;
  }
  await live.flush();
  await test.volume.settleSegments();
  const plan = await planPrune(test.volume, {
    marks: [],
    policy: { continuous: "10m", tiers: [{ every: "1m", for: "1d" }] },
    nowUs: test.clock.us,
    onProgress: () => {},
    signal: new AbortController().signal,
  });
  assert(plan.keptSeqs.includes(gap.toSeq));
  assert(plan.keptSeqs.every((seq) => seq <= gap.fromSeq || seq >= (gap.toSeq ?? 0)));
  await prune(test.volume, plan, { onProgress: () => {}, signal: new AbortController().signal });
  assertBytes(await test.contentAt(gap.toSeq), after, "the gap's end after the prune");
  assertBytes(await test.contentAt(live.lastSeq), model, "newest moment after the prune");
  assert.equal(test.volume.moments.atSeq(gap.fromSeq + 1).found, undefined);
  assert.equal(test.volume.moments.atTime(gap.fromUs).found, undefined);
});

Deno.test("any commands, full phases and power cuts: live is right, flushed bytes survive, moments outside gaps are exact", async () => {
  let gapsSeen = 0;
  let cutsInGaps = 0;
  for (let seed = 1; seed <= 8; seed++) {
    const { test, disk } = newVolume();
    await using _ = test;
    const random = new TestRandom(seed);
    await test.create();
    disk.beforeSync = () => pause(systemScheduler, random.below(3));
    let model = new Uint8Array(SIZE);
    let past: Uint8Array[] = [model.slice()];
    for (let life = 0; life < 4; life++) {
      const { live } = test.volume;
      const where = `seed ${seed}, life ${life}`;
      /** Everything that a power cut may leave: the state of the last acknowledged flush, and all states since. */
      let possible = [model.slice()];
      const note = () => {
        while (past.length <= live.lastSeq) past.push(model.slice());
      };
      const flushes: Promise<void>[] = [];
      for (let step = random.below(90); step > 0; step--) {
        test.clock.us += random.below(3000);
        note();
        const offset = random.below(SIZE);
        const length = 1 + random.below(Math.min(SIZE - offset, random.below(4) === 0 ? 30_000 : 3000));
        switch (random.below(16)) {
          case 0:
            live.trim(offset, length);
            model.fill(0, offset, offset + length);
            break;
          case 1:
            live.zero(offset, length);
            model.fill(0, offset, offset + length);
            break;
          case 2: {
            const covered = possible.at(-1);
            const answer = live.flush();
            flushes.push(answer.then(() => {
              const at = possible.findIndex((state) => state === covered);
              if (at > 0) possible = possible.slice(at);
            }, () => {}));
            break;
          }
          case 3:
            await pause(systemScheduler, random.below(30));
            break;
          case 4:
            disk.fullFrom = random.below(3) === 0 ? undefined : ALMOST_FULL;
            break;
          case 5:
            if (disk.fullFrom === undefined) await gapClosed(test);
            break;
          case 6:
            await test.volume.settle();
            break;
          case 7:
            live.commit();
            await live.held();
            break;
          default: {
            const data = random.bytes(length);
            live.write(offset, data);
            model.set(data, offset);
          }
        }
        note();
        possible.push(model.slice());
        await live.pressure();
        const target = new Uint8Array(1 + random.below(SIZE - offset));
        live.read(offset, target);
        assertBytes(target, model.slice(offset, offset + target.length), `${where}, step ${step}, live read`);
      }
      note();
      if (random.below(2) === 0) disk.fullFrom = undefined;
      await pause(systemScheduler, random.below(60));
      note();
      if (random.below(4) === 0) {
        await test.close();
        possible = possible.slice(-1);
      } else {
        if (test.volume.gaps.open !== undefined) cutsInGaps++;
        await test.cutPower(() => random.below(2) === 0);
      }
      await Promise.all(flushes);
      disk.fullFrom = random.below(2) === 0 ? undefined : ALMOST_FULL;
      await test.open();
      model = new Uint8Array(SIZE);
      test.volume.live.read(0, model);
      assertBytes(test.primaryContent(), model, `${where}, primary after the restart`);
      model.forEach((byte, at) => {
        if (possible.some((state) => state[at] === byte)) return;
        assert.fail(`${where}: byte ${at} is ${byte}, which it never was since the last flush`);
      });
      past = past.slice(0, test.volume.lastSeq + 1);
      if (test.volume.gaps.open === undefined) {
        assertBytes(model, past[test.volume.lastSeq], `${where}, live after the restart`);
      }
      assertGapsHidden(test);
      for (let seq = 0; seq <= test.volume.lastSeq; seq += 1 + random.below(6)) {
        if (test.volume.gaps.atSeq(seq) !== undefined) continue;
        assertBytes(await test.contentAt(seq), past[seq], `${where}, sequence ${seq}`);
      }
      for (const { toSeq } of test.volume.gaps.list) {
        if (toSeq === undefined) continue;
        assertBytes(await test.contentAt(toSeq), past[toSeq], `${where}, the gap's end at ${toSeq}`);
      }
    }
    disk.fullFrom = undefined;
    await gapClosed(test);
    const { live } = test.volume;
    await live.flush();
    assertBytes(await test.contentAt(live.lastSeq), model, `seed ${seed}, newest moment`);
    assertBytes(test.primaryContent(), model, `seed ${seed}, primary`);
    await test.volume.settle();
    assertGapsHidden(test);
    gapsSeen += test.volume.gaps.list.length;
  }
  assert(
    gapsSeen > 8 && cutsInGaps > 3,
    `${gapsSeen} gaps and ${cutsInGaps} cuts within one test too little`,
  );
});

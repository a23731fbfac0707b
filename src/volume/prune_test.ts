import assert from "node:assert/strict";
import { DatabaseSync } from "node:sqlite";
import { BLOCK_BYTES } from "../base/block_device.ts";
import { segmentFileName } from "../journal/mod.ts";
import { VOLUME_FILES } from "../timeline/past.ts";
import { assertBytes, TestRandom, TestVolume } from "./_testing.ts";
import { planPrune, prune, type PrunePlan } from "./prune.ts";

const SIZE = 24 * BLOCK_BYTES;
const HOUR_US = 3_600_000_000;

function segmentBytes(test: TestVolume): number {
  const directory = `${test.directory}/${VOLUME_FILES.segments}`;
  return test.disk.list(directory).reduce(
    (sum, name) => sum + (test.disk.stat(`${directory}/${name}`)?.sizeBytes ?? 0),
    0,
  );
}

async function runPrune(
  test: TestVolume,
  policy: Parameters<typeof planPrune>[1]["policy"],
): Promise<PrunePlan> {
  await test.volume.settleSegments();
  const common = { onProgress: () => {}, signal: new AbortController().signal };
  const plan = await planPrune(test.volume, { marks: test.marks, policy, nowUs: test.clock.us, ...common });
  await prune(test.volume, plan, common);
  return plan;
}

Deno.test("prune() keeps every kept moment byte-exact through any sequence of prunes, restarts and power cuts", async () => {
  for (let seed = 1; seed <= 8; seed++) {
    await using test = new TestVolume(SIZE, 200_000);
    const random = new TestRandom(seed);
    await test.create();
    const past: Uint8Array[] = [new Uint8Array(SIZE)];
    const model = new Uint8Array(SIZE);
    for (let round = 0; round < 6; round++) {
      const { live } = test.volume;
      for (let step = 0; step < 60; step++) {
        test.clock.us += random.below(HOUR_US);
        const offset = random.below(SIZE - 1);
        const length = 1 + random.below(Math.min(SIZE - offset, 5 * BLOCK_BYTES));
        if (random.below(5) === 0) {
          live.zero(offset, length);
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
        if (random.below(15) === 0) {
          const name = `m${live.lastSeq + 1}`;
          const pinned = random.below(2) === 0;
          const { told, ...moment } = await live.mark(JSON.stringify({ type: "mark", name, pinned }));
          told();
          past.push(model.slice());
          test.marks.push({ name, ...moment, pinned, note: undefined });
        }
      }
      const hours = 1 + random.below(40);
      const plan = await runPrune(test, {
        continuous: `${hours}h`,
        tiers: [{ every: `${1 + random.below(5)}h`, for: `${hours + 1 + random.below(100)}h` }],
      });
      const check = async (when: string) => {
        for (const seq of plan.keptSeqs) {
          assertBytes(
            await test.contentAt(seq),
            past[seq],
            `seed ${seed}, round ${round}, ${when}, kept ${seq}`,
          );
          assert.equal(test.volume.moments.atSeq(seq).found?.seq, seq);
        }
        for (let seq = plan.outcome.base.seq; seq < past.length; seq += 11) {
          assertBytes(
            await test.contentAt(seq),
            past[seq],
            `seed ${seed}, round ${round}, ${when}, recent ${seq}`,
          );
        }
        for (const mark of test.marks) assertBytes(await test.contentAt(mark.seq), past[mark.seq], mark.name);
      };
      await check("after the prune");
      if (random.below(2) === 0) await test.close();
      else {
        await test.volume.live.flush();
        past.push(model.slice());
        await test.cutPower();
      }
      await test.open();
      await check("after a restart");
    }
  }
});

Deno.test("prune() gives space back and refuses the moments it dropped", async () => {
  await using test = new TestVolume(SIZE, 100_000);
  const { live } = await test.create();
  for (let i = 0; i < 400; i++) {
    test.clock.us += HOUR_US / 20;
    live.write((i % 24) * BLOCK_BYTES, new Uint8Array(BLOCK_BYTES).fill(i));
  }
  await live.flush();
  await test.volume.settle();
  const before = segmentBytes(test);
  const plan = await runPrune(test, { continuous: "1h", tiers: [] });
  const after = segmentBytes(test);
  assert(after < before / 3, `${before} bytes before, ${after} after`);
  assert(Math.abs(before - after - plan.result.bytesFreed) <= plan.result.bytesFreed / 10);
  const search = test.volume.moments.atSeq(50);
  assert.equal(search.found, undefined);
  assert.equal(search.newer?.seq, plan.outcome.base.seq);
});

Deno.test("planPrune() changes nothing", async () => {
  await using test = new TestVolume(SIZE, 100_000);
  const { live } = await test.create();
  for (let i = 0; i < 100; i++) {
    test.clock.us += HOUR_US;
    live.write(0, new Uint8Array(BLOCK_BYTES).fill(i));
  }
  await test.volume.settle();
  const plan = await planPrune(test.volume, {
    marks: [],
    policy: { continuous: "1h", tiers: [] },
    nowUs: test.clock.us,
    onProgress: () => {},
    signal: new AbortController().signal,
  });
  assert(plan.result.momentsLost > 90);
  for (let seq = 1; seq <= 100; seq++) {
    assert.equal((await test.contentAt(seq))[0], seq - 1);
    assert.equal(test.volume.moments.atSeq(seq).found?.seq, seq);
  }
});

Deno.test("prune() rewrites many segments in groups and keeps what their kept moments see", async () => {
  await using test = new TestVolume(SIZE, 12_000);
  const { live } = await test.create();
  const past = [new Uint8Array(SIZE)];
  const random = new TestRandom(31);
  const model = new Uint8Array(SIZE);
  for (let i = 0; i < 400; i++) {
    test.clock.us += HOUR_US / 20;
    const offset = (i % 23) * BLOCK_BYTES;
    if (i % 9 === 0) {
      live.trim(offset, 2 * BLOCK_BYTES);
      model.fill(0, offset, offset + 2 * BLOCK_BYTES);
    } else {
      const data = random.bytes(BLOCK_BYTES);
      live.write(offset, data);
      model.set(data, offset);
    }
    past.push(model.slice());
  }
  await live.flush();
  past.push(model.slice());
  const policy = { continuous: "1h", tiers: [{ every: "5h", for: "7d" }] };
  const plan = await runPrune(test, policy);
  assert.ok(plan.segments.length > 64, `${plan.segments.length} segments are more than two groups`);
  assert.equal(test.volume.condemned.size, 0);
  for (const segment of plan.segments) {
    assert.equal(test.disk.stat(`${test.directory}/segments/${segmentFileName(segment)}`), undefined);
  }
  for (const seq of plan.keptSeqs) assertBytes(await test.contentAt(seq), past[seq], `kept ${seq}`);
  await test.close();
  await test.open();
  for (const seq of plan.keptSeqs) assertBytes(await test.contentAt(seq), past[seq], `reopened, kept ${seq}`);
});

Deno.test("prune() that is aborted between its groups leaves every kept moment readable, and the next one ends it", async () => {
  for (const abortAfter of [1, 2, 5, 8, 12]) {
    await using test = new TestVolume(SIZE, 12_000);
    const { live } = await test.create();
    const past = [new Uint8Array(SIZE)];
    const model = new Uint8Array(SIZE);
    const random = new TestRandom(33);
    for (let i = 0; i < 300; i++) {
      test.clock.us += HOUR_US / 20;
      const offset = random.below(24) * BLOCK_BYTES;
      model.fill(i, offset, offset + BLOCK_BYTES);
      live.write(offset, model.subarray(offset, offset + BLOCK_BYTES));
      past.push(model.slice());
    }
    await live.flush();
    const policy = { continuous: "1h", tiers: [{ every: "5h", for: "7d" }] };
    await test.volume.settleSegments();
    const abort = new AbortController();
    const common = { onProgress: () => {}, signal: abort.signal };
    const plan = await planPrune(test.volume, { marks: [], policy, nowUs: test.clock.us, ...common });
    let calls = 0;
    const onProgress = () => {
      if (++calls === abortAfter) abort.abort();
    };
    await assert.rejects(
      prune(test.volume, plan, { ...common, onProgress }),
      `after ${abortAfter} of ${calls}, ${plan.segments}`,
    );
    for (const seq of plan.keptSeqs) {
      assertBytes(await test.contentAt(seq), past[seq], `aborted, kept ${seq}`);
    }
    const again = await runPrune(test, policy);
    assert.equal(again.result.momentsLost, 0);
    for (const seq of plan.keptSeqs) assertBytes(await test.contentAt(seq), past[seq], `ended, kept ${seq}`);
  }
});

Deno.test("prune() leaves a segment with a damaged block as it is, and rewrites the others", async () => {
  await using test = new TestVolume(SIZE, 60_000);
  const { live } = await test.create();
  for (let i = 0; i < 24; i++) live.write(i * BLOCK_BYTES, new Uint8Array(BLOCK_BYTES).fill(i + 1));
  const { seq, told } = await live.mark(JSON.stringify({ type: "mark", name: "kept", pinned: true }));
  told();
  test.marks.push({ name: "kept", seq, timeUs: live.lastTimeUs, pinned: true, note: undefined });
  for (let i = 0; i < 24; i++) {
    if (i % 8 === 0) live.write(i * BLOCK_BYTES, new Uint8Array(BLOCK_BYTES).fill(i + 1));
    for (let round = 0; round < 5; round++) live.write(0, new Uint8Array(BLOCK_BYTES).fill(round));
  }
  test.clock.us += 40 * HOUR_US;
  for (let i = 0; i < 24; i++) live.write(i * BLOCK_BYTES, new Uint8Array(BLOCK_BYTES).fill(100 + i));
  await live.flush();
  await test.volume.settleSegments();
  test.clock.us += 40 * HOUR_US;
  live.write(0, new Uint8Array(BLOCK_BYTES));
  // A block that only the mark sees is flipped in a segment of which little else lives.
  const place = `${test.directory}/${VOLUME_FILES.segments}/${segmentFileName(2)}`;
  const file = test.disk.open(place, { mode: "write" });
  const byte = new Uint8Array(1);
  const [first] = test.volume.segments.headers(2).filter(({ header }) => header.kind === "write");
  assert.ok(first !== undefined);
  file.read(first.offset + 500, byte);
  file.write(first.offset + 500, byte.map((value) => value ^ 1));
  test.volume.map.statement("UPDATE segments SET bytes = bytes * 4 WHERE segment = 2").run();
  const plan = await runPrune(test, { continuous: "1h", tiers: [] });
  assert.ok(plan.segments.includes(2) && plan.segments.length > 1, plan.segments.join());
  assert.notEqual(test.disk.stat(place), undefined);
  const view = await test.volume.view(seq);
  const block = new Uint8Array(BLOCK_BYTES);
  for (let i = 0; i < 24; i++) {
    if (i === first.header.firstBlock) {
      assert.throws(() => view.read(i * BLOCK_BYTES, block), { code: "damaged" });
    } else {
      view.read(i * BLOCK_BYTES, block);
      assert.equal(block[0], i + 1, `block ${i}`);
    }
  }
});

Deno.test("prune() refuses to drop a mark that was pinned after it was planned, and drops nothing", async () => {
  await using test = new TestVolume(SIZE);
  const { live } = await test.create();
  live.write(0, new Uint8Array(BLOCK_BYTES).fill(1));
  const { seq, timeUs, told } = await live.mark(
    JSON.stringify({ type: "mark", name: "late", pinned: false }),
  );
  told();
  test.marks.push({ name: "late", seq, timeUs, pinned: false, note: undefined });
  for (let i = 0; i < 9; i++) {
    test.clock.us += HOUR_US;
    live.write(0, new Uint8Array(BLOCK_BYTES).fill(2 + i));
  }
  await test.volume.settleSegments();
  const common = { signal: new AbortController().signal, onProgress: () => {} };
  const policy = { continuous: "1h", tiers: [] };
  const plan = await planPrune(test.volume, {
    marks: test.marks,
    policy,
    nowUs: test.clock.us,
    ...common,
  });
  assert.deepEqual(plan.marksLost, ["late"]);
  (await live.describe(JSON.stringify({ type: "mark-changed", name: "late", pinned: true })))();
  await assert.rejects(prune(test.volume, plan, common), { code: "conflict" });
  assert.equal(test.volume.moments.oldest()?.seq, 0);
  assert.equal((await test.contentAt(seq))[0], 1);
});

/** Counts segments that are deleted, and looks whether their names are gone durably while the map still has them. */
function watchDeletions(
  test: TestVolume,
  countRetired: () => Record<string, unknown> | undefined,
): { made: number; unsynced: number } {
  const seen = { made: 0, unsynced: 0 };
  const { remove, syncDirectory } = test.disk;
  test.disk.remove = (place) => {
    if (place.endsWith(".seg") && test.disk.stat(place) !== undefined) {
      seen.made++;
      seen.unsynced++;
    }
    remove.call(test.disk, place);
  };
  test.disk.syncDirectory = async (place) => {
    await syncDirectory.call(test.disk, place);
    if (seen.unsynced > 0) assert(Number(countRetired()?.["n"]) > 0, "the map has forgotten them already");
    seen.unsynced = 0;
  };
  return seen;
}

Deno.test("prune() deletes segments durably before the map forgets them", async () => {
  await using test = new TestVolume(SIZE, 12_000);
  const { live, map } = await test.create();
  for (let i = 0; i < 60; i++) {
    test.clock.us += HOUR_US / 20;
    live.write(i % 24 * BLOCK_BYTES, new Uint8Array(BLOCK_BYTES).fill(i));
  }
  const retired = map.statement("SELECT count(*) AS n FROM segments WHERE retired = 1");
  const deletions = watchDeletions(test, () => retired.get());
  await runPrune(test, { continuous: "1h", tiers: [] });
  assert(deletions.made > 0);
  assert.equal(deletions.unsynced, 0);
  assert.equal(retired.get()?.["n"], 0);
});

Deno.test("prune() deletes nothing for new segments that do not read back as they were written", async () => {
  await using test = new TestVolume(SIZE, 200_000);
  const { live } = await test.create();
  const past = [new Uint8Array(SIZE)];
  for (let i = 1; i < 200; i++) {
    test.clock.us += HOUR_US / 20;
    live.write(i % 24 * BLOCK_BYTES, new Uint8Array(BLOCK_BYTES).fill(i));
    past.push(
      past.at(-1)?.slice().fill(i, i % 24 * BLOCK_BYTES, (i % 24 + 1) * BLOCK_BYTES) ?? new Uint8Array(),
    );
  }
  const open = test.disk.open.bind(test.disk);
  let isBad = false;
  test.disk.open = (place, options) => {
    const file = open(place, options);
    if (!place.endsWith(".seg.tmp")) return file;
    const write = file.write.bind(file);
    file.write = (offset, ...parts) => {
      write(offset, ...parts);
      const payload = parts.find(({ length }) => length >= BLOCK_BYTES);
      if (payload === undefined || isBad) return;
      isBad = true;
      write(offset + parts.reduce((sum, { length }) => sum + length, 0) - 1, Uint8Array.of(0x5a));
    };
    return file;
  };
  const policy = { continuous: "1h", tiers: [{ every: "5h", for: "7d" }] };
  await assert.rejects(runPrune(test, policy), { code: "damaged", message: /does not read back/ });
  assert(isBad);
  for (const { seq } of test.volume.moments.between(0, Number.MAX_SAFE_INTEGER)) {
    assertBytes(await test.contentAt(seq), past[seq] ?? new Uint8Array(), `sequence ${seq}`);
  }
});

Deno.test("a prune that is stopped leaves no mark that names nothing", async () => {
  await using test = new TestVolume(SIZE, 12_000);
  const { live } = await test.create();
  const mark = async (name: string, pinned: boolean) => {
    const { seq, timeUs, told } = await live.mark(JSON.stringify({ type: "mark", name, pinned }));
    told();
    test.marks.push({ name, seq, timeUs, pinned, note: undefined });
  };
  const write = () => {
    test.clock.us += HOUR_US;
    live.write(0, new Uint8Array(4 * BLOCK_BYTES).fill(1));
  };
  write();
  await mark("lost", false);
  write();
  await mark("pinned", true);
  for (let i = 0; i < 9; i++) write();
  await mark("young", false);
  await test.volume.settleSegments();
  const abort = new AbortController();
  const common = { signal: abort.signal, onProgress: () => {} };
  const policy = { continuous: "1h", tiers: [] };
  const plan = await planPrune(test.volume, { marks: test.marks, policy, nowUs: test.clock.us, ...common });
  const hands = test.volume.pruneWork(common);
  hands.dropDead = () => {
    abort.abort();
    return Promise.reject(new Error("stopped"));
  };
  await assert.rejects(prune(test.volume, plan, { ...common, hands }), { message: "stopped" });
  assert.deepEqual(test.marks.map(({ name }) => name), ["pinned", "young"]);
  for (const { seq } of test.marks) assert.equal(test.volume.moments.atSeq(seq).found?.seq, seq);
});

Deno.test("a start that ends an interrupted prune makes the map durable before it deletes segments", async () => {
  await using test = new TestVolume(SIZE, 12_000);
  const { live } = await test.create();
  const random = new TestRandom(5);
  for (let i = 0; i < 120; i++) {
    test.clock.us += HOUR_US / 20;
    live.write(random.below(24) * BLOCK_BYTES, new Uint8Array(BLOCK_BYTES).fill(i));
  }
  await live.flush();
  const remove = test.disk.remove.bind(test.disk);
  const removed: string[] = [];
  test.disk.remove = (place) => {
    if (place.endsWith(".seg")) throw new Error("the process is killed");
    remove(place);
  };
  await assert.rejects(runPrune(test, { continuous: "1h", tiers: [] }), { message: "the process is killed" });
  await test.close();
  test.disk.remove = (place) => {
    const isSegment = place.endsWith(".seg") && test.disk.stat(place) !== undefined;
    if (isSegment) {
      const log = Deno.statSync(`${test.directory}/${VOLUME_FILES.map}-wal`);
      assert.equal(log.size, 0, "the map's log is not folded in yet");
      removed.push(place);
    }
    remove(place);
  };
  // Closing has made the map durable; what a start finds after a kill lies in the log.
  using killed = new DatabaseSync(`${test.directory}/${VOLUME_FILES.map}`);
  const deletions = watchDeletions(
    test,
    () => killed.prepare("SELECT count(*) AS n FROM segments WHERE retired = 1").get(),
  );
  killed.exec("CREATE TABLE anything (at_all)");
  assert(Deno.statSync(`${test.directory}/${VOLUME_FILES.map}-wal`).size > 0);
  await test.open();
  assert(removed.length > 0);
  assert.deepEqual([deletions.made, deletions.unsynced], [removed.length, 0]);
  assert.equal(
    test.volume.map.statement("SELECT count(*) AS n FROM segments WHERE retired = 1").get()?.["n"],
    0,
  );
});

Deno.test("prune() keeps a held moment byte-exact, and drops it when it is held no longer", async () => {
  await using test = new TestVolume(SIZE, 12_000);
  const { live } = await test.create();
  const random = new TestRandom(7);
  const past: Uint8Array[] = [new Uint8Array(SIZE)];
  for (let i = 0; i < 100; i++) {
    test.clock.us += HOUR_US / 10;
    const block = random.below(24) * BLOCK_BYTES;
    const content = past.at(-1)?.slice() ?? new Uint8Array(SIZE);
    content.fill(1 + i, block, block + BLOCK_BYTES);
    live.write(block, content.subarray(block, block + BLOCK_BYTES));
    past.push(content);
  }
  test.held.add(17);
  const before = segmentBytes(test);
  const kept = await runPrune(test, { continuous: "1h", tiers: [] });
  assert.deepEqual(kept.outcome.kept.map(({ seq }) => seq), [17]);
  assert(segmentBytes(test) < before, "the prune has rewritten nothing");
  assertBytes(await test.contentAt(17), past[17], "the held moment");
  assert.deepEqual([test.volume.isRetained(17), test.volume.isRetained(18)], [true, false]);
  test.held.delete(17);
  await runPrune(test, { continuous: "1h", tiers: [] });
  assert.equal(test.volume.isRetained(17), false);
});

Deno.test("a moment that is held after a prune was planned stops it, and one too late finds it gone at once", async () => {
  await using test = new TestVolume(SIZE, 12_000);
  const { live } = await test.create();
  for (let i = 0; i < 40; i++) {
    test.clock.us += HOUR_US;
    live.write(0, new Uint8Array(BLOCK_BYTES).fill(i));
  }
  await test.volume.settleSegments();
  const common = { onProgress: () => {}, signal: new AbortController().signal };
  const policy = { continuous: "1h", tiers: [] };
  const order = { marks: [], policy, nowUs: test.clock.us, ...common };
  const stale = await planPrune(test.volume, order);
  test.held.add(5);
  await assert.rejects(prune(test.volume, stale, common), { code: "conflict", message: /sequence 5/ });
  assert.equal(test.volume.moments.atSeq(5).found?.seq, 5);
  // While the text that drops moments is being made durable, the map still has them.
  const plan = await planPrune(test.volume, order);
  let isStillMapped = false;
  test.disk.beforeSync = () => {
    if (!test.volume.isRetained(9)) isStillMapped ||= test.volume.moments.atSeq(9).found !== undefined;
    return Promise.resolve();
  };
  await prune(test.volume, plan, common);
  assert(isStillMapped, "nothing was looked at amid the prune");
  assert.equal(test.volume.isRetained(5), true);
});

import assert from "node:assert/strict";
import { BLOCK_BYTES } from "../base/block_device.ts";
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
  await prune(test.volume, test.disk, plan, common);
  for (const name of plan.marksLost) test.marks.splice(test.marks.findIndex((mark) => mark.name === name), 1);
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
          const moment = await live.mark(JSON.stringify({ type: "mark", name, pinned }));
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

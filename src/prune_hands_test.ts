import assert from "node:assert/strict";
import { BLOCK_BYTES } from "./base/block_device.ts";
import { pause, systemScheduler } from "./base/turns.ts";
import { FileDisk } from "./disk/mod.ts";
import { WorkerHands } from "./prune_hands.ts";
import { TestClock } from "./volume/_testing.ts";
import { prepareVolume } from "./volume/prepare_volume.ts";
import { Volume } from "./volume/volume.ts";

const BLOCKS = 8;
const WRITES = 40;
const KEPT = [10, 20, WRITES];

/** Gives a test a volume in real files, with some history, and a Worker for it. */
async function withHands(
  test: (scene: { volume: Volume; hands: WorkerHands; abort: AbortController }) => Promise<void>,
): Promise<void> {
  const directory = await Deno.makeTempDir({ prefix: "varve-hands-" });
  const [disk, clock] = [new FileDisk(), new TestClock()];
  const row = {
    id: "00112233445566778899aabbccddeeff",
    name: "test",
    sizeBytes: BLOCKS * BLOCK_BYTES,
    primaryPath: `${directory}/primary.img`,
    primaryManaged: true,
    createdUs: clock.us,
    policy: "{}",
  };
  const ignore = () => {};
  await prepareVolume(row, { disk, directory, adopt: false });
  const volume = await Volume.open(row, {
    disk,
    clock,
    directory,
    describe: () => ({ volume: row, marks: [] }),
    onThinned: ignore,
    onText: ignore,
    onFailure: ignore,
  });
  const abort = new AbortController();
  const hands = new WorkerHands(volume, abort.signal);
  try {
    for (let write = 0; write < WRITES; write++) {
      volume.live.write(write % BLOCKS * BLOCK_BYTES, new Uint8Array(BLOCK_BYTES).fill(write + 1));
    }
    await volume.live.flush();
    await volume.settleSegments();
    await test({ volume, hands, abort });
  } finally {
    hands.close();
    await volume.close();
    await Deno.remove(directory, { recursive: true });
  }
}

Deno.test("WorkerHands changes the map only while it is lent out", () =>
  withHands(async ({ volume, hands, abort }) => {
    const here = await volume.pruneWork(abort).countLiving(KEPT);
    assert.deepEqual(await hands.countLiving(KEPT), here);
    const lent = Promise.withResolvers<void>();
    const other = volume.exclusively(() => lent.promise);
    let hasDropped = false;
    const dropped = hands.dropDead(KEPT, []).then(() => hasDropped = true);
    await pause(systemScheduler, 300);
    assert(!hasDropped);
    lent.resolve();
    await Promise.all([other, dropped]);
    // Versions that no kept moment sees have left the map.
    const isAlive = new Set<number>();
    for (const region of volume.map.usedRegions()) {
      for (const { versions } of volume.map.versionsOf(region, WRITES)) {
        for (const { seq } of versions) isAlive.add(seq);
      }
    }
    const expected = KEPT.flatMap((kept) => Array.from({ length: BLOCKS }, (_, back) => kept - back));
    assert.deepEqual([...isAlive].sort((a, b) => a - b), expected.sort((a, b) => a - b));
  }));

Deno.test("WorkerHands has its Worker give up once the prune is stopped", () =>
  withHands(async ({ hands, abort }) => {
    await hands.countLiving(KEPT);
    abort.abort();
    await assert.rejects(hands.countLiving(KEPT), { code: "cancelled" });
  }));

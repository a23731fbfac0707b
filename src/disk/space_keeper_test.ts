import assert from "node:assert/strict";
import { VarveError } from "../base/errors.ts";
import type { Scheduler } from "../base/turns.ts";
import { MemoryDisk, SpaceKeeper, type SpaceLimits, spaceLimits, type SpaceState } from "./mod.ts";

const KIB = 1024;
const MIB = 1024 * KIB;
const NO_SPACE = { name: "VarveError", code: "no-space" };
const LIMITS: SpaceLimits = { reserveBytes: MIB, watermarkBytes: 4 * MIB, floorBytes: MIB };

/** A scheduler whose work runs when a test says so. */
class Turns implements Scheduler {
  #waiting: { work: () => void; delayMs: number }[] = [];

  ticksMs(): number {
    return 0;
  }

  after(delayMs: number, work: () => void): { cancel(): void } {
    const entry = { work, delayMs };
    this.#waiting.push(entry);
    return { cancel: () => void (this.#waiting = this.#waiting.filter((other) => other !== entry)) };
  }

  /** Runs what waits for no longer than this. */
  run(delayMs = 0): void {
    const due = this.#waiting.filter((entry) => entry.delayMs <= delayMs);
    this.#waiting = this.#waiting.filter((entry) => entry.delayMs > delayMs);
    for (const { work } of due) work();
  }
}

class Scene {
  readonly disk = new MemoryDisk();
  readonly turns = new Turns();
  readonly told: SpaceState[] = [];
  readonly keeper: SpaceKeeper;

  constructor(capacityBytes = 16 * MIB) {
    this.disk.capacityBytes = capacityBytes;
    this.disk.open("/data/primary", { mode: "create" });
    this.keeper = new SpaceKeeper({
      disk: this.disk,
      path: "/data",
      reservePath: "/data/reserve",
      scheduler: this.turns,
      segmentBytes: MIB,
      limits: LIMITS,
      onState: (state) => this.told.push(state),
    });
    this.keeper.start();
  }

  get reserved(): number {
    return this.disk.stat("/data/reserve")?.allocatedBytes ?? -1;
  }
}

Deno.test("spaceLimits() fit file systems of any size", () => {
  for (
    const [totalBytes, reserveBytes, watermarkBytes] of [
      [64 * MIB, 3.2 * MIB, 16 * MIB],
      [192 * MIB, 8 * MIB, 48 * MIB],
      [1024 * MIB, 10.24 * MIB, 2 * 10.24 * MIB + 64 * MIB],
      [100 * 1024 * MIB, 1024 * MIB, 5 * 1024 * MIB],
      [1024 * 1024 * MIB, 1024 * MIB, 51.2 * 1024 * MIB],
    ] as const
  ) {
    const limits = spaceLimits(totalBytes, 64 * MIB);
    assert(Math.abs(limits.reserveBytes - reserveBytes) < 8 * KIB, `${totalBytes}: ${limits.reserveBytes}`);
    assert(
      Math.abs(limits.watermarkBytes - watermarkBytes) < 16 * KIB,
      `${totalBytes}: ${limits.watermarkBytes}`,
    );
    assert(limits.floorBytes + limits.reserveBytes < limits.watermarkBytes);
  }
  assert.deepEqual(spaceLimits(64 * MIB, MIB, { reserveBytes: 5, watermarkBytes: 6, floorBytes: 7 }), {
    reserveBytes: 5,
    watermarkBytes: 6,
    floorBytes: 7,
  });
});

Deno.test("SpaceKeeper holds the reserve, lends it to work that frees space, and takes it again afterwards", async () => {
  const { disk, keeper, ...scene } = new Scene();
  const reserved = () => disk.stat("/data/reserve")?.allocatedBytes;
  assert.equal(reserved(), MIB);
  assert.equal(keeper.status().freeBytes, 15 * MIB);
  await keeper.lend(async () => {
    assert.equal(reserved(), 0);
    assert.equal(keeper.status().freeBytes, 15 * MIB, "what is lent counts as taken");
    await keeper.lend(() => Promise.resolve());
    assert.equal(reserved(), 0, "the other work still has it");
  });
  assert.equal(reserved(), MIB);
  const guard = keeper.guard("/data/primary");
  assert.equal(guard.relieve(), true);
  assert.equal(guard.relieve(), false);
  disk.foreignBytes = 16 * MIB;
  keeper.look();
  assert.equal(reserved(), 0, "there is nothing to take it from");
  disk.foreignBytes = 0;
  scene.turns.run(1000);
  assert.equal(reserved(), MIB);
});

Deno.test("SpaceKeeper grants less and less towards the wall, and nothing beyond it", () => {
  const { disk, keeper } = new Scene();
  const guard = keeper.guard("/data/primary");
  assert(guard.sharesPrimary);
  let unused = 0;
  guard.owes(() => unused);
  const file = disk.open("/data/segment", { mode: "create" });
  let taken = 0;
  assert.throws(() => {
    for (;;) {
      const bytes = guard.grant(8 * MIB, 4 * KIB);
      file.reserve(taken, bytes);
      taken += bytes;
      unused += bytes;
    }
  }, NO_SPACE);
  const free = disk.space("/").freeBytes;
  assert(free >= unused + LIMITS.floorBytes, `${free} bytes are free, ${unused} owed`);
  assert(free < unused + LIMITS.floorBytes + 16 * KIB, "close to the wall there is nothing to spare");
  assert.equal(guard.grantSmall(64 * KIB), 64 * KIB);
  guard.close();
  assert.equal(keeper.guard("/data/missing").sharesPrimary, false);
});

Deno.test("SpaceKeeper tells each state once, in a turn of its own", () => {
  const { disk, keeper, told, turns } = new Scene();
  const guard = keeper.guard("/data/primary");
  assert.equal(keeper.state, "ok");
  disk.foreignBytes = 12 * MIB;
  guard.grant(4 * KIB, 4 * KIB);
  assert.deepEqual(told, []);
  turns.run();
  assert.deepEqual(told, ["low"]);
  disk.foreignBytes = 14 * MIB;
  assert.throws(() => guard.grant(4 * KIB, 4 * KIB), NO_SPACE);
  assert.equal(keeper.state, "full");
  turns.run();
  keeper.look();
  assert.deepEqual(told, ["low", "full"]);
  disk.foreignBytes = 12 * MIB;
  turns.run(1000);
  disk.foreignBytes = 11 * MIB + 100 * KIB;
  turns.run(1000);
  assert.deepEqual(told, ["low", "full", "low"], "a little above the watermark is not enough");
  assert(keeper.wantedBytes > 0);
  disk.foreignBytes = 0;
  turns.run(1000);
  assert.deepEqual(told, ["low", "full", "low", "ok"]);
  assert.equal(keeper.wantedBytes, 0);
});

Deno.test("SpaceKeeper knows when debts are no longer covered", () => {
  const { disk, keeper } = new Scene();
  const guard = keeper.guard("/data/primary");
  guard.owes(() => 3 * MIB);
  keeper.look();
  assert(!guard.isStarved);
  disk.foreignBytes = 13 * MIB;
  keeper.look();
  assert(guard.isStarved);
  disk.foreignBytes = 11 * MIB;
  keeper.look();
  assert(!guard.isStarved);
});

Deno.test("SpaceKeeper begins on a disk without a free byte", () => {
  const scene = new Scene(64 * KIB);
  assert.equal(scene.keeper.state, "full");
  assert.equal(scene.reserved, 0);
  assert.throws(
    () => scene.keeper.guard("/data/primary").grant(1, 1),
    (thrown) => thrown instanceof VarveError,
  );
});

Deno.test("SpaceKeeper.spare() gives what lies above the watermark, and asks again when history has taken it", () => {
  const { keeper, disk } = new Scene();
  const take = keeper.spare();
  const { spareBytes } = keeper;
  assert.equal(spareBytes, 16 * MIB - LIMITS.reserveBytes - LIMITS.watermarkBytes);
  assert.throws(() => take(spareBytes + 1), NO_SPACE);
  take(4 * KIB);
  disk.foreignBytes = spareBytes - 4 * KIB;
  assert.equal(keeper.spareBytes, 4 * KIB);
  // What it was granted before.
  take(MIB - 4 * KIB);
  take(4 * KIB);
  disk.foreignBytes = spareBytes;
  assert.throws(() => take(1), NO_SPACE);
  assert.equal(keeper.state, "ok", "clones leave history alone");
  disk.foreignBytes = 0;
  take(MIB);
});

import assert from "node:assert/strict";
import { type Appliance, openAppliance } from "./appliance.ts";
import type { Clock } from "./base/clock.ts";
import { type Scheduler, systemScheduler, type Timer } from "./base/turns.ts";
import { FileDisk } from "./disk/mod.ts";
import type { JobInfo } from "./engine.ts";
import type { ScrubSchedule } from "./scrubs.ts";

const DAY_US = 24 * 3_600_000_000;
const CALLER = { name: "unix" };
/** Timers that wait longer are the test's to fire. */
const LONG_MS = 30_000;

/** An appliance that scrubs in turns, and whose days pass when the test says so. */
class Scene implements AsyncDisposable {
  readonly dataPath = Deno.makeTempDirSync({ prefix: "varve-scrubs-" });
  readonly disk = new FileDisk();
  readonly clock = { us: Date.parse("2026-01-01T00:00:00Z") * 1000 };
  readonly waiting = new Set<() => void>();
  #appliance: Appliance | undefined;

  get appliance(): Appliance {
    assert(this.#appliance !== undefined);
    return this.#appliance;
  }

  async open(scrub?: ScrubSchedule): Promise<this> {
    const clock: Clock = { nowUs: () => this.clock.us };
    const scheduler: Scheduler = {
      ticksMs: () => systemScheduler.ticksMs(),
      after: (delayMs, work): Timer => {
        if (delayMs < LONG_MS) return systemScheduler.after(delayMs, work);
        this.waiting.add(work);
        return { cancel: () => void this.waiting.delete(work) };
      },
    };
    const { dataPath, disk } = this;
    this.#appliance = await openAppliance({
      dataPath,
      disk,
      clock,
      scheduler,
      compression: { enabled: false },
      ...(scrub === undefined ? {} : { scrub }),
    });
    return this;
  }

  /** Fires the long timers, and resolves when what they began has ended and waits again. */
  async look(): Promise<void> {
    const due = [...this.waiting];
    this.waiting.clear();
    for (const work of due) work();
    while (due.length > 0 && this.waiting.size === 0) {
      await new Promise((resolve) => systemScheduler.after(1, () => resolve(undefined)));
    }
  }

  /** The scrubs there were, oldest first. */
  scrubs(): JobInfo[] {
    return this.appliance.listJobs().filter((job) => job.kind === "scrub").reverse();
  }

  async close(): Promise<void> {
    await this.#appliance?.close();
    this.#appliance = undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
    await Deno.remove(this.dataPath, { recursive: true });
  }
}

async function ended(appliance: Appliance, id: string): Promise<JobInfo> {
  for (;;) {
    const job = appliance.getJob(id);
    if (job.state !== "running") return job;
    await new Promise((resolve) => systemScheduler.after(1, () => resolve(undefined)));
  }
}

Deno.test("a volume is scrubbed by itself when its last scrub is seven days old, one at a time", async () => {
  await using scene = await new Scene().open();
  for (const name of ["a", "b"]) {
    await scene.appliance.createVolume({ name, sizeBytes: 1 << 20 }, CALLER);
  }
  await scene.look();
  assert.deepEqual(scene.scrubs(), []);
  scene.clock.us += 6 * DAY_US;
  const { id } = scene.appliance.startScrub("b", {}, CALLER);
  assert.throws(() => scene.appliance.startScrub("b", {}, CALLER), { code: "conflict" });
  assert.equal((await ended(scene.appliance, id)).state, "succeeded");
  // A volume is created at the end of its millisecond.
  scene.clock.us += 1 * DAY_US + 1000;
  await scene.look();
  assert.deepEqual(scene.scrubs().map(({ volume, state }) => [volume, state]), [
    ["b", "succeeded"],
    ["a", "succeeded"],
  ]);
  assert.equal(scene.appliance.getVolume("a").scrub?.finishedAt, "2026-01-08T00:00:00.001Z");
  assert.equal(scene.appliance.lastScrub("b").finishedAt, "2026-01-07T00:00:00.000Z");
  await scene.look();
  assert.equal(scene.scrubs().length, 2);
  scene.clock.us += 7 * DAY_US;
  await scene.look();
  assert.deepEqual(scene.scrubs().slice(2).map(({ volume }) => volume), ["a", "b"]);
});

Deno.test("a scrub that a stop interrupts is due again at the next start", async () => {
  await using scene = await new Scene().open({ rateBytes: 1 });
  await scene.appliance.createVolume({ name: "a", sizeBytes: 1 << 20 }, CALLER);
  scene.clock.us += 8 * DAY_US;
  for (const work of scene.waiting) work();
  assert.equal(scene.scrubs().length, 1);
  await scene.close();
  await scene.open();
  assert.equal(scene.scrubs()[0]?.state, "cancelled");
  assert.throws(() => scene.appliance.lastScrub("a"), { code: "not-found" });
  await scene.look();
  assert.equal(scene.scrubs()[1]?.state, "succeeded");
  const last = scene.appliance.lastScrub("a");
  await scene.close();
  await scene.open();
  assert.deepEqual(scene.appliance.lastScrub("a"), last);
});

Deno.test("scrubs by themselves can be switched off, and a scrubbed volume can be deleted", async () => {
  await using scene = await new Scene().open({ everyMs: false });
  await scene.appliance.createVolume({ name: "a", sizeBytes: 1 << 20 }, CALLER);
  scene.clock.us += 80 * DAY_US;
  assert.equal(scene.waiting.size, 0);
  const { id } = scene.appliance.startScrub("a", { rateBytes: 1 }, CALLER);
  await scene.appliance.deleteVolume("a", { purge: true }, CALLER);
  assert.equal(scene.appliance.getJob(id).state, "cancelled");
  assert.throws(() => scene.appliance.startScrub("a", {}, CALLER), { code: "not-found" });
});

Deno.test("what a scrub found stays until the next one, and damage does not make the appliance unready", async () => {
  await using scene = await new Scene().open();
  const { appliance, disk, dataPath } = scene;
  const { id } = await appliance.createVolume({ name: "a", sizeBytes: 1 << 20 }, CALLER);
  const folder = `${dataPath}/volumes/${id}/segments`;
  const file = disk.open(`${folder}/${disk.list(folder)[0]}`, { mode: "write" });
  const byte = new Uint8Array(1);
  file.read(100, byte);
  file.write(100, Uint8Array.of((byte[0] ?? 0) ^ 1));
  assert.equal((await ended(appliance, appliance.startScrub("a", {}, CALLER).id)).state, "succeeded");
  assert.equal(appliance.getVolume("a").scrub?.damagedPlaces, 1);
  assert.equal(appliance.lastScrub("a").places[0]?.harmless, true);
  assert.deepEqual(appliance.readiness(), { ready: true, problems: [] });
  file.write(100, byte);
  file.close();
  await ended(appliance, appliance.startScrub("a", {}, CALLER).id);
  assert.equal(appliance.listVolumes()[0]?.scrub?.damagedPlaces, 0);
});

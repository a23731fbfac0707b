/** Clones of an appliance: their life, what they hold, and promotions. */
import assert from "node:assert/strict";
import { type Appliance, openAppliance } from "./appliance.ts";
import type { BlockDevice } from "./base/block_device.ts";
import { type Scheduler, systemScheduler } from "./base/turns.ts";
import { FileDisk, MemoryDisk } from "./disk/mod.ts";
import type { JobInfo } from "./engine.ts";
import type { OpenExport } from "./nbd/mod.ts";
import { assertBytes, TestClock } from "./volume/_testing.ts";

const { test } = Deno;

const MIB = 1 << 20;
const SIZE = 4 * MIB;
const CALLER = { name: "test" };
const CLIENT = { peer: "unix" };
const HOUR_US = 3_600_000_000;
/** Timers that wait longer are the test's to fire. */
const LONG_MS = 30_000;

/** An appliance whose hours pass when the test says so. */
class Scene implements AsyncDisposable {
  readonly dataPath = Deno.makeTempDirSync({ prefix: "varve-clones-" });
  readonly clock = new TestClock();
  readonly disk = new FileDisk();
  readonly waiting = new Set<() => void>();
  #engine: Appliance | undefined;

  get engine(): Appliance {
    assert(this.#engine !== undefined);
    return this.#engine;
  }

  async open(): Promise<this> {
    const scheduler: Scheduler = {
      ticksMs: () => systemScheduler.ticksMs(),
      after: (delayMs, work) => {
        if (delayMs < LONG_MS) return systemScheduler.after(delayMs, work);
        this.waiting.add(work);
        return { cancel: () => void this.waiting.delete(work) };
      },
    };
    const { dataPath, disk, clock } = this;
    this.#engine = await openAppliance({ dataPath, disk, clock, scheduler, scrub: { everyMs: false } });
    return this;
  }

  async close(): Promise<void> {
    await this.#engine?.close();
    this.#engine = undefined;
  }

  /** Makes volume `db`: its first MiB is ones at the mark `then`, and twos now. */
  async makeVolume(): Promise<void> {
    await this.engine.createVolume({ name: "db", sizeBytes: SIZE }, CALLER);
    await using db = await this.connect("db");
    db.write(0, new Uint8Array(MIB).fill(1));
    await this.engine.createMark("db", { name: "then" }, CALLER);
    this.clock.us += HOUR_US;
    db.write(0, new Uint8Array(MIB).fill(2));
    db.commit();
  }

  async connect(name: string): Promise<BlockDevice & AsyncDisposable> {
    const opened = await this.engine.nbdExports.open(name, CLIENT);
    assert(opened !== undefined, `there is no export ${name}`);
    return Object.assign(Object.create(deviceOf(opened)), {
      [Symbol.asyncDispose]: () => Promise.resolve(opened.close()),
    });
  }

  make(name: string, more: { budgetBytes?: number; ttl?: string | false } = {}) {
    return this.engine.createClone({ volume: "db", at: "mark:then", name, ...more }, CALLER);
  }

  /** Lets an hour pass. */
  hour(): void {
    this.clock.us += HOUR_US;
    const due = [...this.waiting];
    this.waiting.clear();
    for (const work of due) work();
  }

  /** Waits for a job to end. */
  async ended({ id }: JobInfo): Promise<JobInfo> {
    for (;;) {
      const job = this.engine.getJob(id);
      if (job.state !== "running") return job;
      await new Promise<void>((resolve) => systemScheduler.after(1, resolve));
    }
  }

  folders(): string[] {
    return this.disk.list(`${this.dataPath}/clones`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
    await Deno.remove(this.dataPath, { recursive: true });
  }
}

/** The device with its methods bound, so that it may be a prototype. */
function deviceOf({ device }: OpenExport): BlockDevice {
  return {
    sizeBytes: device.sizeBytes,
    readOnly: device.readOnly,
    read: (offset, target) => device.read(offset, target),
    write: (offset, data) => device.write(offset, data),
    trim: (offset, length) => device.trim(offset, length),
    zero: (offset, length) => device.zero(offset, length),
    commit: () => device.commit(),
    flush: () => device.flush(),
    sync: () => device.sync(),
    extents: (offset, length, max) => device.extents(offset, length, max),
  };
}

function contentOf(device: BlockDevice): Uint8Array {
  const content = new Uint8Array(device.sizeBytes);
  device.read(0, content);
  return content;
}

function then(): Uint8Array {
  return new Uint8Array(SIZE).fill(1, 0, MIB);
}

test("a clone is its moment, takes writes, survives a restart, and leaves history and volume alone", async () => {
  await using scene = await new Scene().open();
  await scene.makeVolume();
  const made = await scene.make("c", { ttl: "8h" });
  assert.deepEqual([made.volume, made.state, made.sizeBytes, made.usedBytes], ["db", "ready", SIZE, 0]);
  assert.equal(made.seq, scene.engine.listMarks("db")[0]?.seq);
  assert.equal(made.time, scene.engine.listMarks("db")[0]?.time);
  const expected = then();
  {
    await using clone = await scene.connect("c");
    assertBytes(contentOf(clone), expected, "a new clone");
    clone.write(5000, new Uint8Array(3000).fill(9));
    expected.fill(9, 5000, 8000);
    await clone.flush();
    assert.equal(scene.engine.getClone("c").connections, 1);
  }
  await scene.close();
  await scene.open();
  assert.equal(scene.engine.getClone("c").usedBytes, 4096);
  {
    await using clone = await scene.connect("c");
    assertBytes(contentOf(clone), expected, "after a restart");
    await using past = await scene.connect("db@mark:then");
    assertBytes(contentOf(past), then(), "the moment");
  }
  const exports = await scene.engine.nbdExports.list();
  assert.deepEqual(exports.map(({ name }) => name), ["db", "c"]);
  assert.equal(exports[1]?.description, `clone of db as of ${made.time}, expires ${made.expiresAt}`);
  assert.deepEqual(scene.engine.listAudit({}).map(({ action }) => action).slice(0, 1), ["clone.create"]);
});

test("clones and volumes share their names; a clone that cannot be made leaves nothing", async () => {
  await using scene = await new Scene().open();
  await scene.makeVolume();
  await scene.make("c");
  await assert.rejects(scene.make("c"), { code: "conflict", field: "name" });
  await assert.rejects(scene.make("db"), { code: "conflict", field: "name" });
  await assert.rejects(scene.engine.createVolume({ name: "c", sizeBytes: SIZE }, CALLER), {
    code: "conflict",
  });
  await assert.rejects(scene.make("a@b"), { code: "invalid" });
  await assert.rejects(scene.make("d", { ttl: "0s" }), { code: "invalid", field: "ttl" });
  await assert.rejects(scene.make("d", { ttl: "soon" }), { code: "invalid", field: "ttl" });
  await assert.rejects(scene.engine.createClone({ volume: "no", at: "now", name: "d" }, CALLER), {
    code: "not-found",
  });
  const both = await Promise.allSettled([scene.make("e"), scene.make("e")]);
  assert.deepEqual(both.map(({ status }) => status).sort(), ["fulfilled", "rejected"]);
  assert.deepEqual(scene.engine.listClones().map(({ name }) => name), ["c", "e"]);
  assert.equal(scene.folders().length, 2);
});

test("a volume with clones is not deleted, a clone in use neither; deleted, it lets go of all", async () => {
  await using scene = await new Scene().open();
  await scene.makeVolume();
  await scene.make("c");
  const remove = () => scene.engine.deleteVolume("db", { purge: true }, CALLER);
  await assert.rejects(remove(), { code: "conflict", message: /clones: c$/ });
  {
    await using _clone = await scene.connect("c");
    await assert.rejects(scene.engine.deleteClone("c", CALLER), { code: "conflict", message: /connected/ });
  }
  await scene.engine.deleteClone("c", CALLER);
  assert.deepEqual([scene.folders(), scene.engine.listClones()], [[], []]);
  await assert.rejects(scene.engine.deleteClone("c", CALLER), { code: "not-found" });
  await remove();
});

test("prunes keep the moment of a clone, also after a restart, and drop it when the clone has gone", async () => {
  await using scene = await new Scene().open();
  await scene.makeVolume();
  const { seq } = await scene.make("c", { ttl: false });
  await scene.engine.deleteMark("db", "then", CALLER);
  const prune = async () => {
    scene.clock.us += HOUR_US;
    const job = await scene.ended(scene.engine.startPrune("db", CALLER));
    assert.equal(job.state, "succeeded", JSON.stringify(job.error));
  };
  await scene.engine.setRetention("db", { continuous: "1s", tiers: [] }, CALLER);
  await prune();
  await scene.close();
  await scene.open();
  await prune();
  {
    await using clone = await scene.connect("c");
    assertBytes(contentOf(clone), then(), "the clone after two prunes");
  }
  assert.equal((await scene.engine.resolve("db", `seq:${seq}`)).seq, seq);
  await scene.engine.deleteClone("c", CALLER);
  await prune();
  await assert.rejects(scene.engine.resolve("db", `seq:${seq}`), { code: "not-retained" });
});

test("a clone goes when its time has come, but not while clients are connected", async () => {
  await using scene = await new Scene().open();
  await scene.makeVolume();
  await scene.make("short", { ttl: "30m" });
  await scene.make("used", { ttl: "30m" });
  await scene.make("long", { ttl: "90m" });
  await scene.make("ever", { ttl: false });
  const names = () => scene.engine.listClones().map(({ name }) => name);
  const used = await scene.engine.nbdExports.open("used", CLIENT);
  scene.hour();
  assert.deepEqual(names(), ["ever", "long", "used"]);
  assert.equal(scene.engine.getClone("used").state, "expired");
  await assert.rejects(scene.connect("used"), { code: "conflict", message: /expired/ });
  used?.device.write(0, new Uint8Array(4096));
  await used?.close();
  assert.deepEqual(names(), ["ever", "long"]);
  const told = scene.engine.listEvents({}).filter(({ kind }) => kind === "clone.expired");
  assert.deepEqual(told.map(({ volume, details }) => [volume, details["clone"]]), [["db", "short"], [
    "db",
    "used",
  ]]);
  await scene.close();
  scene.clock.us += HOUR_US;
  await scene.open();
  assert.deepEqual(names(), ["ever"], "what expired while nobody looked goes at the start");
  await scene.close();
  assert.equal(scene.folders().length, 1);
});

test("a start removes folders that no clone has, and tells of clones that it cannot open", async () => {
  await using scene = await new Scene().open();
  await scene.makeVolume();
  const { id } = await scene.make("c");
  await scene.close();
  Deno.mkdirSync(`${scene.dataPath}/clones/0123`);
  Deno.writeTextFileSync(`${scene.dataPath}/clones/0123/data.img`, "left");
  Deno.truncateSync(`${scene.dataPath}/clones/${id}/map`, 7);
  await scene.open();
  assert.deepEqual(scene.folders(), [id]);
  const { state, error } = scene.engine.getClone("c");
  assert.equal(state, "failed");
  assert.match(error ?? "", /map/);
  await assert.rejects(scene.connect("c"), { code: "damaged" });
  assert.throws(() => scene.engine.promoteClone("c", "d", CALLER), { code: "damaged" });
  await scene.engine.deleteClone("c", CALLER);
  assert.deepEqual(scene.folders(), []);
});

test("a promotion makes a volume of the clone's present content, with a mark, and the clone stays", async () => {
  await using scene = await new Scene().open();
  await scene.makeVolume();
  await scene.make("c");
  const expected = then();
  {
    await using clone = await scene.connect("c");
    clone.write(3 * MIB + 5, new Uint8Array(70_000).fill(7));
    clone.trim(0, 65536);
    expected.fill(7, 3 * MIB + 5, 3 * MIB + 70_005).fill(0, 0, 65536);
    assert.throws(() => scene.engine.promoteClone("c", "new", CALLER), {
      code: "conflict",
      message: /connected/,
    });
  }
  assert.throws(() => scene.engine.promoteClone("c", "db", CALLER), { code: "conflict", field: "name" });
  assert.throws(() => scene.engine.promoteClone("c", "c", CALLER), { code: "conflict", field: "name" });
  const started = scene.engine.promoteClone("c", "new", CALLER);
  assert.deepEqual([started.kind, started.volume], ["promote", "new"]);
  assert.equal(scene.engine.getClone("c").state, "promoting");
  await assert.rejects(scene.connect("c"), { code: "conflict", message: /new is being made/ });
  await assert.rejects(scene.connect("new"), { code: "conflict" });
  await assert.rejects(scene.engine.deleteClone("c", CALLER), { code: "conflict" });
  const job = await scene.ended(started);
  assert.equal(job.state, "succeeded", JSON.stringify(job.error));
  assert.equal(job.result?.["writtenBytes"], MIB - 65536 + 73_728);
  await using made = await scene.connect("new");
  assertBytes(contentOf(made), expected, "the new volume");
  await using past = await scene.connect("new@mark:promoted");
  assertBytes(contentOf(past), expected, "its mark");
  await using clone = await scene.connect("c");
  assertBytes(contentOf(clone), expected, "the clone");
});

test("a promotion that is cancelled, or cut off by a crash, leaves no volume", async () => {
  await using scene = await new Scene().open();
  await scene.makeVolume();
  await scene.make("c");
  const names = () => scene.engine.listVolumes().map(({ name }) => name);
  const job = scene.engine.promoteClone("c", "new", CALLER);
  assert.equal((await scene.engine.cancelJob(job.id, CALLER)).state, "cancelled");
  assert.deepEqual([names(), scene.engine.getClone("c").state], [["db"], "ready"]);
  const actions = scene.engine.listAudit({}).map(({ action }) => action).slice(0, 3);
  assert.deepEqual(
    actions.toSorted(),
    ["job.cancel", "volume.create", "volume.delete"],
    "nothing was undone",
  );
  const volumes = scene.disk.list(`${scene.dataPath}/volumes`);
  assert.equal(volumes.length, 1);

  // What a crash leaves: the volume, and the catalogue's word that it is not finished.
  await scene.engine.createVolume({ name: "half", sizeBytes: SIZE }, CALLER);
  await scene.close();
  {
    using database = scene.disk.openDatabase(`${scene.dataPath}/catalog.sqlite`);
    database.exec("UPDATE clones SET promoting = 'half'");
  }
  await scene.open();
  assert.deepEqual([names(), scene.engine.getClone("c").state], [["db"], "ready"]);
  assert.deepEqual(scene.disk.list(`${scene.dataPath}/volumes`), volumes);
});

test("a clone takes no space that history needs", async () => {
  const dataPath = Deno.makeTempDirSync({ prefix: "varve-clones-" });
  const disk = new class extends MemoryDisk {
    override makeDirectory(place: string): void {
      Deno.mkdirSync(place, { recursive: true });
    }
  }();
  disk.capacityBytes = 64 * MIB;
  const engine = await openAppliance({ dataPath, disk, clock: new TestClock(), scrub: { everyMs: false } });
  try {
    await engine.createVolume({ name: "db", sizeBytes: 64 * MIB }, CALLER);
    const { budgetBytes } = await engine.createClone({ volume: "db", at: "now", name: "c" }, CALLER);
    const { storage } = engine.status();
    assert(budgetBytes > 16 * MIB && budgetBytes <= storage.freeBytes - storage.watermarkBytes);
    await engine.createClone({ volume: "db", at: "now", name: "greedy", budgetBytes: 2 ** 40 }, CALLER);
    const greedy = await engine.nbdExports.open("greedy", CLIENT);
    let written = 0;
    assert.throws(() => {
      for (; written < 64 * MIB; written += MIB) greedy?.device.write(written, new Uint8Array(MIB).fill(1));
    }, { code: "no-space", message: /can be spared/ });
    assert(written > 8 * MIB);
    assert.equal(engine.status().storage.state, "ok");
    const db = await engine.nbdExports.open("db", CLIENT);
    db?.device.write(0, new Uint8Array(MIB).fill(1));
    await db?.device.flush();
    greedy?.device.trim(0, 64 * MIB);
    greedy?.device.write(0, new Uint8Array(MIB).fill(1));
    await db?.close();
    await greedy?.close();
  } finally {
    await engine.close();
    Deno.removeSync(dataPath, { recursive: true });
  }
});

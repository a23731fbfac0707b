/** The engine on a small disk in memory: what it gives up while space is short, and what it does not. */
import assert from "node:assert/strict";
import { type Appliance, openAppliance } from "./appliance.ts";
import type { BlockDevice } from "./base/block_device.ts";
import { VarveError } from "./base/errors.ts";
import { pause, systemScheduler } from "./base/turns.ts";
import { MemoryDisk } from "./disk/mod.ts";
import { assertBytes, TestClock } from "./volume/_testing.ts";

const MIB = 1 << 20;
const CALLER = { name: "test" };
const SIZE = 4 * MIB;
const PIECE = 256 << 10;

/** A disk in memory whose directories exist on the machine too, for databases. */
class Disk extends MemoryDisk {
  override makeDirectory(place: string): void {
    Deno.mkdirSync(place, { recursive: true });
  }
}

class Scene implements AsyncDisposable {
  readonly folder = Deno.makeTempDirSync({ prefix: "varve-pressure-" });
  readonly disk = new Disk();
  readonly clock = new TestClock();
  readonly past: Uint8Array[] = [new Uint8Array(SIZE)];
  readonly #appliance: Promise<Appliance>;

  constructor(capacityBytes: number) {
    this.disk.capacityBytes = capacityBytes;
    this.#appliance = openAppliance({ dataPath: this.folder, disk: this.disk, clock: this.clock });
  }

  /** The engine with one volume, and its live device. */
  async begin(): Promise<{ engine: Appliance; device: BlockDevice }> {
    const engine = await this.#appliance;
    await engine.createVolume({ name: "disk", sizeBytes: SIZE }, CALLER);
    const opened = await engine.nbdExports.open("disk", { peer: "unix" });
    assert(opened !== undefined);
    return { engine, device: opened.device };
  }

  /** Writes a piece a minute later; one that is refused is written again when there is space. */
  async write(device: BlockDevice, index: number, offset = index * PIECE % SIZE): Promise<void> {
    this.clock.us += 60_000_000;
    const data = new Uint8Array(PIECE).fill(1 + index % 255);
    await retry(() => device.write(offset, data));
    device.commit();
    const content = this.past.at(-1)?.slice() ?? new Uint8Array(SIZE);
    content.set(data, offset);
    this.past.push(content);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await (await this.#appliance).close();
    await Deno.remove(this.folder, { recursive: true });
  }
}

async function retry(work: () => void): Promise<void> {
  for (let attempt = 0;; attempt++) {
    try {
      return work();
    } catch (thrown) {
      if (!(thrown instanceof VarveError) || thrown.code !== "no-space" || attempt > 500) throw thrown;
      await pause(systemScheduler, 10);
    }
  }
}

async function until(what: string, holds: () => boolean): Promise<void> {
  for (let attempt = 0; !holds(); attempt++) {
    assert(attempt < 800, `waiting until ${what}`);
    await pause(systemScheduler, 10);
  }
}

Deno.test("Pressure thins the oldest history as far as is needed, and keeps the newest and what is marked whole", async () => {
  await using scene = new Scene(64 * MIB);
  const { engine, device } = await scene.begin();
  for (let index = 0; index < 20; index++) await scene.write(device, index);
  const pinned = await engine.createMark("disk", { name: "pinned", pinned: true }, CALLER);
  scene.past.push(scene.past.at(-1)?.slice() ?? new Uint8Array(0));
  const loose = await engine.createMark("disk", { name: "loose" }, CALLER);
  scene.past.push(scene.past.at(-1)?.slice() ?? new Uint8Array(0));
  for (let index = 20; index < 190; index++) await scene.write(device, index, 0);
  const kinds = () => engine.listEvents({ limit: 1000 }).map((event) => event.kind);
  await until(
    "the history is thinned",
    () => kinds().includes("history.thinned") && kinds().at(-1) === "storage.ok",
  );
  const [thinned] = engine.listEvents({ limit: 1000 }).filter((event) => event.kind === "history.thinned");
  const { from, to, window, bytesFreed, marksLost } = thinned?.details as Record<string, { seq: number }> & {
    window: { from: { seq: number } };
    marksLost: string[];
  };
  assert.equal(from?.seq, 0);
  const lastSeq = scene.past.length - 1;
  assert(
    to !== undefined && to.seq > 10 && to.seq < lastSeq - 3,
    `down to ${to?.seq}: the newest was not needed`,
  );
  assert(Number(bytesFreed) > MIB);
  assert.deepEqual(marksLost, []);
  assert(window.from.seq > 0);
  assert.deepEqual(engine.getRetention("disk").continuous, "24h");
  assert.deepEqual(engine.listMarks("disk").map((mark) => mark.name), ["pinned", "loose"]);
  let gone = 0;
  for (let seq = 30; seq < 60; seq++) {
    await engine.resolve("disk", `seq:${seq}`).catch((thrown) => {
      assert.equal(thrown.code, "not-retained");
      gone++;
    });
  }
  assert(gone > 10 && gone < 30, `of the oldest 30 moments ${gone} went: resolution goes before span`);
  for (const seq of [pinned.seq, loose.seq, to.seq, lastSeq - 3, lastSeq]) {
    const opened = await engine.nbdExports.open(`disk@seq:${seq}`, { peer: "unix" });
    const bytes = new Uint8Array(SIZE);
    opened?.device.read(0, bytes);
    assertBytes(bytes, scene.past[seq], `sequence ${seq}`);
    opened?.close();
  }
});

Deno.test("Pressure says when nothing more can be given up, and goes on when a pin is taken away", async () => {
  await using scene = new Scene(48 * MIB);
  const { engine, device } = await scene.begin();
  for (let pin = 0; pin < 4; pin++) {
    for (let index = 0; index < 16; index++) await scene.write(device, pin * 16 + index);
    await engine.createMark("disk", { name: `pin${pin}`, pinned: true }, CALLER);
    scene.past.push(scene.past.at(-1)?.slice() ?? new Uint8Array(0));
  }
  scene.disk.foreignBytes = scene.disk.space("/").freeBytes - 3 * MIB;
  const kinds = () => engine.listEvents({ limit: 1000 }).map((event) => event.kind);
  await until("it is told", () => kinds().includes("history.exhausted"));
  assert.equal(kinds().filter((kind) => kind === "history.exhausted").length, 1);
  assert.equal(engine.listMarks("disk").length, 4);
  assert.equal(engine.status().storage.state, "full");
  assert(!engine.readiness().ready);
  assert.equal(engine.getVolume("disk").capture, "full");
  assert.throws(() => device.write(0, new Uint8Array(PIECE)), { code: "no-space" });
  await device.flush();
  const before = engine.status().storage.freeBytes;
  for (const name of ["pin0", "pin1", "pin2"]) {
    await engine.updateMark("disk", name, { pinned: false }, CALLER);
  }
  const job = engine.startPrune("disk", CALLER);
  await until("the ordered prune has ended", () => engine.getJob(job.id).state !== "running");
  assert.equal(engine.getJob(job.id).state, "succeeded");
  await until("space came back", () => engine.status().storage.freeBytes >= before + 4 * MIB);
  await retry(() => device.write(0, new Uint8Array(PIECE)));
  const marks = engine.listMarks("disk");
  assert.equal(marks.at(-1)?.name, "pin3");
  for (const { seq } of marks) assert.equal((await engine.resolve("disk", `seq:${seq}`)).seq, seq);
});

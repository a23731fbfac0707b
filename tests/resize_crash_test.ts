/**
 * Power cuts at every operation of a resize: afterwards size, content and history are those of before or of after.
 *
 * @module
 */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { DatabaseSync } from "node:sqlite";
import { type Appliance, openAppliance } from "../src/appliance.ts";
import type { BlockDevice } from "../src/base/block_device.ts";
import { SeededRandom } from "../src/base/seeded_random.ts";
import { SimulatedDisk } from "../src/disk/mod.ts";
import { rebuildDataFolder } from "../src/rebuild.ts";
import { settle, VirtualTime } from "./simulation/virtual_time.ts";

const CALLER = { name: "test" };
const SMALL = 5 * 4096 + 700;
const LARGE = 11 * 4096 + 300;

/** One appliance on a disk that loses power, in a time of its own, so that a number determines what happens. */
class Scene implements Disposable {
  readonly disk: SimulatedDisk;
  readonly #time: VirtualTime;
  readonly #random: SeededRandom;
  #appliance: Appliance | undefined;

  constructor(seed: number) {
    this.#random = new SeededRandom(seed);
    this.#time = new VirtualTime(this.#random.fork());
    this.disk = new SimulatedDisk({ random: this.#random.fork(), scheduler: this.#time });
  }

  get appliance(): Appliance {
    assert(this.#appliance !== undefined);
    return this.#appliance;
  }

  /** Lets events happen until the work has ended, or the power is cut: then nothing ever ends. */
  async until<T>(work: Promise<T>): Promise<T> {
    let outcome: { value: T } | { thrown: unknown } | undefined;
    work.then((value) => outcome = { value }, (thrown) => outcome = { thrown });
    await settle();
    while (outcome === undefined && this.disk.powered && await this.#time.runNext());
    if (outcome === undefined) throw new Error("it does not end");
    if ("thrown" in outcome) throw outcome.thrown;
    return outcome.value;
  }

  async open(): Promise<void> {
    this.#appliance = await this.until(openAppliance({
      dataPath: "/data",
      zone: "UTC",
      disk: this.disk,
      clock: this.#time,
      scheduler: this.#time,
      random: (length) => this.#random.bytes(length),
      scrub: { everyMs: false },
    }));
  }

  /** The power goes, if it has not gone already, and comes back. */
  async restart(): Promise<void> {
    if (this.disk.powered) this.disk.cutPower();
    await settle();
    this.#time.clear();
    this.disk.restorePower();
    await this.open();
  }

  /** As `restart`, with catalogue and map made anew from the segments. */
  async rebuild(): Promise<void> {
    this.disk.cutPower();
    await settle();
    this.#time.clear();
    this.disk.restorePower();
    await this.until(rebuildDataFolder({ dataPath: "/data", disk: this.disk, scheduler: this.#time }));
    await this.open();
  }

  /** Gives the volume another size; hosts do not object. */
  async resize(sizeBytes: number): Promise<void> {
    await this.until(this.appliance.resizeVolume("disk", { sizeBytes, force: true }, CALLER));
  }

  async device(name: string): Promise<BlockDevice> {
    const opened = await this.until(this.appliance.nbdExports.open(name, { peer: "test" }));
    assert(opened !== undefined);
    await opened.close();
    return opened.device;
  }

  async content(name: string): Promise<Uint8Array> {
    const device = await this.device(name);
    const bytes = new Uint8Array(device.sizeBytes);
    device.read(0, bytes);
    return bytes;
  }

  [Symbol.dispose](): void {
    this.disk[Symbol.dispose]();
  }
}

function assertSame(actual: Uint8Array, expected: Uint8Array, what: string): void {
  const at = actual.findIndex((byte, index) => byte !== expected[index]);
  assert(
    Buffer.compare(actual, expected) === 0,
    `${what}: ${actual.length} bytes, byte ${at} is ${actual[at]}`,
  );
}

/** Bytes of a volume that has been given another size. */
function resized(bytes: Uint8Array, sizeBytes: number): Uint8Array {
  const target = new Uint8Array(sizeBytes);
  target.set(bytes.subarray(0, sizeBytes));
  return target;
}

for (const [from, to] of [[SMALL, LARGE], [LARGE, SMALL], [4096, LARGE], [LARGE, 2 * 4096]] as const) {
  Deno.test(`a power cut at any operation of a resize from ${from} to ${to} leaves it done or not begun`, async () => {
    let isDone = false;
    let done = 0;
    let notBegun = 0;
    for (let life = 2; !isDone; life++) {
      // Twice at each operation: what survives is left to chance.
      const cut = Math.floor(life / 2);
      using scene = new Scene(life);
      await scene.open();
      await scene.until(scene.appliance.createVolume({ name: "disk", sizeBytes: from }, CALLER));
      const live = await scene.device("disk");
      const before = new SeededRandom(life + 7).bytes(from);
      live.write(0, before);
      await scene.until(live.flush());
      scene.disk.cutPowerAfter(cut);
      isDone = await scene.resize(to).then(() => scene.disk.powered, (thrown) => {
        assert(!scene.disk.powered, `it fails without a power cut: ${thrown}`);
        return false;
      });
      scene.disk.keepPower();
      await scene.restart();

      const what = `life ${life}, cut ${cut}`;
      const { sizeBytes } = scene.appliance.getVolume("disk");
      assert(sizeBytes === from || sizeBytes === to, what);
      if (isDone) assert.equal(sizeBytes, to, `${what}: a resize that was answered is kept`);
      if (sizeBytes === to) done++;
      else notBegun++;
      const now = resized(before, sizeBytes);
      assert.equal(catalogSize(scene), sizeBytes, `${what}: the catalogue has the same size`);
      await checkHistory(scene, { before, now, what });
      if (life % 2 === 0) {
        await scene.rebuild();
        assert.equal(scene.appliance.getVolume("disk").sizeBytes, sizeBytes, `${what}: so have the segments`);
        await checkHistory(scene, { before, now, what: `${what}, rebuilt` });
      }

      // The end is written to, and the volume takes the other size: nothing of what lay beyond the end comes back.
      const again = await scene.device("disk");
      again.write(sizeBytes - 10, new Uint8Array(10).fill(7));
      now.fill(7, sizeBytes - 10);
      await scene.until(again.flush());
      const other = sizeBytes === to ? from : to;
      await scene.resize(other);
      await scene.restart();
      const last = resized(now, other);
      assertSame(await scene.content("disk"), last, `${what}, resized again, live`);
      assertSame(await scene.content("disk@now"), last, `${what}, resized again, newest moment`);
      assertSame(await scene.content("disk@seq:2"), before, `${what}, resized again, first moment`);
      const pages = scene.disk.pagesOf(scene.appliance.getVolume("disk").primary.path);
      const primary = new Uint8Array(Math.ceil(other / 4096) * 4096);
      for (const [page, bytes] of pages) if (page * 4096 < other) primary.set(bytes, page * 4096);
      assertSame(primary.subarray(0, other), last, `${what}, resized again, primary`);
      await scene.until(scene.appliance.close());
    }
    assert(done > 1 && notBegun > 0, `${done} done, ${notBegun} not begun`);
  });
}

function catalogSize(scene: Scene): unknown {
  const place = scene.disk.scratchPath("/data/catalog.sqlite");
  assert(place !== undefined);
  using database = new DatabaseSync(place, { readOnly: true });
  return database.prepare("SELECT size_bytes FROM volumes").get()?.["size_bytes"];
}

/** Moments have the old size and its content up to some sequence, and from there on the new ones. */
async function checkHistory(
  scene: Scene,
  { before, now, what }: { before: Uint8Array; now: Uint8Array; what: string },
): Promise<void> {
  assertSame(await scene.content("disk"), now, `${what}, live`);
  const { lastSeq } = await scene.device("disk") as BlockDevice & { lastSeq: number };
  let isNew = false;
  for (let seq = 2; seq <= lastSeq; seq++) {
    const past = await scene.content(`disk@seq:${seq}`);
    isNew ||= past.length !== before.length;
    assertSame(past, isNew ? now : before, `${what}, sequence ${seq}`);
  }
}

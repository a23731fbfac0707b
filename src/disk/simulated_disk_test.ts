import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { VarveError } from "../base/errors.ts";
import { SeededRandom } from "../base/seeded_random.ts";
import type { Scheduler } from "../base/turns.ts";
import { FileNode } from "./_simulated_file.ts";
import { SimulatedDisk, type SyncTruth } from "./simulated_disk.ts";

/** Events run as soon as the test says so. */
class TestScheduler implements Scheduler {
  readonly #waiting: (() => void)[] = [];

  ticksMs(): number {
    return 0;
  }

  after(_delayMs: number, work: () => void) {
    this.#waiting.push(work);
    return { cancel: () => {} };
  }

  run(): void {
    for (const work of this.#waiting.splice(0)) work();
  }
}

function makeDisk(seed: number, truth?: (place: string, what: "file" | "directory") => SyncTruth) {
  const scheduler = new TestScheduler();
  const options = { random: new SeededRandom(seed), scheduler };
  const disk = new SimulatedDisk(truth === undefined ? options : { ...options, truth });
  const wait = async (work: Promise<void>) => {
    scheduler.run();
    await work;
  };
  return { disk, scheduler, wait };
}

function content(disk: SimulatedDisk, place: string): Uint8Array {
  const file = disk.open(place);
  const bytes = new Uint8Array(file.sizeBytes());
  file.read(0, bytes);
  return bytes;
}

const refusal = (code: string) => (error: unknown) => error instanceof VarveError && error.code === code;

Deno.test("SimulatedDisk keeps what a sync covered, and its name, through every power cut", async () => {
  for (let seed = 1; seed <= 40; seed++) {
    const { disk, wait } = makeDisk(seed);
    using _ = disk;
    const file = disk.open("/a", { mode: "create-new" });
    file.write(0, new Uint8Array(5000).fill(1));
    await wait(file.sync());
    await wait(disk.syncDirectory("/"));
    file.write(100, new Uint8Array(9000).fill(2));
    disk.cutPower();
    disk.restorePower();
    const bytes = content(disk, "/a");
    assert(bytes.length >= 5000);
    assert(bytes.subarray(0, 100).every((byte) => byte === 1));
    assert(bytes.every((byte) => byte <= 2));
  }
});

Deno.test("SimulatedDisk loses, keeps and tears unsynced writes, later ones without earlier ones", () => {
  const seen = new Set<string>();
  for (let seed = 1; seed <= 200; seed++) {
    const { disk } = makeDisk(seed);
    using _ = disk;
    const file = disk.open("/a", { mode: "create-new" });
    file.write(0, new Uint8Array(4096).fill(1));
    file.write(4096, new Uint8Array(4096).fill(2));
    disk.cutPower();
    disk.restorePower();
    if (disk.stat("/a") === undefined) seen.add("no name");
    else {
      const bytes = content(disk, "/a");
      const first = bytes.subarray(0, 4096).filter((byte) => byte === 1).length;
      const second = bytes.subarray(4096).filter((byte) => byte === 2).length;
      assert(first % 512 === 0 && second % 512 === 0);
      seen.add(
        `${first === 4096 ? "all" : first === 0 ? "none" : "torn"},${second === 4096 ? "all" : "not all"}`,
      );
    }
  }
  for (const outcome of ["no name", "all,all", "none,not all", "torn,not all", "none,all", "all,not all"]) {
    assert(seen.has(outcome), `never seen: ${outcome}`);
  }
});

Deno.test("SimulatedDisk covers by a sync what came before its call, at its end", async () => {
  for (let seed = 1; seed <= 30; seed++) {
    const { disk, wait } = makeDisk(seed);
    using _ = disk;
    const file = disk.open("/a", { mode: "create-new" });
    await wait(disk.syncDirectory("/"));
    file.write(0, Uint8Array.of(1));
    const sync = file.sync();
    file.write(1, Uint8Array.of(2));
    await wait(sync);
    void file.sync();
    disk.cutPower();
    disk.restorePower();
    const bytes = content(disk, "/a");
    assert.equal(bytes[0], 1);
  }
});

Deno.test("SimulatedDisk leaves in doubt for ever what a failed sync covered", async () => {
  let lost = 0;
  for (let seed = 1; seed <= 30; seed++) {
    const { disk, scheduler, wait } = makeDisk(seed);
    using _ = disk;
    const file = disk.open("/a", { mode: "create-new" });
    await wait(disk.syncDirectory("/"));
    file.write(0, Uint8Array.of(1));
    disk.fail({ kind: "sync" });
    const sync = file.sync();
    scheduler.run();
    await assert.rejects(sync, refusal("io"));
    await wait(file.sync());
    assert.equal(content(disk, "/a")[0], 1);
    disk.cutPower();
    disk.restorePower();
    if (content(disk, "/a")[0] !== 1) lost++;
  }
  assert(lost > 0);
});

Deno.test("SimulatedDisk shows what has become of bytes in doubt once the cache lets go of them", async () => {
  const outcomes = new Set<string>();
  for (let seed = 1; seed <= 60; seed++) {
    const { disk, scheduler, wait } = makeDisk(seed);
    using _ = disk;
    const file = disk.open("/a", { mode: "create-new" });
    await wait(disk.syncDirectory("/"));
    file.write(0, new Uint8Array(1024).fill(1));
    await wait(file.sync());
    file.write(0, new Uint8Array(1024).fill(2));
    disk.fail({ kind: "sync" });
    const sync = file.sync();
    scheduler.run();
    await assert.rejects(sync, refusal("io"));
    // Written again, the second half is settled by the next sync; the first stays in doubt.
    file.write(512, new Uint8Array(512).fill(3));
    await wait(file.sync());
    assert(disk.isInDoubt("/a"));
    file.forgetCached();
    assert(!disk.isInDoubt("/a"));
    const bytes = content(disk, "/a");
    assert(bytes.subarray(512).every((byte) => byte === 3));
    outcomes.add(String(bytes[0]));
    disk.cutPower();
    disk.restorePower();
    assert.deepEqual(content(disk, "/a"), bytes);
  }
  assert.deepEqual([...outcomes].sort(), ["1", "2"]);
});

Deno.test("SimulatedDisk gives a second file system more space than anybody needs", () => {
  using disk = new SimulatedDisk({
    random: new SeededRandom(1),
    scheduler: new TestScheduler(),
    capacityBytes: 8192,
    otherFileSystem: "other",
  });
  disk.makeDirectory("/other");
  disk.open("/other/a", { mode: "create-new" }).write(0, new Uint8Array(100_000));
  const file = disk.open("/a", { mode: "create-new" });
  assert.equal(disk.usedBytes(), 0);
  assert.throws(() => file.write(0, new Uint8Array(10_000)), refusal("no-space"));
  assert.notEqual(disk.space("/other").fileSystem, disk.space("/").fileSystem);
});

Deno.test("SimulatedDisk renames atomically, and loses names of directories that nobody synced", async () => {
  const seen = new Set<string>();
  for (let seed = 1; seed <= 60; seed++) {
    const { disk, wait } = makeDisk(seed);
    using _ = disk;
    disk.makeDirectory("/d/e");
    const file = disk.open("/a", { mode: "create-new" });
    file.write(0, Uint8Array.of(1));
    await wait(file.sync());
    await wait(disk.syncDirectory("/d"));
    disk.rename("/a", "/b");
    disk.cutPower();
    disk.restorePower();
    seen.add(disk.list("/").join());
    assert(!(disk.stat("/d") === undefined && disk.stat("/d/e") !== undefined));
  }
  assert(![...seen].some((names) => names.includes("a") && names.includes("b")));
  assert(seen.has("b,d") && seen.has(""));
});

Deno.test("SimulatedDisk cuts the power at the operation asked for, and old handles refuse use", async () => {
  const { disk, scheduler } = makeDisk(1);
  using _ = disk;
  const file = disk.open("/a", { mode: "create-new" });
  disk.cutPowerAfter(2);
  file.write(0, Uint8Array.of(1));
  let settled = false;
  assert.throws(() => file.write(1, Uint8Array.of(1)), refusal("io"));
  assert(!disk.powered);
  disk.restorePower();
  assert.throws(() => file.read(0, new Uint8Array(1)), refusal("io"));
  const other = disk.open("/b", { mode: "create-new" });
  other.sync().finally(() => settled = true);
  disk.killProcess();
  scheduler.run();
  await Promise.resolve();
  assert(!settled);
});

Deno.test("SimulatedDisk keeps the account of its space", async () => {
  const { disk, wait } = makeDisk(1);
  using _ = disk;
  disk.capacityBytes = 10 * 4096;
  const file = disk.open("/a", { mode: "create-new" });
  file.reserve(0, 6 * 4096);
  assert.equal(disk.space("/").freeBytes, 4 * 4096);
  file.write(0, new Uint8Array(6 * 4096));
  assert.equal(disk.space("/").freeBytes, 4 * 4096);
  const other = disk.open("/b", { mode: "create-new" });
  assert.throws(() => other.write(0, new Uint8Array(5 * 4096)), refusal("no-space"));
  assert.throws(() => other.reserve(0, 5 * 4096 * 4096), refusal("no-space"));
  other.truncate(0);
  file.discard(0, 2 * 4096);
  file.truncate(3 * 4096);
  assert.equal(disk.usedBytes(), 4096);
  disk.remove("/a");
  assert.equal(disk.usedBytes(), 0);
  await wait(disk.syncDirectory("/"));
});

Deno.test("SimulatedDisk fails operations on order, by path and count", () => {
  const { disk } = makeDisk(1);
  using _ = disk;
  const file = disk.open("/a", { mode: "create-new" });
  disk.fail({ kind: "write", matches: (place) => place === "/a", after: 1, code: "no-space" });
  file.write(0, Uint8Array.of(1));
  assert.throws(() => file.write(1, Uint8Array.of(1)), refusal("no-space"));
  file.write(1, Uint8Array.of(1));
  disk.flipBit("/a", 0, 3);
  assert.equal(content(disk, "/a")[0], 9);
});

Deno.test("SimulatedDisk keeps a copy of what a Buffer holds", async () => {
  const { disk, wait } = makeDisk(1);
  using _ = disk;
  const file = disk.open("/a", { mode: "create-new" });
  const buffer = Buffer.alloc(2 * 4096, 1);
  file.write(0, buffer);
  await wait(file.sync());
  buffer.fill(2);
  disk.flipBit("/a", 0, 3);
  assert.equal(content(disk, "/a")[0], 9);
});

Deno.test("SimulatedDisk keeps every commit of a FULL database and a prefix of those of a NORMAL one", () => {
  let lost = 0;
  for (let seed = 1; seed <= 30; seed++) {
    const { disk } = makeDisk(seed);
    using _ = disk;
    for (const [place, synchronous] of [["/full", "FULL"], ["/normal", "NORMAL"]] as const) {
      const database = disk.openDatabase(place);
      database.exec(`PRAGMA journal_mode = WAL; PRAGMA synchronous = ${synchronous}`);
      database.exec("CREATE TABLE t (n)");
      for (let n = 0; n < 20; n++) {
        database.exec("BEGIN");
        database.exec(`INSERT INTO t VALUES (${n})`);
        database.exec("COMMIT");
      }
    }
    disk.cutPower();
    disk.restorePower();
    const full = disk.openDatabase("/full").prepare("SELECT count(*) AS n FROM t").get();
    assert.equal(full?.["n"], 20);
    const normal = disk.openDatabase("/normal");
    if (normal.prepare("SELECT name FROM sqlite_master").get() === undefined) {
      lost++;
      continue;
    }
    const rows = normal.prepare("SELECT n FROM t ORDER BY n").all().map((row) => row["n"]);
    assert.deepEqual(rows, rows.map((_, index) => index));
    if (rows.length < 20) lost++;
  }
  assert(lost > 0 && lost < 30);
});

Deno.test("SimulatedDisk rolls back a COMMIT that is ordered to fail", () => {
  const { disk } = makeDisk(1);
  using _ = disk;
  const database = disk.openDatabase("/db");
  database.exec("CREATE TABLE t (n)");
  disk.fail({ kind: "commit", code: "no-space" });
  database.exec("BEGIN");
  database.exec("INSERT INTO t VALUES (1)");
  assert.throws(() => database.exec("COMMIT"), /database or disk is full/);
  assert(!database.isTransaction);
  assert.equal(database.prepare("SELECT count(*) AS n FROM t").get()?.["n"], 0);
});

Deno.test("SimulatedDisk that lies loses what a sync has covered", async () => {
  for (const [truth, kept] of [["ignored", false], ["deferred", false], ["honest", true]] as const) {
    let lost = 0;
    for (let seed = 1; seed <= 20; seed++) {
      const { disk, wait } = makeDisk(
        seed,
        (place, what) => what === "file" && place === "/a" ? truth : "honest",
      );
      using _ = disk;
      const file = disk.open("/a", { mode: "create-new" });
      await wait(disk.syncDirectory("/"));
      file.write(0, Uint8Array.of(1));
      await wait(file.sync());
      disk.cutPower();
      disk.restorePower();
      if (content(disk, "/a")[0] !== 1) lost++;
    }
    assert.equal(lost === 0, kept);
  }
});

Deno.test("SimulatedDisk brings no size back that a failed sync was to make durable once a later one has succeeded", () => {
  for (let seed = 0; seed < 200; seed++) {
    const file = new FileNode(1);
    file.resize(3000);
    const failed = file.cover();
    file.abandon(failed);
    file.resize(9000);
    file.write(4000, new Uint8Array(5000).fill(7));
    file.settle(file.cover());
    file.cutPower(new SeededRandom(seed));
    assert.equal(file.live.sizeBytes, 9000, `seed ${seed}`);
    const found = new Uint8Array(5000);
    file.live.read(4000, found);
    assert(found.every((byte) => byte === 7), `seed ${seed}`);
  }
});

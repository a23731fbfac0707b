/** What every disk must do, on the machine's own and on the one in memory. */
import assert from "node:assert/strict";
import path from "node:path";
import { VarveError } from "../base/errors.ts";
import { type Disk, type DiskFile, FileDisk, MemoryDisk } from "./mod.ts";

type Case = (disk: Disk, directory: string, name: string) => void | Promise<void>;

/** Runs a test against each disk in a folder of its own. */
function onEveryDisk(what: string, run: Case): void {
  for (
    const [name, makeDisk] of [["FileDisk", () => new FileDisk()], [
      "MemoryDisk",
      () => new MemoryDisk(),
    ]] as const
  ) {
    Deno.test(`${name} ${what}`, async () => {
      const directory = Deno.makeTempDirSync({ prefix: "varve-disk-" });
      try {
        await run(makeDisk(), directory, name);
      } finally {
        Deno.removeSync(directory, { recursive: true });
      }
    });
  }
}

function contentOf(disk: Disk, place: string): Uint8Array {
  const file = disk.open(place);
  const bytes = new Uint8Array(file.sizeBytes());
  assert.equal(file.read(0, bytes), bytes.length);
  file.close();
  return bytes;
}

function put(disk: Disk, place: string, ...parts: Uint8Array[]): void {
  const file = disk.open(place, { mode: "create" });
  file.write(0, ...parts);
  file.close();
}

function within(disk: Disk, place: string, work: (file: DiskFile) => void): void {
  const file = disk.open(place, { mode: "create" });
  try {
    work(file);
  } finally {
    file.close();
  }
}

onEveryDisk(
  "opens by mode: read and write need the file, create makes it, create-new refuses it",
  (disk, directory) => {
    const place = path.join(directory, "a");
    for (const mode of ["read", "write"] as const) {
      assert.throws(() => disk.open(place, { mode }), { name: "VarveError", code: "not-found" }, mode);
    }
    assert.equal(disk.stat(place), undefined);
    disk.open(place, { mode: "create-new" }).close();
    assert.throws(() => disk.open(place, { mode: "create-new" }), { name: "VarveError", code: "conflict" });
    put(disk, place, Uint8Array.of(1, 2, 3));
    within(disk, place, (file) => assert.equal(file.path, place));
    assert.deepEqual(contentOf(disk, place), Uint8Array.of(1, 2, 3), "opening again keeps the content");
    const reader = disk.open(place);
    assert.throws(() => reader.write(0, Uint8Array.of(9)), VarveError);
    assert.throws(() => reader.truncate(0), VarveError);
    reader.close();
    assert.deepEqual(contentOf(disk, place), Uint8Array.of(1, 2, 3));
  },
);

onEveryDisk("writes parts one after the other and reads short only at the end", (disk, directory) => {
  within(disk, path.join(directory, "a"), (file) => {
    file.write(2, Uint8Array.of(1, 2), new Uint8Array(0), Uint8Array.of(3), Uint8Array.of(4, 5));
    assert.equal(file.sizeBytes(), 7);
    const target = new Uint8Array(10).fill(0xee);
    assert.equal(file.read(0, target), 7);
    assert.deepEqual(target, Uint8Array.of(0, 0, 1, 2, 3, 4, 5, 0xee, 0xee, 0xee));
    assert.equal(file.read(4, target.subarray(0, 2)), 2);
    assert.deepEqual(target.subarray(0, 2), Uint8Array.of(3, 4));
    assert.equal(file.read(7, target), 0);
    assert.equal(file.read(1000, target), 0);
  });
});

onEveryDisk("reads a discarded range as zeroes and keeps the rest and the size", (disk, directory) => {
  within(disk, path.join(directory, "a"), (file) => {
    file.write(0, new Uint8Array(40_000).fill(7));
    file.discard(100, 20_000);
    file.discard(500, 0);
    file.discard(39_000, 90_000);
    assert.equal(file.sizeBytes(), 40_000);
    const bytes = new Uint8Array(40_000);
    file.read(0, bytes);
    const expected = new Uint8Array(40_000).fill(7).fill(0, 100, 20_100).fill(0, 39_000);
    assert.equal(bytes.findIndex((byte, at) => byte !== expected[at]), -1);
  });
});

onEveryDisk("truncates both ways; what was cut off does not come back", (disk, directory) => {
  within(disk, path.join(directory, "a"), (file) => {
    file.write(0, Uint8Array.of(1, 2, 3, 4));
    file.truncate(2);
    assert.equal(file.sizeBytes(), 2);
    file.truncate(5);
    const bytes = new Uint8Array(5).fill(0xee);
    assert.equal(file.read(0, bytes), 5);
    assert.deepEqual(bytes, Uint8Array.of(1, 2, 0, 0, 0));
  });
});

onEveryDisk("reserves space without changing the size or the content", (disk, directory) => {
  within(disk, path.join(directory, "a"), (file) => {
    file.write(0, Uint8Array.of(1, 2, 3));
    file.reserve(0, 1 << 20);
    assert.equal(file.sizeBytes(), 3);
    const bytes = new Uint8Array(8);
    assert.equal(file.read(0, bytes), 3);
    assert.deepEqual(bytes.subarray(0, 3), Uint8Array.of(1, 2, 3));
  });
});

onEveryDisk("lets go of what is cached and reads the same, synced or not", async (disk, directory) => {
  const file = disk.open(path.join(directory, "a"), { mode: "create-new" });
  file.write(0, Uint8Array.of(1, 2, 3));
  await file.sync();
  file.write(3, Uint8Array.of(4));
  file.forgetCached();
  const bytes = new Uint8Array(8);
  assert.equal(file.read(0, bytes), 4);
  assert.deepEqual(bytes.subarray(0, 4), Uint8Array.of(1, 2, 3, 4));
  file.close();
});

onEveryDisk("finds all data between its holes", (disk, directory, name) => {
  within(disk, path.join(directory, "a"), (file) => {
    file.truncate(4 << 20);
    file.write(2 << 20, new Uint8Array(4096).fill(1));
    const data = file.seek(0, "data");
    assert.ok(data !== undefined && data <= 2 << 20);
    assert.equal(file.seek((2 << 20) + 100, "data"), (2 << 20) + 100);
    assert.equal(file.seek(4 << 20, "data"), undefined);
    assert.equal(file.seek(5 << 20, "hole"), undefined);
    if (name === "FileDisk") {
      assert.equal(data, 2 << 20);
      assert.equal(file.seek(0, "hole"), 0);
      assert.equal(file.seek(2 << 20, "hole"), (2 << 20) + 4096);
      assert.equal(file.seek((2 << 20) + 4096, "data"), undefined);
    }
    file.write((4 << 20) - 1, Uint8Array.of(1));
    assert.equal(file.seek((4 << 20) - 1, "hole"), undefined, "the end of the file is no hole");
  });
});

onEveryDisk("lists names sorted, and nothing where there is no folder", (disk, directory) => {
  const folder = path.join(directory, "x/y");
  disk.makeDirectory(folder);
  disk.makeDirectory(folder);
  for (const name of ["b", "a", "c.tmp"]) put(disk, path.join(folder, name), Uint8Array.of(1));
  assert.deepEqual(disk.list(folder), ["a", "b", "c.tmp"]);
  assert.deepEqual(disk.list(path.join(directory, "none")), []);
});

onEveryDisk("renames over a file and removes what may be missing", (disk, directory) => {
  const [a, b] = [path.join(directory, "a"), path.join(directory, "b")];
  put(disk, a, Uint8Array.of(1));
  put(disk, b, Uint8Array.of(2, 2));
  const identity = disk.stat(a)?.identity;
  disk.rename(a, b);
  assert.deepEqual(contentOf(disk, b), Uint8Array.of(1));
  assert.equal(disk.stat(b)?.identity, identity);
  assert.deepEqual(disk.list(directory), ["b"]);
  assert.throws(() => disk.rename(a, b), { name: "VarveError", code: "not-found" });
  disk.remove(b);
  disk.remove(b);
  assert.deepEqual(disk.list(directory), []);
});

onEveryDisk("removes a whole tree and nothing beside it", (disk, directory) => {
  for (const name of ["t/a", "t/u/b", "tt/c"]) {
    disk.makeDirectory(path.join(directory, path.dirname(name)));
    put(disk, path.join(directory, name), Uint8Array.of(1));
  }
  disk.removeTree(path.join(directory, "t"));
  disk.removeTree(path.join(directory, "t"));
  assert.equal(disk.stat(path.join(directory, "t/a")), undefined);
  assert.equal(disk.stat(path.join(directory, "t/u/b")), undefined);
  assert.deepEqual(contentOf(disk, path.join(directory, "tt/c")), Uint8Array.of(1));
});

onEveryDisk("tells size and identity, different for each file", (disk, directory) => {
  const [a, b] = [path.join(directory, "a"), path.join(directory, "b")];
  put(disk, a, new Uint8Array(5000).fill(1));
  put(disk, b, new Uint8Array(5000).fill(1));
  const stat = disk.stat(a);
  assert.equal(stat?.kind, "file");
  assert.equal(stat.sizeBytes, 5000);
  assert.notEqual(stat.identity, disk.stat(b)?.identity);
  put(disk, a, Uint8Array.of(2));
  assert.equal(disk.stat(a)?.identity, stat.identity, "writing keeps the identity");
});

onEveryDisk("syncs files and folders", async (disk, directory) => {
  const file = disk.open(path.join(directory, "a"), { mode: "create" });
  file.write(0, Uint8Array.of(1));
  await file.sync();
  file.close();
  await disk.syncDirectory(directory);
});

Deno.test("FileDisk gives a file one identity through symbolic and hard links", () => {
  const directory = Deno.makeTempDirSync({ prefix: "varve-disk-" });
  try {
    const disk = new FileDisk();
    const place = path.join(directory, "a");
    put(disk, place, new Uint8Array(100));
    Deno.symlinkSync(place, path.join(directory, "soft"));
    Deno.linkSync(place, path.join(directory, "hard"));
    const identity = disk.stat(place)?.identity;
    assert.equal(disk.stat(path.join(directory, "soft"))?.identity, identity);
    assert.equal(disk.stat(path.join(directory, "hard"))?.identity, identity);
    assert.equal(disk.stat(path.join(directory, "soft"))?.sizeBytes, 100);
  } finally {
    Deno.removeSync(directory, { recursive: true });
  }
});

Deno.test("FileDisk refuses to open a folder and calls it other", () => {
  const directory = Deno.makeTempDirSync({ prefix: "varve-disk-" });
  try {
    const disk = new FileDisk();
    assert.throws(() => disk.open(directory), { name: "VarveError", code: "invalid" });
    assert.equal(disk.stat(directory)?.kind, "other");
    assert.equal(disk.stat("/dev/null")?.kind, "other");
  } finally {
    Deno.removeSync(directory, { recursive: true });
  }
});

Deno.test("FileDisk gives space back when it discards, and takes it when it reserves", () => {
  const directory = Deno.makeTempDirSync({ prefix: "varve-disk-" });
  try {
    const disk = new FileDisk();
    const place = path.join(directory, "a");
    within(disk, place, (file) => {
      file.write(0, new Uint8Array(1 << 20).fill(1));
      const full = disk.stat(place)?.allocatedBytes ?? 0;
      file.discard(0, 1 << 20);
      assert.ok((disk.stat(place)?.allocatedBytes ?? full) < full / 2);
      file.reserve(0, 4 << 20);
      assert.ok((disk.stat(place)?.allocatedBytes ?? 0) >= 4 << 20);
      file.truncate(1 << 20);
      assert.ok(
        (disk.stat(place)?.allocatedBytes ?? Infinity) < 4 << 20,
        "reserved space beyond the end is given back",
      );
    });
  } finally {
    Deno.removeSync(directory, { recursive: true });
  }
});

Deno.test("FileDisk refuses to reserve more than the storage has", () => {
  const directory = Deno.makeTempDirSync({ prefix: "varve-disk-" });
  try {
    within(new FileDisk(), path.join(directory, "a"), (file) => {
      assert.throws(() => file.reserve(0, 2 ** 52), { name: "VarveError", code: "no-space" });
      assert.equal(file.sizeBytes(), 0);
    });
  } finally {
    Deno.removeSync(directory, { recursive: true });
  }
});

Deno.test("MemoryDisk loses what was not synced when its power is cut, names and bytes apart", async () => {
  const disk = new MemoryDisk();
  const file = disk.open("/d/synced", { mode: "create" });
  file.write(0, Uint8Array.of(1, 2));
  await file.sync();
  await disk.syncDirectory("/d");
  file.write(0, Uint8Array.of(9, 9, 9));
  const nameless = disk.open("/d/nameless", { mode: "create" });
  nameless.write(0, Uint8Array.of(3));
  await nameless.sync();
  disk.cutPower();
  assert.deepEqual(disk.list("/d"), ["synced"]);
  assert.deepEqual(contentOf(disk, "/d/synced"), Uint8Array.of(1, 2));
  const target = new Uint8Array(1);
  assert.throws(() => file.read(0, target), { code: "io" }, "files of the life before are dead");
  assert.throws(() => file.write(0, target), { code: "io" });
  await assert.rejects(file.sync(), { code: "io" });
});

Deno.test("MemoryDisk brings back removed and renamed names whose folder was not synced", async () => {
  const disk = new MemoryDisk();
  for (const name of ["/d/removed", "/d/renamed"]) {
    const file = disk.open(name, { mode: "create" });
    file.write(0, Uint8Array.of(1));
    await file.sync();
  }
  await disk.syncDirectory("/d");
  disk.remove("/d/removed");
  disk.rename("/d/renamed", "/d/new");
  disk.cutPower();
  assert.deepEqual(disk.list("/d"), ["removed", "renamed"]);
  disk.remove("/d/removed");
  disk.rename("/d/renamed", "/d/new");
  await disk.syncDirectory("/d");
  disk.cutPower();
  assert.deepEqual(disk.list("/d"), ["new"]);
  assert.deepEqual(contentOf(disk, "/d/new"), Uint8Array.of(1));
});

Deno.test("MemoryDisk keeps unsynced files that happened to be written before the cut", () => {
  const disk = new MemoryDisk();
  put(disk, "/d/lucky", Uint8Array.of(1));
  put(disk, "/d/lost", Uint8Array.of(2));
  disk.cutPower((place) => place === "/d/lucky");
  assert.deepEqual(disk.list("/d"), ["lucky"]);
  disk.cutPower();
  assert.deepEqual(contentOf(disk, "/d/lucky"), Uint8Array.of(1), "what survived is durable from then on");
});

Deno.test("MemoryDisk covers by a sync only what was written before it, and a cut in its midst covers nothing", async () => {
  const disk = new MemoryDisk();
  const file = disk.open("/d/a", { mode: "create" });
  await disk.syncDirectory("/d");
  let finish = () => {};
  disk.beforeSync = () => new Promise((resolve) => finish = resolve);
  file.write(0, Uint8Array.of(1));
  const first = file.sync();
  file.write(0, Uint8Array.of(2));
  finish();
  await first;
  const second = file.sync();
  disk.cutPower();
  finish();
  await assert.rejects(second, { code: "io" });
  assert.deepEqual(contentOf(disk, "/d/a"), Uint8Array.of(1));
});

/** Fills a small disk and looks at what is told of its space on the way. */
async function fillToTheBrim(disk: Disk, directory: string): Promise<void> {
  const page = 4096;
  const before = disk.space(directory).freeBytes;
  const file = disk.open(path.join(directory, "a"), { mode: "create" });
  const other = disk.open(path.join(directory, "b"), { mode: "create" });
  const noSpace = { name: "VarveError", code: "no-space" };
  try {
    assert.throws(() => file.reserve(0, before + page), noSpace);
    assert.equal(disk.space(directory).freeBytes, before, "a reservation that is refused takes nothing");
    file.reserve(0, before - 4 * page);
    assert.equal(file.sizeBytes(), 0);
    assert.equal(disk.space(directory).freeBytes, 4 * page);
    other.write(0, new Uint8Array(3 * page).fill(1));
    assert.throws(() => other.write(3 * page, new Uint8Array(2 * page).fill(2)), noSpace);
    other.truncate(3 * page);
    assert.throws(() => other.reserve(3 * page, 2 * page), noSpace);
    file.write(0, new Uint8Array(before - 4 * page).fill(3));
    file.truncate(page);
    assert.equal(disk.space(directory).freeBytes, before - 4 * page);
    other.write(3 * page, new Uint8Array(2 * page).fill(2));
    other.discard(0, 5 * page);
    assert.equal(disk.space(directory).freeBytes, before - page);
    await file.sync();
  } finally {
    file.close();
    other.close();
  }
  disk.remove(path.join(directory, "a"));
  assert.equal(disk.space(directory).freeBytes, before);
}

Deno.test("MemoryDisk of a small size refuses what has no room, as no-space", async () => {
  const disk = new MemoryDisk();
  disk.capacityBytes = 1 << 20;
  disk.foreignBytes = 64 << 10;
  await fillToTheBrim(disk, "/data");
});

Deno.test("FileDisk on a small tmpfs refuses what has no room, as no-space", async () => {
  const directory = Deno.makeTempDirSync({ prefix: "varve-disk-" });
  const mount = (command: string, ...args: string[]) =>
    new Deno.Command(command, { args: [...args, directory] }).outputSync().success;
  try {
    assert(mount("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs"), "the tests run as root");
    try {
      await fillToTheBrim(new FileDisk(), directory);
    } finally {
      mount("umount");
    }
  } finally {
    Deno.removeSync(directory, { recursive: true });
  }
});

Deno.test("FileDisk tells a reservation that fails for another reason than space as io", () => {
  const directory = Deno.makeTempDirSync({ prefix: "varve-disk-" });
  try {
    put(new FileDisk(), path.join(directory, "a"), Uint8Array.of(1));
    const file = new FileDisk().open(path.join(directory, "a"));
    assert.throws(() => file.reserve(0, 4096), { name: "VarveError", code: "io" });
    file.close();
  } finally {
    Deno.removeSync(directory, { recursive: true });
  }
});
onEveryDisk(
  "renames a database with its log over another one, and takes one away",
  async (disk, directory) => {
    const [a, b] = [path.join(directory, "a.sqlite"), path.join(directory, "b.sqlite")];
    const kept = disk.openDatabase(b);
    kept.exec("PRAGMA journal_mode = WAL; CREATE TABLE old (x); INSERT INTO old VALUES (1)");
    const copied = Deno.readFileSync(`${b}-wal`);
    kept.close();
    const made = disk.openDatabase(a);
    made.exec("PRAGMA journal_mode = WAL; CREATE TABLE new (x); INSERT INTO new VALUES (7)");
    made.close();
    // As after a crash: a log that is not the new database's.
    Deno.writeFileSync(`${b}-wal`, copied);
    await disk.renameDatabase(a, b);
    const found = disk.openDatabase(b);
    assert.equal(found.prepare("SELECT x FROM new").get()?.["x"], 7);
    found.close();
    assert.deepEqual([...Deno.readDirSync(directory)].map(({ name }) => name), ["b.sqlite"]);
    await disk.renameDatabase(a, b + ".none");
    disk.removeDatabase(b);
    disk.removeDatabase(b);
    assert.deepEqual([...Deno.readDirSync(directory)], []);
  },
);

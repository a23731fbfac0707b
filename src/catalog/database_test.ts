import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { Catalog, type MarkRow, type VolumeRow } from "./catalog.ts";
import { systemScheduler } from "../base/turns.ts";
import { foldLog, openDatabase, transaction } from "./database.ts";

const MIGRATIONS = ["CREATE TABLE a (x INTEGER PRIMARY KEY) STRICT;", "CREATE TABLE b (y INTEGER) STRICT;"];

function inFolder(work: (directory: string) => void): void {
  const directory = Deno.makeTempDirSync({ prefix: "varve-catalog-" });
  try {
    work(directory);
  } finally {
    Deno.removeSync(directory, { recursive: true });
  }
}

/** How many descriptors of this process lead into a folder. */
function descriptorsInto(directory: string): number {
  return fs.readdirSync("/proc/self/fd").filter((fd) => {
    try {
      return fs.readlinkSync(`/proc/self/fd/${fd}`).startsWith(directory);
    } catch {
      return false;
    }
  }).length;
}

Deno.test("openDatabase() brings an older schema up to date and keeps what is there", () => {
  inFolder((directory) => {
    const place = path.join(directory, "x.sqlite");
    const first = openDatabase(place, { migrations: MIGRATIONS.slice(0, 1) });
    first.exec("INSERT INTO a VALUES (7)");
    first.close();
    for (let time = 0; time < 2; time++) {
      const again = openDatabase(place, { migrations: MIGRATIONS });
      assert.equal(again.prepare("SELECT x FROM a").get()?.["x"], 7);
      again.exec("INSERT INTO b VALUES (1)");
      assert.equal(again.prepare("PRAGMA user_version").get()?.["user_version"], 2);
      again.close();
    }
  });
});

Deno.test("openDatabase() refuses a newer schema and leaves nothing open", () => {
  inFolder((directory) => {
    const place = path.join(directory, "x.sqlite");
    openDatabase(place, { migrations: MIGRATIONS }).close();
    assert.throws(() => openDatabase(place, { migrations: MIGRATIONS.slice(0, 1) }), {
      name: "VarveError",
      code: "unsupported",
    });
    assert.equal(descriptorsInto(directory), 0);
  });
});

Deno.test("openDatabase() applies a migration wholly or not at all, and leaves nothing open when one fails", () => {
  inFolder((directory) => {
    const place = path.join(directory, "x.sqlite");
    const broken = [MIGRATIONS[0] ?? "", "CREATE TABLE b (y INTEGER) STRICT; CREATE TABLE a (x);"];
    assert.throws(() => openDatabase(place, { migrations: broken }), { name: "VarveError" });
    assert.equal(descriptorsInto(directory), 0);
    const database = openDatabase(place, { migrations: MIGRATIONS });
    assert.equal(database.prepare("SELECT count(*) AS n FROM b").get()?.["n"], 0);
    database.close();
  });
});

Deno.test("openDatabase() says which file is no database, and leaves nothing open", () => {
  inFolder((directory) => {
    const place = path.join(directory, "x.sqlite");
    Deno.writeTextFileSync(place, "this is no database".repeat(100));
    assert.throws(
      () => openDatabase(place, { migrations: MIGRATIONS }),
      (thrown) => thrown instanceof Error && thrown.name === "VarveError" && thrown.message.includes(place),
    );
    assert.throws(
      () => openDatabase(path.join(directory, "none"), { readOnly: true, migrations: MIGRATIONS }),
      {
        name: "VarveError",
      },
    );
    assert.equal(descriptorsInto(directory), 0);
  });
});

Deno.test("transaction() can be used again after a commit that failed", () => {
  const database = openDatabase(":memory:", {
    migrations: [
      `CREATE TABLE parent (id INTEGER PRIMARY KEY) STRICT;
       CREATE TABLE child (id INTEGER REFERENCES parent (id) DEFERRABLE INITIALLY DEFERRED) STRICT;`,
    ],
  });
  assert.throws(
    () => transaction(database, () => database.exec("INSERT INTO child VALUES (1)")),
    /FOREIGN KEY/,
  );
  transaction(database, () => database.exec("INSERT INTO parent VALUES (1)"));
  assert.equal(database.prepare("SELECT count(*) AS n FROM child").get()?.["n"], 0);
  database.close();
});

Deno.test("transaction() passes on the failure itself when SQLite has rolled back already", () => {
  const database = openDatabase(":memory:", { migrations: MIGRATIONS });
  database.exec("INSERT INTO a VALUES (1)");
  assert.throws(
    () => transaction(database, () => database.exec("INSERT OR ROLLBACK INTO a VALUES (1)")),
    /UNIQUE/,
  );
  assert.equal(transaction(database, () => "again"), "again");
  database.close();
});

const VOLUME: VolumeRow = {
  id: "00112233445566778899aabbccddeeff",
  name: "b",
  sizeBytes: 2 ** 45 + 512,
  primaryPath: "/p",
  primaryManaged: true,
  createdUs: 1_700_000_000_000_000,
  policy: "{}",
};

Deno.test("foldLog() waits, in turns, for a reader elsewhere, and resolves when all is in the file", async () => {
  const directory = Deno.makeTempDirSync({ prefix: "varve-catalog-" });
  const place = path.join(directory, "x.sqlite");
  const database = openDatabase(place, { migrations: MIGRATIONS });
  const reader = openDatabase(place, { migrations: MIGRATIONS, readOnly: true });
  try {
    database.exec("INSERT INTO a VALUES (7)");
    reader.exec("BEGIN");
    reader.prepare("SELECT * FROM a").all();
    database.exec("INSERT INTO a VALUES (8)");
    let folded = false;
    const { signal } = new AbortController();
    const folding = foldLog(database, { scheduler: systemScheduler, signal }).then(() => folded = true);
    await new Promise((resolve) => systemScheduler.after(60, () => resolve(undefined)));
    assert.equal(folded, false);
    reader.exec("COMMIT");
    await folding;
    assert.equal(fs.statSync(`${place}-wal`).size, 0);
    assert.equal(database.prepare("PRAGMA busy_timeout").get()?.["timeout"], 10_000);

    reader.exec("BEGIN");
    reader.prepare("SELECT * FROM a").all();
    database.exec("INSERT INTO a VALUES (9)");
    const abort = new AbortController();
    const given = foldLog(database, { scheduler: systemScheduler, signal: abort.signal });
    abort.abort(new Error("enough"));
    await assert.rejects(given, /enough/);
  } finally {
    reader.close();
    database.close();
    Deno.removeSync(directory, { recursive: true });
  }
});

Deno.test("Catalog keeps volumes, marks, jobs, tokens and audit lines over a restart", () => {
  inFolder((directory) => {
    const place = path.join(directory, "catalog.sqlite");
    const other = { ...VOLUME, id: "ff".repeat(16), name: "a", primaryManaged: false };
    const marks: MarkRow[] = [
      { name: "late", seq: 9, timeUs: 90, pinned: true, note: "why" },
      { name: "early", seq: 3, timeUs: 30, pinned: false, note: undefined },
    ];
    const first = new Catalog(place);
    first.addVolume(VOLUME);
    first.addVolume(other);
    assert.throws(() => first.addVolume({ ...VOLUME, id: "aa".repeat(16) }), /UNIQUE/);
    first.setPolicy(VOLUME.id, '{"continuous":"1h"}');
    for (const mark of marks) first.putMark(VOLUME.id, mark);
    first.putMark(other.id, { name: "late", seq: 1, timeUs: 1, pinned: false, note: undefined });
    for (const id of ["j1", "j2", "j3"]) first.putJob(id, 5, `${id} begun`);
    first.putJob("j2", 5, "j2 ended");
    first.addToken({ id: "t", name: "n", scopes: "[]", createdUs: 1 }, "hash");
    for (const action of ["x", "y"]) {
      first.addAudit({ timeUs: 1, actor: "me", action, subject: "s", details: "{}" });
    }
    first.close();

    const again = new Catalog(place);
    assert.deepEqual(again.volumes(), [other, { ...VOLUME, policy: '{"continuous":"1h"}' }]);
    assert.deepEqual(again.marks(VOLUME.id).map(({ name }) => name), ["early", "late"]);
    assert.deepEqual(again.mark(VOLUME.id, "late"), marks[0]);
    assert.deepEqual(again.mark(VOLUME.id, "early"), marks[1]);
    again.putMark(VOLUME.id, { name: "late", seq: 9, timeUs: 90, pinned: false, note: undefined });
    assert.equal(again.mark(VOLUME.id, "late")?.pinned, false);
    again.removeMark(VOLUME.id, "early");
    assert.equal(again.mark(VOLUME.id, "early"), undefined);
    assert.deepEqual(again.jobs(2), ["j2 ended", "j3 begun"]);
    assert.equal(again.tokenBySecret("hash")?.id, "t");
    assert.equal(again.tokenBySecret("other"), undefined);
    assert.deepEqual([again.removeToken("t"), again.removeToken("t")], [true, false]);
    assert.deepEqual(again.audit(1).map(({ action }) => action), ["y"]);
    again.removeVolume(VOLUME.id);
    assert.deepEqual(again.marks(VOLUME.id), [], "the marks go with their volume");
    assert.equal(again.marks(other.id).length, 1);
    again.close();
  });
});

Deno.test("Catalog keeps the last scrub of a volume until the volume is removed", () => {
  inFolder((directory) => {
    const place = path.join(directory, "catalog.sqlite");
    const catalog = new Catalog(place);
    catalog.addVolume(VOLUME);
    catalog.putScrub(VOLUME.id, 5, "{}");
    catalog.putScrub(VOLUME.id, 7, '{"damagedPlaces":1}');
    catalog.close();
    const again = new Catalog(place);
    assert.deepEqual(again.scrubs(), [{
      volumeId: VOLUME.id,
      finishedUs: 7,
      result: '{"damagedPlaces":1}',
    }]);
    again.removeVolume(VOLUME.id);
    assert.deepEqual(again.scrubs(), []);
    again.close();
  });
});

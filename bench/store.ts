/**
 * How many bytes does a history take? Each work writes a disk in several generations; Varve keeps every write of them,
 * restic keeps an image of each generation. Figures are bytes stored per byte that the host wrote.
 *
 * @module
 */
import { DatabaseSync } from "node:sqlite";
import { TestAppliance } from "../tests/support/appliance.ts";
import { KIB, MIB, Random } from "../tests/support/bytes.ts";
import { kernelMount, loopDevice, nbdAsFile } from "../tests/support/devices.ts";
import { attempt, pause, run } from "../tests/support/run.ts";
import { table } from "./_table.ts";

const SIZE_BYTES = 512 * MIB;
const GENERATIONS = 4;
const GENERATION_BYTES = 96 * MIB;
/** Compression counts as done when nothing has changed for so long: longer than the appliance waits between two looks. */
const QUIET_MS = 45_000;

/** Writes one generation after the other; `next` is called between them. Resolves with the bytes written. */
type Work = (appliance: TestAppliance, next: () => Promise<void>) => Promise<number>;

/** Writes `fill`ed MiB to random places. */
function blocks(fill: (target: Uint8Array, random: Random) => void): Work {
  return async (appliance, next) => {
    const random = new Random(1);
    await using disk = await appliance.disk("disk");
    const data = new Uint8Array(MIB);
    for (let generation = 0; generation < GENERATIONS; generation++) {
      for (let done = 0; done < GENERATION_BYTES; done += MIB) {
        fill(data, random);
        await disk.write(random.integer(0, (SIZE_BYTES - MIB) / (4 * KIB)) * 4 * KIB, data);
      }
      await next();
    }
    return GENERATIONS * GENERATION_BYTES;
  };
}

const WORDS =
  "accepted closed connection error from in invalid password port preauth published session user key for"
    .split(" ");

function fillText(target: Uint8Array, random: Random): void {
  let at = 0;
  while (at < target.length) {
    const words = Array.from(
      { length: random.integer(4, 12) },
      () => WORDS[random.integer(0, WORDS.length - 1)],
    );
    const line = `2026-01-01T00:00:${at % 60} host-${random.integer(1, 40)} sshd[${
      random.integer(1, 99999)
    }]: ${words.join(" ")} ${random.integer(0, 2 ** 31).toString(16)}\n`;
    const bytes = new TextEncoder().encode(line).subarray(0, target.length - at);
    target.set(bytes, at);
    at += bytes.length;
  }
}

/** A database on ext4, mounted by the kernel: accounts that are changed at random, as pgbench does, and a growing journal. */
const database: Work = async (appliance, next) => {
  await using file = await nbdAsFile(appliance.uri("disk"), `${appliance.folder}/nbdfuse`);
  await using loop = await loopDevice(file.path);
  const before = await bytesWrittenTo(loop.path);
  await run("mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", loop.path);
  {
    await using mounted = await kernelMount(loop.path, `${appliance.folder}/guest`);
    const random = new Random(2);
    const db = new DatabaseSync(`${mounted.path}/accounts.sqlite`);
    db.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL");
    db.exec("CREATE TABLE accounts (id INTEGER PRIMARY KEY, balance INTEGER, filler TEXT) STRICT");
    db.exec("CREATE TABLE history (id INTEGER PRIMARY KEY, account INTEGER, delta INTEGER, at TEXT) STRICT");
    const insert = db.prepare("INSERT INTO accounts VALUES (?, 0, ?)");
    db.exec("BEGIN");
    for (let id = 0; id < 200_000; id++) insert.run(id, `account ${id}`.padEnd(84));
    db.exec("COMMIT");
    const change = db.prepare("UPDATE accounts SET balance = balance + ? WHERE id = ?");
    const note = db.prepare("INSERT INTO history (account, delta, at) VALUES (?, ?, datetime())");
    for (let generation = 0; generation < GENERATIONS; generation++) {
      for (let round = 0; round < 1500; round++) {
        const [account, delta] = [random.integer(0, 199_999), random.integer(-5000, 5000)];
        db.exec("BEGIN");
        change.run(delta, account);
        note.run(account, delta);
        db.exec("COMMIT");
      }
      await run("sync", "-f", mounted.path);
      await next();
    }
    db.close();
  }
  return await bytesWrittenTo(loop.path) - before;
};

/** What the kernel has written to a device since it came up: a loop device's number goes on from file to file. */
async function bytesWrittenTo(device: string): Promise<number> {
  const stat = await Deno.readTextFile(`/sys/block/${device.replace("/dev/", "")}/stat`);
  return Number(stat.trim().split(/\s+/)[6]) * 512;
}

const WORKS: Record<string, Work> = {
  "random bytes": blocks((target, random) => target.set(random.bytes(target.length))),
  "text (a log)": blocks(fillText),
  "SQLite on ext4, a commit a change": database,
  "zeroes": blocks((target) => target.fill(0)),
};

/** Waits until the appliance has compressed what it will. */
async function settled(appliance: TestAppliance): Promise<number> {
  // A prune finishes the present segment, so that it can be compressed too; the policy keeps everything.
  await appliance.finish(await appliance.apiOk("POST", "/v1/volumes/disk/prune"));
  for (let before = -1, quietMs = 0;;) {
    const { historyBytes } = await appliance.volume("disk");
    quietMs = historyBytes === before ? quietMs + 500 : 0;
    if (quietMs >= QUIET_MS) return historyBytes;
    before = historyBytes;
    await pause(500);
  }
}

async function folderBytes(folder: string): Promise<number> {
  return Number((await run("du", "--summarize", "--bytes", folder)).split("\t")[0]);
}

async function measure(
  work: Work,
  folder: string,
): Promise<{ ours: number; theirs: number; writtenBytes: number }> {
  await using appliance = await TestAppliance.start();
  await appliance.createVolume("disk", SIZE_BYTES);
  const repository = await Deno.makeTempDir({ dir: folder, prefix: "restic-" });
  const restic = `RESTIC_PASSWORD=bench restic --quiet --no-cache --repo '${repository}'`;
  await run("sh", "-c", `${restic} init`);
  let generation = 0;
  const writtenBytes = await work(appliance, async () => {
    const mark = `generation-${++generation}`;
    await appliance.mark("disk", mark, { pinned: true });
    const uri = appliance.uri(`disk@mark:${mark}`);
    const { code, stderr } = await attempt(
      "sh",
      "-c",
      `nbdcopy '${uri}' - | ${restic} backup --stdin --stdin-filename disk.img`,
    );
    if (code !== 0) throw new Error(`restic: ${stderr}`);
  });
  return { ours: await settled(appliance), theirs: await folderBytes(repository), writtenBytes };
}

/** Runs every work and returns the table. */
export async function benchStore(folder: string): Promise<string> {
  const rows = [["work", "written MiB", "Varve stored/written", "restic stored/written", "Varve/restic"]];
  for (const [name, work] of Object.entries(WORKS)) {
    const { ours, theirs, writtenBytes } = await measure(work, folder);
    rows.push([
      name,
      (writtenBytes / MIB).toFixed(0),
      (ours / writtenBytes).toFixed(3),
      (theirs / writtenBytes).toFixed(3),
      (ours / theirs).toFixed(2),
    ]);
  }
  return table(rows);
}

import { deepEqual, equal, ok } from "node:assert/strict";
import { setTimeout as delay } from "node:timers/promises";
import { noise } from "../_busy_tree.ts";
import { mountTest } from "../_kernel_mount.ts";
import { describeTree, type FileFacts, hashOf, ImageDevice, run, TemporaryFolder } from "../_test_support.ts";
import type { GuestFileSystem } from "../guest.ts";
import { openGuestDisk } from "../guest_disk.ts";
import { checkExfat, ExfatMount, makeExfat } from "./_exfat_mount.ts";

interface Case {
  readonly name: string;
  readonly size: string;
  readonly make: readonly string[];
  readonly zone?: string;
  /** Names in the large directory. */
  readonly names: number;
}

const CASES: readonly Case[] = [
  { name: "clusters of 4 KiB", size: "64M", make: ["-c", "4K"], names: 1500 },
  {
    name: "clusters of a sector, east of Greenwich",
    size: "32M",
    make: ["-c", "512"],
    names: 500,
    zone: "X-5:45",
  },
  {
    name: "clusters of 128 KiB, west of Greenwich",
    size: "512M",
    make: ["-c", "128K"],
    names: 300,
    zone: "X+9:30",
  },
];

const SIZES = [0, 1, 511, 512, 513, 4095, 4096, 4097, 131_071, 131_072, 131_073, 300_000];
const NAMES = [
  "lower",
  "Mixed Case.txt",
  " leading blank",
  "ünïcödé",
  "日本語の名前",
  "emoji 😀 beyond the first plane",
  "x".repeat(15),
  "y".repeat(16),
  "z".repeat(255),
  "ß ſ ŉ ǰ",
];
const SCATTERED = 60;

/** Makes files of all kinds; some of them grow in turn, so that their clusters alternate. */
async function fill(root: string, names: number): Promise<void> {
  for (const name of ["sizes", "names", "many", "pieces", "turns", "a/b/c/d"]) {
    await Deno.mkdir(`${root}/${name}`, { recursive: true });
  }
  for (const size of SIZES) Deno.writeFileSync(`${root}/sizes/${size}`, noise(size, size));
  for (const [index, name] of NAMES.entries()) {
    Deno.writeTextFileSync(`${root}/names/${name}`, name);
    const seconds = Date.UTC(1981 + 12 * index, index % 12, 28, 21, 59, 3 * index) / 1000;
    Deno.utimeSync(`${root}/names/${name}`, seconds, seconds);
  }
  for (let index = 0; index < names; index++) {
    Deno.writeTextFileSync(`${root}/many/name number ${index}`, index % 50 === 0 ? `${index}` : "");
  }
  for (let index = 0; index < names; index += 7) Deno.removeSync(`${root}/many/name number ${index}`);
  for (let turn = 0; turn < 20; turn++) {
    for (const name of ["one", "two"]) {
      Deno.writeFileSync(`${root}/turns/${name}`, noise(turn, 5000), { append: true });
    }
  }
  for (let index = 0; index < SCATTERED; index++) {
    Deno.writeFileSync(`${root}/pieces/${index}`, noise(1, 9000));
  }
  for (let index = 0; index < SCATTERED; index += 2) Deno.removeSync(`${root}/pieces/${index}`);
  Deno.writeFileSync(`${root}/scattered`, noise(2, 9000 * SCATTERED));
  Deno.writeTextFileSync(`${root}/a/b/c/d/bottom`, "bottom");
  Deno.chmodSync(`${root}/sizes/513`, 0o444);
}

function open(device: ImageDevice): GuestFileSystem {
  const [partition] = openGuestDisk(device).partitions;
  if (partition?.fileSystem === undefined) throw new Error(partition?.reason);
  return partition.fileSystem;
}

/** What the driver can tell too, a line for each path: it gives whole seconds, and none for the root. */
function lines(tree: ReadonlyMap<string, FileFacts>): string[] {
  return [...tree].map(([path, { stat, sha256 }]) => {
    const { type, mode, sizeBytes, blocks512 } = stat;
    const times = [stat.modifiedNs, stat.accessedNs].map((time) => time / 1_000_000_000n);
    return [utf8(path), type, mode.toString(8), sizeBytes, blocks512, sha256, ...(path === "" ? [] : times)]
      .join("|");
  }).sort();
}

const utf8 = (path: string) =>
  new TextDecoder().decode(Uint8Array.from(path, (character) => character.charCodeAt(0)));

/** The same lines from a mount. */
function mountedLines(root: string): string[] {
  const found: string[] = [];
  const visit = (path: string) => {
    const { isFile, mode, size, blocks, mtime, atime } = Deno.lstatSync(root + path);
    const times = [mtime, atime].map((time) => Math.floor((time?.getTime() ?? 0) / 1000));
    const type = isFile ? "file" : "directory";
    const sha256 = isFile ? hashFile(root + path, size) : undefined;
    const bits = ((mode ?? 0) & 0o7777).toString(8);
    found.push([path, type, bits, size, blocks, sha256, ...(path === "" ? [] : times)].join("|"));
    if (!isFile) { for (const { name } of Deno.readDirSync(root + path)) visit(`${path}/${name}`); }
  };
  visit("");
  return found.sort();
}

function hashFile(path: string, sizeBytes: number): string {
  using file = Deno.openSync(path);
  return hashOf(sizeBytes, (_, target) => file.readSync(target) ?? 0);
}

async function compare(image: string): Promise<Map<string, FileFacts>> {
  await using mount = await ExfatMount.open(image, { options: "ro" });
  using device = new ImageDevice(image);
  const fileSystem = open(device);
  const tree = describeTree(fileSystem, device);
  deepEqual(lines(tree), mountedLines(mount.path));
  const { blockBytes, freeBlocks } = fileSystem.space;
  equal(`${blockBytes} ${freeBlocks}\n`, await run("stat", "-f", "-c", "%S %f", mount.path));
  // A number is enough for a reader that has seen nothing yet.
  for (const { stat } of tree.values()) deepEqual(open(device).stat(stat.inode), stat);
  return tree;
}

for (const { name, size, make, names, zone } of CASES) {
  mountTest(`exfat: ${name}: shows what the driver shows`, async () => {
    await using folder = new TemporaryFolder();
    const image = `${folder.path}/image`;
    await makeExfat(image, size, make);
    {
      await using mount = await ExfatMount.open(image, zone === undefined ? {} : { zone });
      await fill(mount.path, names);
    }
    await checkExfat(image);
    const tree = await compare(image);
    ok(tree.size > 0.8 * names);
    using device = new ImageDevice(image);
    const fileSystem = open(device);
    equal(fileSystem.kind, "exfat");
    equal(fileSystem.label, "Väl😀");
    const scattered = tree.get("/scattered")?.stat.inode ?? 0;
    const runs = fileSystem.map(scattered, 0, 2 ** 40);
    equal(runs.length > 1, true, `${runs.length} runs`);
  });
}

mountTest("exfat: shows what the driver shows of disks that were in use", async () => {
  await using folder = new TemporaryFolder();
  const image = `${folder.path}/image`;
  await makeExfat(image, "64M", ["-c", "4K"]);
  const cuts = [0, 1, 2, 3].map((index) => `${folder.path}/cut${index}`);
  {
    await using mount = await ExfatMount.open(image);
    let working = true;
    const work = async () => {
      for (let round = 0; working; round++) {
        const path = `${mount.path}/round ${round % 5}`;
        await Deno.remove(path, { recursive: true }).catch(() => {});
        await Deno.mkdir(path);
        for (let index = 0; index < 40; index++) {
          await Deno.writeFile(`${path}/some longer name for file ${index}`, noise(round, 300 * index));
        }
        await Deno.rename(`${path}/some longer name for file 7`, `${path}/7`);
      }
    };
    const done = work();
    try {
      for (const cut of cuts) {
        await delay(150);
        await mount.cut(cut);
      }
    } finally {
      working = false;
      await done;
    }
  }
  for (const cut of cuts) ok((await compare(cut)).size > 10);
});

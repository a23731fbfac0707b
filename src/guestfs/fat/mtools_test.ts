import { deepEqual, equal, ok } from "node:assert/strict";
import { noise } from "../_busy_tree.ts";
import { Kernel } from "../_kernel_mount.ts";
import { describeTree, type FileFacts, ImageDevice, run, TemporaryFolder } from "../_test_support.ts";
import type { GuestFileSystem } from "../guest.ts";
import { openGuestDisk } from "../guest_disk.ts";
import { checkFat, makeFat, mtools } from "./_mtools.ts";

interface Case {
  readonly name: string;
  readonly kind: string;
  readonly size: string;
  readonly make: readonly string[];
  /** Names in the large directory. */
  readonly names: number;
  /** Bytes of a small file of many, so that what every second one leaves behind is scattered. */
  readonly pieceBytes: number;
}

const CASES: readonly Case[] = [
  { name: "a floppy", kind: "fat12", size: "1440K", make: [], names: 150, pieceBytes: 3000 },
  {
    name: "FAT12, clusters of a sector",
    kind: "fat12",
    size: "2M",
    make: ["-F", "12", "-s", "1", "-a"],
    names: 300,
    pieceBytes: 512,
  },
  {
    name: "FAT12, sectors of 4 KiB",
    kind: "fat12",
    size: "12M",
    make: ["-F", "12", "-S", "4096", "-s", "1"],
    names: 300,
    pieceBytes: 5000,
  },
  {
    name: "FAT16, clusters of a sector",
    kind: "fat16",
    size: "12M",
    make: ["-F", "16", "-s", "1", "-f", "1"],
    names: 300,
    pieceBytes: 1500,
  },
  {
    name: "FAT16, sectors of 1 KiB, clusters of 32 KiB",
    kind: "fat16",
    size: "300M",
    make: ["-F", "16", "-S", "1024", "-s", "32", "-r", "100"],
    names: 300,
    pieceBytes: 40_000,
  },
  {
    name: "FAT16, sectors of 2 KiB",
    kind: "fat16",
    size: "40M",
    make: ["-F", "16", "-S", "2048", "-s", "1"],
    names: 300,
    pieceBytes: 10_000,
  },
  {
    name: "FAT32, clusters of a sector",
    kind: "fat32",
    size: "40M",
    make: ["-F", "32", "-s", "1"],
    names: 2000,
    pieceBytes: 700,
  },
  {
    name: "FAT32, clusters of 4 KiB",
    kind: "fat32",
    size: "300M",
    make: ["-F", "32", "-s", "8"],
    names: 300,
    pieceBytes: 5000,
  },
  {
    name: "FAT32, sectors of 4 KiB, one FAT",
    kind: "fat32",
    size: "300M",
    make: ["-F", "32", "-S", "4096", "-s", "1", "-f", "1"],
    names: 300,
    pieceBytes: 9000,
  },
];

const SCATTERED = 40;
/** Sizes around those of sectors and clusters. */
const SIZES = [0, 1, 511, 512, 513, 1024, 4095, 4096, 4097, 32_768, 100_000];
const NAMES = [
  "lower.txt",
  "UPPER.TXT",
  "lower.EXT",
  "BASE.low",
  "Mixed Case.txt",
  "no extension",
  "two.dots.txt",
  " leading blank",
  "+,;=[].txt",
  "Éa.txt",
  "ÜMLAUT.TXT",
  "日本語の名前.txt",
  "кириллица",
  "x".repeat(13),
  "y".repeat(26),
  "z".repeat(27),
  `${"long ".repeat(40)}.end`,
];

/** Makes the files that are copied in. */
async function makeSource(folder: string, names: number): Promise<void> {
  for (const name of ["sizes", "names", "many", "a/b/c/d/e"]) {
    await Deno.mkdir(`${folder}/${name}`, { recursive: true });
  }
  for (const size of SIZES) Deno.writeFileSync(`${folder}/sizes/s${size}`, noise(size, size));
  for (const [index, name] of NAMES.entries()) {
    Deno.writeTextFileSync(`${folder}/names/${name}`, name);
    const seconds = Date.UTC(1980 + 7 * index, index % 12, 28, 23, 59, 2 * index) / 1000;
    Deno.utimeSync(`${folder}/names/${name}`, seconds, seconds);
  }
  for (let index = 0; index < names; index++) {
    Deno.writeTextFileSync(`${folder}/many/${index} is a name.x`, index % 50 === 0 ? `${index}` : "");
  }
  Deno.writeTextFileSync(`${folder}/a/b/c/d/e/bottom`, "bottom");
  Deno.writeTextFileSync(`${folder}/A name in the root directory`, "root");
}

/** Small files, every second one deleted, then a large one that takes the space in between. */
async function scatter(folder: string, image: string, pieceBytes: number): Promise<void> {
  await Deno.mkdir(`${folder}/pieces`);
  const names = Array.from({ length: SCATTERED }, (_, index) => `piece${index}`);
  for (const name of names) Deno.writeFileSync(`${folder}/pieces/${name}`, noise(1, pieceBytes));
  await mtools("mcopy", image, "-s", "-m", `${folder}/pieces`, "::");
  await mtools(
    "mdel",
    image,
    ...names.filter((_, index) => index % 2 === 0).map((name) => `::pieces/${name}`),
  );
  await forgetNextFree(image);
  Deno.writeFileSync(`${folder}/scattered`, noise(2, pieceBytes * SCATTERED));
  await mtools("mcopy", image, "-m", `${folder}/scattered`, "::");
}

/** FAT32 notes where to look for free clusters; without that note the search begins at the start of the disk. */
async function forgetNextFree(image: string): Promise<void> {
  using file = await Deno.open(image, { read: true, write: true });
  const boot = new Uint8Array(512);
  file.readSync(boot);
  const view = new DataView(boot.buffer);
  if (view.getUint16(22, true) !== 0) return;
  file.seekSync(view.getUint16(48, true) * view.getUint16(11, true) + 492, Deno.SeekMode.Start);
  file.writeSync(new Uint8Array(4).fill(0xff));
}

function open(device: ImageDevice): GuestFileSystem {
  const [partition] = openGuestDisk(device).partitions;
  if (partition?.fileSystem === undefined) throw new Error(partition?.reason);
  return partition.fileSystem;
}

/** What mtools can tell too, a line for each path. */
function lines(tree: ReadonlyMap<string, FileFacts>): string[] {
  return [...tree].filter(([path]) => path !== "").map(([path, { stat, sha256 }]) => {
    const file = stat.type === "file";
    return [path, stat.type, file ? stat.sizeBytes : "", stat.modifiedNs, sha256 ?? ""].join("|");
  }).sort();
}

/** Paths that mattrib gives as read-only. */
function readOnlyPaths(text: string): string[] {
  return text.split("\n").filter((line) => line.slice(0, 10).includes("R"))
    .map((line) => line.slice(line.indexOf("::") + 2)).sort();
}

const utf8 = (path: string) =>
  new TextDecoder().decode(Uint8Array.from(path, (character) => character.charCodeAt(0)));

for (const { name, kind, size, make, names, pieceBytes } of CASES) {
  Deno.test(`fat: ${name}: shows what mtools shows`, async () => {
    await using folder = new TemporaryFolder();
    using kernel = new Kernel();
    const image = `${folder.path}/image`;
    const source = `${folder.path}/source`;
    const copy = `${folder.path}/copy`;
    await makeFat(image, size, [...make, "-n", "A LABEL"]);
    await makeSource(source, names);
    const sources = Array.from(Deno.readDirSync(source), (entry) => `${source}/${entry.name}`);
    await mtools("mcopy", image, "-s", "-m", ...sources, "::");
    await scatter(folder.path, image, pieceBytes);
    await mtools("mdel", image, "::names/two.dots.txt", "::many/10*");
    await mtools("mattrib", image, "+r", "::names/UPPER.TXT", "::sizes/s513");
    await mtools("mattrib", image, "+h", "+s", "::sizes/s512");
    await checkFat(image);
    await Deno.mkdir(copy);
    await mtools("mcopy", image, "-s", "-m", "-n", "::*", copy);

    using device = new ImageDevice(image);
    const fileSystem = open(device);
    equal(fileSystem.kind, kind);
    equal(fileSystem.label, "A LABEL");
    const tree = describeTree(fileSystem, device);
    deepEqual(lines(tree), lines(kernel.describeTree(copy)));
    ok(tree.size > 0.9 * names);

    const readOnly = [...tree].filter(([, { stat }]) => stat.mode === 0o555).map(([path]) => utf8(path));
    deepEqual(readOnly.sort(), readOnlyPaths(await mtools("mattrib", image, "-/", "::")));
    equal(readOnly.length, 2);
    const free = /([\d ]+) bytes free/.exec(await mtools("mdir", image, "::"))?.[1]?.replaceAll(" ", "");
    equal(fileSystem.space.freeBlocks * fileSystem.space.blockBytes, Number(free));

    const scattered = tree.get("/scattered")?.stat.inode ?? 0;
    const runs = fileSystem.map(scattered, 0, 2 ** 40);
    ok(runs.length > 10, `${runs.length} runs`);
    // A number is enough for a reader that has seen nothing yet.
    for (const { stat } of tree.values()) deepEqual(open(device).stat(stat.inode), stat);
  });
}

Deno.test("fat: a disk without the name of FAT in its boot sector is known by its numbers", async () => {
  await using folder = new TemporaryFolder();
  const cases: readonly [size: string, nameOffset: number, make: string[]][] = [
    ["1440K", 38, []],
    ["20M", 38, ["-F", "16"]],
    ["40M", 66, ["-F", "32", "-s", "1"]],
  ];
  for (const [size, nameOffset, make] of cases) {
    const image = `${folder.path}/${size}`;
    await makeFat(image, size, make);
    await Deno.writeTextFile(`${folder.path}/text`, "known");
    await mtools("mcopy", image, `${folder.path}/text`, "::");
    const bytes = await Deno.readFile(image);
    bytes.fill(0, nameOffset, nameOffset + 24);
    await Deno.writeFile(image, bytes);
    using device = new ImageDevice(image);
    const fileSystem = open(device);
    ok(fileSystem.lookup(fileSystem.root, new TextEncoder().encode("text")) !== undefined);
    equal(fileSystem.label, "");
  }
});

Deno.test("fat: a partition is read where it lies", async () => {
  await using folder = new TemporaryFolder();
  const image = `${folder.path}/disk`;
  await run("truncate", "-s", "32M", image);
  await run("mkfs.fat", "-F", "16", "--offset", "2048", image, "20480");
  {
    using file = await Deno.open(image, { write: true });
    const table = new Uint8Array(512);
    const view = new DataView(table.buffer);
    table[446 + 4] = 0x0e;
    view.setUint32(446 + 8, 2048, true);
    view.setUint32(446 + 12, 40_960, true);
    view.setUint16(510, 0xaa55, true);
    file.writeSync(table);
  }
  await Deno.writeTextFile(`${folder.path}/text`, "in a partition");
  await mtools("mcopy", `${image}@@1M`, `${folder.path}/text`, "::");
  using device = new ImageDevice(image);
  const fileSystem = open(device);
  const inode = fileSystem.lookup(fileSystem.root, new TextEncoder().encode("text")) ?? 0;
  const target = new Uint8Array(100);
  equal(new TextDecoder().decode(target.subarray(0, fileSystem.read(inode, 0, target))), "in a partition");
});

import { deepEqual, equal, ok, throws } from "node:assert/strict";
import { VarveError } from "../../base/errors.ts";
import { latin1 } from "../_bytes.ts";
import type { GuestFileSystem } from "../guest.ts";
import { openGuestDisk } from "../guest_disk.ts";
import {
  describeTree,
  type FileFacts,
  hex,
  ImageDevice,
  MemoryDevice,
  run,
  TemporaryFolder,
} from "../_test_support.ts";
import { fillTree, noise } from "../_busy_tree.ts";
import { attempt, exercise, Mutation, random, usedPieces } from "../_hostile.ts";
import { Kernel, mountTest } from "../_kernel_mount.ts";
import { openIso } from "./iso_reader.ts";
import { longTime, shortTime } from "./record.ts";
import { symlinkTarget } from "./rock_ridge.ts";

const encode = (text: string) => new TextEncoder().encode(text);
const code = (wanted: string) => (thrown: unknown) => thrown instanceof VarveError && thrown.code === wanted;

/** A tree without what needs root: short and long names, a deep folder, links, sizes. */
function makeTree(root: string): void {
  Deno.mkdirSync(`${root}/many`, { recursive: true });
  for (let index = 0; index < 300; index++) {
    Deno.writeTextFileSync(`${root}/many/a long enough name ${index}`, `${index}`);
  }
  const deep = Array.from({ length: 20 }, (_, depth) => `deep${depth}`).join("/");
  Deno.mkdirSync(`${root}/${deep}`, { recursive: true });
  Deno.writeTextFileSync(`${root}/${deep}/bottom`, "bottom");
  for (const size of [0, 1, 2047, 2048, 2049, 100_000]) {
    Deno.writeFileSync(`${root}/${size}.bin`, noise(size, size));
  }
  Deno.writeTextFileSync(`${root}/${"n".repeat(200)}`, "long");
  for (
    const target of [
      "many",
      "/etc/passwd",
      "../../x/./y",
      "/",
      ".",
      "..",
      "z".repeat(200),
      `${"ab/".repeat(40)}c`,
    ]
  ) {
    Deno.symlinkSync(target, `${root}/to ${target.slice(0, 8).replaceAll("/", "_")}`);
  }
  Deno.linkSync(`${root}/2048.bin`, `${root}/hard`);
}

/** What an image keeps of each file, comparable with its source: times in seconds. */
function kept(tree: ReadonlyMap<string, FileFacts>): Map<string, string> {
  const paths = [...tree].filter(([path]) => path !== "" && path !== "/rr_moved");
  return new Map(paths.map(([path, { stat, target, sha256 }]) => {
    const { type, mode, uid, gid, rdev, sizeBytes, links } = stat;
    // Folders are of another size there, and where folders were moved their links count other ones.
    const sizes = type === "directory" ? {} : { sizeBytes, links };
    const seconds = Number(stat.modifiedNs / 1_000_000_000n);
    return [path, JSON.stringify({ type, mode, uid, gid, rdev, target, sha256, ...sizes, seconds })];
  }));
}

function openImage(device: ImageDevice | MemoryDevice): GuestFileSystem {
  const { table, partitions: [partition] } = openGuestDisk(device);
  equal(table, "none");
  ok(partition?.fileSystem !== undefined, partition?.reason);
  equal(partition.fileSystem.kind, "iso9660");
  return partition.fileSystem;
}

for (
  const [name, program, ...options] of [
    ["genisoimage", "genisoimage", "-quiet", "-R", "-V", "LABEL"],
    ["genisoimage with Joliet beside it", "genisoimage", "-quiet", "-R", "-J", "-joliet-long", "-V", "LABEL"],
    ["xorriso", "xorriso", "-as", "mkisofs", "-quiet", "-R", "-V", "LABEL"],
    [
      "xorriso with Joliet beside it",
      "xorriso",
      "-as",
      "mkisofs",
      "-quiet",
      "-R",
      "-J",
      "-V",
      "LABEL",
    ],
  ] as const
) {
  mountTest(`iso9660: ${name}: every file is as it was, and isoinfo sees the same paths`, async () => {
    await using folder = new TemporaryFolder();
    using kernel = new Kernel();
    const [tree, image] = [`${folder.path}/tree`, `${folder.path}/image`];
    makeTree(tree);
    if (program === "genisoimage") {
      await Deno.mkdir(`${tree}/everything`);
      await fillTree(`${tree}/everything`, kernel, { names: 300 });
      // Times before 1970 wrap there, names outside UTF-8 are changed, and targets of more than 255 bytes spoilt.
      await Deno.remove(`${tree}/everything/odd`, { recursive: true });
      for (const file of ["small/old", "small/far", "links/to1000"]) {
        await Deno.remove(`${tree}/everything/${file}`);
      }
    } else {
      await Deno.symlink(`${`${"part of it".repeat(20)}/`.repeat(4)}end`, `${tree}/far away`);
      const special =
        "mkfifo pipe; mknod null c 1 3; mknod wide b 300 70000; chmod 4751 2048.bin; chown 70000:123456 1.bin";
      await run("bash", "-c", `cd ${tree}; ${special}`);
    }
    await run(program, ...options, "-o", image, tree);
    using device = new ImageDevice(image);
    const fileSystem = openImage(device);
    equal(fileSystem.label, "LABEL");
    const [left, right] = [kept(describeTree(fileSystem, device)), kept(kernel.describeTree(tree))];
    const paths = [...new Set([...left.keys(), ...right.keys()])].filter((path) =>
      left.get(path) !== right.get(path)
    );
    deepEqual(paths.map((path) => [path, left.get(path), right.get(path)]), []);
    const listed = (await run("isoinfo", "-R", "-f", "-i", image)).trim().split("\n");
    // It shows folders that were moved at both places.
    if (program === "xorriso") equal(listed.length, left.size);
    equal(fileSystem.space.blockBytes, 2048);
  });
}

Deno.test("iso9660: names of Joliet and plain names are shown as Linux shows them", async () => {
  await using folder = new TemporaryFolder();
  const [tree, image] = [`${folder.path}/tree`, `${folder.path}/image`];
  await Deno.mkdir(`${tree}/Ein Ordner`, { recursive: true });
  await Deno.writeTextFile(`${tree}/Ein Ordner/Größe €.text`, "joliet");
  await Deno.writeTextFile(`${tree}/README`, "read");
  const names = async (...options: string[]) => {
    await run("genisoimage", "-quiet", ...options, "-input-charset", "utf-8", "-o", image, tree);
    using device = new ImageDevice(image);
    return [...describeTree(openImage(device), device).keys()].map((path) =>
      new TextDecoder().decode(Uint8Array.from(path, (character) => character.charCodeAt(0)))
    ).sort();
  };
  deepEqual(await names("-J"), ["", "/Ein Ordner", "/Ein Ordner/Größe €.text", "/README"]);
  await Deno.rename(`${tree}/Ein Ordner/Größe €.text`, `${tree}/Ein Ordner/Text.text`);
  deepEqual(await names(), ["", "/ein_ordn", "/ein_ordn/text.tex", "/readme"]);
});

Deno.test("iso9660: files that mkzftree compressed are read as they were", async () => {
  await using folder = new TemporaryFolder();
  const [tree, packed, image] = [`${folder.path}/tree`, `${folder.path}/packed`, `${folder.path}/image`];
  await Deno.mkdir(tree);
  const text = encode("all work and no play\n".repeat(20_000));
  const holes = new Uint8Array(200_000);
  holes.set(noise(3, 1000), 150_000);
  await Deno.writeFile(`${tree}/text`, text);
  await Deno.writeFile(`${tree}/holes`, holes);
  await run("mkzftree", tree, packed);
  await run("genisoimage", "-quiet", "-R", "-z", "-o", image, packed);
  using device = new ImageDevice(image);
  const fileSystem = openImage(device);
  for (const [name, content] of [["text", text], ["holes", holes]] as const) {
    const inode = fileSystem.lookup(fileSystem.root, encode(name)) ?? 0;
    equal(fileSystem.stat(inode).sizeBytes, content.length);
    const target = new Uint8Array(content.length + 1);
    equal(fileSystem.read(inode, 0, target), content.length);
    equal(hex(target.subarray(0, content.length)), hex(content));
    deepEqual(fileSystem.map(inode, 10, 100), [{ kind: "made", length: 100 }]);
    const part = new Uint8Array(40_000);
    fileSystem.read(inode, 30_000, part);
    equal(hex(part), hex(content.subarray(30_000, 70_000)));
  }
});

/** A plain image of two files of 2048 and 100 bytes, whose records are made those of one file's two extents. */
async function twoExtents(folder: string): Promise<MemoryDevice> {
  const [tree, image] = [`${folder}/tree`, `${folder}/image`];
  await Deno.mkdir(tree);
  await Deno.writeFile(`${tree}/A`, noise(1, 2048));
  await Deno.writeFile(`${tree}/B`, noise(2, 100));
  await run("genisoimage", "-quiet", "-o", image, tree);
  const device = new MemoryDevice(await Deno.readFile(image));
  const fileSystem = openIso(device);
  const [a, b] = ["a", "b"].map((name) => fileSystem.lookup(fileSystem.root, encode(name)) ?? 0) as [
    number,
    number,
  ];
  device.bytes[a + 25] = 0x80;
  device.bytes[b + 33] = 0x41;
  return device;
}

Deno.test("iso9660: a file of several extents is one file", async () => {
  await using folder = new TemporaryFolder();
  const device = await twoExtents(folder.path);
  const fileSystem = openIso(device);
  deepEqual(fileSystem.readDirectory(fileSystem.root).map(({ name }) => latin1(name)), ["a"]);
  const inode = fileSystem.lookup(fileSystem.root, encode("a")) ?? 0;
  equal(fileSystem.stat(inode).sizeBytes, 2148);
  const target = new Uint8Array(3000);
  equal(fileSystem.read(inode, 0, target), 2148);
  equal(hex(target.subarray(0, 2148)), hex(noise(1, 2048)) + hex(noise(2, 100)));
  device.bytes[inode + 33] = 0x42;
  throws(() => openIso(device).stat(inode), code("damaged"));
});

Deno.test("iso9660: what is no such thing or lies outside is refused by its own error", async () => {
  await using folder = new TemporaryFolder();
  const device = await twoExtents(folder.path);
  const fileSystem = openIso(device);
  const [{ inode = 0 } = {}] = fileSystem.readDirectory(fileSystem.root);
  throws(() => fileSystem.stat(0), code("not-found"));
  throws(() => fileSystem.stat(10 ** 12), code("not-found"));
  throws(() => fileSystem.stat(1.5), code("invalid"));
  throws(() => fileSystem.readDirectory(inode), code("invalid"));
  throws(() => fileSystem.readLink(inode), code("invalid"));
  throws(() => fileSystem.read(fileSystem.root, 0, new Uint8Array(1)), code("invalid"));
  throws(() => fileSystem.read(inode, -1, new Uint8Array(1)), code("invalid"));
  equal(fileSystem.read(inode, 2148, new Uint8Array(1)), 0);
  deepEqual(fileSystem.map(inode, 2148, 1), []);
  device.bytes[inode + 27] = 1;
  throws(() => openIso(device).read(inode, 0, new Uint8Array(1)), code("unsupported"));
  device.bytes[inode + 27] = 0;
  device.bytes[inode + 5] = 0x70;
  throws(() => openIso(device).read(inode, 0, new Uint8Array(1)), code("damaged"));
});

Deno.test("iso9660: a component of a target may go on in the next piece", () => {
  const piece = (...parts: (number | string)[]) =>
    Uint8Array.from(parts.flatMap((part) => typeof part === "number" ? [part] : [...encode(part)]));
  const links = [piece(1, 8, 0, 1, 2, "ab"), piece(1, 1, 1, "c"), piece(0, 0, 1, "d", 4, 0, 2, 0, 0, 1, "e")];
  equal(latin1(symlinkTarget({ links })), "/abcd/.././e");
  throws(() => symlinkTarget({ links: [piece(0, 0, 9, "short")] }), code("damaged"));
});

Deno.test("iso9660: times count from 1970 in Greenwich", () => {
  equal(shortTime(Uint8Array.of(70, 1, 1, 2, 0, 0, 8)), 0n);
  equal(
    shortTime(Uint8Array.of(126, 11, 26, 7, 29, 38, 0)),
    BigInt(Date.UTC(2026, 10, 26, 7, 29, 38)) * 1_000_000n,
  );
  equal(
    longTime(Uint8Array.of(...encode("2026112607293825"), 0)),
    BigInt(Date.UTC(2026, 10, 26, 7, 29, 38, 250)) * 1_000_000n,
  );
  equal(shortTime(new Uint8Array(7)), 0n);
});

const HOSTILE: Readonly<Record<string, string[]>> = {
  "Rock Ridge": ["-R"],
  "Joliet": ["-J"],
  "plain names": [],
};

for (const [kind, options] of Object.entries(HOSTILE)) {
  Deno.test(`iso9660: damaged images (${kind}) give answers or our errors, and an end`, async () => {
    await using folder = new TemporaryFolder();
    const [tree, image] = [`${folder.path}/tree`, `${folder.path}/image`];
    makeTree(tree);
    await run("genisoimage", "-quiet", "-U", ...options, "-o", image, tree);
    const device = new MemoryDevice(await Deno.readFile(image));
    const whole = openImage(device);
    ok(exercise(whole) > 300);
    const tables = [...describeTree(whole).values()].filter(({ stat }) => stat.type === "directory").flatMap(
      ({ stat }) =>
        usedPieces(device.bytes.subarray(stat.inode, stat.inode + stat.sizeBytes), 64).map((at) =>
          at + stat.inode
        ),
    );
    let opened = 0;
    for (let seed = 1; seed <= 350; seed++) {
      const next = random(seed);
      using mutation = new Mutation(device);
      if (next(5) === 0) {
        mutation.field(32768 + 2048 * next(2) + ([0, 80, 128, 156, 158, 166][next(6)] ?? 0), next);
      }
      for (let count = 1 + next(20); count > 0; count--) {
        const root = next(3) === 0;
        mutation.field(root ? whole.root + next(2048) : (tables[next(tables.length)] ?? 0) + next(64), next);
      }
      try {
        const fileSystem = attempt(() => openIso(device));
        if (fileSystem === undefined) continue;
        opened++;
        exercise(fileSystem, 150);
      } catch (thrown) {
        throw new Error(`seed ${seed}: ${thrown}`, { cause: thrown });
      }
    }
    ok(opened > 100, `${opened} opened`);
  });
}

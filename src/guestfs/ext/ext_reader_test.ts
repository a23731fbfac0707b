import { equal, ok, throws } from "node:assert/strict";
import { Buffer } from "node:buffer";
import { VarveError } from "../../base/errors.ts";
import { latin1 } from "../_bytes.ts";
import { describeTree, hex, ImageDevice, MemoryDevice, run, TemporaryFolder } from "../_test_support.ts";
import type { GuestFileSystem } from "../guest.ts";
import { noise } from "../_busy_tree.ts";
import { openExt } from "./ext_reader.ts";

const encode = (text: string) => new TextEncoder().encode(text);
const code = (wanted: string) => (thrown: unknown) => thrown instanceof VarveError && thrown.code === wanted;

/** Makes an image with a few files and no mount. */
async function image(folder: string, ...options: string[]): Promise<string> {
  const [tree, path] = [`${folder}/tree`, `${folder}/image`];
  await Deno.mkdir(`${tree}/folder`, { recursive: true });
  for (const size of [10, 5000, 200_000]) await Deno.writeFile(`${tree}/folder/${size}`, noise(size, size));
  for (let index = 0; index < 300; index++) await Deno.writeTextFile(`${tree}/name ${index}`, "");
  await Deno.symlink("folder/10", `${tree}/link`);
  await run("truncate", "-s", "64M", path);
  await run("mkfs.ext4", "-q", "-F", "-N", "4096", ...options, "-d", tree, path);
  return path;
}

function find(fileSystem: GuestFileSystem, ...path: string[]): number {
  let inode: number | undefined = fileSystem.root;
  for (const name of path) inode = inode === undefined ? undefined : fileSystem.lookup(inode, encode(name));
  ok(inode !== undefined, path.join("/"));
  return inode;
}

function contentOf(fileSystem: GuestFileSystem, ...path: string[]): string {
  const inode = find(fileSystem, ...path);
  const target = new Uint8Array(fileSystem.stat(inode).sizeBytes + 10);
  return hex(target.subarray(0, fileSystem.read(inode, 0, target)));
}

// A kernel without CONFIG_UNICODE, CONFIG_QUOTA, or with pages smaller than the blocks mounts none of these.
for (
  const [what, ...options] of [
    ["casefold", "-O", "casefold"],
    ["blocks of 64 KiB", "-b", "65536"],
    ["blocks of 64 KiB without checksums", "-b", "65536", "-O", "^metadata_csum"],
    ["quota and project", "-O", "quota,project"],
    ["verity", "-O", "verity"],
    ["orphan_file", "-O", "orphan_file"],
  ]
) {
  Deno.test(`ext: ${what}: shows what mke2fs put there`, async () => {
    await using folder = new TemporaryFolder();
    using device = new ImageDevice(await image(folder.path, ...options));
    const fileSystem = openExt(device);
    const paths = [...describeTree(fileSystem).keys()].filter((path) => !path.endsWith("lost+found"));
    equal(paths.length, 1 + 1 + 3 + 300 + 1);
    for (const size of [10, 5000, 200_000]) {
      equal(contentOf(fileSystem, "folder", `${size}`), hex(noise(size, size)));
    }
    equal(latin1(fileSystem.readLink(find(fileSystem, "link"))), "folder/10");
  });
}

for (const version of [2, 3]) {
  Deno.test(`ext: a journal with checksums of version ${version} is replayed, revokes too`, async () => {
    await using folder = new TemporaryFolder();
    const path = await image(folder.path, "-b", "4096");
    const blocks = (await run("debugfs", "-R", "blocks /folder/200000", path)).trim().split(/\s+/).map(
      Number,
    );
    const data = noise(1, 4096 * 4);
    data.set([0xc0, 0x3b, 0x39, 0x98], 4096);
    await Deno.writeFile(`${folder.path}/new`, data);
    const script = [
      `jo -c -v ${version}`,
      `jw -b ${blocks.slice(0, 4).join(",")} ${folder.path}/new`,
      `jw -r ${blocks[3]}`,
      "jc",
    ];
    await Deno.writeTextFile(`${folder.path}/script`, script.join("\n") + "\n");
    await run("debugfs", "-w", "-f", `${folder.path}/script`, path);
    ok((await run("dumpe2fs", "-h", path)).includes(`journal_checksum_v${version}`));
    using device = new ImageDevice(path);
    const expected = noise(200_000, 200_000);
    expected.set(data.subarray(0, 3 * 4096));
    equal(contentOf(openExt(device), "folder", "200000"), hex(expected));
  });
}

Deno.test("ext: a journal whose needed block does not match its checksum is damaged", async () => {
  await using folder = new TemporaryFolder();
  const path = await image(folder.path, "-b", "4096");
  const [block] = (await run("debugfs", "-R", "blocks /folder/5000", path)).trim().split(/\s+/);
  await Deno.writeFile(`${folder.path}/new`, new Uint8Array(4096).fill(0xab));
  await Deno.writeTextFile(`${folder.path}/script`, `jo -c\njw -b ${block} ${folder.path}/new\njc\n`);
  await run("debugfs", "-w", "-f", `${folder.path}/script`, path);
  const device = new MemoryDevice(await Deno.readFile(path));
  equal(contentOf(openExt(device), "folder", "5000").slice(0, 4), "abab");
  const logged = Buffer.from(device.bytes.buffer).indexOf(new Uint8Array(4096).fill(0xab));
  device.bytes[logged + 100] = 0;
  throws(() => openExt(device), code("damaged"));
});

for (const indexed of [false, true]) {
  Deno.test(`ext: a directory that folds case finds names in any${indexed ? ", by its index" : ""}`, async () => {
    await using folder = new TemporaryFolder();
    const names = [
      "ReadMe",
      "Größe",
      "STRASSE",
      "\u00c5ngstrom",
      "a\u0301b",
      "\u03a3\u03c3\u03c2",
      "name\xff",
    ];
    const tree = `${folder.path}/tree/Folder`;
    await Deno.mkdir(tree, { recursive: true });
    for (const name of names) await Deno.writeTextFile(`${tree}/${name}`, name);
    for (let index = 0; index < (indexed ? 600 : 0); index++) {
      await Deno.writeTextFile(`${tree}/Filler Number ${index}`, "");
    }
    const path = `${folder.path}/image`;
    await run("truncate", "-s", "32M", path);
    await run(
      "mkfs.ext4",
      "-q",
      "-F",
      "-b",
      "1024",
      "-N",
      "2048",
      "-O",
      "casefold",
      "-d",
      `${folder.path}/tree`,
      path,
    );
    await run("debugfs", "-w", "-R", "sif /Folder flags 0x40080000", path);
    // The index is made anew, now from folded names; e2fsck says by 1 that it changed something.
    await run("bash", "-c", `e2fsck -fyD ${path} >/dev/null; [ $? -le 1 ]`);
    using device = new ImageDevice(path);
    const fileSystem = openExt(device);
    const directory = find(fileSystem, "Folder");
    const flags = await run("debugfs", "-R", "stat /Folder", path);
    equal(/Flags: 0x[0-9a-f]*1000\b/.test(flags), indexed, flags);
    for (
      const [asked, stored] of [
        ["README", "ReadMe"],
        ["readme", "ReadMe"],
        ["GR\u00d6SSE", "Größe"],
        ["gro\u0308\u00dfe", "Größe"],
        ["stra\u00dfe", "STRASSE"],
        ["\u212bNGSTROM", "\u00c5ngstrom"],
        ["\u00c1B", "a\u0301b"],
        ["\u03c2\u03a3\u03c3", "\u03a3\u03c3\u03c2"],
        ...indexed
          ? [["filler number 599", "Filler Number 599"], ["FILLER NUMBER 0", "Filler Number 0"]]
          : [],
      ] as const
    ) {
      const inode = fileSystem.lookup(directory, encode(`${asked}`));
      const entry = fileSystem.readDirectory(directory).find((each) => each.inode === inode);
      equal(entry === undefined ? undefined : new TextDecoder().decode(entry.name), stored, asked);
    }
    equal(fileSystem.lookup(directory, encode("absent")), undefined);
    equal(fileSystem.lookup(fileSystem.root, encode("folder")), undefined);
  });
}

Deno.test("ext: an external journal that waits for its replay is not supported", async () => {
  await using folder = new TemporaryFolder();
  const path = await image(folder.path, "-O", "^has_journal,^metadata_csum");
  const device = new MemoryDevice(await Deno.readFile(path));
  device.bytes[1024 + 0x5c] = (device.bytes[1024 + 0x5c] ?? 0) | 4;
  ok(openExt(device).root === 2);
  device.bytes[1024 + 0x60] = (device.bytes[1024 + 0x60] ?? 0) | 4;
  throws(() => openExt(device), code("unsupported"));
});

Deno.test("ext: encrypted content and names are not supported, the rest of the tree is", async () => {
  await using folder = new TemporaryFolder();
  const path = await image(folder.path, "-O", "^metadata_csum,encrypt");
  for (const name of ["/folder", "/name 1", "/link"]) {
    await run("debugfs", "-w", "-R", `sif "${name}" flags 0x80800`, path);
  }
  using device = new ImageDevice(path);
  const fileSystem = openExt(device);
  const directory = find(fileSystem, "folder");
  equal(fileSystem.stat(directory).type, "directory");
  throws(() => fileSystem.readDirectory(directory), code("unsupported"));
  throws(() => fileSystem.lookup(directory, encode("10")), code("unsupported"));
  throws(() => fileSystem.read(find(fileSystem, "name 1"), 0, new Uint8Array(1)), code("unsupported"));
  throws(() => fileSystem.readLink(find(fileSystem, "link")), code("unsupported"));
  ok(fileSystem.readDirectory(fileSystem.root).length > 300);
});

Deno.test("ext: what does not exist, is no such thing, or lies outside is refused by its own error", async () => {
  await using folder = new TemporaryFolder();
  using device = new ImageDevice(await image(folder.path));
  const fileSystem = openExt(device);
  const file = find(fileSystem, "folder", "5000");
  throws(() => fileSystem.stat(4000), code("not-found"));
  throws(() => fileSystem.stat(1_000_000_000), code("not-found"));
  throws(() => fileSystem.stat(8), code("not-found"));
  throws(() => fileSystem.stat(0), code("not-found"));
  throws(() => fileSystem.stat(-1), code("not-found"));
  throws(() => fileSystem.stat(2.5), code("invalid"));
  throws(() => fileSystem.readDirectory(file), code("invalid"));
  throws(() => fileSystem.readLink(file), code("invalid"));
  throws(() => fileSystem.read(fileSystem.root, 0, new Uint8Array(1)), code("invalid"));
  throws(() => fileSystem.read(file, -1, new Uint8Array(1)), code("invalid"));
  throws(() => fileSystem.map(file, 0.5, 10), code("invalid"));
  equal(fileSystem.read(file, 5000, new Uint8Array(10)), 0);
  equal(fileSystem.read(file, 4990, new Uint8Array(100)), 10);
  equal(fileSystem.map(file, 5000, 10).length, 0);
  equal(fileSystem.lookup(fileSystem.root, encode("..")), undefined);
  equal(fileSystem.lookup(fileSystem.root, encode("")), undefined);
  equal(fileSystem.lookup(fileSystem.root, encode("x".repeat(300))), undefined);
});

Deno.test("ext: a changed byte in an inode is damaged, by its checksum", async () => {
  await using folder = new TemporaryFolder();
  const path = await image(folder.path, "-b", "4096");
  const place = (await run("debugfs", "-R", 'imap "/name 5"', path)).match(
    /block (\d+), offset 0x([0-9a-f]+)/,
  );
  const at = Number(place?.[1]) * 4096 + parseInt(place?.[2] ?? "", 16);
  const device = new MemoryDevice(await Deno.readFile(path));
  device.bytes[at + 8] = (device.bytes[at + 8] ?? 0) ^ 1;
  const fileSystem = openExt(device);
  throws(() => fileSystem.stat(find(fileSystem, "name 5")), code("damaged"));
  equal(fileSystem.stat(find(fileSystem, "name 6")).type, "file");
});

Deno.test("ext: a changed byte in a directory block is damaged, by its checksum", async () => {
  await using folder = new TemporaryFolder();
  const device = new MemoryDevice(await Deno.readFile(await image(folder.path, "-b", "4096")));
  ok(openExt(device).readDirectory(2).length > 300);
  device.bytes[Buffer.from(device.bytes.buffer).indexOf("name 100")] = 0x4e;
  throws(() => openExt(device).readDirectory(2), code("damaged"));
});

Deno.test("ext: a directory that one block belongs to twice is damaged", async () => {
  await using folder = new TemporaryFolder();
  const path = await image(folder.path, "-b", "1024", "-t", "ext2", "-O", "^dir_index");
  const [first] = (await run("debugfs", "-R", "blocks /", path)).trim().split(/\s+/);
  await run("debugfs", "-w", "-R", `sif / block[3] ${first}`, path);
  using device = new ImageDevice(path);
  throws(() => openExt(device).readDirectory(2), code("damaged"));
  equal(openExt(device).kind, "ext2");
});

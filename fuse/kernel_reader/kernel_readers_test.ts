import assert from "node:assert/strict";
import { changeTree, fillTree, noise } from "../../src/guestfs/_busy_tree.ts";
import { Kernel, mountTest } from "../../src/guestfs/_kernel_mount.ts";
import { differences, run, TemporaryFolder } from "../../src/guestfs/_test_support.ts";
import type { PastFileSystem } from "../../src/browse/past_file_system.ts";
import {
  describePast,
  imagePartition,
  ImageReaders,
  imageState,
  mountImage,
  servedLoops,
} from "./_testing.ts";

const BUSY = [
  { type: "xfs", make: ["mkfs.xfs", "-q"], sizeMib: 320, options: "ro,noatime,nouuid", cuts: 5 },
  { type: "btrfs", make: ["mkfs.btrfs", "-q"], sizeMib: 128, options: "ro,noatime", cuts: 5 },
  { type: "ext4", make: ["mkfs.ext4", "-q", "-F"], sizeMib: 64, options: "ro,noatime", cuts: 2 },
] as const;

async function makeImage(
  folder: string,
  { make, sizeMib }: typeof BUSY[number],
  name = "image",
): Promise<string> {
  const image = `${folder}/${name}`;
  await run("truncate", "-s", `${sizeMib}M`, image);
  const [program, ...options] = make;
  await run(program, ...options, image);
  return image;
}

for (const busy of BUSY) {
  mountTest(`kernel readers: ${busy.type}, cut while busy, is what a mount of a copy shows`, async () => {
    await using folder = new TemporaryFolder();
    using kernel = new Kernel();
    const image = await makeImage(folder.path, busy);
    const cuts: string[] = [];
    {
      await using mount = await mountImage(image, busy.type, "rw");
      await fillTree(mount.path, kernel, { names: 500 });
      for (let round = 0; round < busy.cuts; round++) {
        await changeTree(mount.path, round);
        cuts.push(`${folder.path}/cut${round}`);
        // What was not made durable yet is not in it, and the journal is not empty.
        await run("cp", "--sparse=always", image, `${folder.path}/cut${round}`);
      }
    }
    const before = await servedLoops();
    {
      await using readers = new ImageReaders({ mountsMax: 2 });
      for (const cut of cuts) {
        const state = await imageState(cut);
        const fileSystem = await readers.fileSystem(cut, busy.type);
        const seen = await describePast(fileSystem);
        const space = await fileSystem.space();
        assert.equal(await imageState(cut), state, "the image is as it was");
        await using mount = await mountImage(cut, busy.type, busy.options);
        assert.deepEqual(differences(seen, kernel.describeTree(mount.path)), []);
        assert.deepEqual(space, kernel.space(mount.path));
      }
    }
    assert.deepEqual(await servedLoops(), before, "nothing is left");
  });
}

mountTest("kernel readers: two moments of one file system at once", async () => {
  await using folder = new TemporaryFolder();
  for (const busy of BUSY.slice(0, 2)) {
    const first = await makeImage(folder.path, busy, `${busy.type}1`);
    const second = `${folder.path}/${busy.type}2`;
    const write = async (text: string) => {
      await using mount = await mountImage(first, busy.type, "rw");
      await Deno.writeTextFile(`${mount.path}/file`, text);
    };
    await write("first");
    await run("cp", "--sparse=always", first, second);
    await write("later");
    await using readers = new ImageReaders();
    const [later, earlier] = await Promise.all(
      [first, second].map((image) => readers.fileSystem(image, busy.type)),
    );
    assert.equal(await textOf(later, "file"), "later", busy.type);
    assert.equal(await textOf(earlier, "file"), "first", busy.type);
    assert.equal((await servedLoops()).length >= 2, true);
  }
});

async function textOf(fileSystem: PastFileSystem | undefined, ...path: string[]): Promise<string> {
  assert.ok(fileSystem !== undefined);
  let inode = fileSystem.root;
  for (const name of path) {
    const found = await fileSystem.lookup(inode, new TextEncoder().encode(name));
    assert.ok(found !== undefined, name);
    inode = found.inode;
  }
  const buffer = new Uint8Array(100);
  return new TextDecoder().decode(buffer.subarray(0, await fileSystem.read(inode, 0, buffer)));
}

mountTest("kernel readers: files are found again by number when their mount was another's turn", async () => {
  await using folder = new TemporaryFolder();
  const [xfs] = BUSY;
  const image = await makeImage(folder.path, xfs);
  {
    await using mount = await mountImage(image, "xfs", "rw");
    await Deno.mkdir(`${mount.path}/deep/er`, { recursive: true });
    await Deno.writeTextFile(`${mount.path}/deep/er/file`, "content");
    await Deno.link(`${mount.path}/deep/er/file`, `${mount.path}/hard`);
  }
  for (const handlesMax of [400_000, 1]) {
    await using readers = new ImageReaders({ mountsMax: 1, handlesMax });
    const fileSystem = await readers.fileSystem(image, "xfs", 1);
    const deep = await fileSystem.lookup(fileSystem.root, new TextEncoder().encode("deep"));
    const er = await fileSystem.lookup(deep?.inode ?? 0, new TextEncoder().encode("er"));
    const listing = await fileSystem.list(er?.inode ?? 0);
    const { inode } = listing.at(0);
    const other = await readers.fileSystem(image, "xfs", 2);
    assert.equal((await other.stat(other.root)).type, "directory");
    assert.equal((await servedLoops()).length, 1, "the first one was unmounted");

    const buffer = new Uint8Array(10);
    assert.equal(await fileSystem.read(inode, 0, buffer), 7);
    assert.equal(new TextDecoder().decode(buffer.subarray(0, 7)), "content");
    assert.equal((await fileSystem.stat(inode)).links, 2);
    assert.equal((await fileSystem.lookup(er?.inode ?? 0, new TextEncoder().encode("file")))?.inode, inode);
    await assert.rejects(async () => await fileSystem.stat(987_654_321), { code: "not-found" });
  }
});

mountTest("kernel readers: names lead nowhere but to entries of their directory", async () => {
  await using folder = new TemporaryFolder();
  const image = await makeImage(folder.path, BUSY[2]);
  await using readers = new ImageReaders();
  const fileSystem = await readers.fileSystem(image, "ext4");
  for (const name of ["..", ".", "", "lost+found/..", "/", "x\0", "n".repeat(256), "/proc"]) {
    assert.equal(await fileSystem.lookup(fileSystem.root, new TextEncoder().encode(name)), undefined, name);
  }
  assert.equal(
    (await fileSystem.lookup(fileSystem.root, new TextEncoder().encode("lost+found")))?.type,
    "directory",
  );
  const found = await fileSystem.lookup(fileSystem.root, new TextEncoder().encode("lost+found"));
  await assert.rejects(async () => await fileSystem.read(found?.inode ?? 0, 0, new Uint8Array(1)), {
    code: "invalid",
  });
});

mountTest("kernel readers: subvolumes of btrfs keep their files apart", async () => {
  await using folder = new TemporaryFolder();
  const image = await makeImage(folder.path, BUSY[1]);
  {
    await using mount = await mountImage(image, "btrfs", "rw");
    for (const name of ["one", "two"]) {
      await run("btrfs", "subvolume", "create", `${mount.path}/${name}`);
      await Deno.writeTextFile(`${mount.path}/${name}/file`, `of ${name}`);
    }
  }
  for (const handlesMax of [400_000, 1]) {
    await using readers = new ImageReaders({ handlesMax });
    const fileSystem = await readers.fileSystem(image, "btrfs");
    const numbers: number[] = [];
    for (const name of ["one", "two"]) {
      const volume = await fileSystem.lookup(fileSystem.root, new TextEncoder().encode(name));
      const file = await fileSystem.lookup(volume?.inode ?? 0, new TextEncoder().encode("file"));
      numbers.push(volume?.inode ?? 0, file?.inode ?? 0);
    }
    assert.equal(new Set(numbers).size, 4, "each has a number of its own");
    for (const [index, text] of [[1, "of one"], [3, "of two"]] as const) {
      const buffer = new Uint8Array(6);
      await fileSystem.read(numbers[index] ?? 0, 0, buffer);
      assert.equal(new TextDecoder().decode(buffer), text);
    }
  }
});

mountTest("kernel readers: what the kernel refuses is told with what it says", async () => {
  await using folder = new TemporaryFolder();
  const image = await makeImage(folder.path, BUSY[0]);
  using file = Deno.openSync(image, { write: true });
  file.seekSync(20, Deno.SeekMode.Start);
  file.writeSync(noise(1, 400));
  const state = await imageState(image);
  const before = await servedLoops();
  await using readers = new ImageReaders();
  const broken = await readers.open(imagePartition(image, "xfs"));
  assert.ok("refused" in broken);
  assert.match(broken.refused, /^mount it as xfs: .*(kernel's log|driver): XFS/);
  const unknown = await readers.open(imagePartition(image, "nosuchfs"));
  assert.ok("refused" in unknown);
  assert.match(unknown.refused, /the kernel does not know it/);
  assert.deepEqual(await servedLoops(), before);
  assert.equal(await imageState(image), state);
});

mountTest("kernel readers: storage that fails is no fault of the disk", async () => {
  await using folder = new TemporaryFolder();
  const image = await makeImage(folder.path, BUSY[2]);
  const partition = imagePartition(image, "ext4");
  await using readers = new ImageReaders();
  // The image is shorter than it is said to be, so that reading fails as it would on a disk that breaks.
  await Deno.truncate(image, 100_000);
  await assert.rejects(readers.open(partition), { code: "out-of-range" });
  await assert.rejects(readers.open({ ...partition, place: { ...partition.place, directory: "/nowhere" } }), {
    code: "not-found",
  });
});

mountTest(
  "kernel readers: a kernel that waits too long is given errors, and is not asked again at once",
  async () => {
    await using folder = new TemporaryFolder();
    const image = await makeImage(folder.path, BUSY[2]);
    const before = await servedLoops();
    await using readers = new ImageReaders({
      diskUrl: new URL("./_stuck_process.ts", import.meta.url),
      limitMs: 1000,
    });
    const fine = await readers.fileSystem(image, "ext4", 1);
    const stuck = imagePartition(image, "ext4", 666);
    await assert.rejects(readers.open(stuck), { code: "io", message: /no answer within 2 s/ });
    await assert.rejects(readers.open(stuck), { code: "io", message: /no answer within 2 s/ });
    assert.equal((await fine.stat(fine.root)).type, "directory", "others go on");
    await readers.close();
    assert.deepEqual(await servedLoops(), before, "nothing is left");
  },
);

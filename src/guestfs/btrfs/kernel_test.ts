import { deepEqual, equal, ok } from "node:assert/strict";
import { changeTree, fillTree, noise } from "../_busy_tree.ts";
import { Kernel, Mount, mountTest } from "../_kernel_mount.ts";
import { describeTree, ImageDevice, run } from "../_test_support.ts";
import { compareCut, CutFolder, openImage } from "./_cuts.ts";

interface Case {
  readonly name: string;
  readonly make: string[];
  readonly mount?: string;
}

const CASES: readonly Case[] = [
  { name: "as mkfs makes it", make: [] },
  {
    name: "tree blocks of 4 KiB, xxhash, LZO",
    make: ["-n", "4096", "--csum", "xxhash"],
    mount: "compress-force=lzo",
  },
  {
    name: "tree blocks of 64 KiB, SHA-256, zstd",
    make: ["-n", "65536", "--csum", "sha256"],
    mount: "compress=zstd",
  },
  { name: "mixed block groups, BLAKE2, zlib", make: ["-M", "--csum", "blake2"], mount: "compress=zlib" },
  { name: "holes told by extents", make: ["-O", "^no-holes"] },
  { name: "no copy on write", make: ["-m", "single"], mount: "nodatacow" },
  { name: "data and metadata twice", make: ["-d", "dup", "-m", "dup"], mount: "compress-force=zlib" },
  { name: "space cache of the first kind", make: ["-R", "^free-space-tree"], mount: "space_cache=v1" },
  { name: "metadata of the older form", make: ["-O", "^skinny-metadata,^extref"], mount: "max_inline=0" },
  { name: "zstd at its highest level", make: [], mount: "compress-force=zstd:15" },
];

const SIZES = [1, 300, 2040, 2049, 4095, 4096, 4097, 100_000, 131_071, 131_072, 131_073, 600_000];

/** Files of which all that compress can make less. */
function fillCompressible(root: string): void {
  Deno.mkdirSync(`${root}/text`);
  for (const size of SIZES) {
    const text = Array.from(
      noise(size, size),
      (byte) => byte < 128 ? "of the guest" : String.fromCharCode(byte),
    );
    Deno.writeTextFileSync(`${root}/text/${size}`, text.join("").slice(0, size));
    Deno.writeFileSync(`${root}/text/same${size}`, new Uint8Array(size).fill(size % 256));
  }
}

for (const { name, make, mount: options } of CASES) {
  mountTest(`btrfs: ${name}: shows what the kernel shows after a power failure`, async () => {
    await using folder = await CutFolder.open();
    using kernel = new Kernel();
    const image = await folder.make(...make);
    const cuts: string[] = [];
    {
      await using mount = await Mount.open(image, options ?? "defaults", "btrfs");
      await fillTree(mount.path, kernel, { names: 300 });
      fillCompressible(mount.path);
      await changeTree(mount.path, 0);
      await run("sync", "-f", mount.path);
      // What is written, the commit and the cut go on at the same time.
      const working = [run("sync", "-f", mount.path), changeTree(mount.path, 1)];
      try {
        cuts.push(await folder.cut(image));
      } finally {
        await Promise.allSettled(working);
      }
      await Promise.all(working);
      cuts.push(await folder.cut(image));
    }
    for (const cut of cuts) deepEqual((await compareCut(cut, kernel)).found, []);
  });
}

mountTest(
  "btrfs: subvolumes, snapshots and another default subvolume are shown as the kernel shows them",
  async () => {
    await using folder = await CutFolder.open();
    using kernel = new Kernel();
    const image = await folder.make("-L", "a label");
    const cuts: string[] = [];
    {
      await using mount = await Mount.open(image, "commit=300", "btrfs");
      await run(
        "bash",
        "-c",
        `set -e
      exec > /dev/null
      cd ${mount.path}
      btrfs subvolume create one; mkdir one/folder; echo 1 > one/folder/file; ln one/folder/file one/hard
      btrfs subvolume create one/nested; echo 2 > one/nested/file; chown 5:6 one; chmod 750 one/nested
      btrfs subvolume create two; echo 3 > two/file
      btrfs subvolume snapshot one shot; btrfs subvolume snapshot -r one one/folder/frozen
      echo changed > one/folder/file; echo more > shot/more
      btrfs subvolume create gone; echo 4 > gone/file; btrfs subvolume delete gone
      mv two one/moved
      btrfs subvolume snapshot . whole
      sync -f .`,
      );
      cuts.push(await folder.cut(image));
      for (const name of ["one/new", "shot/new", "whole/new"]) {
        using file = Deno.openSync(`${mount.path}/${name}`, { create: true, write: true });
        file.writeSync(new Uint8Array(5000).fill(7));
        file.syncSync();
      }
      cuts.push(await folder.cut(image));
      await run("btrfs", "subvolume", "set-default", `${mount.path}/one`);
      await run("sync", "-f", mount.path);
      cuts.push(await folder.cut(image));
    }
    const logged: boolean[] = [];
    for (const cut of cuts) {
      const { found, logged: log } = await compareCut(cut, kernel);
      deepEqual(found, []);
      logged.push(log);
    }
    deepEqual(logged, [false, true, false]);

    using device = new ImageDevice(cuts[0] ?? "");
    const fileSystem = openImage(device);
    equal(fileSystem.label, "a label");
    const tree = describeTree(fileSystem);
    const inodes = new Map<number, string[]>();
    for (const [path, { stat }] of tree) inodes.set(stat.inode, [...inodes.get(stat.inode) ?? [], path]);
    const shared = [...inodes.values()].filter((paths) => paths.length > 1).map((paths) => paths.join(" "));
    // Hard links, and in each snapshot of a folder the one empty directory that stands for all its subvolumes.
    deepEqual(shared.sort(), [
      "/one/folder/file /one/hard",
      "/one/folder/frozen/folder/file /one/folder/frozen/hard",
      "/shot/folder/file /shot/hard",
      "/whole/one /whole/shot",
    ]);
  },
);

mountTest("btrfs: statfs tells the same total, and about the same that is free", async () => {
  await using folder = await CutFolder.open();
  using kernel = new Kernel();
  const image = await folder.make();
  await using mount = await Mount.open(image, "defaults", "btrfs");
  Deno.writeFileSync(`${mount.path}/file`, new Uint8Array(20_000_000).fill(1));
  await run("sync", "-f", mount.path);
  using device = new ImageDevice(await folder.cut(image));
  const { space } = openImage(device);
  const theirs = kernel.space(mount.path);
  deepEqual({ ...space, freeBlocks: 0 }, { ...theirs, freeBlocks: 0 });
  const reserveBlocks = 16 * 1024 * 1024 / space.blockBytes;
  ok(space.freeBlocks >= theirs.freeBlocks && space.freeBlocks - theirs.freeBlocks < reserveBlocks);
});

import { deepEqual, equal, ok } from "node:assert/strict";
import { setTimeout as delay } from "node:timers/promises";
import { openGuestDisk } from "../guest_disk.ts";
import { describeTree, differences, ImageDevice, run, TemporaryFolder } from "../_test_support.ts";
import { random } from "../_hostile.ts";
import { changeTree, fillTree, type TreeOptions } from "../_busy_tree.ts";
import { Kernel, Mount, mountTest } from "../_kernel_mount.ts";

interface Case extends TreeOptions {
  readonly name: string;
  readonly make: string[];
  readonly tune?: string[];
  readonly mount?: string;
  /** Without a journal nothing can be relied on but what was unmounted. */
  readonly unmounted?: boolean;
}

const CASES: readonly Case[] = [
  { name: "ext4", make: [], names: 3000 },
  { name: "blocks of 1 KiB", make: ["-b", "1024"], names: 3000 },
  { name: "blocks of 2 KiB", make: ["-b", "2048"] },
  { name: "ext2", make: ["-t", "ext2"], unmounted: true },
  {
    name: "ext2, blocks of 1 KiB, inodes of 128 bytes",
    make: ["-t", "ext2", "-b", "1024", "-I", "128"],
    unmounted: true,
  },
  { name: "ext3", make: ["-t", "ext3"] },
  { name: "ext3, blocks of 1 KiB, a short journal", make: ["-t", "ext3", "-b", "1024", "-J", "size=1"] },
  { name: "data in the journal", make: [], mount: "data=journal" },
  {
    name: "data in a short journal, blocks of 1 KiB",
    make: ["-b", "1024", "-J", "size=2"],
    mount: "data=journal",
  },
  {
    name: "journal checksum of the first kind, asynchronous commits",
    make: ["-O", "^metadata_csum,uninit_bg"],
    mount: "journal_checksum,journal_async_commit,data=writeback",
  },
  { name: "asynchronous commits", make: [], mount: "journal_async_commit,data=writeback" },
  { name: "no metadata_csum", make: ["-O", "^metadata_csum"] },
  { name: "metadata_csum_seed", make: ["-O", "metadata_csum_seed"] },
  { name: "no 64bit", make: ["-O", "^64bit"] },
  { name: "inline_data", make: ["-O", "inline_data", "-I", "512"] },
  { name: "fast_commit, inline_data", make: ["-O", "fast_commit,inline_data"] },
  { name: "bigalloc", make: ["-O", "bigalloc", "-C", "65536"] },
  { name: "bigalloc, blocks of 1 KiB", make: ["-O", "bigalloc", "-b", "1024", "-C", "16384"] },
  { name: "meta_bg", make: ["-O", "meta_bg,^resize_inode", "-b", "1024", "-g", "1024"] },
  { name: "sparse_super2", make: ["-O", "sparse_super2,^resize_inode"] },
  { name: "ea_inode", make: ["-O", "ea_inode"], xattrBytes: 20000 },
  { name: "no dir_index", make: ["-O", "^dir_index"] },
  { name: "no filetype", make: ["-O", "^filetype"] },
  { name: "large_dir", make: ["-O", "large_dir", "-b", "1024"] },
  { name: "TEA hash", make: [], tune: ["-E", "hash_alg=tea"] },
  { name: "legacy hash", make: [], tune: ["-E", "hash_alg=legacy"] },
  { name: "fast_commit", make: ["-O", "fast_commit"] },
  { name: "fast_commit, blocks of 1 KiB", make: ["-O", "fast_commit", "-b", "1024"] },
  { name: "journal checksum beside metadata_csum", make: [], mount: "journal_checksum" },
  { name: "orphan_file", make: ["-O", "orphan_file"] },
  { name: "inline_data, data in the journal", make: ["-O", "inline_data"], mount: "data=journal" },
  { name: "ext3, data written back", make: ["-t", "ext3"], mount: "data=writeback" },
  { name: "blocks allotted at once", make: ["-O", "^flex_bg"], mount: "nodelalloc" },
];

/** Says when the power fails in each case: printed by what fails, and given again by `VARVE_CUT_SEED`. */
const SEED = Number(Deno.env.get("VARVE_CUT_SEED") ?? Date.now() % 1_000_000);
const CUT_AFTER_MS_MAX = 60;

/** Compares our tree of an image with that of a mount of its copy, whose journal the kernel replays. */
async function compare(image: string, kernel: Kernel): Promise<void> {
  await run("cp", "--sparse=always", image, `${image}.kernel`);
  await using mount = await Mount.open(`${image}.kernel`, "noatime");
  using device = new ImageDevice(image);
  const [partition] = openGuestDisk(device).partitions;
  const fileSystem = partition?.fileSystem;
  if (fileSystem === undefined) throw new Error(`${partition?.reason}`);
  const seed = `cut by seed ${SEED}`;
  const found = differences(describeTree(fileSystem, device), kernel.describeTree(mount.path));
  deepEqual([seed, ...found], [seed]);
  deepEqual(fileSystem.space, kernel.space(mount.path));
}

for (const [index, { name, make, tune, mount: options, unmounted, ...tree }] of CASES.entries()) {
  mountTest(`ext: ${name}: shows what the kernel shows after a power failure`, async () => {
    await using folder = new TemporaryFolder();
    using kernel = new Kernel();
    const image = `${folder.path}/image`;
    await run("truncate", "-s", "64M", image);
    await run("mkfs.ext4", "-q", "-F", "-b", "4096", "-N", "8192", ...make, image);
    if (tune !== undefined) await run("tune2fs", ...tune, image);
    {
      await using mount = await Mount.open(image, options ?? "defaults");
      await fillTree(mount.path, kernel, tree);
      await changeTree(mount.path, 0);
      await run("sync", "-f", mount.path);
      await changeTree(mount.path, 1);
      if (unmounted !== true) {
        await changeTree(mount.path, 2);
        await run("cp", "--sparse=always", image, `${image}.busy`);
        // The power fails in the midst of this round, wherever that is: what comes after it fails.
        const interrupted = changeTree(mount.path, 3).catch(() => {});
        await delay(random(SEED + index)(CUT_AFTER_MS_MAX));
        kernel.shutDown(mount.path);
        await interrupted;
      }
    }
    if (unmounted !== true) await compare(`${image}.busy`, kernel);
    await compare(image, kernel);
  });
}

mountTest("ext: a directory of 100,000 names is read right, and each name is found", async () => {
  await using folder = new TemporaryFolder();
  const image = `${folder.path}/image`;
  await run("truncate", "-s", "256M", image);
  await run("mkfs.ext4", "-q", "-F", "-N", "110000", image);
  const names = Array.from({ length: 100_000 }, (_, index) => `name number ${index}`);
  {
    await using mount = await Mount.open(image, "defaults");
    await Deno.writeTextFile(`${folder.path}/names`, names.join("\n"));
    await run(
      "bash",
      "-c",
      `mkdir ${mount.path}/many; cd ${mount.path}/many; xargs -d '\\n' touch <${folder.path}/names`,
    );
  }
  using device = new ImageDevice(image);
  const fileSystem = openGuestDisk(device).partitions[0]?.fileSystem;
  ok(fileSystem !== undefined);
  const encoder = new TextEncoder();
  const many = fileSystem.lookup(fileSystem.root, encoder.encode("many")) ?? 0;
  const entries = fileSystem.readDirectory(many);
  equal(entries.length, names.length);
  const inodes = new Map(entries.map(({ name, inode }) => [new TextDecoder().decode(name), inode]));
  deepEqual([...inodes.keys()].toSorted(), names.toSorted());
  for (const name of names) equal(fileSystem.lookup(many, encoder.encode(name)), inodes.get(name), name);
  equal(fileSystem.lookup(many, encoder.encode("name number 100000")), undefined);
});

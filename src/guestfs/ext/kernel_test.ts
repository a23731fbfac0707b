import { deepEqual } from "node:assert/strict";
import { openGuestDisk } from "../guest_disk.ts";
import { describeTree, differences, ImageDevice, run, TemporaryFolder } from "../_test_support.ts";
import { changeQuickly, changeTree, fillTree, type TreeOptions } from "./_busy_tree.ts";
import { Kernel, Mount } from "./_kernel_mount.ts";

interface Case extends TreeOptions {
  readonly name: string;
  readonly make: string[];
  readonly tune?: string[];
  /** Without a journal nothing holds after a power failure but what was unmounted. */
  readonly unmounted?: boolean;
  readonly mount?: string;
  readonly sizeMiB?: number;
}

const CASES: readonly Case[] = [
  { name: "ext4", make: [] },
  { name: "ext4, blocks of 1 KiB", make: ["-b", "1024"] },
  { name: "ext4, blocks of 2 KiB", make: ["-b", "2048"] },
  { name: "ext2", make: ["-t", "ext2"], unmounted: true },
  {
    name: "ext2, blocks of 1 KiB, inodes of 128 bytes",
    make: ["-t", "ext2", "-b", "1024", "-I", "128"],
    unmounted: true,
  },
  { name: "ext3", make: ["-t", "ext3"] },
  { name: "ext3, blocks of 1 KiB", make: ["-t", "ext3", "-b", "1024"] },
  { name: "data in the journal", make: [], mount: "data=journal" },
  {
    name: "journal checksum of the first kind",
    make: ["-O", "^metadata_csum,uninit_bg"],
    mount: "journal_checksum,journal_async_commit,data=writeback",
  },
  { name: "without metadata_csum", make: ["-O", "^metadata_csum"] },
  { name: "metadata_csum_seed", make: ["-O", "metadata_csum_seed"] },
  { name: "without 64bit", make: ["-O", "^64bit"] },
  { name: "inline_data", make: ["-O", "inline_data", "-I", "512"] },
  { name: "fast_commit", make: ["-O", "fast_commit"] },
  { name: "fast_commit inline_data", make: ["-O", "fast_commit,inline_data"] },
  { name: "bigalloc", make: ["-O", "bigalloc", "-C", "65536"] },
  { name: "bigalloc, blocks of 1 KiB", make: ["-O", "bigalloc", "-b", "1024", "-C", "16384"] },
  { name: "meta_bg", make: ["-O", "meta_bg,^resize_inode", "-b", "1024", "-g", "1024"] },
  { name: "sparse_super2", make: ["-O", "sparse_super2,^resize_inode"] },
  { name: "ea_inode", make: ["-O", "ea_inode"], xattrBytes: 20000 },
  { name: "quota, project", make: ["-O", "quota,project"] },
  { name: "without dir_index", make: ["-O", "^dir_index"], names: 800 },
  { name: "without filetype", make: ["-O", "^filetype"] },
  { name: "largedir", make: ["-O", "large_dir", "-b", "1024"], names: 6000 },
  { name: "tea hash", make: [], tune: ["-E", "hash_alg=tea"] },
  { name: "legacy hash", make: [], tune: ["-E", "hash_alg=legacy"] },
];

async function compare(image: string, kernel: Kernel): Promise<void> {
  await run("cp", "--sparse=always", image, `${image}.kernel`);
  await using mount = await Mount.open(`${image}.kernel`, "ro,noatime");
  using device = new ImageDevice(image);
  const disk = openGuestDisk(device);
  const [partition] = disk.partitions;
  const fileSystem = partition?.fileSystem;
  if (fileSystem === undefined) throw new Error(`${partition?.reason}`);
  deepEqual(differences(describeTree(fileSystem), kernel.describeTree(mount.path)), []);
  deepEqual(fileSystem.space, kernel.space(mount.path));
}

for (const { name, make, tune, mount: options, unmounted, sizeMiB, ...tree } of CASES) {
  Deno.test(`ext: ${name}: reads what the kernel reads after a power failure`, async () => {
    await using folder = new TemporaryFolder();
    using kernel = new Kernel();
    const image = `${folder.path}/image`;
    await run("truncate", "-s", `${sizeMiB ?? 64}M`, image);
    await run("mkfs.ext4", "-q", "-F", "-N", "8192", ...make, image);
    if (tune !== undefined) await run("tune2fs", ...tune, image);
    const cuts: string[] = [];
    const cut = async () => {
      cuts.push(`${image}.cut${cuts.length}`);
      await run("cp", "--sparse=always", image, `${image}.cut${cuts.length - 1}`);
    };
    {
      await using mount = await Mount.open(image, options ?? "defaults");
      await fillTree(mount.path, kernel, tree);
      await changeTree(mount.path, 0);
      await run("sync", "-f", mount.path);
      await changeTree(mount.path, 1);
      if (unmounted !== true) {
        await Promise.all([changeTree(mount.path, 2), cut()]);
        await changeTree(mount.path, 3);
        await cut();
        await changeQuickly(mount.path);
        kernel.shutDown(mount.path);
      }
    }
    cuts.push(image);
    for (const path of cuts) await compare(path, kernel);
  });
}

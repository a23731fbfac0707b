import { deepEqual, equal, ok } from "node:assert/strict";
import { setTimeout as delay } from "node:timers/promises";
import { openGuestDisk } from "../guest_disk.ts";
import {
  describeTree,
  differences,
  type FileFacts,
  ImageDevice,
  run,
  TemporaryFolder,
} from "../_test_support.ts";
import { changeTree, fillTree } from "../_busy_tree.ts";
import { Kernel, Mount, mountTest } from "../_kernel_mount.ts";
import { latin1 } from "../_bytes.ts";
import { changeXfs, fillXfs } from "./_busy_xfs.ts";
import { openXfs } from "./xfs_reader.ts";

interface Case {
  readonly name: string;
  readonly make: string[];
  /** Names in the large directory. */
  readonly names?: number;
  readonly reflink?: false;
  /** Extents of the file in pieces; 200 when absent. */
  readonly pieces?: number;
  /** Whether the image that the kernel recovered and unmounted is compared as well. */
  readonly unmountedToo?: true;
  /** Further rounds of changes, so that the log goes around. */
  readonly rounds?: number;
}

const CASES: readonly Case[] = [
  { name: "defaults", make: [], names: 2000, unmountedToo: true },
  { name: "all of version 5", make: ["-m", "rmapbt=1,reflink=1,bigtime=1,inobtcount=1", "-i", "nrext64=1"] },
  {
    name: "little of version 5",
    make: ["-m", "rmapbt=0,reflink=0,bigtime=0,inobtcount=0,finobt=0", "-i", "sparse=0,nrext64=0"],
    reflink: false,
  },
  { name: "blocks of 1 KiB", make: ["-b", "size=1024"], names: 2000, pieces: 1300 },
  { name: "blocks of 2 KiB, directory blocks of 8 KiB", make: ["-b", "size=2048", "-n", "size=8192"] },
  { name: "directory blocks of 64 KiB", make: ["-n", "size=65536"], names: 3000 },
  { name: "inodes of 2 KiB", make: ["-i", "size=2048"] },
  { name: "many groups", make: ["--unsupported", "-l", "size=8m", "-d", "agcount=16"] },
  { name: "a short log that goes around", make: ["--unsupported", "-l", "size=8m"], names: 1000, rounds: 6 },
  { name: "a log with stripes", make: ["--unsupported", "-l", "size=16m,su=131072"] },
  { name: "sectors of 4 KiB", make: ["-s", "size=4096"] },
  { name: "blocks of 16 KiB", make: ["-b", "size=16384"] },
  { name: "blocks of 64 KiB", make: ["-b", "size=65536"] },
];

/** Linux shows ACLs a second time, in the form that they have on disk. */
function withoutStoredAcls(tree: Map<string, FileFacts>): Map<string, FileFacts> {
  return new Map(
    Array.from(tree, ([path, facts]) => {
      const shown = Object.entries(facts.xattrs).filter(([name]) => !name.startsWith("trusted.SGI_ACL_"));
      return [path, { ...facts, xattrs: Object.fromEntries(shown) }];
    }),
  );
}

/** Compares our tree of an image with that of a mount of its copy, whose log the kernel replays. */
async function compare(image: string, kernel: Kernel): Promise<void> {
  const copy = `${image}.kernel`;
  await run("cp", "--sparse=always", image, copy);
  await using mount = await Mount.open(copy, "noatime,nouuid", "xfs");
  using device = new ImageDevice(image);
  const [partition] = openGuestDisk(device).partitions;
  const fileSystem = partition?.fileSystem;
  if (fileSystem === undefined) throw new Error(`${partition?.reason}`);
  deepEqual(
    differences(describeTree(fileSystem, device), withoutStoredAcls(kernel.describeTree(mount.path))),
    [],
  );
  equal(fileSystem.space.blocks, kernel.space(mount.path).blocks);
}

for (const { name, make, names = 500, reflink = true, rounds = 1, pieces = 200, unmountedToo } of CASES) {
  mountTest(`xfs: ${name}: shows what the kernel shows after a power failure`, async () => {
    await using folder = new TemporaryFolder();
    using kernel = new Kernel();
    const image = `${folder.path}/image`;
    await run("truncate", "-s", "300M", image);
    await run("mkfs.xfs", "-q", "-f", ...make, image);
    const options = { reflink, pieces };
    {
      await using mount = await Mount.open(image, "defaults", "xfs");
      await fillTree(mount.path, kernel, { names, xattrBytes: 20_000 });
      await fillXfs(mount.path, kernel, options);
      const change = async (round: number) => {
        await changeTree(mount.path, round);
        await changeXfs(mount.path, round, options);
      };
      await change(0);
      await run("sync", "-f", mount.path);
      for (let round = 1; round <= rounds; round++) await change(round);
      // The power fails in the midst of this round, wherever that is: what comes after it fails.
      const interrupted = change(rounds + 1).catch(() => {});
      await delay(60);
      kernel.shutDown(mount.path);
      await interrupted;
    }
    await compare(image, kernel);
    if (unmountedToo === true) await compare(`${image}.kernel`, kernel);
  });
}

// Linux (6.18, for one) crashes when it replays a log with directory blocks in pieces, and takes `sync` of the whole
// machine with it: it is never shown this image before it has unmounted it itself.
mountTest("xfs: directory blocks in pieces are shown before and after the kernel wrote them", async () => {
  await using folder = new TemporaryFolder();
  using kernel = new Kernel();
  const image = `${folder.path}/image`;
  await run("truncate", "-s", "32M", image);
  await run("mkfs.xfs", "-q", "-f", "--unsupported", "-l", "size=12m", "-n", "size=65536", image);
  const expected = new Set<string>();
  {
    await using mount = await Mount.open(image, "defaults", "xfs");
    await run("xfs_io", "-x", "-c", "resblks 0", mount.path);
    await Deno.mkdir(`${mount.path}/names`);
    await Deno.writeTextFile(`${mount.path}/target`, "");
    // All space is taken, then every second block of one file given back.
    const script = `cd ${mount.path}
      for size in 16384 8192 4096 2048 1024 512 256 128 64 32 16 8 4; do
        for copy in 1 2 3; do
          fallocate -l \${size}k full.$size.$copy 2>/dev/null || rm -f full.$size.$copy
        done
      done
      for hole in $(seq 0 1000); do echo "fpunch $((hole * 8192)) 4096"; done |
        xfs_io $(ls -S full.* | head -1) > /dev/null`;
    await run("bash", "-c", script);
    for (let index = 0; index < 8000; index++) {
      const name = `${"n".repeat(200)}${index}`;
      Deno.linkSync(`${mount.path}/target`, `${mount.path}/names/${name}`);
      expected.add(name);
    }
    for (let index = 0; index < 8000; index += 3) {
      const name = `${"n".repeat(200)}${index}`;
      Deno.removeSync(`${mount.path}/names/${name}`);
      expected.delete(name);
    }
    await run("sync", "-f", mount.path);
    ok((await run("xfs_bmap", `${mount.path}/names`)).split("\n").length > 20);
    await run("cp", "--sparse=always", image, `${image}.busy`);
  }
  using device = new ImageDevice(`${image}.busy`);
  const busy = openXfs(device);
  const directory = busy.lookup(busy.root, new TextEncoder().encode("names")) ?? 0;
  deepEqual(new Set(busy.readDirectory(directory).map(({ name }) => latin1(name))), expected);
  for (const name of expected) ok(busy.lookup(directory, new TextEncoder().encode(name)) !== undefined);
  await compare(image, kernel);
});

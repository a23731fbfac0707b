import { deepEqual, ok } from "node:assert/strict";
import { openGuestDisk } from "../guest_disk.ts";
import {
  describeTree,
  differences,
  type FileFacts,
  ImageDevice,
  run,
  TemporaryFolder,
} from "../_test_support.ts";
import { fillTree, noise } from "../_busy_tree.ts";
import { Kernel, mountTest } from "../_kernel_mount.ts";

interface Case {
  readonly name: string;
  readonly make: string[];
  /** What the kernel mounts instead, where it does not know the compressor: the tree is the same. */
  readonly kernelMake?: string[];
  /** Add a tree of all kinds of files. */
  readonly everything?: boolean;
}

const CASES: readonly Case[] = [
  { name: "gzip", make: ["-comp", "gzip"], everything: true },
  { name: "zstd, blocks of 1 MiB", make: ["-comp", "zstd", "-b", "1M"] },
  { name: "xz", make: ["-comp", "xz"] },
  {
    name: "xz with the filter for x86",
    make: ["-comp", "xz", "-Xbcj", "x86"],
    kernelMake: ["-comp", "gzip"],
  },
  { name: "lz4", make: ["-comp", "lz4"] },
  { name: "lz4, hard", make: ["-comp", "lz4", "-Xhc", "-b", "4096"] },
  { name: "lzo", make: ["-comp", "lzo"] },
  { name: "lzo1x_1", make: ["-comp", "lzo", "-Xalgorithm", "lzo1x_1", "-b", "16384"] },
  { name: "lzma", make: ["-comp", "lzma"], kernelMake: ["-comp", "gzip"] },
  { name: "nothing compressed", make: ["-noI", "-noId", "-noD", "-noF", "-noX"], everything: true },
  { name: "no fragments, no export table", make: ["-no-fragments", "-no-exports", "-b", "4096"] },
  {
    name: "all ends in fragments, no export table",
    make: ["-always-use-fragments", "-no-exports", "-comp", "zstd"],
  },
];

/** Content that compresses well, not at all, as machine code does, and holes; a directory with an index. */
async function makeTree(root: string): Promise<void> {
  await Deno.mkdir(`${root}/many`, { recursive: true });
  for (let index = 0; index < 3000; index++) {
    Deno.writeTextFileSync(`${root}/many/name number ${index}`, index % 100 === 0 ? `${index}` : "");
  }
  const program = Deno.readFileSync("/bin/bash");
  Deno.writeFileSync(`${root}/program`, program.subarray(0, 400_001));
  Deno.writeTextFileSync(`${root}/text`, "all work and no play\n".repeat(30_000));
  Deno.writeFileSync(`${root}/noise`, noise(5, 300_000));
  const holes = new Uint8Array(3_000_000);
  holes.set(noise(6, 5000), 900_000);
  Deno.writeFileSync(`${root}/holes`, holes);
  for (const size of [0, 1, 4095, 4096, 4097, 131_072]) {
    Deno.writeFileSync(`${root}/${size}`, noise(size, size));
  }
  for (const name of ["text", "noise"]) {
    await run("setfattr", "-n", "user.large", "-v", "v".repeat(3000), `${root}/${name}`);
  }
}

/** SquashFS in the kernel does not tell holes from data. */
function withoutSegments(tree: ReadonlyMap<string, FileFacts>): Map<string, FileFacts> {
  return new Map([...tree].map(([path, facts]) => [path, { ...facts, segments: [] }]));
}

for (const { name, make, kernelMake, everything } of CASES) {
  mountTest(`squashfs: ${name}: shows what the kernel shows`, async () => {
    await using folder = new TemporaryFolder();
    using kernel = new Kernel();
    const [tree, image, peer, mount] = ["tree", "image", "peer", "mount"].map((each) =>
      `${folder.path}/${each}`
    ) as [
      string,
      string,
      string,
      string,
    ];
    await Deno.mkdir(mount);
    await makeTree(tree);
    if (everything === true) {
      await Deno.mkdir(`${tree}/everything`);
      await fillTree(`${tree}/everything`, kernel, { names: 400 });
    }
    const build = (path: string, options: string[]) =>
      run("mksquashfs", tree, path, "-noappend", "-no-progress", "-quiet", "-mkfs-time", "0", ...options);
    await build(image, make);
    if (kernelMake !== undefined) await build(peer, kernelMake);
    using device = new ImageDevice(image);
    const [partition] = openGuestDisk(device).partitions;
    const fileSystem = partition?.fileSystem;
    ok(fileSystem !== undefined, partition?.reason);
    await run("mount", "-t", "squashfs", "-o", "loop,ro", kernelMake === undefined ? image : peer, mount);
    try {
      const theirs = withoutSegments(kernel.describeTree(mount));
      deepEqual(differences(withoutSegments(describeTree(fileSystem, device)), theirs), []);
      ok(theirs.size > 3010);
      if (kernelMake === undefined) deepEqual(fileSystem.space, kernel.space(mount));
    } finally {
      await run("umount", mount);
    }
  });
}

import { seekContent } from "../content.ts";
import { ok } from "node:assert/strict";
import { VarveError } from "../../base/errors.ts";
import { openGuestDisk } from "../guest_disk.ts";
import type { GuestFileSystem } from "../guest.ts";
import { MemoryDevice, run, TemporaryFolder } from "../_test_support.ts";
import { changeTree, fillTree } from "../_busy_tree.ts";
import { Kernel, Mount, mountTest } from "../_kernel_mount.ts";

const IMAGES_PER_KIND = 70;
const VISITS_MAX = 1500;

/** Without checksums damage is met by every check behind them, so most kinds have none. */
const KINDS: Readonly<Record<string, string[]>> = {
  "extents and 1 KiB blocks": ["-b", "1024", "-O", "^metadata_csum"],
  "block pointers": ["-t", "ext3", "-b", "1024"],
  "inline data and fast commits": ["-b", "4096", "-I", "512", "-O", "^metadata_csum,inline_data,fast_commit"],
  "checksums": ["-b", "4096"],
};

/** A small generator of the same numbers for the same seed. */
function random(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor(state / 2 ** 32 * below);
  };
}

/** Runs one call; its failure is fine if it is ours. */
function attempt<Result>(work: () => Result): Result | undefined {
  try {
    return work();
  } catch (thrown) {
    if (thrown instanceof VarveError) return undefined;
    throw thrown;
  }
}

/** Calls everything on everything that can be reached; returns how many inodes that was. */
function exercise(fileSystem: GuestFileSystem): number {
  attempt(() => fileSystem.space);
  const waiting = [fileSystem.root];
  const seen = new Set(waiting);
  const buffer = new Uint8Array(100_000);
  let visits = 0;
  for (let inode = waiting.pop(); inode !== undefined && visits < VISITS_MAX; inode = waiting.pop()) {
    visits++;
    const number = inode;
    const stat = attempt(() => fileSystem.stat(number));
    if (stat === undefined) continue;
    attempt(() => fileSystem.xattrs(number));
    attempt(() => fileSystem.readLink(number));
    attempt(() => fileSystem.read(number, 0, buffer));
    attempt(() => fileSystem.read(number, Math.floor(stat.sizeBytes / 2), buffer));
    attempt(() => fileSystem.map(number, 0, 2 ** 50));
    attempt(() => seekContent(fileSystem, stat, { offset: 0, kind: "hole" }));
    const entries = attempt(() => fileSystem.readDirectory(number)) ?? [];
    for (const [index, entry] of entries.entries()) {
      if (index % 20 === 0) attempt(() => fileSystem.lookup(number, entry.name));
      if (!seen.has(entry.inode)) waiting.push(entry.inode);
      seen.add(entry.inode);
    }
    attempt(() => fileSystem.lookup(number, new TextEncoder().encode("a name that is not there")));
  }
  return visits;
}

/** Offsets of blocks of 1 KiB that hold something; where files keep their content a flip does nothing. */
function usedBlocks(image: Uint8Array): number[] {
  const used: number[] = [];
  for (let at = 0; at < image.length; at += 1024) {
    if (image.subarray(at, at + 1024).some((byte) => byte !== 0)) used.push(at);
  }
  return used;
}

for (const [kind, make] of Object.entries(KINDS)) {
  mountTest(`ext: damaged images (${kind}) give answers or our errors, and an end`, async () => {
    await using folder = new TemporaryFolder();
    using kernel = new Kernel();
    const image = `${folder.path}/image`;
    await run("truncate", "-s", "48M", image);
    await run("mkfs.ext4", "-q", "-F", "-N", "2048", "-J", "size=4", ...make, image);
    {
      await using mount = await Mount.open(image, "defaults");
      await fillTree(mount.path, kernel, { names: 400 });
      await changeTree(mount.path, 0);
      kernel.shutDown(mount.path);
    }
    const bytes = await Deno.readFile(image);
    const device = new MemoryDevice(bytes);
    const whole = openGuestDisk(device).partitions[0]?.fileSystem;
    ok(whole !== undefined && exercise(whole) > 400);
    const used = usedBlocks(bytes);
    for (let seed = 1; seed <= IMAGES_PER_KIND; seed++) {
      const next = random(seed);
      const undo: [number, number][] = [];
      for (let flips = 1 + next(30); flips > 0; flips--) {
        const at = (used[next(next(2) === 0 ? 64 : used.length)] ?? 0) + next(1024);
        undo.push([at, bytes[at] ?? 0]);
        bytes[at] = next(3) === 0 ? 0xff : next(256);
      }
      try {
        const { partitions } = openGuestDisk(device);
        for (const { fileSystem } of partitions) if (fileSystem !== undefined) exercise(fileSystem);
      } catch (thrown) {
        throw new Error(`seed ${seed}: ${thrown}`, { cause: thrown });
      }
      for (const [at, byte] of undo.reverse()) bytes[at] = byte;
    }
  });
}

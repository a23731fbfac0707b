import { ok } from "node:assert/strict";
import { openGuestDisk } from "../guest_disk.ts";
import { MemoryDevice, run, TemporaryFolder } from "../_test_support.ts";
import { changeTree, fillTree } from "../_busy_tree.ts";
import { exercise, Mutation, random, usedPieces } from "../_hostile.ts";
import { Kernel, Mount, mountTest } from "../_kernel_mount.ts";
import { GROUP, INODE, INODE_BLOCK_BYTES, SB, SUPERBLOCK_OFFSET } from "./format.ts";

const IMAGES_PER_KIND = 250;
/** Inodes that one damaged image is looked at; the order in which they are found makes them others each time. */
const VISITS_MAX = 150;

/** Without checksums damage is met by every check behind them, so most kinds have none. */
const KINDS: Readonly<Record<string, string[]>> = {
  "extents and 1 KiB blocks": ["-b", "1024", "-O", "^metadata_csum"],
  "block pointers": ["-t", "ext3", "-b", "1024"],
  "inline data and fast commits": ["-b", "4096", "-I", "512", "-O", "^metadata_csum,inline_data,fast_commit"],
  "checksums": ["-b", "4096"],
};

/** Places where a change is met by a parser: fields of the superblock, of descriptors, of inodes and within them. */
class Structures {
  readonly #view: DataView;
  readonly #used: readonly number[];
  readonly #inodes: readonly number[];
  readonly #descriptors: number;

  constructor(bytes: Uint8Array) {
    this.#view = new DataView(bytes.buffer);
    this.#used = usedPieces(bytes, 1024);
    const superblock = (at: number) => this.#view.getUint32(SUPERBLOCK_OFFSET + at, true);
    const blockBytes = 1024 << superblock(SB.logBlockSize);
    this.#descriptors = blockBytes * (superblock(SB.firstDataBlock) + 1);
    const inodeBytes = this.#view.getUint16(SUPERBLOCK_OFFSET + SB.inodeSize, true);
    const table = this.#view.getUint32(this.#descriptors + GROUP.inodeTableLow, true) * blockBytes;
    const all = Array.from(
      { length: superblock(SB.inodesPerGroup) },
      (_, index) => table + index * inodeBytes,
    );
    this.#inodes = all.filter((at) => this.#view.getUint16(at + INODE.mode, true) !== 0);
  }

  /** One of them. */
  place(next: (below: number) => number): number {
    const pick = <Value>(values: readonly Value[]) => values[next(values.length)] as Value;
    const inode = pick(this.#inodes);
    switch (next(8)) {
      case 0:
        return SUPERBLOCK_OFFSET + pick(Object.values(SB));
      case 1:
        return this.#descriptors + pick(Object.values(GROUP));
      case 2:
        return inode + pick(Object.values(INODE));
      case 3:
        return inode + INODE.block + next(INODE_BLOCK_BYTES);
      case 4:
        return inode + next(256);
      default: {
        // Half of them in the first blocks, where there is more than content of files.
        const used = next(2) === 0 ? this.#used.slice(0, 64) : this.#used;
        return pick(used) + (next(2) === 0 ? next(64) : next(1024));
      }
    }
  }
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
    const structures = new Structures(bytes);
    let opened = 0;
    for (let seed = 1; seed <= IMAGES_PER_KIND; seed++) {
      const next = random(seed);
      using mutation = new Mutation(device);
      for (let count = 1 + next(20); count > 0; count--) mutation.field(structures.place(next), next);
      try {
        for (const { fileSystem } of openGuestDisk(device).partitions) {
          if (fileSystem === undefined) continue;
          opened++;
          exercise(fileSystem, VISITS_MAX);
        }
      } catch (thrown) {
        throw new Error(`seed ${seed}: ${thrown}`, { cause: thrown });
      }
    }
    ok(opened > 0, `${opened} opened`);
  });
}

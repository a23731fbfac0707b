import { ok } from "node:assert/strict";
import { changeTree, fillTree } from "../_busy_tree.ts";
import { exercise, random } from "../_hostile.ts";
import { Kernel, Mount, mountTest } from "../_kernel_mount.ts";
import { MemoryDevice } from "../_test_support.ts";
import { openGuestDisk } from "../guest_disk.ts";
import { CutFolder } from "./_cuts.ts";
import { SUPERBLOCK_OFFSET } from "./format.ts";
import { nodeBytesOf, repairChecksum, repairSuperblock, treeBlocks } from "./_images.ts";
import { LOG_STEPS, prepareLogWork } from "./_log_work.ts";

const IMAGES_PER_KIND = 340;
const VISITS_MAX = 120;

/** One copy of everything, so that what is damaged is met. */
const KINDS: Readonly<Record<string, { make: string[]; mount: string }>> = {
  "as mkfs makes it": { make: ["-m", "single"], mount: "commit=300,compress-force=lzo" },
  "holes told by extents, zstd": {
    make: ["-m", "single", "-O", "^no-holes"],
    mount: "commit=300,compress-force=zstd",
  },
  "small mixed tree blocks, zlib": {
    make: ["-M", "-m", "single", "-d", "single"],
    mount: "commit=300,compress-force=zlib",
  },
};

/** Tells which parts of an image were read. */
class WatchedDevice extends MemoryDevice {
  readonly reads: [start: number, end: number][] = [];

  override read(offset: number, target: Uint8Array): void {
    this.reads.push([offset, offset + target.length]);
    super.read(offset, target);
  }
}

for (const [kind, { make, mount: options }] of Object.entries(KINDS)) {
  mountTest(`btrfs: damaged images (${kind}) give answers or our errors, and an end`, async () => {
    await using folder = await CutFolder.open();
    using kernel = new Kernel();
    const image = await folder.make(...make);
    let cut: string;
    {
      await using mount = await Mount.open(image, options, "btrfs");
      await fillTree(mount.path, kernel, { names: 300 });
      await changeTree(mount.path, 0);
      const root = `${mount.path}/logged`;
      Deno.mkdirSync(root);
      await prepareLogWork(root);
      for (
        const step of [
          "deleted names",
          "more and fewer links",
          "writes within, cuts and growth",
          "attributes",
        ]
      ) {
        await LOG_STEPS[step]?.(root);
      }
      cut = await folder.cut(image);
    }
    const bytes = await Deno.readFile(cut);
    const device = new WatchedDevice(bytes);
    const whole = openGuestDisk(device).partitions[0]?.fileSystem;
    ok(whole !== undefined && exercise(whole, VISITS_MAX) === VISITS_MAX);
    const { reads } = device;
    const nodeBytes = nodeBytesOf(bytes);
    const blocks = treeBlocks(bytes).filter(({ at }) =>
      reads.some(([start, end]) => start <= at && at < end)
    );
    let opened = 0;
    for (let seed = 1; seed <= IMAGES_PER_KIND; seed++) {
      const next = random(seed);
      const undo: [number, Uint8Array][] = [];
      for (let count = 1 + next(6); count > 0; count--) {
        const inSuperblock = next(12) === 0;
        const start = inSuperblock ? SUPERBLOCK_OFFSET : blocks[next(blocks.length)]?.at ?? 0;
        const length = inSuperblock ? 4096 : nodeBytes;
        undo.push([start, bytes.slice(start, start + length)]);
        // Headers and the first items are met most often, and the last bytes are the data of the first items.
        const end = next(2) === 0 ? 400 : length;
        for (let changes = 1 + next(4); changes > 0; changes--) {
          const at = start + (next(4) === 0 ? length - 1 - next(600) : 32 + next(end - 32));
          const change = next(5);
          bytes[at] = change === 0
            ? 0xff
            : change === 1
            ? 0
            : change === 2
            ? (bytes[at] ?? 0) + 1
            : next(256);
        }
        // Without a repaired checksum only the check of that is tested.
        if (next(20) === 0) continue;
        if (inSuperblock) repairSuperblock(bytes);
        else repairChecksum(bytes, start, nodeBytes);
      }
      try {
        const { partitions } = openGuestDisk(device);
        for (const { fileSystem } of partitions) {
          if (fileSystem === undefined) continue;
          opened++;
          exercise(fileSystem, VISITS_MAX);
        }
      } catch (thrown) {
        throw new Error(`seed ${seed}: ${thrown}`, { cause: thrown });
      }
      device.reads.length = 0;
      for (const [start, old] of undo.reverse()) bytes.set(old, start);
    }
    // Most of the damage must be met behind the opening, not only by it.
    ok(opened > IMAGES_PER_KIND / 4, `only ${opened} were opened`);
  });
}

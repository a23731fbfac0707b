import { deepEqual, ok } from "node:assert/strict";
import { noise } from "../_busy_tree.ts";
import { mountTest } from "../_kernel_mount.ts";
import { describeTree, MemoryDevice, TemporaryFolder } from "../_test_support.ts";
import {
  attack,
  CountingDevice,
  exercise,
  oddNumber,
  type Patch,
  type Random,
  usedSectors,
} from "../fat/testing.ts";
import { checkExfat, ExfatMount, makeExfat } from "./_exfat_mount.ts";
import { sealBoot, sealSet } from "./_sums.ts";
import { EXFAT_READER } from "./exfat_reader.ts";

const IMAGES = 1000;

async function filledImage(folder: string): Promise<Uint8Array> {
  const image = `${folder}/image`;
  await makeExfat(image, "8M", ["-c", "512"]);
  {
    await using mount = await ExfatMount.open(image);
    await Deno.mkdir(`${mount.path}/a/b/c`, { recursive: true });
    await Deno.mkdir(`${mount.path}/many`);
    for (let index = 0; index < 60; index++) {
      Deno.writeFileSync(`${mount.path}/many/${index} has a name of some length`, noise(index, 20 * index));
    }
    for (let index = 0; index < 60; index += 2) {
      Deno.removeSync(`${mount.path}/many/${index} has a name of some length`);
    }
    for (const path of ["a/b/c/deep", "a/b/low", "large"]) {
      Deno.writeFileSync(`${mount.path}/${path}`, noise(1, 30_000));
    }
  }
  await checkExfat(image);
  return await Deno.readFile(image);
}

/** Changes that know where things are, with checksums that match all the same, and some that do not. */
function mutator(image: Uint8Array): (patch: Patch, next: Random) => void {
  const view = new DataView(image.buffer);
  const fatOffset = view.getUint32(80, true) * 512;
  const rootOffset = view.getUint32(88, true) * 512 + (view.getUint32(96, true) - 2) * 512;
  const tree = describeTree(EXFAT_READER.open(new MemoryDevice(image)));
  const sets = [...tree.values()].map(({ stat }) => Math.floor(stat.inode / 2) * 32).filter((at) => at > 0);
  const used = usedSectors(image);
  const pick = (from: readonly number[], next: Random) => from[next(from.length)] ?? 0;
  const changes: ((patch: Patch, next: Random) => void)[] = [
    (patch, next) => {
      const [at, width] =
        [[72, 4], [80, 4], [84, 4], [88, 4], [92, 4], [96, 4], [104, 2], [106, 2], [108, 1], [109, 1], [
          110,
          1,
        ]][next(11)] ?? [72, 4];
      patch.writeNumber(at ?? 0, next(2) === 0 ? next(70) : oddNumber(next), width);
      sealBoot(image, patch);
    },
    (patch, next) => {
      patch.writeNumber(fatOffset + 4 * (2 + next(600)), next(2) === 0 ? 2 + next(600) : oddNumber(next));
    },
    (patch, next) => {
      const set = pick(sets, next);
      const [at, width] =
        [[1, 1], [4, 2], [8, 4], [20, 4], [33, 1], [35, 1], [40, 4], [44, 4], [52, 4], [56, 4], [60, 4]][
          next(11)
        ] ?? [1, 1];
      patch.writeNumber(set + (at ?? 0), next(2) === 0 ? next(600) : oddNumber(next), width);
      sealSet(image, patch, set);
    },
    (patch, next) =>
      patch.write(pick(sets, next) + 32 * next(5), [0, 5, 0x81, 0x85, 0xc0, 0xc1, 0xe0][next(7)] ?? 0),
    // The tables that the root directory leads to.
    (patch, next) => patch.write(rootOffset + next(128), next(256)),
    (patch, next) => patch.write(pick(used, next) + next(512), next(3) === 0 ? 0xff : next(256)),
  ];
  return (patch, next) => {
    for (let count = 1 + next(12); count > 0; count--) {
      changes[next(20) === 0 ? 0 : 1 + next(changes.length - 1)]?.(patch, next);
    }
  };
}

mountTest("exfat: damaged images give answers or our errors, and an end", async () => {
  await using folder = new TemporaryFolder();
  const image = await filledImage(folder.path);
  const whole = EXFAT_READER.open(new CountingDevice(image));
  ok(exercise(whole) > 35);
  const before = image.slice();
  const opened = attack(EXFAT_READER, image, { images: IMAGES, mutate: mutator(image) });
  ok(opened > IMAGES / 3 && opened < IMAGES, `${opened} of ${IMAGES} were opened`);
  deepEqual(image, before);
});

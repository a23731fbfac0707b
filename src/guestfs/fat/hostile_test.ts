import { deepEqual, ok } from "node:assert/strict";
import { noise } from "../_busy_tree.ts";
import { describeTree, MemoryDevice, TemporaryFolder } from "../_test_support.ts";
import { checkFat, makeFat, mtools } from "./_mtools.ts";
import { FAT_READER } from "./fat_reader.ts";
import {
  attack,
  CountingDevice,
  exercise,
  oddNumber,
  type Patch,
  type Random,
  usedSectors,
} from "./testing.ts";

const IMAGES = 1000;

interface Kind {
  readonly size: string;
  readonly make: readonly string[];
  /** Where the first FAT lies, and the bits of its entries. */
  readonly fatOffset: number;
  readonly bits: number;
}

const KINDS: Readonly<Record<string, Kind>> = {
  FAT12: { size: "720K", make: ["-F", "12", "-s", "1", "-a"], fatOffset: 512, bits: 12 },
  FAT16: { size: "3M", make: ["-F", "16", "-s", "1", "-a"], fatOffset: 512, bits: 16 },
  FAT32: { size: "36M", make: ["-F", "32", "-s", "1", "-a"], fatOffset: 32 * 512, bits: 32 },
};

async function filledImage(folder: string, { size, make }: Kind): Promise<Uint8Array> {
  const image = `${folder}/image`;
  const source = `${folder}/source`;
  await makeFat(image, size, make);
  await Deno.mkdir(`${source}/a/b/c`, { recursive: true });
  await Deno.mkdir(`${source}/many`);
  for (let index = 0; index < 60; index++) {
    Deno.writeFileSync(`${source}/many/${index} has a name of some length`, noise(index, 20 * index));
  }
  for (const path of ["a/b/c/deep", "a/b/LOW.txt", "large"]) {
    Deno.writeFileSync(`${source}/${path}`, noise(1, 30_000));
  }
  await mtools("mcopy", image, "-s", `${source}/a`, `${source}/many`, "::");
  await mtools("mdel", image, "::many/1*");
  await mtools("mcopy", image, `${source}/large`, "::");
  await checkFat(image);
  return await Deno.readFile(image);
}

/** Changes that know where things are: the boot sector, entries of the FAT, entries of directories; and some that do not. */
function mutator(image: Uint8Array, { fatOffset, bits }: Kind): (patch: Patch, next: Random) => void {
  const tree = describeTree(FAT_READER.open(new MemoryDevice(image)));
  const entries = [...tree.values()].map(({ stat }) => stat.inode * 32).filter((offset) => offset > 32);
  const used = usedSectors(image);
  const pick = (from: readonly number[], next: Random) => from[next(from.length)] ?? 0;
  const changes: ((patch: Patch, next: Random) => void)[] = [
    (patch, next) => patch.write(next(90), next(256)),
    (patch, next) => {
      const [at, width] =
        [[11, 2], [13, 1], [14, 2], [17, 2], [19, 2], [22, 2], [32, 4], [36, 4], [40, 2], [44, 4]][
          next(10)
        ] ?? [0, 1];
      patch.writeNumber(at ?? 0, oddNumber(next), width);
    },
    (patch, next) => {
      const cluster = 2 + next(500);
      patch.writeNumber(
        fatOffset + Math.floor(cluster * bits / 8),
        next(2) === 0 ? 2 + next(500) : oddNumber(next),
        Math.ceil(bits / 8),
      );
    },
    (patch, next) => {
      const [at, width] = [[0, 1], [11, 1], [12, 1], [14, 4], [20, 2], [22, 4], [26, 2], [28, 4]][next(8)] ??
        [0, 1];
      patch.writeNumber(pick(entries, next) + (at ?? 0), next(2) === 0 ? next(500) : oddNumber(next), width);
    },
    // The parts of a long name stand before its entry.
    (patch, next) => patch.write(pick(entries, next) - 32 * (1 + next(3)) + next(32), next(256)),
    (patch, next) => patch.write(pick(used, next) + next(512), next(3) === 0 ? 0xff : next(256)),
  ];
  return (patch, next) => {
    // Damage of the boot sector hides all other, so there is little of it.
    const last = changes.length;
    for (let count = 1 + next(12); count > 0; count--) {
      changes[next(6) === 0 ? next(last) : 2 + next(last - 2)]?.(patch, next);
    }
  };
}

for (const [name, kind] of Object.entries(KINDS)) {
  Deno.test(`fat: damaged images of ${name} give answers or our errors, and an end`, async () => {
    await using folder = new TemporaryFolder();
    const image = await filledImage(folder.path, kind);
    const whole = FAT_READER.open(new CountingDevice(image));
    ok(exercise(whole) > 50);
    const before = image.slice();
    const images = Math.ceil(IMAGES / Object.keys(KINDS).length);
    const opened = attack(FAT_READER, image, { images, mutate: mutator(image, kind) });
    ok(opened > images / 3 && opened < images, `${opened} of ${images} were opened`);
    deepEqual(image, before);
  });
}

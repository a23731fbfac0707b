import { deepEqual, ok } from "node:assert/strict";
import { Kernel, Mount, mountTest } from "../_kernel_mount.ts";
import { run } from "../_test_support.ts";
import { compareCut, CutFolder } from "./_cuts.ts";
import { LOG_STEPS, prepareLogWork, randomLogStep } from "./_log_work.ts";

/** A commit in the midst would empty the log. */
const MOUNT = "commit=300";

/** Compares all cuts with the kernel; returns how many had a log. */
async function compareAll(cuts: readonly (readonly [string, string])[], kernel: Kernel): Promise<number> {
  let logged = 0;
  for (const [name, cut] of cuts) {
    const result = await compareCut(cut, kernel);
    deepEqual(result.found, [], name);
    if (result.logged) logged++;
  }
  return logged;
}

const CASES: readonly { name: string; make: string[]; mount: string; subvolume?: string }[] = [
  { name: "as mkfs makes it", make: [], mount: MOUNT },
  {
    name: "in a subvolume, holes told by extents, small tree blocks",
    make: ["-O", "^no-holes", "-n", "4096"],
    mount: `${MOUNT},compress-force=zstd`,
    subvolume: "inner",
  },
];

for (const { name, make, mount: options, subvolume } of CASES) {
  mountTest(`btrfs: what was synced file by file (${name}) is shown as the kernel replays it`, async () => {
    await using folder = await CutFolder.open();
    using kernel = new Kernel();
    const image = await folder.make(...make);
    const cuts: [string, string][] = [];
    {
      await using mount = await Mount.open(image, options, "btrfs");
      const root = subvolume === undefined ? mount.path : `${mount.path}/${subvolume}`;
      if (subvolume !== undefined) await run("btrfs", "subvolume", "create", root);
      await prepareLogWork(root);
      for (const [step, work] of Object.entries(LOG_STEPS)) {
        await work(root);
        cuts.push([step, await folder.cut(image)]);
      }
    }
    const logged = await compareAll(cuts, kernel);
    ok(logged >= 5, `only ${logged} cuts had a log`);
  });
}

/** Seeds whose random work fills the log well. */
for (const seed of [1, 2]) {
  mountTest(`btrfs: random work (seed ${seed}) is shown as the kernel replays it`, async () => {
    await using folder = await CutFolder.open();
    using kernel = new Kernel();
    const image = await folder.make();
    const cuts: [string, string][] = [];
    let state = seed;
    const next = (below: number) => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return Math.floor(state / 2 ** 32 * below);
    };
    {
      await using mount = await Mount.open(image, MOUNT, "btrfs");
      for (let step = 0; step < 400 && cuts.length < 14; step++) {
        if (step % 100 === 60) await run("sync", "-f", mount.path);
        if (randomLogStep(mount.path, next) && step > 60) {
          cuts.push([`step ${step}`, await folder.cut(image)]);
        }
      }
    }
    const logged = await compareAll(cuts, kernel);
    ok(logged >= 5, `only ${logged} cuts had a log`);
  });
}

import { deepEqual, ok } from "node:assert/strict";
import { openGuestDisk } from "../guest_disk.ts";
import { describeTree, differences, ImageDevice, run, TemporaryFolder } from "../_test_support.ts";
import { noise } from "../_busy_tree.ts";
import { readJournal } from "./journal.ts";
import { Kernel, Mount, mountTest } from "../_kernel_mount.ts";
import { ExtVolume } from "./volume.ts";

const CHANGES: Readonly<Record<string, (root: string) => Promise<unknown>>> = {
  "a created file": (root) => Deno.writeFile(`${root}/new`, noise(9, 10_000)),
  "an unlinked file": (root) => Deno.remove(`${root}/file0`),
  "a hard link": (root) => Deno.link(`${root}/file0`, `${root}/new`),
  "a file renamed over another": (root) => Deno.rename(`${root}/file0`, `${root}/file1`),
  "two swapped files": async (root) => {
    await Deno.rename(`${root}/file0`, `${root}/third`);
    await Deno.rename(`${root}/file1`, `${root}/file0`);
    await Deno.rename(`${root}/third`, `${root}/file1`);
  },
  "a shortened file": (root) => Deno.truncate(`${root}/file2`, 100),
  "a file that grew": (root) => Deno.writeFile(`${root}/file2`, noise(8, 20_000), { append: true }),
  "changed modes": (root) => Deno.chmod(`${root}/file2`, 0o600),
  "a punched hole": (root) => run("fallocate", "-p", "-o", "8192", "-l", "8192", `${root}/file3`),
  "preallocated space": (root) => run("fallocate", "-l", "100000", `${root}/file3`),
  "a new directory with a file": async (root) => {
    await Deno.mkdir(`${root}/folder`);
    await Deno.writeTextFile(`${root}/folder/inside`, "inside");
  },
  "a removed directory": (root) => Deno.remove(`${root}/old folder`),
};

/**
 * What the kernel's own replay does not restore, while a mount before the crash showed it: times of directories
 * whose names it changes become the time of the replay, new directories have one link and no blocks.
 */
const NOT_RESTORED = /^(\/folder)?: (modifiedNs|changedNs): |^\/folder: (links|blocks512): /;

for (const [what, change] of Object.entries(CHANGES)) {
  mountTest(`fast commit: ${what} shows as after the kernel's replay`, async () => {
    await using folder = new TemporaryFolder();
    using kernel = new Kernel();
    const image = `${folder.path}/image`;
    await run("truncate", "-s", "32M", image);
    await run("mkfs.ext4", "-q", "-F", "-b", "4096", "-N", "256", "-O", "fast_commit", image);
    {
      await using mount = await Mount.open(image, "noatime");
      for (let index = 0; index < 5; index++) {
        Deno.writeFileSync(`${mount.path}/file${index}`, noise(index, 30_000));
      }
      await Deno.mkdir(`${mount.path}/old folder`);
      await run("sync", "-f", mount.path);
      await change(mount.path);
      await Deno.writeTextFile(`${mount.path}/file4`, "what is synced takes the rest along");
      await run("sync", `${mount.path}/file4`);
      kernel.shutDown(mount.path);
    }
    await run("cp", "--sparse=always", image, `${image}.kernel`);
    await using mount = await Mount.open(`${image}.kernel`, "noatime");
    using device = new ImageDevice(image);
    ok(readJournal(new ExtVolume(device, 4096, new Map())).fastCommits.length > 0, "no fast commit was made");
    const fileSystem = openGuestDisk(device).partitions[0]?.fileSystem;
    ok(fileSystem !== undefined);
    const different = differences(describeTree(fileSystem, device), kernel.describeTree(mount.path));
    deepEqual(different.filter((line) => !NOT_RESTORED.test(line)), []);
  });
}

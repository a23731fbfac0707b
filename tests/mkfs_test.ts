/**
 * Formatting a large volume: mkfs discards all of it first, in hundreds of commands, and must be done in seconds. On the way
 * there a whole-device trim passes `BLKDISCARD` of the loop device, a punched hole in the file that `nbdfuse` shows, and
 * NBD's TRIM.
 *
 * @module
 */
import assert from "node:assert/strict";
import { isZero } from "../src/base/bytes.ts";
import { type TestAppliance, withAppliance } from "./support/appliance.ts";
import { MIB } from "./support/bytes.ts";
import { loopDevice, nbdAsFile } from "./support/devices.ts";
import { run } from "./support/run.ts";

const SIZE_BYTES = 2 ** 41;
/** It takes about a second; more than this means that something goes through the volume block by block. */
const LIMIT_SECONDS = 60;
/** Where there was something before, and no file system puts anything. */
const OLD_OFFSETS = [2 ** 30 + 5 * MIB, 3 * 2 ** 38 + 77 * 4096, SIZE_BYTES - 300 * MIB];

const FILE_SYSTEMS = [
  { name: "ext4", mkfs: ["mkfs.ext4", "-q"], fsck: ["e2fsck", "-f", "-n"] },
  { name: "xfs", mkfs: ["mkfs.xfs", "-q"], fsck: ["xfs_repair", "-n"] },
  { name: "btrfs", mkfs: ["mkfs.btrfs", "-q"], fsck: ["btrfs", "check", "--readonly"] },
] as const;

/** Space that the image of a mark takes: what the history holds as data, in bytes. */
async function dataBytes(appliance: TestAppliance, mark: string): Promise<number> {
  const image = `${appliance.mountPath}/big/images/${await appliance.timeOfMark("big", mark)}.img`;
  return Number(await run("stat", "--format=%b", image)) * 512;
}

for (const { name, mkfs, fsck } of FILE_SYSTEMS) {
  Deno.test(
    `mkfs.${name} on 2 TiB discards it all at once, is clean now and in the past, and before it there is nothing`,
    withAppliance(async (appliance) => {
      await appliance.createVolume("big", SIZE_BYTES);
      await appliance.mark("big", "blank");
      {
        await using disk = await appliance.disk("big");
        for (const offset of OLD_OFFSETS) await disk.write(offset, new Uint8Array(4096).fill(0xa5));
        await disk.flush();
      }
      await appliance.mark("big", "old");
      {
        await using file = await nbdAsFile(appliance.uri("big"), `${appliance.folder}/nbdfuse`);
        await using loop = await loopDevice(file.path);
        const startedMs = performance.now();
        await run("timeout", `${LIMIT_SECONDS}`, ...mkfs, loop.path);
        // deno-lint-ignore no-console -- so that whoever looks for it finds how long it took
        console.log(`${mkfs[0]}: ${((performance.now() - startedMs) / 1000).toFixed(1)} s`);
        await run("sync", loop.path);
        await run(fsck[0], ...fsck.slice(1), loop.path);
      }
      await appliance.mark("big", "formatted");
      await using live = await appliance.disk("big");
      await using old = await appliance.disk("big@mark:old");
      await using blank = await appliance.disk("big@mark:blank");
      for (const offset of OLD_OFFSETS) {
        assert.ok(isZero(await live.read(offset, 4096)), `${offset} was discarded`);
        assert.ok((await old.read(offset, 4096)).every((byte) => byte === 0xa5), `${offset} before`);
      }
      for (const offset of [0, 64 * 1024, SIZE_BYTES / 2, SIZE_BYTES - MIB]) {
        assert.ok(isZero(await blank.read(offset, MIB)), `${offset} of a blank volume`);
      }
      assert.equal(await dataBytes(appliance, "blank"), 0, "all of it is a hole");
      assert.equal(await dataBytes(appliance, "old"), 4096 * OLD_OFFSETS.length);

      const formatted = `${appliance.mountPath}/big/images/${await appliance.timeOfMark(
        "big",
        "formatted",
      )}.img`;
      // A file in the place of a device has to be announced to it.
      const asFile = fsck[0] === "xfs_repair" ? ["-f"] : [];
      await run(fsck[0], ...fsck.slice(1), ...asFile, formatted);
    }),
  );
}

/**
 * A kernel-mounted ext4 on a captured volume: what `points/` shows of a moment in the middle of everything is what the
 * kernel shows when it mounts a copy of that moment's image.
 *
 * @module
 */
import assert from "node:assert/strict";
import { type TestAppliance, withAppliance } from "./support/appliance.ts";
import { MIB } from "./support/bytes.ts";
import { kernelMount, loopDevice, nbdAsFile } from "./support/devices.ts";
import { pause, run } from "./support/run.ts";
import { describeTree, treeDifferences } from "./support/trees.ts";
import { Writers } from "./support/writers.ts";

const SIZE_BYTES = 384 * MIB;
const MARKS = 6;
/** Files that the writers must have made for the comparison to mean something. */
const FILES_MIN = 150;
/** How many differences are told. */
const TOLD_MAX = 12;

/** Compares a mark's files with what the kernel makes of its image; returns how many there are. */
async function compareWithKernel(appliance: TestAppliance, mark: string): Promise<number> {
  const volumePath = `${appliance.mountPath}/live`;
  const time = await appliance.timeOfMark("live", mark);
  const copy = `${appliance.folder}/${mark}.img`;
  await run("cp", "--sparse=always", `${volumePath}/images/${time}.img`, copy);
  const actual = await describeTree(`${volumePath}/points/${time}`);
  {
    await using loop = await loopDevice(copy);
    // For reading and writing, so that the kernel replays the journal.
    await using mounted = await kernelMount(loop.path, `${appliance.folder}/${mark}`);
    const differences = treeDifferences(actual, await describeTree(mounted.path));
    const told = differences.slice(0, TOLD_MAX).join("\n");
    assert.equal(
      differences.length,
      0,
      `points/${time} (${mark}) differs from the kernel's in ${differences.length} ways:\n${told}`,
    );
  }
  await Deno.remove(copy);
  return actual.size;
}

Deno.test(
  "ext4 live: every mark among unsynced writes shows the files that the kernel shows",
  withAppliance(async (appliance) => {
    await appliance.createVolume("live", SIZE_BYTES);
    const marks: string[] = [];
    const target = `${appliance.folder}/recovered.img`;
    {
      await using file = await nbdAsFile(appliance.uri("live"), `${appliance.folder}/nbdfuse`);
      await using loop = await loopDevice(file.path);
      // Without lazy initialization, which goes on in a mounted file system and keeps blocks that e2fsck reads in the journal.
      await run("mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", loop.path);
      await using host = await kernelMount(loop.path, `${appliance.folder}/host`);
      const mark = async (name: string) => {
        await appliance.mark("live", name);
        marks.push(name);
      };
      {
        await using _writers = await Writers.start(host.path, `${appliance.folder}/stop`);
        for (let index = 1; index <= MARKS; index++) {
          await pause(1000);
          await mark(`busy${index}`);
        }
        const promised = `${host.path}/promised`;
        await Deno.writeTextFile(promised, "fsynced a second before the mark\n");
        await run("sync", promised);
        await pause(1000);
        await mark("promise");
      }
      await run("sync", "--file-system", host.path);
      await mark("synced");
      await appliance.varveOk("recover", "live", "--at", "mark:synced", "--to", target, "--verify");
      await run("e2fsck", "-fn", target);
    }

    const promised = `${appliance.mountPath}/live/points/${await appliance.timeOfMark(
      "live",
      "promise",
    )}/promised`;
    assert.equal(await Deno.readTextFile(promised), "fsynced a second before the mark\n");
    const counts = [];
    for (const name of marks) counts.push(await compareWithKernel(appliance, name));
    assert.ok(
      Math.max(...counts) >= FILES_MIN,
      `the writers made ${counts.join(", ")} files, too few to show much`,
    );
  }),
);

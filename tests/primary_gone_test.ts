/**
 * History stands without the primary: when that is gone, every moment can still be read and recovered.
 *
 * @module
 */
import assert from "node:assert/strict";
import { type TestAppliance, withAppliance } from "./support/appliance.ts";
import { assertFile, MIB, Random } from "./support/bytes.ts";
import { sparseFile } from "./support/devices.ts";
import { run } from "./support/run.ts";

const SIZE_BYTES = 32 * MIB;
const LETTER = "Dear Anna,\nthe lake is frozen.\n";

/** An ext4 image with a letter in it. */
async function makeImage(folder: string): Promise<string> {
  const image = `${folder}/original.img`;
  await sparseFile(image, SIZE_BYTES);
  await Deno.mkdir(`${folder}/content/letters`, { recursive: true });
  await Deno.writeTextFile(`${folder}/content/letters/anna.txt`, LETTER);
  await run("mke2fs", "-q", "-F", "-t", "ext4", "-d", `${folder}/content`, image);
  return image;
}

/** Reads and recovers a moment in every way and compares it. */
async function comparePast(
  appliance: TestAppliance,
  { at, content, hasLetter }: { at: string; content: Uint8Array; hasLetter: boolean },
): Promise<void> {
  {
    await using past = await appliance.disk(`disk@${at}`);
    await past.assertContent(content, `disk@${at}`);
  }
  await assertFile(`${appliance.mountPath}/disk/images/${at}.img`, content);
  const target = `${appliance.folder}/recovered.img`;
  const { result } = await appliance.recover("disk", at, target);
  assert.equal(result?.["verified"], true);
  await assertFile(target, content, `${at}, recovered`);
  await Deno.remove(target);
  if (!hasLetter) return;
  assert.equal(await appliance.varveOk("cat", "disk", "/letters/anna.txt", "--at", at), LETTER);
  assert.equal(await Deno.readTextFile(`${appliance.mountPath}/disk/at/${at}/letters/anna.txt`), LETTER);
}

/** How the appliance takes leave before the primary's file is deleted. */
const ENDINGS = {
  "while it runs": (appliance: TestAppliance, remove: () => Promise<void>) =>
    remove().then(() => appliance.stop()),
  "while it is stopped": (appliance: TestAppliance, remove: () => Promise<void>) =>
    appliance.stop().then(remove),
  "after kill -9": (appliance: TestAppliance, remove: () => Promise<void>) => appliance.kill().then(remove),
};

for (const [ending, end] of Object.entries(ENDINGS)) {
  Deno.test(
    `primary gone: deleted ${ending}, every mark is still there byte by byte`,
    withAppliance(async (appliance) => {
      const { primary } = await appliance.createVolume("disk", SIZE_BYTES);
      const image = await makeImage(appliance.folder);
      await run("nbdcopy", "--flush", image, appliance.uri("disk"));
      await appliance.mark("disk", "files");
      const files = { at: "mark:files", content: await Deno.readFile(image), hasLetter: true };
      const noise = { at: "mark:noise", content: new Random(11).bytes(SIZE_BYTES), hasLetter: false };
      {
        await using disk = await appliance.disk("disk");
        for (let at = 0; at < SIZE_BYTES; at += MIB) {
          await disk.write(at, noise.content.subarray(at, at + MIB));
        }
      }
      await appliance.mark("disk", "noise");

      let comparedWhileRunning = false;
      await end(appliance, async () => {
        await Deno.remove(primary.path);
        if (ending !== "while it runs") return;
        await comparePast(appliance, files);
        comparedWhileRunning = true;
      });
      assert.equal(comparedWhileRunning, ending === "while it runs");

      await appliance.launch();
      const volume = await appliance.volume("disk");
      assert.equal(volume.state, "failed");
      assert.ok(volume.error?.includes(primary.path), `the error names the primary: ${volume.error}`);
      assert.match(await appliance.varveOk("status"), /failed/);
      const ready = await appliance.api<{ problems?: string[] }>("GET", "/readyz");
      assert.equal(ready.status, 503);
      assert.match(JSON.stringify(ready.body), /volume disk/);

      for (const moment of [files, noise]) await comparePast(appliance, moment);
      await assert.rejects(appliance.disk("disk"), "the live volume can't be opened any more");
      const mark = await appliance.varve("mark", "disk", "late");
      assert.equal(mark.code, 1);
      assert.ok(mark.stderr.includes(primary.path), mark.stderr);
    }),
  );
}

Deno.test(
  "primary gone: an adopted disk, overwritten and deleted, is still there as it was adopted",
  withAppliance(async (appliance) => {
    const image = await makeImage(appliance.folder);
    const adopted = { at: "seq:0", content: await Deno.readFile(image), hasLetter: true };
    await appliance.varveOk("volume", "adopt", "disk", "--primary", image, "--wait");
    const { baseline, state, primary } = await appliance.volume("disk");
    assert.equal(baseline.complete, true);
    assert.equal(state, "ready");
    assert.deepEqual(primary, { path: image, managed: false });
    {
      await using disk = await appliance.disk("disk");
      await disk.assertContent(adopted.content, "the adopted disk, live");
      const noise = new Random(13).bytes(SIZE_BYTES);
      for (let at = 0; at < SIZE_BYTES; at += MIB) await disk.write(at, noise.subarray(at, at + MIB));
      await disk.flush();
      await assertFile(image, noise, "the original, overwritten");
    }
    await comparePast(appliance, adopted);
    await Deno.remove(image);
    await comparePast(appliance, adopted);
    await appliance.kill();
    await appliance.launch();
    assert.equal((await appliance.volume("disk")).state, "failed");
    await comparePast(appliance, adopted);
    const target = `${appliance.folder}/new-disk.img`;
    await appliance.varveOk("recover", "disk", "--at", "seq:0", "--to", target, "--verify");
    await run("e2fsck", "-fn", target);
  }),
);

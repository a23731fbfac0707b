/**
 * A disk is adopted while hosts write to it: nothing of what it held is lost, through `kill -9` as well.
 *
 * @module
 */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import type { VolumeInfo } from "../src/engine.ts";
import { type TestAppliance, withAppliance } from "./support/appliance.ts";
import { assertFile, KIB, MIB, Random, readFully, sha256 } from "./support/bytes.ts";
import { loopDevice, sparseFile } from "./support/devices.ts";
import { exists, run, until } from "./support/run.ts";

const SIZE_BYTES = 256 * MIB;

/** Two thirds of data with zeroes in between, the rest never written. */
async function makeImage(path: string): Promise<Uint8Array<ArrayBuffer>> {
  const content = new Uint8Array(SIZE_BYTES);
  content.set(new Random(21).bytes(SIZE_BYTES * 2 / 3));
  for (let at = 0; at < SIZE_BYTES; at += 5 * MIB) content.fill(0, at, at + 700 * KIB);
  await sparseFile(path, SIZE_BYTES);
  using file = await Deno.open(path, { write: true });
  for (let at = 0; at < SIZE_BYTES * 2 / 3; at += MIB) {
    const part = content.subarray(at, at + MIB);
    for (let done = 0; done < part.length;) done += await file.write(part.subarray(done));
  }
  return content;
}

async function sha256OfFile(path: string): Promise<string> {
  using file = await Deno.open(path);
  const hash = createHash("sha256");
  for (let at = 0; at < SIZE_BYTES; at += MIB) hash.update(await readFully(file, MIB));
  return hash.digest("hex");
}

/** Writes, trims and zeroes at random places, in the volume and in a model of it. */
async function change(
  appliance: TestAppliance,
  model: Uint8Array,
  random: Random,
  count: number,
): Promise<void> {
  await using disk = await appliance.disk("disk");
  for (let i = 0; i < count; i++) {
    const length = random.magnitude(1, 2 * MIB);
    const offset = random.integer(0, SIZE_BYTES - length);
    switch (random.integer(0, 9)) {
      case 0:
        await disk.trim(offset, length);
        model.fill(0, offset, offset + length);
        break;
      case 1:
        await disk.zero(offset, length);
        model.fill(0, offset, offset + length);
        break;
      default: {
        const data = random.bytes(length);
        await disk.write(offset, data);
        model.set(data, offset);
      }
    }
  }
}

async function waitUntilReady(appliance: TestAppliance): Promise<VolumeInfo> {
  await until(
    "the first copy is complete",
    async () => (await appliance.volume("disk")).state === "ready",
    120,
  );
  return await appliance.volume("disk");
}

Deno.test(
  "adopt: hosts write from the first moment on, through kill -9, and every moment since is exact",
  withAppliance(async (appliance) => {
    const image = `${appliance.folder}/old.img`;
    const model = await makeImage(image);
    const random = new Random(22);
    const marks = new Map([["seq:0", sha256(model)]]);
    const mark = async (name: string) => {
      await appliance.mark("disk", name);
      marks.set(`mark:${name}`, sha256(model));
    };

    const said = await appliance.varveOk("volume", "adopt", "disk", "--primary", image);
    assert.match(said, /^state +baseline$/m);
    assert.match(said, /Every write is captured from now on/);
    await run(
      ...["qemu-io", "-f", "raw", "-c", "write -P 0x5a 255M 1M", "-c", "write -P 0xa5 1000 5000"] as const,
      appliance.uri("disk"),
    );
    model.fill(0x5a, 255 * MIB);
    model.fill(0xa5, 1000, 6000);
    await mark("first");

    const early = await appliance.volume("disk");
    assert.equal(early.state, "baseline");
    assert.equal(early.baseline.complete, false);
    assert.match(await appliance.varveOk("status"), /baseline \d+%/);
    await assert.rejects(appliance.disk("disk@seq:0"), "no past before the copy is complete");
    const refused = await appliance.api("POST", "/v1/volumes/disk/recoveries", {
      at: "seq:0",
      target: `${appliance.folder}/early.img`,
    });
    assert.equal(refused.status, 409);
    assert.match(JSON.stringify(refused.body), /of 268435456 bytes of the adopted disk are copied.*captured/);
    assert.equal((await appliance.api("POST", "/v1/volumes/disk/prune")).status, 409);
    const readme = await Deno.readTextFile(`${appliance.mountPath}/disk/marks/first/README`);
    assert.match(readme, /cannot be opened yet: .* bytes of the adopted disk are copied/);

    await change(appliance, model, random, 40);
    await mark("second");
    let before = await appliance.volume("disk");
    await until("a part is copied", async () => {
      before = await appliance.volume("disk");
      return before.baseline.doneBytes > SIZE_BYTES / 4;
    });
    assert.equal(before.state, "baseline", "the copy was complete before it could be interrupted");
    await appliance.kill();
    await appliance.launch();
    const after = await appliance.volume("disk");
    assert.ok(
      after.baseline.doneBytes >= before.baseline.doneBytes,
      `${after.baseline.doneBytes} bytes are copied after the kill, ${before.baseline.doneBytes} were before`,
    );
    await change(appliance, model, random, 40);
    await mark("third");
    const { baseline } = await waitUntilReady(appliance);
    assert.deepEqual(baseline, { complete: true, doneBytes: SIZE_BYTES, totalBytes: SIZE_BYTES });
    await change(appliance, model, random, 10);
    await mark("fourth");

    for (const [at, expected] of marks) {
      assert.equal(await sha256OfFile(`${appliance.mountPath}/disk/images/${at}.img`), expected, at);
    }
    assert.equal(await exists(`${appliance.mountPath}/disk/marks/first/README`), true, "not a file system");
    {
      await using disk = await appliance.disk("disk");
      await disk.flush();
    }
    await assertFile(image, model, "the primary");
  }, { baselineRate: "40M" }),
);

Deno.test(
  "adopt: a block device is copied while it is written to, and a full trim keeps what it held",
  withAppliance(async (appliance) => {
    const content = new Random(23).bytes(24 * MIB);
    content.fill(0, 5 * MIB, 9 * MIB);
    await Deno.writeFile(`${appliance.folder}/backing.img`, content);
    await using device = await loopDevice(`${appliance.folder}/backing.img`);
    await appliance.varveOk("volume", "adopt", "disk", "--primary", device.path);
    {
      await using disk = await appliance.disk("disk");
      await disk.trim(0, content.length);
      await disk.flush();
      await disk.assertContent(new Uint8Array(content.length), "the live disk");
    }
    await waitUntilReady(appliance);
    await using past = await appliance.disk("disk@seq:0");
    await past.assertContent(content, "the adopted disk");
    await appliance.stop();
    await assertFile(`${appliance.folder}/backing.img`, new Uint8Array(content.length));
    await appliance.launch();
  }),
);

Deno.test(
  "adopt: an empty disk of 1 TiB is ready in an instant, and --wait waits",
  withAppliance(async (appliance) => {
    const image = `${appliance.folder}/empty.img`;
    await sparseFile(image, 2 ** 40);
    const said = await appliance.varveOk("volume", "adopt", "disk", "--primary", image, "--wait");
    assert.match(said, /^state +ready$/m);
    const { historyBytes } = await appliance.volume("disk");
    assert.ok(historyBytes < 20 * MIB, `history takes ${historyBytes} bytes`);
  }),
);

/**
 * Every acknowledged command is kept, and every mark stays what it was: random commands against a byte array.
 *
 * @module
 */
import assert from "node:assert/strict";
import { type TestAppliance, withAppliance } from "./support/appliance.ts";
import { assertFile, MIB, Random } from "./support/bytes.ts";
import type { NbdDisk } from "./support/nbd_disk.ts";
import { run } from "./support/run.ts";

const COMMANDS = 1440;
const MARKS = 12;
/** Not a whole number of blocks: the last 1,536 bytes are the odd tail. */
const SIZE_BYTES = 64 * MIB + 1536;
const WRITE_BYTES_MIN = 512;
const WRITE_BYTES_MAX = MIB;

/** What the disk held at a mark. */
interface Kept {
  name: string;
  content: Uint8Array;
}

/** Does one random command to the disk and to the model of it. */
async function command(disk: NbdDisk, model: Uint8Array, random: Random): Promise<void> {
  const length = random.magnitude(WRITE_BYTES_MIN, WRITE_BYTES_MAX);
  // One in ten ends exactly at the end of the disk.
  const offset = random.integer(0, 9) === 0 ? SIZE_BYTES - length : random.integer(0, SIZE_BYTES - length);
  const kind = random.integer(0, 99);
  const fua = random.integer(0, 9) === 0;
  if (kind < 70) {
    const data = random.bytes(length);
    await disk.write(offset, data, { fua });
    model.set(data, offset);
  } else if (kind < 80) {
    await disk.trim(offset, length);
    model.fill(0, offset, offset + length);
  } else if (kind < 90) {
    await disk.zero(offset, length, { fua });
    model.fill(0, offset, offset + length);
  } else {
    await disk.flush();
  }
}

/** Compares every mark by NBD and by the mounted image. */
async function comparePast(appliance: TestAppliance, kept: readonly Kept[], when: string): Promise<void> {
  for (const { name, content } of kept) {
    await using past = await appliance.disk(`disk@mark:${name}`);
    await past.assertContent(content, `disk@mark:${name} by NBD ${when}`);
    const time = await appliance.timeOfMark("disk", name);
    const image = `${appliance.mountPath}/disk/images/${time}.img`;
    await assertFile(image, content, `images/${time}.img of ${name} ${when}`);
  }
}

Deno.test(
  `history: ${COMMANDS} random commands, ${MARKS} marks byte-exact, also after kill -9`,
  withAppliance(async (appliance) => {
    const given = Deno.env.get("VARVE_TEST_SEED");
    const seed = given === undefined ? Math.floor(Math.random() * 2 ** 32) : Number(given);
    try {
      await story(appliance, new Random(seed));
    } catch (thrown) {
      const message = thrown instanceof Error ? thrown.message : String(thrown);
      throw new Error(`With VARVE_TEST_SEED=${seed}: ${message}`, { cause: thrown });
    }
  }),
);

async function story(appliance: TestAppliance, random: Random): Promise<void> {
  const model = new Uint8Array(SIZE_BYTES);
  const kept: Kept[] = [];
  const { primary } = await appliance.createVolume("disk", SIZE_BYTES);
  {
    await using disk = await appliance.disk("disk");
    for (let done = 1; done <= COMMANDS; done++) {
      await command(disk, model, random);
      // The last mark comes before the last commands, so that something unmarked and unflushed is there at the crash.
      if (done % 115 === 0 && kept.length < MARKS) {
        const name = `m${kept.length + 1}`;
        await appliance.mark("disk", name);
        kept.push({ name, content: model.slice() });
      }
    }
    assert.equal(kept.length, MARKS);
    await disk.assertContent(model, "the live disk");
    await comparePast(appliance, kept, "before the crash");

    await disk.flush();
    await assertFile(primary.path, model, "the primary after a flush");

    for (let done = 0; done < 40; done++) await command(disk, model, random);
    await appliance.kill();
  }
  assert.equal(await countMounts(appliance), 1, "a killed appliance leaves its mount behind");

  await appliance.launch();
  {
    await using disk = await appliance.disk("disk");
    await disk.assertContent(model, "the live disk after the crash");
    await comparePast(appliance, kept, "after the crash");
    await using present = await appliance.disk("disk@now");
    await present.assertContent(model, "disk@now after the crash");
    await disk.flush();
  }
  await assertFile(primary.path, model, "the primary after the crash");

  const copy = `${appliance.folder}/copy.img`;
  await run("nbdcopy", appliance.uri("disk@mark:m7"), copy);
  await assertFile(copy, kept[6]?.content ?? new Uint8Array(), "m7 by nbdcopy");
  assert.equal(await countMounts(appliance), 1, "the stale mount is gone and the new one is the only one");
}

async function countMounts({ mountPath }: TestAppliance): Promise<number> {
  return (await Deno.readTextFile("/proc/self/mounts")).split(` ${mountPath} `).length - 1;
}

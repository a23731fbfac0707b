/**
 * Nothing that was acknowledged dies with the process: `kill -9` under load, again and again.
 *
 * The lower half of the disk belongs to fio, which puts a checksum into every block it writes and checks them all after
 * each restart. The upper half belongs to a writer of our own, which knows what was acknowledged; what was on its way
 * when the appliance died may be there or not, but whole blocks of it only.
 *
 * @module
 */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { type TestAppliance, withAppliance } from "./support/appliance.ts";
import { assertSameBytes, KIB, MIB, Random } from "./support/bytes.ts";
import type { NbdDisk } from "./support/nbd_disk.ts";
import { attempt, pause, run } from "./support/run.ts";

const KILLS = 50;
const SIZE_BYTES = 48 * MIB;
const HALF_BYTES = SIZE_BYTES / 2;
const BLOCK_BYTES = 4 * KIB;
const WRITE_BYTES_MAX = 256 * KIB;
const MARK_EVERY = 5;

/** The upper half, as far as it is known. */
class Upper {
  readonly content = new Uint8Array(HALF_BYTES);
  /** The write that had no answer yet when the appliance died. */
  pending: { offset: number; data: Uint8Array } | undefined;

  /** Writes until the appliance is gone; returns how many writes it has acknowledged. */
  async load(disk: NbdDisk, random: Random): Promise<number> {
    for (let acknowledged = 0;; acknowledged++) {
      const length = random.integer(1, WRITE_BYTES_MAX / BLOCK_BYTES) * BLOCK_BYTES;
      const offset = random.integer(0, (HALF_BYTES - length) / BLOCK_BYTES) * BLOCK_BYTES;
      this.pending = { offset, data: random.bytes(length) };
      try {
        await disk.write(HALF_BYTES + offset, this.pending.data, { fua: random.integer(0, 20) === 0 });
      } catch {
        return acknowledged;
      }
      this.content.set(this.pending.data, offset);
      this.pending = undefined;
    }
  }

  /** Compares the disk with what is known, and takes over which blocks of the pending write have made it. */
  async check(disk: NbdDisk, when: string): Promise<void> {
    const found = new Uint8Array(HALF_BYTES);
    for (let at = 0; at < HALF_BYTES; at += MIB) found.set(await disk.read(HALF_BYTES + at, MIB), at);
    if (this.pending !== undefined) {
      const { offset, data } = this.pending;
      for (let at = 0; at < data.length; at += BLOCK_BYTES) {
        const block = found.subarray(offset + at, offset + at + BLOCK_BYTES);
        const sent = data.subarray(at, at + BLOCK_BYTES);
        if (block.every((byte, index) => byte === sent[index])) this.content.set(sent, offset + at);
      }
      this.pending = undefined;
    }
    assertSameBytes(found, this.content, `the upper half ${when}`, HALF_BYTES);
  }
}

function fioArguments(appliance: TestAppliance, ...more: string[]): string[] {
  return [
    ...["--name=kill", "--ioengine=nbd", `--uri=${appliance.uri("disk")}`, "--bs=4k", "--iodepth=16"],
    ...[`--size=${HALF_BYTES}`, "--verify=crc32c", "--verify_fatal=1", ...more],
  ];
}

async function hashOf(appliance: TestAppliance, mark: string): Promise<string> {
  await using past = await appliance.disk(`disk@mark:${mark}`);
  const hash = createHash("sha256");
  for (let at = 0; at < SIZE_BYTES; at += MIB) hash.update(await past.read(at, MIB));
  return hash.digest("hex");
}

Deno.test(
  `kill -9: ${KILLS} times under fio, nothing acknowledged is lost and every mark stays exact`,
  withAppliance(async (appliance) => {
    const seed = Number(Deno.env.get("VARVE_TEST_SEED") ?? Math.floor(Math.random() * 2 ** 32));
    await story(appliance, new Random(seed)).catch((thrown) => {
      throw new Error(`With VARVE_TEST_SEED=${seed}: ${thrown instanceof Error ? thrown.message : thrown}`);
    });
  }),
);

async function story(appliance: TestAppliance, random: Random): Promise<void> {
  await appliance.createVolume("disk", SIZE_BYTES);
  // From now on every block of the lower half carries a checksum, whichever version of it survives.
  await run("fio", ...fioArguments(appliance, "--rw=write", "--do_verify=0"));
  const upper = new Upper();
  const marks = new Map<string, string>();
  let acknowledged = 0;
  for (let kill = 1; kill <= KILLS; kill++) {
    const load = attempt(
      "fio",
      ...fioArguments(appliance, "--rw=randwrite", "--do_verify=0", "--time_based", "--runtime=60"),
      ...[`--randseed=${kill}`, ...(kill % 2 === 0 ? ["--fsync=32"] : [])],
    );
    const disk = await appliance.disk("disk");
    const writer = upper.load(disk, random);
    await pause(random.integer(50, 300));
    if (kill % MARK_EVERY === 0) {
      const name = `under-load-${kill}`;
      await appliance.mark("disk", name);
      marks.set(name, await hashOf(appliance, name));
    }
    await appliance.kill();
    acknowledged += await writer;
    await disk[Symbol.asyncDispose]();
    assert.notEqual((await load).code, 0, "fio ended well although the appliance was killed under it");

    await appliance.launch();
    await using again = await appliance.disk("disk");
    await upper.check(again, `after kill ${kill}`);
    await run("fio", ...fioArguments(appliance, "--rw=read", "--do_verify=1"));
  }
  assert(acknowledged > KILLS, `only ${acknowledged} writes were acknowledged in all`);
  assert.equal(marks.size, KILLS / MARK_EVERY);
  for (const [name, hash] of marks) assert.equal(await hashOf(appliance, name), hash, `mark ${name}`);
}

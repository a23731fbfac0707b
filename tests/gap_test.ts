/**
 * The policy `onFull: "passthrough"`: on a full data folder hosts write on, and the history has a gap that everybody sees.
 *
 * @module
 */
import assert from "node:assert/strict";
import { statfsSync } from "node:fs";
import type { GapInfo, Moment, PointsPage } from "../src/engine.ts";
import { type TestAppliance, withAppliance } from "./support/appliance.ts";
import { assertFile, assertSameBytes, KIB, MIB, Random } from "./support/bytes.ts";
import type { NbdDisk } from "./support/nbd_disk.ts";
import { run, until } from "./support/run.ts";

const DATA_BYTES = 160 * MIB;
const SIZE_BYTES = 16 * MIB;
const CHUNK_BYTES = 256 * KIB;

/** Takes all space of the data folder but so much. */
async function fill(appliance: TestAppliance, leftBytes: number): Promise<void> {
  using file = await Deno.open(`${appliance.dataPath}/filler`, { create: true, append: true });
  const piece = new Uint8Array(64 * KIB).fill(1);
  for (;;) {
    const { bavail, bsize } = statfsSync(appliance.dataPath);
    if (bavail * bsize < leftBytes + piece.length) return;
    await file.write(piece);
  }
}

/** Writes chunks all over the disk; any error of the disk fails the test. */
async function writeAll(disk: NbdDisk, model: Uint8Array, random: Random): Promise<void> {
  for (let at = 0; at < SIZE_BYTES; at += CHUNK_BYTES) {
    const data = random.bytes(CHUNK_BYTES);
    const offset = random.integer(0, SIZE_BYTES - CHUNK_BYTES);
    await disk.write(offset, data, { fua: random.integer(0, 9) === 0 });
    model.set(data, offset);
    if (random.integer(0, 15) === 0) await disk.flush();
    if (random.integer(0, 15) === 0) {
      await disk.trim(offset + 100, 9000);
      model.fill(0, offset + 100, offset + 9100);
    }
  }
}

/** A moment that is refused, and those around it that the refusal names. */
async function refusal(appliance: TestAppliance, at: string): Promise<{ older?: Moment; newer?: Moment }> {
  type Refused = { code: string; detail: string; older?: Moment; newer?: Moment };
  const answer = await appliance.api<Refused>("GET", `/v1/volumes/disk/resolve?at=${encodeURIComponent(at)}`);
  assert.equal(answer.body.code, "not-retained", JSON.stringify(answer.body));
  assert.match(answer.body.detail, /gap/);
  return answer.body;
}

Deno.test(
  "gap: on a full data folder hosts write on without an error, the gap is told everywhere, and ends when space returns",
  withAppliance(async (appliance) => {
    await appliance.stop();
    await Deno.remove(appliance.dataPath, { recursive: true });
    await Deno.mkdir(appliance.dataPath);
    await run("mount", "-t", "tmpfs", "-o", `size=${DATA_BYTES}`, "tmpfs", appliance.dataPath);
    try {
      await appliance.launch();
      await story(appliance);
    } finally {
      await appliance.stop().catch(() => {});
      await run("umount", "--lazy", appliance.dataPath);
    }
  }),
);

async function story(appliance: TestAppliance): Promise<void> {
  const random = new Random(77);
  const model = new Uint8Array(SIZE_BYTES);
  const primary = `${appliance.folder}/primary.img`;
  await appliance.apiOk("POST", "/v1/volumes", {
    name: "disk",
    sizeBytes: SIZE_BYTES,
    primary: { path: primary },
  });
  await appliance.varveOk("retention", "set", "disk", "--continuous", "24h", "--on-full", "passthrough");
  let before: Uint8Array;
  {
    await using disk = await appliance.disk("disk");
    await writeAll(disk, model, random);
    await disk.flush();
    // Pinned: short of space, history that is not may be given up.
    await appliance.mark("disk", "before", { pinned: true });
    before = model.slice();
    await fill(appliance, 6 * MIB);
    for (let round = 0; (await appliance.volume("disk")).capture !== "gap"; round++) {
      assert(round < 20, "the history never gets full");
      await writeAll(disk, model, random);
    }
    await writeAll(disk, model, random);
    await disk.assertContent(model, "the live disk in the gap");
    await disk.flush();
  }
  const { gaps: [open], window } = await appliance.volume("disk");
  assert(open !== undefined && open.to === undefined);
  assert.equal(window.to.seq, open.from.seq);
  assert.equal((await appliance.api("POST", "/v1/volumes/disk/marks", { name: "within" })).status, 409);
  const { older, newer } = await refusal(appliance, "now");
  assert(older !== undefined && older.seq <= open.from.seq && newer === undefined);
  assert.match(await appliance.varveOk("points", "disk"), /^Gap from .*still open/m);
  assert.match(await appliance.apiOk<string>("GET", "/metrics"), /^varve_volume_in_gap\{volume="disk"\} 1$/m);

  await appliance.kill();
  await appliance.launch();
  {
    await using disk = await appliance.disk("disk");
    await disk.assertContent(model, "the live disk after a kill in the gap");
    await writeAll(disk, model, random);
    await Deno.remove(`${appliance.dataPath}/filler`);
    await writeAll(disk, model, random);
    await until(
      "capture is running again",
      async () => (await appliance.volume("disk")).capture === "running",
      60,
    );
    await disk.flush();
  }
  const { gaps } = await appliance.apiOk<PointsPage>("GET", "/v1/volumes/disk/points");
  const [gap] = gaps ?? [];
  assert(gap?.to !== undefined && gaps?.length === 1, JSON.stringify(gaps));
  assert.deepEqual(gap.from, open.from);
  await assertAfter(appliance, gap, model);
  await assertFile(primary, model, "the primary");
  await using past = await appliance.disk("disk@mark:before");
  await past.assertContent(before, "mark:before");
}

async function assertAfter(appliance: TestAppliance, gap: GapInfo, model: Uint8Array): Promise<void> {
  const { from, to } = gap;
  assert(to !== undefined);
  const inside = [
    from.time,
    `seq:${to.seq - 1}`,
    new Date((Date.parse(from.time) + Date.parse(to.time)) / 2).toISOString(),
  ];
  for (const at of inside) {
    const { older, newer } = await refusal(appliance, at);
    assert(older !== undefined && older.seq <= from.seq && newer !== undefined && newer.seq >= to.seq, at);
  }
  await using now = await appliance.disk("disk@now");
  assertSameBytes(await now.read(0, SIZE_BYTES), model, "disk@now");
  const mark = await appliance.mark("disk", "after");
  await appliance.recover("disk", `seq:${mark.seq}`, `${appliance.folder}/recovered.img`);
  await assertFile(`${appliance.folder}/recovered.img`, model, "recovered from after the gap");
  const readme = await Deno.readTextFile(`${appliance.mountPath}/disk/README`);
  assert.match(readme, new RegExp(`^Gap .*${from.time} to ${to.time}`, "m"));
  assert.match(
    await appliance.varveOk("points", "disk"),
    new RegExp(`^Gap from ${from.time}.*seq:${to.seq}`, "m"),
  );
  const metrics = await appliance.apiOk<string>("GET", "/metrics");
  assert.match(metrics, /^varve_volume_gaps\{volume="disk"\} 1$/m);
  assert.match(metrics, /^varve_volume_in_gap\{volume="disk"\} 0$/m);
}

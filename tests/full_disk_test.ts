/**
 * The data folder on a small file system that is filled to the brim: nothing acknowledged is lost, the oldest history
 * goes first, reads and flushes go on, and writes resume by themselves when space returns.
 *
 * @module
 */
import assert from "node:assert/strict";
import { statfsSync } from "node:fs";
import type { EventInfo, StatusInfo, VolumeInfo } from "../src/engine.ts";
import { type TestAppliance, withAppliance } from "./support/appliance.ts";
import { assertSameBytes, KIB, MIB, Random } from "./support/bytes.ts";
import { type NbdDisk, NbdRequestError } from "./support/nbd_disk.ts";
import { until } from "./support/run.ts";

const ENOSPC = 28;
const CHUNK_BYTES = 256 * KIB;

/** What a host knows: the bytes it was told are written, and the parts of which it was told that they are not. */
class Host {
  readonly content: Uint8Array;
  readonly #random: Random;
  refused = 0;

  constructor(sizeBytes: number, seed: number) {
    this.content = new Uint8Array(sizeBytes);
    this.#random = new Random(seed);
  }

  /** Writes at a place, and remembers it if it was acknowledged; false when the disk was full. */
  async write(disk: NbdDisk, offset: number, length = CHUNK_BYTES): Promise<boolean> {
    const data = this.#random.bytes(length);
    try {
      await disk.write(offset, data);
    } catch (thrown) {
      if (!(thrown instanceof NbdRequestError) || thrown.errno !== ENOSPC) throw thrown;
      this.refused++;
      return false;
    }
    this.content.set(data, offset);
    return true;
  }

  /** A chunk of the disk at random. */
  place(): number {
    return this.#random.integer(0, this.content.length / CHUNK_BYTES - 1) * CHUNK_BYTES;
  }
}

function events(appliance: TestAppliance): Promise<EventInfo[]> {
  return appliance.apiOk<{ events: EventInfo[] }>("GET", "/v1/events?limit=1000").then(({ events }) =>
    events
  );
}

function status(appliance: TestAppliance): Promise<StatusInfo> {
  return appliance.apiOk("GET", "/v1/status");
}

/** Takes all space of the data folder but so much, as something else on the machine would. */
async function fillForeign(appliance: TestAppliance, leftBytes: number): Promise<void> {
  using file = await Deno.open(`${appliance.dataPath}/filler`, { create: true, append: true });
  const piece = new Uint8Array(64 * KIB).fill(1);
  for (;;) {
    const { bavail, bsize } = statfsSync(appliance.dataPath);
    if (bavail * bsize < leftBytes + piece.length) return;
    await file.write(piece);
  }
}

Deno.test(
  "full disk: history is thinned, oldest first, and a host that overwrites its disk again and again never stops",
  withAppliance(async (appliance) => {
    const host = new Host(8 * MIB, 31);
    await appliance.createVolume("disk", host.content.length);
    await using disk = await appliance.disk("disk");
    for (let at = 0; at < host.content.length; at += CHUNK_BYTES) assert(await host.write(disk, at));
    await disk.flush();
    await appliance.mark("disk", "early", { pinned: true });
    const early = host.content.slice();

    for (let round = 0; round < 800; round++) {
      const place = host.place();
      if (!await host.write(disk, place)) {
        await until("writes are taken again", () => host.write(disk, place));
      }
      if (round % 50 === 0) await disk.flush();
    }
    await disk.flush();
    const told = await events(appliance);
    const thinned = told.filter((event) => event.kind === "history.thinned");
    assert(told.some((event) => event.kind === "storage.low" && event.level === "warning"));
    assert(thinned.length > 0, JSON.stringify(told));
    for (const event of thinned) {
      assert.equal(event.level, "warning");
      assert.equal(event.volume, "disk");
      assert(Number(event.details["bytesFreed"]) > 0);
    }
    const listed = JSON.parse(await appliance.varveOk("events", "--json", "--limit", "1000"));
    assert.deepEqual(listed.events.slice(0, told.length), told);
    const metrics = await appliance.apiOk<string>("GET", "/metrics");
    assert.match(metrics, /^varve_events_total\{level="warning",kind="history\.thinned"\} [1-9]/m);

    await disk.assertContent(host.content, "the live disk");
    {
      await using past = await appliance.disk("disk@mark:early");
      await past.assertContent(early, "mark:early");
    }
    await appliance.kill();
    await appliance.launch();
    await using again = await appliance.disk("disk");
    await again.assertContent(host.content, "the live disk after a restart");
    await using past = await appliance.disk("disk@mark:early");
    await past.assertContent(early, "mark:early after a restart");
  }, { dataBytes: 128 * MIB }),
);

Deno.test(
  "full disk: of two volumes that hosts overwrite again and again both are thinned, and pinned marks stay exact",
  withAppliance(async (appliance) => {
    const names = ["one", "two"];
    const hosts = names.map((_, index) => new Host(4 * MIB, 41 + index));
    await using disks = new AsyncDisposableStack();
    const opened: NbdDisk[] = [];
    for (const [index, name] of names.entries()) {
      await appliance.createVolume(name, 4 * MIB);
      const disk = disks.use(await appliance.disk(name));
      opened.push(disk);
      for (let at = 0; at < 4 * MIB; at += CHUNK_BYTES) assert(await hosts[index]?.write(disk, at));
      await disk.flush();
      await appliance.mark(name, "early", { pinned: true });
    }
    const early = hosts.map((host) => host.content.slice());
    for (let round = 0; round < 800; round++) {
      const [host, disk] = [hosts[round % 2], opened[round % 2]];
      assert(host !== undefined && disk !== undefined);
      const place = host.place();
      if (!await host.write(disk, place)) {
        await until("writes are taken again", () => host.write(disk, place));
      }
      if (round % 50 < 2) await disk.flush();
    }
    const thinned = (await events(appliance)).filter((event) => event.kind === "history.thinned");
    assert.deepEqual([...new Set(thinned.map((event) => event.volume))].sort(), names);
    for (const [index, name] of names.entries()) {
      await opened[index]?.assertContent(hosts[index]?.content ?? new Uint8Array(0), `the live disk ${name}`);
      await using past = await appliance.disk(`${name}@mark:early`);
      await past.assertContent(early[index] ?? new Uint8Array(0), `mark:early of ${name}`);
    }
  }, { dataBytes: 128 * MIB }),
);

Deno.test(
  "full disk: at the wall reads and flushes work, a kill loses nothing, and writes resume when space returns",
  withAppliance(async (appliance) => {
    const host = new Host(64 * MIB, 32);
    await appliance.createVolume("disk", host.content.length);
    {
      await using disk = await appliance.disk("disk");
      for (let at = 0; at < 4 * MIB; at += CHUNK_BYTES) assert(await host.write(disk, at));
      await appliance.mark("disk", "early", { pinned: true });
      const early = host.content.slice();
      await fillForeign(appliance, 50 * MIB);
      // All of it new, so that nothing of the history can be given up for it.
      for (let at = 4 * MIB; at < host.content.length; at += CHUNK_BYTES) await host.write(disk, at);
      assert(host.refused > 0, "the disk never got full");

      for (let i = 0; i < 50; i++) {
        await disk.flush();
        assert.equal(await host.write(disk, host.place(), MIB), false);
      }
      await disk.assertContent(host.content, "the live disk at the wall");
      await using past = await appliance.disk("disk@mark:early");
      await past.assertContent(early, "mark:early at the wall");

      const { storage } = await status(appliance);
      assert.equal(storage.state, "full");
      assert(storage.reserveBytes > 0 && storage.watermarkBytes >= 2 * storage.reserveBytes);
      const volume = await appliance.apiOk<VolumeInfo>("GET", "/v1/volumes/disk");
      assert.equal(volume.capture, "full");
      assert.equal(volume.refusedWrites, host.refused);
      assert.equal((await appliance.api("GET", "/readyz")).status, 503);
      const metrics = await appliance.apiOk<string>("GET", "/metrics");
      assert.match(metrics, /^varve_storage_state\{state="full"\} 1$/m);
      assert((await events(appliance)).some((event) => event.kind === "storage.full"));
    }
    await appliance.kill();
    await appliance.launch();
    await using disk = await appliance.disk("disk");
    await disk.assertContent(host.content, "the live disk after a kill at the wall");
    await disk.flush();

    await Deno.remove(`${appliance.dataPath}/filler`);
    await until("writes are taken again", () => host.write(disk, 0));
    for (let at = 4 * MIB; at < 20 * MIB; at += CHUNK_BYTES) assert(await host.write(disk, at));
    await disk.flush();
    await disk.assertContent(host.content, "the live disk after space returned");
    await until("the appliance is ready", async () => (await appliance.api("GET", "/readyz")).status === 200);
  }, { dataBytes: 192 * MIB }),
);

Deno.test(
  "full disk: something else takes the last byte while writes are acknowledged, and none of them is lost",
  withAppliance(async (appliance) => {
    const host = new Host(32 * MIB, 33);
    await appliance.createVolume("disk", host.content.length);
    await using disk = await appliance.disk("disk");
    await fillForeign(appliance, 24 * MIB);
    for (let at = 0; at < 4 * MIB; at += CHUNK_BYTES) assert(await host.write(disk, at));
    await disk.flush();
    await fillForeign(appliance, 0);
    // Until it is noticed, what is reserved in the journal takes them, and the reserve is there for the primary.
    for (let round = 0; round < 150; round++) await host.write(disk, host.place(), 16 * KIB);
    await disk.assertContent(host.content, "the live disk");
    await disk.flush();
    await appliance.kill();
    await appliance.launch();
    {
      await using after = await appliance.disk("disk");
      await after.assertContent(host.content, "the live disk after a kill");
      await after.flush();
      await Deno.remove(`${appliance.dataPath}/filler`);
      await until("writes are taken again", () => host.write(after, host.place()));
      await after.flush();
      await after.assertContent(host.content, "the live disk after space returned");
    }
    await using past = await appliance.disk("disk@now");
    assertSameBytes(await past.read(0, MIB), host.content.subarray(0, MIB), "disk@now");
  }, { dataBytes: 96 * MIB }),
);

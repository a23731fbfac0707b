/**
 * Resizing a volume with other people's clients connected: what they see, and what the past keeps.
 *
 * @module
 */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import type { AuditEntry, ClientEntry, VolumeInfo } from "../src/engine.ts";
import { type TestAppliance, withAppliance } from "./support/appliance.ts";
import { KIB, MIB, Random } from "./support/bytes.ts";
import { NbdRequestError } from "./support/nbd_disk.ts";
import { attempt, run } from "./support/run.ts";

const OLD_BYTES = 16 * MIB + 512;
const NEW_BYTES = 24 * MIB + 1024;
const SMALL_BYTES = 8 * MIB + 100;

function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

async function contentOf(appliance: TestAppliance, exportName: string): Promise<Uint8Array> {
  await using disk = await appliance.disk(exportName);
  return await disk.read(0, disk.sizeBytes);
}

async function sizeOf(appliance: TestAppliance, exportName: string): Promise<number> {
  return Number(await run("nbdinfo", "--size", appliance.uri(exportName)));
}

function inSize(bytes: Uint8Array, sizeBytes: number): Uint8Array {
  const target = new Uint8Array(sizeBytes);
  target.set(bytes.subarray(0, sizeBytes));
  return target;
}

/** Everything that the marks must show: size and content over NBD, as an image, and recovered. */
async function checkMarks(
  appliance: TestAppliance,
  marks: Map<string, Uint8Array>,
  when: string,
): Promise<void> {
  for (const [name, expected] of marks) {
    const what = `mark ${name} ${when}`;
    assert.equal(await sizeOf(appliance, `disk@mark:${name}`), expected.length, what);
    assert.equal(sha256(await contentOf(appliance, `disk@mark:${name}`)), sha256(expected), what);
    const image = `${appliance.mountPath}/disk/images/${await appliance.timeOfMark("disk", name)}.img`;
    assert.equal((await Deno.stat(image)).size, expected.length, `${what}: image`);
    const target = `${appliance.folder}/recovered-${name}-${when}.img`;
    assert.equal((await appliance.recover("disk", `mark:${name}`, target)).state, "succeeded", what);
    assert.equal(sha256(await Deno.readFile(target)), sha256(expected), `${what}: recovered`);
    await Deno.remove(target);
  }
}

Deno.test(
  "resize: new connections see the new size, open ones keep theirs, and every moment keeps its own",
  withAppliance(async (appliance) => {
    const random = new Random(51);
    await appliance.createVolume("disk", OLD_BYTES);
    const marks = new Map<string, Uint8Array>();
    const bytes = random.bytes(OLD_BYTES);
    await using open = await appliance.disk("disk");
    await open.write(0, bytes);
    await open.flush();
    await appliance.mark("disk", "old");
    marks.set("old", bytes);

    const said = await appliance.varveOk("volume", "resize", "disk", "--size", String(NEW_BYTES));
    assert.match(said, /\(25166848 bytes\)/);
    assert.equal(await sizeOf(appliance, "disk"), NEW_BYTES);
    assert.equal(open.sizeBytes, OLD_BYTES);
    await assert.rejects(open.write(OLD_BYTES, new Uint8Array(512)), NbdRequestError);
    await open.write(OLD_BYTES - 512, new Uint8Array(512).fill(4));
    await run(
      "qemu-io",
      "-f",
      "raw",
      appliance.uri("disk"),
      "-c",
      `write -P 0x77 ${NEW_BYTES - 4 * KIB} 4k`,
      "-c",
      "flush",
    );
    await appliance.mark("disk", "grown");
    const grown = inSize(bytes, NEW_BYTES);
    grown.fill(4, OLD_BYTES - 512, OLD_BYTES).fill(0x77, NEW_BYTES - 4 * KIB);
    marks.set("grown", grown);

    const refused = await appliance.varve("volume", "resize", "disk", "--size", String(SMALL_BYTES));
    assert.equal(refused.code, 1);
    assert.match(refused.stderr, /--force/);
    await using large = await appliance.disk("disk");
    await appliance.varveOk("volume", "resize", "disk", "--size", String(SMALL_BYTES), "--force");
    assert.equal(await sizeOf(appliance, "disk"), SMALL_BYTES);
    await assert.rejects(large.read(SMALL_BYTES - 10, 20), NbdRequestError);
    await assert.rejects(large.write(NEW_BYTES - 512, new Uint8Array(512)), NbdRequestError);
    const { primary } = await appliance.volume("disk");
    assert.equal((await Deno.stat(primary.path)).size, SMALL_BYTES, "a managed primary is cut");
    await large.write(SMALL_BYTES - 100, new Uint8Array(100).fill(9));
    await large.flush();
    await appliance.mark("disk", "shrunk");
    const shrunk = inSize(grown, SMALL_BYTES);
    shrunk.fill(9, SMALL_BYTES - 100);
    marks.set("shrunk", shrunk);

    await appliance.varveOk("volume", "resize", "disk", "--size", String(OLD_BYTES));
    await appliance.mark("disk", "again");
    marks.set("again", inSize(shrunk, OLD_BYTES));
    await checkMarks(appliance, marks, "live");

    await appliance.kill();
    await appliance.launch();
    assert.equal(await sizeOf(appliance, "disk"), OLD_BYTES);
    await checkMarks(appliance, marks, "killed");
    await appliance.stop();
    for (const file of (await run("find", appliance.dataPath, "-name", "*.sqlite*")).trim().split("\n")) {
      await Deno.remove(file);
    }
    await appliance.varveOk("rebuild", "--data", appliance.dataPath);
    await appliance.launch();
    await checkMarks(appliance, marks, "rebuilt");
    assert.equal((await appliance.volume("disk")).sizeBytes, OLD_BYTES);
    assert.equal(sha256(await contentOf(appliance, "disk")), sha256(inSize(shrunk, OLD_BYTES)));
  }),
);

Deno.test(
  "resize: sizes out of bounds are refused, and each resize is in the audit log",
  withAppliance(async (appliance) => {
    await appliance.createVolume("disk", MIB);
    for (const sizeBytes of [0, -1, 1.5, 2 ** 50 + 1]) {
      assert.equal((await appliance.api("PATCH", "/v1/volumes/disk", { sizeBytes })).status, 400);
    }
    assert.equal((await appliance.api("PATCH", "/v1/volumes/none", { sizeBytes: MIB })).status, 404);
    assert.equal((await appliance.api("PATCH", "/v1/volumes/disk", { sizeBytes: 512 })).status, 409);
    const same = await appliance.apiOk<VolumeInfo>("PATCH", "/v1/volumes/disk", { sizeBytes: MIB });
    assert.equal(same.sizeBytes, MIB);
    await appliance.apiOk("PATCH", "/v1/volumes/disk", { sizeBytes: 512, force: true });
    const { entries } = await appliance.apiOk<{ entries: AuditEntry[] }>("GET", "/v1/audit");
    assert.deepEqual(
      entries.filter(({ action }) => action === "volume.resize").map(({ details }) => details),
      [
        { fromBytes: MIB, sizeBytes: 512 },
      ],
    );
  }),
);

Deno.test(
  "resize: a block device that is too small is refused, and one that is larger keeps what it holds",
  withAppliance(async (appliance) => {
    const random = new Random(6);
    const place = `${appliance.folder}/device.img`;
    const content = random.bytes(4 * MIB);
    await Deno.writeFile(place, content);
    const device = (await run("losetup", "--find", "--show", place)).trim();
    try {
      const request = { name: "disk", sizeBytes: 2 * MIB + 700, primary: { path: device, adopt: true } };
      await appliance.apiOk("POST", "/v1/volumes", request);
      while ((await appliance.volume("disk")).state === "baseline") {
        await new Promise((r) => setTimeout(r, 50));
      }
      const tooLarge = await appliance.api<{ detail: string }>("PATCH", "/v1/volumes/disk", {
        sizeBytes: 5 * MIB,
      });
      assert.equal(tooLarge.status, 400);
      await appliance.apiOk("PATCH", "/v1/volumes/disk", { sizeBytes: 4 * MIB });
      assert.equal(sha256(await contentOf(appliance, "disk")), sha256(content));
      assert.equal(sha256(await contentOf(appliance, "disk@now")), sha256(content));
    } finally {
      await appliance.stop();
      await attempt("losetup", "--detach", device);
    }
  }),
);

Deno.test(
  "clients: those that change a volume are known by number, those that only look leave no trace",
  withAppliance(async (appliance) => {
    await appliance.createVolume("disk", MIB);
    const clients = async () =>
      (await appliance.apiOk<{ clients: ClientEntry[] }>("GET", "/v1/volumes/disk/clients")).clients;
    await run("nbdinfo", appliance.uri("disk"));
    assert.deepEqual(await clients(), []);
    {
      await using one = await appliance.disk("disk");
      await using other = await appliance.disk("disk");
      await other.write(0, new Uint8Array(512).fill(1));
      await one.write(0, new Uint8Array(512).fill(2));
      const found = await clients();
      assert.equal(found.length, 2);
      assert(
        found.every(({ connected, peer, pid, uid }) =>
          connected && peer === "unix" && pid === Deno.pid && uid === Deno.uid()
        ),
      );
      assert.notEqual(found[0]?.client, found[1]?.client);
    }
    const before = await clients();
    await appliance.kill();
    await appliance.launch();
    assert.deepEqual(await clients(), before.map((client) => ({ ...client, connected: false })));
    await using third = await appliance.disk("disk");
    await third.write(0, new Uint8Array(512));
    const [newest] = await clients();
    assert(newest?.connected && newest.client > Math.max(...before.map(({ client }) => client)));
    assert.match(
      await appliance.varveOk("volume", "clients", "disk"),
      /^CLIENT +PEER .*\n +\d+ +unix.* connected\n/,
    );
  }),
);

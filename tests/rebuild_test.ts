/**
 * The catalogue and the recovery maps deleted: `varve rebuild` makes them again from the segments alone.
 *
 * @module
 */
import assert from "node:assert/strict";
import type { MarkInfo, PointsPage, VolumeInfo } from "../src/engine.ts";
import type { InspectedSegment } from "../src/inspect.ts";
import type { RebuiltFolder } from "../src/rebuild.ts";
import { type TestAppliance, withAppliance } from "./support/appliance.ts";
import { MIB, Random } from "./support/bytes.ts";
import { pause, run } from "./support/run.ts";

const SIZE_BYTES = 16 * MIB + 512;

async function sha256Of(appliance: TestAppliance, exportName: string): Promise<string> {
  await using disk = await appliance.disk(exportName);
  const bytes = await disk.read(0, SIZE_BYTES);
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes as Uint8Array<ArrayBuffer>)).toHex();
}

/** What must be the same before and after. */
async function tell(appliance: TestAppliance): Promise<unknown> {
  const { volumes } = await appliance.apiOk<{ volumes: VolumeInfo[] }>("GET", "/v1/volumes");
  const told: Record<string, unknown> = {};
  for (const { id, name, sizeBytes, state, primary, createdAt, window, baseline } of volumes) {
    const base = `/v1/volumes/${name}`;
    const { points } = await appliance.apiOk<PointsPage>("GET", `${base}/points?limit=10000`);
    const images: Record<string, string> = {};
    for (const { seq } of points) images[seq] = await sha256Of(appliance, `${name}@seq:${seq}`);
    told[name] = {
      info: { id, name, sizeBytes, state, primary, createdAt, window, baseline },
      points,
      marks: await appliance.apiOk<{ marks: MarkInfo[] }>("GET", `${base}/marks`),
      policy: await appliance.apiOk("GET", `${base}/retention`),
      images,
      live: await sha256Of(appliance, name),
    };
  }
  return told;
}

async function removeDatabases(appliance: TestAppliance): Promise<string[]> {
  const found = await run("find", appliance.dataPath, "-name", "*.sqlite*");
  const files = found.trim().split("\n");
  for (const file of files) await Deno.remove(file);
  return files;
}

Deno.test(
  "rebuild: without catalogue and maps, the segments give back every volume, point, mark and byte",
  withAppliance(async (appliance) => {
    const random = new Random(23);
    await appliance.createVolume("disk", SIZE_BYTES);
    await appliance.createVolume("gone", SIZE_BYTES);
    const adopted = `${appliance.folder}/adopted.img`;
    await Deno.writeFile(adopted, random.bytes(SIZE_BYTES));
    await appliance.varveOk("volume", "adopt", "old", "--primary", adopted);
    const churn = async (name: string, commands: number) => {
      await using disk = await appliance.disk(name);
      for (let done = 0; done < commands; done++) {
        const length = random.magnitude(512, MIB);
        const offset = random.integer(0, SIZE_BYTES - length);
        if (done % 7 === 3) await disk.trim(offset, length);
        else await disk.write(offset, random.bytes(length));
        if (done % 20 === 0) await disk.flush();
      }
    };
    await churn("gone", 5);
    for (const name of ["disk", "old"]) {
      await churn(name, 150);
      await appliance.varveOk("mark", name, "first", "--pin", "--note", "with a note");
      await churn(name, 150);
      await appliance.mark(name, "second");
      await appliance.mark(name, "third");
      await appliance.apiOk("PATCH", `/v1/volumes/${name}/marks/second`, { note: "later", pinned: true });
      await appliance.apiOk("DELETE", `/v1/volumes/${name}/marks/third`);
    }
    await pause(1500);
    await appliance.varveOk("retention", "set", "disk", "--continuous", "1s", "--tier", "2s:1h");
    await appliance.varveOk("retention", "prune", "disk");
    // Which moments a tier keeps depends on the time of the question: none are asked for.
    await appliance.varveOk("retention", "set", "disk", "--continuous", "10h");
    await churn("disk", 20);
    await appliance.varveOk("volume", "delete", "gone");

    const refused = await appliance.varve("rebuild", "--data", appliance.dataPath);
    assert.equal(refused.code, 1);
    assert.match(refused.stderr, /an appliance is using it\nStop the appliance first/);

    const before = await tell(appliance);
    const token = await Deno.readTextFile(`${appliance.dataPath}/admin.token`);
    await appliance.stop();
    assert.ok((await removeDatabases(appliance)).length >= 3);
    const told = JSON.parse(
      await appliance.varveOk("rebuild", "--data", appliance.dataPath, "--json"),
    ) as RebuiltFolder;
    assert.deepEqual(told.volumes.map(({ name, marks, damage }) => [name, marks, damage]), [
      ["disk", 2, []],
      ["old", 2, []],
    ]);
    assert.deepEqual(told.deleted.map(({ name }) => name), ["gone"]);
    assert.deepEqual([told.failed, told.catalog], [[], "made"]);
    await appliance.launch();
    assert.deepEqual(await tell(appliance), before);
    assert.notEqual(await Deno.readTextFile(`${appliance.dataPath}/admin.token`), token);

    // A folder that is fine stays what it is, tokens included, also after a crash.
    const { volumes: listed } = JSON.parse(await appliance.varveOk("status", "--json")) as {
      volumes: VolumeInfo[];
    };
    await appliance.kill();
    const again = await appliance.varveOk("rebuild", "--data", appliance.dataPath);
    assert.match(again, /^disk +\d+ +\d+ +\d+ +2 +0 +[0-9a-f]{32}$/m);
    assert.match(again, /^Left alone: gone \([0-9a-f]{32}\)/m);
    assert.match(again, /^Tokens, jobs and audit log are those of before\.$/m);
    await appliance.launch();
    assert.deepEqual(await tell(appliance), before);
    assert.equal(listed.length, 2);

    await appliance.stop();
    await appliance.varveOk("rebuild", "--data", appliance.dataPath, "--include-deleted");
    await appliance.launch();
    assert.equal((await appliance.volume("gone")).state, "ready");
    await appliance.stop();

    const [{ id = "" } = {}] = told.volumes;
    await Deno.writeTextFile(`${appliance.dataPath}/volumes/${id}/map.sqlite`, "no database at all");
    await appliance.launch();
    const broken = await appliance.volume("disk");
    assert.equal(broken.state, "failed");
    assert.match(broken.error ?? "", /file is not a database/);
    await appliance.stop();
    await appliance.varveOk("rebuild", "--data", appliance.dataPath);
    await appliance.launch();
    assert.equal((await appliance.volume("disk")).state, "ready");
  }),
);

Deno.test(
  "inspect: a segment is explained, and a flipped byte is found where it is",
  withAppliance(async (appliance) => {
    const { id } = await appliance.createVolume("disk", SIZE_BYTES);
    {
      await using disk = await appliance.disk("disk");
      for (let i = 0; i < 20; i++) await disk.write(i * 8192, new Uint8Array(8192).fill(i + 1));
      await disk.flush();
    }
    await appliance.mark("disk", "done");
    await appliance.stop();
    const file = `${appliance.dataPath}/volumes/${id}/segments/000000000001.seg`;
    const text = await appliance.varveOk("inspect", file);
    assert.match(text, /^volume +disk, 16 MiB$/m);
    assert.match(text, /^records +20 write, 1 flush, 1 mark, 4 meta$/m);
    assert.match(text, /^last command .* \(seq:22\)$/m);
    assert.match(text, /^checksums +all hold$/m);
    const listed = await appliance.varveOk("inspect", file, "--records");
    assert.match(listed, /^ +\d+ +8264 {2}write +seq:5 .* 32768\+8192$/m);
    assert.match(listed, /"name":"done"/);

    const bytes = await Deno.readFile(file);
    const at = bytes.length >> 1;
    bytes[at] = (bytes[at] ?? 0) ^ 1;
    await Deno.writeFile(file, bytes);
    const { code, stdout, stderr } = await appliance.varve("inspect", file, "--json");
    assert.equal(code, 1);
    assert.match(stderr, /1 part of it cannot be proved/);
    const found = JSON.parse(stdout) as InspectedSegment;
    assert.equal(found.isWhole, false);
    assert.equal(found.damage.length, 1);
    const [damage] = found.damage;
    assert.ok(damage !== undefined && damage.offset <= at && at < damage.end, JSON.stringify(damage));
    const none = await appliance.varve("inspect", `${appliance.dataPath}/admin.token`);
    assert.equal(none.code, 1);
    assert.match(none.stderr, /does not begin as a segment does/);
    await appliance.launch();
  }),
);

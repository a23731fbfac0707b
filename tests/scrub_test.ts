/**
 * One byte of the stored history goes bad while the appliance runs: the moments that see it are named, reads of it fail,
 * and everything else reads on.
 *
 * @module
 */
import assert from "node:assert/strict";
import type { JobInfo, ScrubResult } from "../src/engine.ts";
import { type TestAppliance, withAppliance } from "./support/appliance.ts";
import { assertSameBytes, MIB, Random, sha256 } from "./support/bytes.ts";
import { NbdRequestError } from "./support/nbd_disk.ts";

const BLOCK_BYTES = 4096;
const SIZE_BYTES = 8 * MIB;
/** The block whose middle version is damaged. */
const BLOCK = 777;
const EIO = 5;

/** Changes one byte of the only place in the segments that holds `content`; tells the segment's file. */
async function damage(appliance: TestAppliance, content: Uint8Array): Promise<string> {
  const { id } = await appliance.volume("disk");
  const folder = `${appliance.dataPath}/volumes/${id}/segments`;
  for (const name of [...Deno.readDirSync(folder)].map((entry) => entry.name).sort()) {
    const bytes = await Deno.readFile(`${folder}/${name}`);
    const at = indexOf(bytes, content);
    if (at < 0) continue;
    using file = await Deno.open(`${folder}/${name}`, { write: true });
    await file.seek(at + 1000, Deno.SeekMode.Start);
    await file.write(Uint8Array.of((content[1000] ?? 0) ^ 0x10));
    return name;
  }
  throw new Error("No segment holds the block");
}

function indexOf(bytes: Uint8Array, content: Uint8Array): number {
  const [first = 0] = content;
  for (let at = bytes.indexOf(first); at >= 0; at = bytes.indexOf(first, at + 1)) {
    if (content.every((byte, i) => bytes[at + i] === byte)) return at;
  }
  return -1;
}

async function scrub(appliance: TestAppliance, code: number): Promise<ScrubResult> {
  const ran = await appliance.varve("scrub", "disk", "--json");
  assert.equal(ran.code, code, ran.stderr);
  return (JSON.parse(ran.stdout) as JobInfo).result as unknown as ScrubResult;
}

Deno.test(
  "scrub: a flipped byte in a sealed segment is named with its marks, its block is EIO, all else reads on",
  withAppliance(async (appliance) => {
    const random = new Random(20261124);
    await appliance.createVolume("disk", SIZE_BYTES);
    const model = new Uint8Array(SIZE_BYTES);
    const marks = new Map<string, Uint8Array>();
    const versions: Uint8Array[] = [];
    await using disk = await appliance.disk("disk");
    const write = async (offset: number, data: Uint8Array) => {
      await disk.write(offset, data);
      model.set(data, offset);
    };
    const mark = async (name: string) => {
      await appliance.mark("disk", name);
      marks.set(name, model.slice());
    };
    await write(0, random.bytes(2 * MIB));
    await mark("before");
    for (const name of ["first", "second", "third"]) {
      const content = random.bytes(BLOCK_BYTES);
      versions.push(content);
      await write(BLOCK * BLOCK_BYTES, content);
      await write(4 * MIB, random.bytes(MIB));
      await mark(`${name}-a`);
      await write(6 * MIB, random.bytes(512));
      await mark(`${name}-b`);
    }
    await disk.flush();
    // A preview finishes the present segment.
    await appliance.apiOk("POST", "/v1/volumes/disk/retention/preview");
    assert.equal((await appliance.api("GET", "/v1/volumes/disk/scrub")).status, 404);
    const clean = await scrub(appliance, 0);
    assert.deepEqual([clean.damagedPlaces, clean.points], [0, []]);
    assert(clean.checkedBytes > 5 * MIB);
    assert.match(await appliance.varveOk("scrub"), /^disk: .* checked, no damage\n$/);

    const segment = await damage(appliance, versions[1] ?? new Uint8Array());
    await write(0, random.bytes(BLOCK_BYTES));
    const found = await scrub(appliance, 1);
    assert.equal(found.damagedPlaces, 1);
    assert.equal(found.places[0]?.file, `segments/${segment}`);
    assert.equal(found.places[0]?.length, BLOCK_BYTES);
    assert.deepEqual([found.places[0]?.blocks, found.places[0]?.harmless], [1, false]);
    assert.deepEqual(found.points.map((point) => point.name), ["second-a", "second-b"]);
    assert.deepEqual([found.damagedPoints, found.newestDamaged], [2, false]);
    assert.deepEqual((await appliance.api("GET", "/v1/volumes/disk/scrub")).body, found);
    assert.equal((await appliance.volume("disk")).scrub?.damagedPoints, 2);
    const metrics = await appliance.apiOk<string>("GET", "/metrics");
    assert.match(metrics, /^varve_volume_scrub_damaged_places\{volume="disk"\} 1$/m);
    assert.match(metrics, /^varve_volume_scrub_damaged_points\{volume="disk"\} 2$/m);
    const told = await appliance.varve("scrub", "disk");
    assert.match(told.stdout, new RegExp(`^segments/${segment} .*checksum of a block`, "m"));
    assert.match(told.stdout, /mark +second-b$/m);
    assert((await appliance.apiOk<{ ready: boolean }>("GET", "/readyz")) !== undefined);

    for (const [name, content] of marks) {
      await using past = await appliance.disk(`disk@mark:${name}`);
      if (!name.startsWith("second")) {
        assert.equal(sha256(await past.read(0, SIZE_BYTES)), sha256(content), name);
        continue;
      }
      const at = BLOCK * BLOCK_BYTES;
      await assert.rejects(
        past.read(at, BLOCK_BYTES),
        (thrown) => thrown instanceof NbdRequestError && thrown.errno === EIO,
      );
      assertSameBytes(await past.read(0, at), content.subarray(0, at), `${name} before the block`);
      const end = at + BLOCK_BYTES;
      assertSameBytes(await past.read(end, SIZE_BYTES - end), content.subarray(end), `${name} behind it`);
    }
    await disk.assertContent(model, "the live disk");
  }),
);

Deno.test(
  "scrub: what the last one found outlives a restart",
  withAppliance(async (appliance) => {
    await appliance.createVolume("disk", SIZE_BYTES);
    await scrub(appliance, 0);
    const { scrub: before } = await appliance.volume("disk");
    assert.notEqual(before, undefined);
    await appliance.stop();
    await appliance.launch();
    assert.deepEqual((await appliance.volume("disk")).scrub, before);
    // A volume can be deleted while it is scrubbed.
    await appliance.apiOk("POST", "/v1/volumes/disk/scrub", { rateBytes: 1 });
    const again = await appliance.api("POST", "/v1/volumes/disk/scrub");
    assert.equal(again.status, 409);
    await appliance.apiOk("DELETE", "/v1/volumes/disk?purge=true");
  }),
);

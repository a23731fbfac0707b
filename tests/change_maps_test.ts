/**
 * Change maps as other people's tools read them: nbdinfo, qemu-img, and an incremental backup made of them.
 *
 * @module
 */
import assert from "node:assert/strict";
import { type TestAppliance, withAppliance } from "./support/appliance.ts";
import { KIB, MIB, Random } from "./support/bytes.ts";
import { attempt, run } from "./support/run.ts";

const SIZE_BYTES = 64 * MIB + 1536;
const SINCE = "qemu:dirty-bitmap:since-";

/** Runs of an export's map as nbdinfo tells them. */
async function mapOf(
  appliance: TestAppliance,
  exportName: string,
  name: string,
): Promise<[number, number, number][]> {
  const said = await run("nbdinfo", "--json", `--map=${name}`, appliance.uri(exportName));
  return JSON.parse(said).map((run: { offset: number; length: number; type: number }) => [
    run.offset,
    run.length,
    run.type,
  ]);
}

Deno.test(
  "change maps: nbdinfo reads and lists them, of the past and live, and refused ones say why",
  withAppliance(async (appliance) => {
    await appliance.createVolume("disk", SIZE_BYTES);
    await using disk = await appliance.disk("disk");
    await disk.write(0, new Uint8Array(8 * KIB).fill(1));
    await appliance.mark("disk", "monday");
    await disk.write(32 * MIB + 100, new Uint8Array(5000).fill(2));
    await disk.trim(4 * KIB, 4 * KIB);
    const tuesday = await appliance.mark("disk", "tuesday");
    await disk.write(SIZE_BYTES - 1, Uint8Array.of(3));

    const changed: [number, number, number][] = [
      [0, 4 * KIB, 0],
      [4 * KIB, 4 * KIB, 1],
      [8 * KIB, 32 * MIB - 8 * KIB, 0],
      [32 * MIB, 8 * KIB, 1],
    ];
    const untilEnd: [number, number, number] = [32 * MIB + 8 * KIB, SIZE_BYTES - 32 * MIB - 8 * KIB, 0];
    assert.deepEqual(await mapOf(appliance, "disk@mark:tuesday", `${SINCE}mark:monday`), [
      ...changed,
      untilEnd,
    ]);
    assert.deepEqual(await mapOf(appliance, "disk", `${SINCE}mark:monday`), [
      ...changed,
      [32 * MIB + 8 * KIB, 32 * MIB - 8 * KIB, 0],
      [64 * MIB, 1536, 1],
    ]);
    assert.deepEqual(await mapOf(appliance, "disk", `${SINCE}seq:${tuesday.seq}`), [[0, 64 * MIB, 0], [
      64 * MIB,
      1536,
      1,
    ]]);
    assert.deepEqual(await mapOf(appliance, "disk@mark:tuesday", `${SINCE}${tuesday.time}`), [[
      0,
      SIZE_BYTES,
      0,
    ]]);

    const [data, hole] = [0, 3];
    assert.deepEqual(await mapOf(appliance, "disk", "base:allocation"), [
      [0, 4 * KIB, data],
      [4 * KIB, 32 * MIB - 4 * KIB, hole],
      [32 * MIB, 8 * KIB, data],
      [32 * MIB + 8 * KIB, 32 * MIB - 8 * KIB, hole],
      [64 * MIB, 1536, data],
    ], "holes of the live volume");

    const [info] = JSON.parse(await run("nbdinfo", "--json", appliance.uri("disk@mark:tuesday"))).exports;
    for (const name of ["monday", "tuesday"]) assert.ok(info.contexts.includes(`${SINCE}mark:${name}`), name);
    const refused = await attempt("nbdinfo", `--map=${SINCE}mark:tuesday`, appliance.uri("disk@mark:monday"));
    assert.notEqual(refused.code, 0, "changes since a later moment");
  }),
);

Deno.test(
  "change maps: qemu-img reads one, and a backup brought up to date with it equals the moment",
  withAppliance(async (appliance) => {
    await appliance.createVolume("disk", SIZE_BYTES);
    const random = new Random(47);
    await using disk = await appliance.disk("disk");
    const churn = async (count: number) => {
      for (let i = 0; i < count; i++) {
        const length = random.magnitude(512, 300 * KIB);
        const offset = random.integer(0, SIZE_BYTES - length);
        if (random.integer(1, 4) === 1) await disk.trim(offset, length);
        else await disk.write(offset, random.bytes(length));
      }
    };
    await churn(80);
    await appliance.mark("disk", "full");
    await churn(30);
    await appliance.mark("disk", "next");
    await churn(30);

    const backup = `${appliance.folder}/backup.img`;
    await run("nbdcopy", appliance.uri("disk@mark:full"), backup);
    const options = [
      "driver=nbd,server.type=unix",
      `server.path=${appliance.nbdPath}`,
      "export=disk@mark:next",
      `x-dirty-bitmap=${SINCE}mark:full`,
    ].join(",");
    const map: { start: number; length: number; data: boolean }[] = JSON.parse(
      await run("qemu-img", "map", "--output=json", "--image-opts", options),
    );
    await using past = await appliance.disk("disk@mark:next");
    using file = await Deno.open(backup, { write: true });
    let copied = 0;
    // What is dirty is told as no data.
    for (const { start, length } of map.filter(({ data }) => !data)) {
      const end = Math.min(SIZE_BYTES, start + length);
      await file.seek(start, Deno.SeekMode.Start);
      const bytes = await past.read(start, end - start);
      for (let done = 0; done < bytes.length;) done += await file.write(bytes.subarray(done));
      copied += end - start;
    }
    assert.ok(copied > MIB && copied < SIZE_BYTES / 2, `${copied} bytes are dirty`);
    const next = appliance.uri("disk@mark:next");
    assert.match(await run("qemu-img", "compare", "-f", "raw", "-F", "raw", backup, next), /identical/);
  }),
);

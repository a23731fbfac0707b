/**
 * Clones with other people's clients: a moment of an ext4 volume is written to while the volume goes on.
 *
 * @module
 */
import assert from "node:assert/strict";
import type { CloneInfo, EventInfo, JobInfo, PromoteResult } from "../src/engine.ts";
import { type TestAppliance, withAppliance } from "./support/appliance.ts";
import { MIB } from "./support/bytes.ts";
import { kernelMount, loopDevice, nbdAsFile } from "./support/devices.ts";
import { attempt, run, until } from "./support/run.ts";

const SIZE_BYTES = 128 * MIB;

function io(uri: string, ...commands: string[]): Promise<string> {
  return run("qemu-io", "-f", "raw", uri, ...commands.flatMap((command) => ["-c", command]));
}

/** SHA-256 of an export. */
async function hashOf(appliance: TestAppliance, name: string): Promise<string> {
  const target = `${appliance.folder}/hash.img`;
  await run("nbdcopy", appliance.uri(name), target);
  const [hash = ""] = (await run("sha256sum", target)).split(" ");
  await Deno.remove(target);
  return hash;
}

/** Makes an ext4 with one file on an export, by the kernel. */
async function putFile(appliance: TestAppliance, name: string, text: string, format: boolean): Promise<void> {
  const folder = await Deno.makeTempDir({ dir: appliance.folder });
  await using file = await nbdAsFile(appliance.uri(name), `${folder}/nbdfuse`);
  await using loop = await loopDevice(file.path);
  if (format) await run("mkfs.ext4", "-q", loop.path);
  await using mounted = await kernelMount(loop.path, `${folder}/mounted`);
  await Deno.writeTextFile(`${mounted.path}/file`, text);
}

Deno.test(
  "clone: the kernel and qemu write to a clone of an ext4, the volume and the past go on; it is promoted and deleted",
  withAppliance(async (appliance) => {
    await appliance.createVolume("db", SIZE_BYTES);
    await putFile(appliance, "db", "then\n", true);
    await appliance.mark("db", "then");
    const past = await hashOf(appliance, "db@mark:then");

    const said = await appliance.varveOk("clone", "db", "test", "--at", "mark:then", "--budget", "64M");
    assert.match(said, /^clone of +db$/m);
    const uri = /^Connect to (\S+)$/m.exec(said)?.[1];
    assert.equal(uri, appliance.uri("test"));
    assert.match(
      await run("nbdinfo", "--list", `nbd+unix://?socket=${appliance.nbdPath}`),
      /clone of db as of/,
    );
    assert.equal(await hashOf(appliance, "test"), past, "a new clone is its moment");

    // The same moment goes on in two ways.
    await Promise.all([
      putFile(appliance, "test", "another future\n", false),
      putFile(appliance, "db", "what came\n", false),
    ]);
    const changes = ["write -P 0x5a 100M 3M", "write -f -P 0x5b 110000000 700", "discard 101M 1M", "flush"];
    assert.doesNotMatch(await io(appliance.uri("test"), ...changes), /fail|error/i);
    assert.equal(await hashOf(appliance, "db@mark:then"), past, "the past has changed");
    const clone = await hashOf(appliance, "test");
    assert.notEqual(clone, past);

    await appliance.kill();
    await appliance.launch();
    assert.equal(await hashOf(appliance, "test"), clone, "a kill has changed the clone");
    const checks = ["read -P 0x5a 100M 1M", "read -P 0 101M 1M", "read -P 0x5b 110000000 700"];
    assert.doesNotMatch(await io(appliance.uri("test"), ...checks), /fail|error/i);

    const promoted = await appliance.varveOk("clones", "promote", "test", "db2", "--json");
    const result = (JSON.parse(promoted) as JobInfo).result as unknown as PromoteResult;
    assert(result.writtenBytes > 0 && result.writtenBytes < SIZE_BYTES / 2, "holes are left out");
    for (const name of ["db2", "db2@mark:promoted"]) {
      const compare = ["compare", "-f", "raw", "-F", "raw", appliance.uri("test"), appliance.uri(name)];
      assert.match(await run("qemu-img", ...compare), /identical/);
    }
    const time = await appliance.timeOfMark("db2", "promoted");
    assert.equal(
      await Deno.readTextFile(`${appliance.mountPath}/db2/points/${time}/file`),
      "another future\n",
    );

    assert.match((await appliance.varve("volume", "delete", "db")).stderr, /it has clones: test/);
    await appliance.varveOk("clones", "delete", "test");
    assert.deepEqual([...Deno.readDirSync(`${appliance.dataPath}/clones`)], []);
    assert.equal((await attempt("nbdinfo", appliance.uri("test"))).code, 1);
    await appliance.varveOk("volume", "delete", "db");
  }),
);

Deno.test(
  "clone: a budget ends in ENOSPC and changes nothing, a discard gives it back, and time ends the clone",
  withAppliance(async (appliance) => {
    await appliance.createVolume("db", SIZE_BYTES);
    await io(appliance.uri("db"), "write -P 0x11 0 8M", "flush");
    const body = { volume: "db", at: "now", name: "small", budgetBytes: 4 * MIB, ttl: "1h" };
    await appliance.apiOk<CloneInfo>("POST", "/v1/clones", body);
    const uri = appliance.uri("small");
    await io(uri, "write -P 0x22 0 4M", "flush");
    const refused = await attempt("qemu-io", "-f", "raw", "-c", "write -P 0x33 2M 4M", uri);
    assert.match(refused.stdout + refused.stderr, /No space left/);
    assert.doesNotMatch(
      await io(
        uri,
        "read -P 0x22 0 4M",
        "read -P 0x11 4M 4M",
        "discard 0 2M",
        "write -P 0x33 4M 2M",
        "flush",
      ),
      /fail|error/i,
    );
    const { usedBytes } = await appliance.apiOk<CloneInfo>("GET", "/v1/clones/small");
    assert.equal(usedBytes, 4 * MIB);
    const map = await run("nbdinfo", "--map", "--json", uri);
    const holes = (JSON.parse(map) as { offset: number; length: number; type: number }[])
      .filter(({ type }) => type === 3).map(({ offset, length }) => [offset, length]);
    assert.deepEqual(holes, [[0, 2 * MIB], [8 * MIB, SIZE_BYTES - 8 * MIB]]);

    await appliance.apiOk("POST", "/v1/clones", { ...body, name: "brief", ttl: "1s" });
    await until("the clone has expired", async () => {
      const { clones } = await appliance.apiOk<{ clones: CloneInfo[] }>("GET", "/v1/clones");
      return clones.every(({ name }) => name !== "brief");
    });
    const { events } = await appliance.apiOk<{ events: EventInfo[] }>("GET", "/v1/events");
    assert.deepEqual(events.filter(({ kind }) => kind === "clone.expired").map(({ volume }) => volume), [
      "db",
    ]);
  }),
);

Deno.test(
  "clone: mkfs.ext4 with discard on a clone of a 2 TiB volume is quick and takes next to nothing",
  withAppliance(async (appliance) => {
    await appliance.createVolume("wide", 2 ** 41);
    await appliance.apiOk("POST", "/v1/clones", {
      volume: "wide",
      at: "now",
      name: "c",
      budgetBytes: 2 ** 30,
    });
    {
      await using file = await nbdAsFile(appliance.uri("c"), `${appliance.folder}/nbdfuse`);
      await using loop = await loopDevice(file.path);
      await run("mkfs.ext4", "-q", "-E", "discard,lazy_itable_init=1,lazy_journal_init=1", loop.path);
    }
    const { usedBytes } = await appliance.apiOk<CloneInfo>("GET", "/v1/clones/c");
    assert(usedBytes > MIB && usedBytes < 512 * MIB, `${usedBytes} bytes are used`);
    await appliance.stop();
    await appliance.launch();
    const after = await appliance.apiOk<CloneInfo>("GET", "/v1/clones/c");
    assert.deepEqual([after.state, after.usedBytes], ["ready", usedBytes]);
  }),
);

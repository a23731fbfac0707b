/**
 * What must be refused is refused, by the words that help, and harms nothing.
 *
 * @module
 */
import assert from "node:assert/strict";
import type { JobInfo } from "../src/engine.ts";
import { NbdClient } from "../tools/nbd_client.ts";
import { type TestAppliance, withAppliance } from "./support/appliance.ts";
import { assertFile, assertSameBytes, MIB, Random, readFully, sha256 } from "./support/bytes.ts";
import { kernelMount, loopDevice, sparseFile } from "./support/devices.ts";
import { attempt, exists, run } from "./support/run.ts";

const SIZE_BYTES = 4 * MIB;
const CLI = new URL("../cli/main.ts", import.meta.url).pathname;

/** A test with the volume `disk`, which has content, a mark `m`, and something written after it. */
function withDisk(test: (appliance: TestAppliance) => Promise<void>): () => Promise<void> {
  return withAppliance(async (appliance) => {
    await appliance.createVolume("disk", SIZE_BYTES);
    {
      await using disk = await appliance.disk("disk");
      await disk.write(0, new Random(31).bytes(SIZE_BYTES));
      await appliance.mark("disk", "m");
      await disk.write(1000, new Random(37).bytes(MIB), { fua: true });
    }
    await test(appliance);
  });
}

/** A problem document, as far as these tests look into it. */
interface Problem {
  status: number;
  code: string;
  detail: string;
  field?: string;
  hint?: string;
  older?: { seq: number };
  newer?: { seq: number };
}

/** Asks for something that must be refused with a problem document; returns that. */
async function refused(
  appliance: TestAppliance,
  [method, path, body]: [method: string, path: string, body?: unknown],
): Promise<Problem> {
  const answer = await appliance.api<Problem>(method, path, body);
  const what = `${method} ${path} ${JSON.stringify(body)} => ${answer.status} ${JSON.stringify(answer.body)}`;
  assert.ok(answer.status >= 400 && answer.status < 500, what);
  assert.equal(answer.type, "application/problem+json", what);
  assert.equal(answer.body.status, answer.status, what);
  assert.ok(answer.body.detail.length > 10, what);
  return answer.body;
}

async function refuseRecovery(
  appliance: TestAppliance,
  target: string,
  why: RegExp,
  more: { force?: boolean } = {},
): Promise<void> {
  const request = { at: "mark:m", target, ...more };
  const problem = await refused(appliance, ["POST", "/v1/volumes/disk/recoveries", request]);
  assert.equal(problem.field, "target", `${target}: ${JSON.stringify(problem)}`);
  assert.match(problem.detail, why, target);
}

Deno.test(
  "refusals: a recovery to files that are not fit for it changes nothing",
  withDisk(async (appliance) => {
    const { folder } = appliance;
    await appliance.createVolume("other", MIB);
    const { primary } = await appliance.volume("disk");
    const other = (await appliance.volume("other")).primary;
    const before = sha256(await Deno.readFile(primary.path));

    const small = `${folder}/small.img`;
    await Deno.writeFile(small, new Random(41).bytes(MIB));
    await refuseRecovery(appliance, small, /1048576 bytes.*4194304/);
    await assertFile(small, new Random(41).bytes(MIB));

    await Deno.symlink(primary.path, `${folder}/symbolic`);
    await Deno.link(primary.path, `${folder}/hard`);
    for (const force of [false, true]) {
      await refuseRecovery(appliance, `${folder}/hard`, /primary of volume disk/, { force });
      // These lie in the data folder, too; either is a reason.
      await refuseRecovery(appliance, primary.path, /primary of volume disk|data folder/, { force });
      await refuseRecovery(appliance, other.path, /primary of volume other|data folder/, { force });
      await refuseRecovery(appliance, `${folder}/symbolic`, /primary of volume disk|data folder/, { force });
    }

    await refuseRecovery(appliance, `${appliance.dataPath}/new.img`, /data folder/, { force: true });
    await refuseRecovery(appliance, `${folder}/./data/../data/new.img`, /data folder/);
    await refuseRecovery(appliance, `${appliance.dataPath}/volumes/new.img`, /data folder/);
    await Deno.symlink(appliance.dataPath, `${folder}/way-in`);
    await refuseRecovery(appliance, `${folder}/way-in/new.img`, /data folder/);
    await Deno.symlink(`${appliance.dataPath}/dangling.img`, `${folder}/dangling`);
    await refuseRecovery(appliance, `${folder}/dangling`, /data folder/);
    await refuseRecovery(appliance, `${appliance.dataPath}/catalog.sqlite`, /data folder/, { force: true });

    await refuseRecovery(appliance, `${folder}/no/such/folder/new.img`, /no folder/);
    await refuseRecovery(appliance, folder, /neither a file nor a block device/);
    await refuseRecovery(appliance, "/dev/null", /neither a file nor a block device/);
    await refuseRecovery(appliance, "relative.img", /absolute/);
    await refuseRecovery(appliance, "", /absolute/);
    const missing = await appliance.varve(
      "recover",
      "disk",
      "--at",
      "mark:m",
      "--to",
      `${folder}/no/new.img`,
    );
    assert.equal(missing.code, 1);
    assert.match(missing.stderr, /no folder/);

    assert.deepEqual(await appliance.apiOk("GET", "/v1/jobs"), { jobs: [] }, "nothing was begun");
    assert.equal(sha256(await Deno.readFile(primary.path)), before, "the primary is as it was");
    for (const path of ["new.img", "dangling.img", "volumes/new.img"]) {
      assert.ok(!await exists(`${appliance.dataPath}/${path}`), path);
    }
  }),
);

Deno.test(
  "refusals: a recovery to devices that are too small, mounted or in use",
  withDisk(async (appliance) => {
    const { folder } = appliance;
    const expected = new Random(31).bytes(SIZE_BYTES);
    await sparseFile(`${folder}/tiny.img`, MIB);
    await sparseFile(`${folder}/large.img`, 2 * SIZE_BYTES);
    {
      await using tiny = await loopDevice(`${folder}/tiny.img`);
      await refuseRecovery(appliance, tiny.path, /1048576 bytes.*4194304/);
      await refuseRecovery(appliance, tiny.path, /1048576 bytes.*4194304/, { force: true });
    }
    await using large = await loopDevice(`${folder}/large.img`);
    await refuseRecovery(appliance, `${folder}/large.img`, /in use.*\/dev\/loop/);
    await run("mkfs.ext4", "-q", large.path);
    {
      await using mounted = await kernelMount(large.path, `${folder}/large`);
      await Deno.writeTextFile(`${mounted.path}/file`, "still needed");
      await refuseRecovery(appliance, large.path, /in use.*mounted/);
      assert.equal(await Deno.readTextFile(`${mounted.path}/file`), "still needed");
    }
    await appliance.recover("disk", "mark:m", large.path);
    using device = await Deno.open(large.path);
    assertSameBytes(await readFully(device, SIZE_BYTES), expected, "a device that nobody uses is written");
  }),
);

Deno.test(
  "refusals: a path inside the mounted tree as target or primary is refused, and nothing hangs",
  withDisk(async (appliance) => {
    for (const place of ["new.img", "disk/images/new.img", "disk/images/mark:m.img", "disk/at/now/new.img"]) {
      await refuseRecovery(appliance, `${appliance.mountPath}/${place}`, /./);
    }
    const path = `${appliance.mountPath}/disk/images/mark:m.img`;
    await refused(appliance, ["POST", "/v1/volumes", { name: "loop", primary: { path, adopt: true } }]);
  }),
);

Deno.test(
  "refusals: a second appliance on the same data folder ends with 1 and says why",
  withDisk(async (appliance) => {
    const place = (name: string) => `unix:${appliance.folder}/second-${name}.sock`;
    const second = await attempt(
      Deno.execPath(),
      ...["run", "--allow-all", CLI, "serve", "--data", appliance.dataPath],
      ...["--mount", `${appliance.folder}/second`, "--nbd", place("nbd"), "--api", place("api")],
    );
    assert.equal(second.code, 1, second.stdout + second.stderr);
    assert.ok(second.stderr.includes(appliance.dataPath), second.stderr);
    assert.match(second.stderr, /another Varve is using it/);
    assert.ok(!await exists(`${appliance.folder}/second`), "it leaves no mount point");
    {
      await using disk = await appliance.disk("disk@mark:m");
      await disk.assertContent(new Random(31).bytes(SIZE_BYTES), "disk@mark:m beside the refused one");
    }
    await using disk = await appliance.disk("disk");
    await disk.write(0, new Uint8Array(512), { fua: true });
  }),
);

Deno.test(
  "refusals: the mount that a killed appliance left is cleaned up by the next",
  withDisk(async (appliance) => {
    const mounts = async () =>
      (await Deno.readTextFile("/proc/self/mounts")).split(` ${appliance.mountPath} `).length - 1;
    await appliance.kill();
    assert.equal(await mounts(), 1, "without a stale mount this shows nothing");
    await appliance.launch();
    assert.equal(await mounts(), 1);
    assert.deepEqual(await Array.fromAsync(Deno.readDir(appliance.mountPath), ({ name }) => name), ["disk"]);
    await appliance.stop();
    assert.equal(await mounts(), 0, "one that is stopped leaves none");
  }),
);

Deno.test(
  "refusals: HTTP answers a bad request with a problem document that names the field",
  withDisk(async (appliance) => {
    const disk = "/v1/volumes/disk";
    const sizeBytes = MIB;
    const cases: [request: [string, string, unknown?], status: number, field: string | undefined][] = [
      [["POST", "/v1/volumes", { name: "bad name", sizeBytes }], 400, "name"],
      [["POST", "/v1/volumes", { name: "../up", sizeBytes }], 400, "name"],
      [["POST", "/v1/volumes", { name: "a@b", sizeBytes }], 400, "name"],
      [["POST", "/v1/volumes", { name: "x".repeat(65), sizeBytes }], 400, "name"],
      [["POST", "/v1/volumes", { name: "disk", sizeBytes }], 409, "name"],
      [["POST", "/v1/volumes", { name: "x" }], 400, "sizeBytes"],
      [["POST", "/v1/volumes", { name: "x", sizeBytes: 0 }], 400, "sizeBytes"],
      [["POST", "/v1/volumes", { name: "x", sizeBytes: -1 }], 400, "sizeBytes"],
      [["POST", "/v1/volumes", { name: "x", sizeBytes: 1.5 }], 400, "sizeBytes"],
      [["POST", "/v1/volumes", { name: "x", sizeBytes: "1G" }], 400, "sizeBytes"],
      [["POST", "/v1/volumes", { name: "x", sizeBytes: 2 ** 53 }], 400, "sizeBytes"],
      [["POST", "/v1/volumes", { name: "x", sizeBytes, colour: "red" }], 400, "colour"],
      [["POST", "/v1/volumes", { name: "x", sizeBytes, primary: { path: "here" } }], 400, "primary.path"],
      [
        ["POST", "/v1/volumes", { name: "x", primary: { path: "/no/such", adopt: true } }],
        400,
        "primary.path",
      ],
      [
        ["POST", "/v1/volumes", { name: "x", primary: { path: "/dev/null", adopt: true } }],
        400,
        "primary.path",
      ],
      [["POST", "/v1/volumes", "{not json"], 400, "body"],
      [["POST", "/v1/volumes", "[]"], 400, "body"],
      [["GET", "/v1/volumes/nobody"], 404, "volume"],
      [["POST", `${disk}/marks`, { name: "a b" }], 400, "name"],
      [["POST", `${disk}/marks`, { name: "m" }], 409, "name"],
      [["POST", `${disk}/marks`, { name: "x", pinned: "yes" }], 400, "pinned"],
      [["DELETE", `${disk}/marks/none`], 404, "name"],
      [["PUT", `${disk}/retention`, { continuous: "soon", tiers: [] }], 400, "continuous"],
      [["PUT", `${disk}/retention`, { continuous: "1h" }], 400, "tiers"],
      [["PUT", `${disk}/retention`, { continuous: "1h", tiers: [{ every: "1h" }] }], 400, "tiers.0.for"],
      [
        ["PUT", `${disk}/retention`, { continuous: "1h", tiers: [{ every: "1h", for: "long" }] }],
        400,
        "tiers.0.for",
      ],
      [["PUT", `${disk}/retention`, { continuous: "1h", tiers: [], maxBytes: -5 }], 400, "maxBytes"],
      [["POST", `${disk}/retention/preview`, { continuous: "-1h", tiers: [] }], 400, "continuous"],
      [["GET", `${disk}/resolve`], 400, "at"],
      [["GET", `${disk}/resolve?at=nonsense`], 400, "at"],
      [["GET", `${disk}/resolve?at=25:99`], 400, "at"],
      [["GET", `${disk}/resolve?at=2026-02-30T00:00:00Z`], 400, "at"],
      [["GET", `${disk}/resolve?at=seq:-1`], 400, "at"],
      [["GET", `${disk}/resolve?at=mark:`], 400, "at"],
      [["GET", `${disk}/resolve?at=mark:none`], 404, "at"],
      [["GET", `${disk}/points?limit=0`], 400, "limit"],
      [["GET", `${disk}/points?cursor=later`], 400, "cursor"],
      [["GET", `${disk}/points?from=nonsense`], 400, "from"],
      [["GET", `${disk}/files?at=now&path=etc`], 400, "path"],
      [["GET", `${disk}/files/content?at=now`], 400, "path"],
      [["POST", `${disk}/recoveries`, { at: "now" }], 400, "target"],
      [["POST", `${disk}/recoveries`, { at: "nonsense", target: "/tmp/never" }], 400, "at"],
      [["POST", `${disk}/recoveries`, { at: "mark:none", target: "/tmp/never" }], 404, "at"],
      [["POST", "/v1/tokens", { name: "x", scopes: ["root"] }], 400, "scopes.0"],
      [["GET", "/v1/jobs/none"], 404, undefined],
      [["GET", "/v1/nothing"], 404, undefined],
      [["PATCH", "/v1/status"], 405, undefined],
    ];
    for (const [request, status, field] of cases) {
      const problem = await refused(appliance, request);
      const what = `${JSON.stringify(request)}: ${JSON.stringify(problem)}`;
      assert.equal(problem.status, status, what);
      if (field !== undefined) assert.equal(problem.field, field, what);
    }
    assert.equal((await appliance.apiOk<{ volumes: unknown[] }>("GET", "/v1/volumes")).volumes.length, 1);
  }),
);

Deno.test(
  "refusals: a time outside of the window is answered with the moments that exist",
  withDisk(async (appliance) => {
    const { window } = await appliance.volume("disk");
    const ask = (at: string) =>
      refused(appliance, ["GET", `/v1/volumes/disk/resolve?at=${encodeURIComponent(at)}`]);
    for (const at of ["2001-01-01T00:00:00Z", "2 years ago"]) {
      const early = await ask(at);
      assert.equal(early.status, 410);
      assert.equal(early.newer?.seq, 0);
      assert.equal(early.older, undefined);
      assert.ok(early.detail.includes(window.from.time), early.detail);
    }
    for (const at of ["2199-01-01T00:00:00Z", `seq:${window.to.seq + 1}`]) {
      const late = await ask(at);
      assert.equal(late.status, 410);
      assert.equal(late.older?.seq, window.to.seq);
      assert.ok(late.detail.includes(window.to.time), late.detail);
    }
    const told = await appliance.varve("ls", "disk", "--at", "2001-01-01T00:00:00Z");
    assert.equal(told.code, 1);
    assert.ok(told.stderr.includes(window.from.time), told.stderr);
  }),
);

Deno.test(
  "refusals: the command line ends with 1 for a failure and 2 for wrong usage",
  withDisk(async (appliance) => {
    const cases: [args: string[], code: 1 | 2, says: RegExp][] = [
      [["volume", "create", "bad name", "--size", "1M"], 1, /name must be a name: letters, digits/],
      [["volume", "create", "disk", "--size", "1M"], 1, /there is one of that name/],
      [["volume", "create", "x", "--size", "0"], 1, /sizeBytes must be a size/],
      [["volume", "create", "x", "--size", "1Q"], 2, /'1Q' is invalid.*512M/],
      [["volume", "create", "x"], 2, /--size/],
      [["volume", "adopt", "x", "--primary", "/no/such"], 1, /\/no\/such: there is nothing there/],
      [["mark", "disk", "a b"], 1, /name must be a name/],
      [["mark", "nobody", "x"], 1, /find volume nobody/],
      [["ls", "disk", "--at", "nonsense"], 1, /"nonsense".*\n.*Accepted are: now/],
      [["ls", "disk"], 2, /--at/],
      [["retention", "set", "disk", "--continuous", "soon"], 2, /'soon' is invalid.*24h/],
      [["retention", "set", "disk", "--continuous", "1h", "--tier", "1h"], 2, /EVERY:FOR/],
      [["retention", "set", "disk", "--continuous", "1h", "--tier", "5m:30m"], 1, /tiers\[0\]\.for is 30m/],
      [["recover", "disk", "--at", "now"], 2, /--to/],
      [["serve", "--nbd", "nonsense"], 1, /nbd\.0 must be unix:\/path, HOST:PORT or stdio/],
      [["frobnicate"], 2, /unknown command 'frobnicate'/],
    ];
    for (const [args, code, says] of cases) {
      const told = await appliance.varve(...args);
      assert.equal(told.code, code, `varve ${args.join(" ")}: ${told.stdout}${told.stderr}`);
      assert.equal(told.stdout, "", `varve ${args.join(" ")} prints nothing to stdout`);
      assert.match(told.stderr, says);
    }
  }),
);

Deno.test(
  "refusals: NBD names that name nothing are refused in words, and the server goes on",
  withDisk(async (appliance) => {
    const cases: [name: string, code: "unknown" | "invalid"][] = [
      ["nobody", "unknown"],
      ["nobody@now", "unknown"],
      ["@now", "unknown"],
      ["", "unknown"],
      ["disk@mark:none", "unknown"],
      ["disk@seq:999999", "unknown"],
      ["disk@2001-01-01T00:00:00Z", "unknown"],
      ["disk@", "invalid"],
      ["disk@nonsense", "invalid"],
      ["disk@now@now", "invalid"],
      ["disk@25:99", "invalid"],
    ];
    const codes = { unknown: /0x80000006 .{10}/, invalid: /0x80000003 .{10}/ };
    for (const [name, code] of cases) {
      await assert.rejects(NbdClient.connect(appliance.nbdPath, name), codes[code], `"${name}"`);
      await assert.rejects(appliance.disk(name), /closed the connection/, `"${name}" by EXPORT_NAME`);
    }
    await using disk = await appliance.disk("disk@mark:m");
    await disk.assertContent(new Random(31).bytes(SIZE_BYTES), "disk@mark:m after all refusals");
  }),
);

Deno.test(
  "refusals: NBD requests beyond the end or against the past are answered with errors",
  withDisk(async (appliance) => {
    await using past = await appliance.disk("disk@mark:m");
    await assert.rejects(past.write(0, new Uint8Array(512)), { errno: 1 });
    await assert.rejects(past.trim(0, 512), { errno: 1 });
    await assert.rejects(past.zero(0, 512), { errno: 1 });
    await assert.rejects(past.read(SIZE_BYTES - 1, 2), { errno: 22 });
    await past.assertContent(new Random(31).bytes(SIZE_BYTES), "the past after all refusals");

    await using live = await appliance.disk("disk");
    await assert.rejects(live.write(SIZE_BYTES - 1, new Uint8Array(2)), { errno: 28 });
    await assert.rejects(live.read(2 ** 52, 1), { errno: 22 });
    await live.write(SIZE_BYTES - 1, Uint8Array.of(7));
    assert.deepEqual([...await live.read(SIZE_BYTES - 1, 1)], [7]);
  }),
);

Deno.test(
  "refusals: names in the mounted tree that name no moment do not exist",
  withDisk(async (appliance) => {
    const volumePath = `${appliance.mountPath}/disk`;
    for (const name of ["nonsense", "2001-01-01T00:00:00Z", "mark:none", "seq:999999", "seq:", "now now"]) {
      for (const path of [`at/${name}`, `points/${name}`, `images/${name}.img`, `marks/${name}`]) {
        await assert.rejects(Deno.lstat(`${volumePath}/${path}`), Deno.errors.NotFound, path);
      }
    }
    await assert.rejects(Deno.lstat(`${appliance.mountPath}/nobody`), Deno.errors.NotFound);
    await assert.rejects(Deno.writeTextFile(`${volumePath}/new`, "x"), /read-only/i);
    assert.equal((await Deno.lstat(`${volumePath}/at/now`)).isDirectory, true);
  }),
);

Deno.test(
  "refusals: a second recovery to a target that the first still writes is refused",
  withDisk(async (appliance) => {
    const target = `${appliance.folder}/target.img`;
    const ask = (at: string) =>
      appliance.api<JobInfo>("POST", "/v1/volumes/disk/recoveries", { at, target, verify: true });
    const answers = await Promise.all([ask("mark:m"), ask("seq:0")]);
    const started = answers.filter(({ status }) => status === 202);
    for (const { body } of started) await appliance.finish(body);
    assert.deepEqual(answers.map(({ status }) => status).sort(), [202, 409]);
    const isMark = started[0] === answers[0];
    await assertFile(target, isMark ? new Random(31).bytes(SIZE_BYTES) : new Uint8Array(SIZE_BYTES));
  }),
);

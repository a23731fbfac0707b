/**
 * What a history says of files: versions of one, what a folder held before, what changed between two moments; asked over HTTP, on the
 * command line and in the mounted tree.
 *
 * @module
 */
import assert from "node:assert/strict";
import type { BlockChanges, DeletedFiles, FileChanges, FileVersionList } from "../src/engine.ts";
import { type TestAppliance, withAppliance } from "./support/appliance.ts";
import { MIB } from "./support/bytes.ts";
import { kernelMount, loopDevice, nbdAsFile } from "./support/devices.ts";
import { run } from "./support/run.ts";

/** What is done to the file system, a mark behind each. */
const STEPS: readonly (readonly [mark: string, script: string])[] = [
  [
    "made",
    "mkdir -p docs/old; echo one > docs/report; echo gone > docs/lost; echo x > docs/old/note; echo same > same",
  ],
  ["changed", "echo two > docs/report"],
  ["deleted", "rm docs/lost; rm -r docs/old; echo new > docs/new"],
  ["replaced", "echo three > .tmp; sync .tmp; mv .tmp docs/report"],
  ["attributes", "chmod 600 docs/report"],
  ["renamed", "mv docs/new docs/newer"],
];

async function fill(appliance: TestAppliance): Promise<void> {
  await appliance.createVolume("disk", 64 * MIB);
  await using file = await nbdAsFile(appliance.uri("disk"), `${appliance.folder}/nbdfuse`);
  await using loop = await loopDevice(file.path);
  await run("mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", loop.path);
  await using host = await kernelMount(loop.path, `${appliance.folder}/host`);
  for (const [mark, script] of STEPS) {
    await run("sh", "-ec", `cd ${host.path}; ${script}; sync -f .`);
    await appliance.mark("disk", mark);
  }
}

Deno.test(
  "files of a history: versions, deleted files and changes are told by HTTP, the command line and the tree",
  withAppliance(async (appliance) => {
    await fill(appliance);
    const get = <T>(what: string, query: Record<string, string>) =>
      appliance.apiOk<T>("GET", `/v1/volumes/disk/${what}?${new URLSearchParams(query)}`);

    const { versions } = await get<FileVersionList>("files/versions", { path: "/docs/report" });
    const told: string[] = [];
    for (const { from, until, file } of versions) {
      const read = (seq: number) => appliance.varve("cat", "disk", "/docs/report", "--at", `seq:${seq}`);
      const [first, last] = [await read(from.seq), await read(until.seq)];
      assert.equal(first.stdout, last.stdout);
      assert.equal(first.code === 0, file !== undefined);
      told.push(file === undefined ? "absent" : `${file.mode} ${first.stdout.trim()}`);
    }
    // The guest may commit what it knows of a file before the content, or after it: those are versions too.
    const whole = told.filter((each) => !each.includes("\0"));
    const distinct = whole.filter((each, index) => each !== whole[index - 1]);
    assert.deepEqual(distinct, ["0600 three", "0644 three", "0644 two", "0644 one", "absent"]);
    assert.equal(versions[0]?.contentChanged, false);
    const upTo = await get<FileVersionList>("files/versions", {
      path: "/docs/report",
      to: "mark:changed",
      limit: "1",
    });
    assert.deepEqual([upTo.versions.length, upTo.truncated], [1, true]);

    const deleted = await get<DeletedFiles>("files/deleted", { at: "now", path: "/docs" });
    assert.deepEqual(deleted.files.map(({ file }) => file.name).sort(), ["lost", "new", "old"]);

    const changes = await get<FileChanges>("diff", {
      from: "mark:changed",
      to: "mark:renamed",
      files: "true",
    });
    assert.deepEqual(
      changes.changes.map(({ kind, path }) => `${kind} ${path}`),
      [
        "changed /docs/report",
        "created /docs/newer",
        "deleted /docs/lost",
        "deleted /docs/old",
        "deleted /docs/old/note",
      ]
        .toSorted((a, b) => (a.split(" ")[1] ?? "") < (b.split(" ")[1] ?? "") ? -1 : 1),
    );
    const renamed = await appliance.varveOk(
      "diff",
      "disk",
      "--from",
      "mark:attributes",
      "--to",
      "mark:renamed",
      "--files",
    );
    assert.equal(renamed, "R  /docs/new -> /docs/newer\n");

    const blocks = await get<BlockChanges>("diff", { from: "mark:made", to: "mark:changed", limit: "10000" });
    assert.ok(blocks.changedBytes > 0 && blocks.nextOffset === undefined);
    const nothing = await get<BlockChanges>("diff", { from: "mark:made", to: "mark:made" });
    assert.deepEqual([nothing.extents, nothing.changedBytes], [[], 0]);
    const swapped = await appliance.api("GET", "/v1/volumes/disk/diff?from=mark:changed&to=mark:made");
    assert.equal(swapped.status, 400);

    const now = `${appliance.mountPath}/disk/at/now`;
    const tree = await run(
      "sh",
      "-ec",
      `cd ${now}; ls -A; cd .varve; ls deleted/docs; cat deleted/docs/lost deleted/docs/old/note; cat versions/docs/report/* versions/docs/lost/*`,
    );
    assert.equal(tree, "docs\nlost+found\nsame\nlost\nnew\nold\ngone\nx\none\ntwo\nthree\nthree\ngone\n");
    assert.equal((await appliance.varve("versions", "disk", "/docs/never")).code, 0);
  }),
);

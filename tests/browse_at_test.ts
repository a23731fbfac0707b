/**
 * `at/` in a shell: any time that the grammar names can be entered, and what names no moment does not exist, while the
 * README and the API say which moments there are.
 *
 * @module
 */
import assert from "node:assert/strict";
import type { JobInfo, MarkInfo } from "../src/engine.ts";
import { type TestAppliance, withAppliance } from "./support/appliance.ts";
import { MIB } from "./support/bytes.ts";
import { pause, run } from "./support/run.ts";

const SIZE_BYTES = 8 * MIB;
/** Between two moments, in milliseconds, so that `3s ago` can fall between them on a slow machine too. */
const APART_MS = 4000;

/** Writes a file system whose file `text` holds the mark's name, and marks it. */
async function write(appliance: TestAppliance, name: string): Promise<MarkInfo> {
  const content = `${appliance.folder}/${name}`;
  await Deno.mkdir(`${content}/folder`, { recursive: true });
  await Deno.writeTextFile(`${content}/text`, `${name}\n`);
  const image = `${content}.ext4`;
  await run("mke2fs", "-q", "-F", "-t", "ext4", "-d", content, image, `${SIZE_BYTES / 1024}k`);
  await run("nbdcopy", "--flush", image, appliance.uri("disk"));
  return await appliance.mark("disk", name);
}

/** Runs a script in the volume's folder; both streams, and the exit code when it is not 0. */
async function shell(appliance: TestAppliance, script: string, ...args: string[]): Promise<string> {
  const whole = `cd "$1/disk" && shift && (${script}) 2>&1 || echo "exit $?"`;
  return (await run("sh", "-c", whole, "sh", appliance.mountPath, ...args)).trimEnd();
}

const MISSING = /: No such file or directory$/;

Deno.test(
  "at: a shell enters the past by every form of the time grammar",
  withAppliance(async (appliance) => {
    await appliance.createVolume("disk", SIZE_BYTES);
    const one = await write(appliance, "one");
    await pause(APART_MS);
    const two = await write(appliance, "two");

    assert.equal(await shell(appliance, "ls -A at"), "", "times are not listed");
    assert.equal(
      await shell(appliance, `cd at/now && cat text && cd folder && pwd -P`),
      `two\n${appliance.mountPath}/disk/at/now/folder`,
    );
    const clock = await run("date", "--date", one.time, "+%H:%M:%S.%3N");
    const offset = await run("date", "--date", one.time, "+%Y-%m-%dT%H:%M:%S.%6N%:z");
    const forms = {
      "mark:one": "one",
      "mark:two": "two",
      [`seq:${one.seq}`]: "one",
      [`seq:${two.seq}`]: "two",
      [one.time]: "one",
      [`${one.time.slice(0, 23)}Z`]: "one",
      [one.time.replace("T", " ")]: "one",
      [offset.trim()]: "one",
      [clock.trim()]: "one",
      "now": "two",
      "now ": "two",
      " mark:one  ": "one",
      "0s ago": "two",
      "0 seconds ago": "two",
    };
    for (const [form, text] of Object.entries(forms)) {
      assert.equal(await shell(appliance, `cd "at/$1" && cat text`, form), text, JSON.stringify(form));
    }
    // A second after the first moment, and so before the second.
    const ago = `n=$(($(date +%s) - $(date --date "$1" +%s) - 1)); cd "at/$n $2" && cat text`;
    for (const unit of ["seconds ago", "s ago", "sec ago", "seconds ago "]) {
      assert.equal(await shell(appliance, ago, one.time, unit), "one", unit);
    }
    // One name, two answers: the kernel must not remember what a name meant.
    await write(appliance, "three");
    assert.equal(
      await shell(appliance, "cat at/now/text at/mark:three/text at/mark:two/text"),
      "three\nthree\ntwo",
    );
  }),
);

Deno.test(
  "at: what names no moment does not exist, and README and resolve say which moments do",
  withAppliance(async (appliance) => {
    const volume = await appliance.createVolume("disk", SIZE_BYTES);
    const one = await write(appliance, "one");
    const nothing = [
      ...[
        "10 minutes ago",
        "yesterday 14:00",
        "2001-01-01T00:00:00Z",
        "2999-01-01T00:00:00Z",
        "in 5 minutes",
      ],
      ...[
        "mark:none",
        "mark:",
        "seq:999999999",
        "seq:-1",
        "seq:1.5",
        "25:00",
        "nonsense",
        "...",
        "now now",
        "NOW",
      ],
      ...["2026-02-30", "mark:one.", "-1s ago", "9".repeat(1000), "last night", "*", "\\"],
    ];
    for (const name of nothing) {
      assert.match(await shell(appliance, `stat -c %n "at/$1" | grep .`, name), /exit 1$/, name);
      assert.match((await shell(appliance, `cat "at/$1/text"`, name)).replace("\nexit 1", ""), MISSING, name);
    }
    assert.match(await shell(appliance, `cat "$(printf 'at/\\377\\376')/text"`), /No such file or directory/);
    // A name that does not exist yet must not be remembered as missing.
    assert.match(await shell(appliance, "cat at/mark:later/text"), /No such file/);
    await appliance.mark("disk", "later");
    assert.equal(await shell(appliance, "cat at/mark:later/text"), "one");

    const readme = await shell(appliance, "cat README");
    assert.match(
      readme,
      new RegExp(`^Window +${volume.window.from.time} \\(seq:${volume.window.from.seq}\\)$`, "m"),
    );
    assert.match(readme, /^ +to +\S+Z \(seq:\d+\)$/m);
    for (const form of ["now", "mark:NAME", "10m ago", "10:13", "yesterday 14:00", "at/TIME/"]) {
      assert.ok(readme.includes(form), form);
    }
    const early = await appliance.api("GET", "/v1/volumes/disk/resolve?at=10%20minutes%20ago");
    assert.match(JSON.stringify(early.body), /before the oldest retained moment.*the nearest newer is/);
    const late = await appliance.varve("ls", "disk", "--at", `seq:${one.seq + 1000}`);
    assert.match(late.stderr, /it has not happened yet; the nearest older is .*seq:\d+/);
  }),
);

Deno.test(
  "at: a moment that retention has thinned does not exist, and those that resolve names around it do",
  withAppliance(async (appliance) => {
    await appliance.createVolume("disk", SIZE_BYTES);
    const one = await appliance.apiOk<MarkInfo>(
      "PATCH",
      `/v1/volumes/disk/marks/${(await write(appliance, "one")).name}`,
      { pinned: true },
    );
    const two = await write(appliance, "two");
    await write(appliance, "three");
    const before = await shell(appliance, "cd at/seq:$1 && cat text", `${two.seq - 1}`);
    assert.equal(before, "two", "it is there until it is thinned");
    await pause(2500);
    await appliance.apiOk("DELETE", "/v1/volumes/disk/marks/two");
    await appliance.apiOk("PUT", "/v1/volumes/disk/retention", { continuous: "1s", tiers: [] });
    await appliance.finish(await appliance.apiOk<JobInfo>("POST", "/v1/volumes/disk/prune"));

    const thinned = `seq:${two.seq - 1}`;
    assert.match(await shell(appliance, `cat at/${thinned}/text`), /No such file or directory/);
    assert.match(await shell(appliance, `ls at/mark:two`), /No such file or directory/);
    const { status, body } = await appliance.api("GET", `/v1/volumes/disk/resolve?at=${thinned}`);
    assert.ok(status >= 400);
    assert.match(JSON.stringify(body), /retention has thinned that exact moment away; the nearest older is/);
    const told = [...new Set(JSON.stringify(body).match(/(?<=\(seq:)\d+/g))];
    assert.deepEqual([told.length, Number(told[0])], [2, one.seq]);
    assert.ok(Number(told[1]) > two.seq, `${told}`);
    const around = await shell(appliance, 'for seq; do cat "at/seq:$seq/text"; done', ...told);
    assert.equal(around, "one\nthree");
    assert.match(await shell(appliance, "cat README"), /^Points +\d+ listed, 2 marks$/m);
  }),
);

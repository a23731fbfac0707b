/**
 * Retention drops what the policy does not keep, gives the space back, and harms nothing else.
 *
 * @module
 */
import assert from "node:assert/strict";
import type { JobInfo, MarkInfo, PruneResult } from "../src/engine.ts";
import { type TestAppliance, withAppliance } from "./support/appliance.ts";
import { assertFile, assertSameBytes, MIB, Random, readFully } from "./support/bytes.ts";
import { pause, run } from "./support/run.ts";

const SIZE_BYTES = 24 * MIB + 512;
/** How often the whole disk is written anew between two marks: segments are sealed at 64 MiB. */
const ROUNDS = 4;
/** The least that must come back: far less than the churn, more than any bookkeeping. */
const FREED_MIN = 96 * MIB;

/** Space that the history takes on storage. */
async function historyBytes(appliance: TestAppliance): Promise<number> {
  const primary = "primary*";
  const used = await run(
    "du",
    "--bytes",
    "--summarize",
    `--exclude=${primary}`,
    `${appliance.dataPath}/volumes`,
  );
  return parseInt(used);
}

Deno.test(
  "retention: a prune drops old moments, keeps pinned marks byte-exact and gives space back",
  withAppliance(async (appliance) => {
    await appliance.createVolume("disk", SIZE_BYTES);
    const random = new Random(17);
    const content = new Uint8Array(SIZE_BYTES);
    const churn = async (rounds: number) => {
      await using disk = await appliance.disk("disk");
      for (let round = 0; round < rounds; round++) {
        for (let at = 0; at < SIZE_BYTES; at += MIB) {
          const data = random.bytes(Math.min(MIB, SIZE_BYTES - at));
          await disk.write(at, data);
          content.set(data, at);
        }
      }
      await disk.flush();
    };

    await churn(1);
    const pinned = await appliance.mark("disk", "pinned", { pinned: true });
    const atPinned = content.slice();
    await churn(ROUNDS);
    const plain = await appliance.mark("disk", "plain");
    await churn(ROUNDS);
    const second = await appliance.mark("disk", "second", { pinned: true });
    const atSecond = content.slice();
    await churn(1);
    await pause(2500);

    const policy = { continuous: "1s", tiers: [] };
    const lax = await appliance.apiOk<PruneResult>("POST", "/v1/volumes/disk/retention/preview", {
      continuous: "1h",
      tiers: [],
    });
    assert.equal(lax.momentsLost, 0);
    assert.equal(lax.bytesFreed, 0);
    const preview = await appliance.apiOk<PruneResult>("POST", "/v1/volumes/disk/retention/preview", policy);
    assert.ok(preview.momentsLost > plain.seq - pinned.seq - 10, JSON.stringify(preview));
    assert.ok(preview.bytesFreed >= FREED_MIN, JSON.stringify(preview));
    await appliance.varveOk("retention", "set", "disk", "--continuous", "1s");
    assert.deepEqual(JSON.parse(await appliance.varveOk("retention", "get", "disk", "--json")), policy);

    const before = await historyBytes(appliance);
    {
      await using past = await appliance.disk("disk@mark:plain");
      await past.read(0, 512);
    }
    const told = JSON.parse(await appliance.varveOk("retention", "prune", "disk", "--json")) as JobInfo;
    assert.equal(told.state, "succeeded");
    const result = told.result as unknown as PruneResult;
    assert.equal(result.momentsLost, preview.momentsLost);
    assert.equal(result.pointsLost, preview.pointsLost);
    const freed = before - await historyBytes(appliance);
    assert.ok(freed >= FREED_MIN, `the prune told of ${result.bytesFreed} bytes, ${freed} came back`);
    assert.ok(
      Math.abs(freed - result.bytesFreed) < 8 * MIB,
      `the prune told of ${result.bytesFreed} bytes, ${freed} came back`,
    );

    const compare = async (when: string) => {
      for (const [name, expected] of [["pinned", atPinned], ["second", atSecond]] as const) {
        await using past = await appliance.disk(`disk@mark:${name}`);
        await past.assertContent(expected, `mark:${name} ${when}`);
        const time = await appliance.timeOfMark("disk", name);
        await assertFile(
          `${appliance.mountPath}/disk/images/${time}.img`,
          expected,
          `image of ${name} ${when}`,
        );
        const target = `${appliance.folder}/${name}.img`;
        await appliance.recover("disk", `mark:${name}`, target);
        await assertFile(target, expected, `${name} recovered ${when}`);
        await Deno.remove(target);
      }
      await using live = await appliance.disk("disk");
      await live.assertContent(content, `the live disk ${when}`);
      await using present = await appliance.disk("disk@now");
      await present.assertContent(content, `disk@now ${when}`);
      await compareRefusals(when);
    };
    const compareRefusals = async (when: string) => {
      const thinned = await appliance.api("GET", `/v1/volumes/disk/resolve?at=seq:${plain.seq}`);
      assert.equal(thinned.status, 410, `seq:${plain.seq} ${when}: ${JSON.stringify(thinned.body)}`);
      const { older, newer, detail } = thinned.body as Record<string, { seq: number }> & { detail: string };
      assert.equal(older?.seq, pinned.seq);
      assert.equal(newer?.seq, second.seq);
      assert.ok(detail.includes(`seq:${pinned.seq}`) && detail.includes(`seq:${second.seq}`), detail);
      const gone = await appliance.api("GET", "/v1/volumes/disk/resolve?at=mark:plain");
      assert.ok(gone.status === 404 || gone.status === 410, `mark:plain ${when}: ${gone.status}`);
      await assert.rejects(appliance.disk(`disk@seq:${plain.seq}`));
      const told = await appliance.varve(
        "recover",
        "disk",
        "--at",
        plain.time,
        "--to",
        `${appliance.folder}/no`,
      );
      assert.equal(told.code, 1, "a time between two kept moments names none of them");
      assert.ok(told.stderr.includes(`seq:${pinned.seq}`), told.stderr);
      assert.equal((await appliance.api("GET", "/v1/volumes/disk/resolve?at=seq:1")).status, 410);
      const listed = await Array.fromAsync(
        Deno.readDir(`${appliance.mountPath}/disk/marks`),
        ({ name }) => name,
      );
      assert.deepEqual(listed.sort(), ["pinned", "second"]);
      const { marks } = await appliance.apiOk<{ marks: MarkInfo[] }>("GET", "/v1/volumes/disk/marks");
      assert.deepEqual(marks.map(({ name }) => name), ["pinned", "second"], when);
    };
    await compare("after the prune");
    await appliance.kill();
    await appliance.launch();
    await compare("after kill -9 and a restart");
  }),
);

/** How somebody may hold a moment open while it is pruned; `read` gets a part of it. */
const HOLDERS = {
  "over NBD": async (appliance: TestAppliance, at: string) => {
    const disk = await appliance.disk(`disk@${at}`);
    return { read: disk.read, close: () => disk[Symbol.asyncDispose]() };
  },
  "as an image": async (appliance: TestAppliance, at: string) => {
    const file = await Deno.open(`${appliance.mountPath}/disk/images/${at}.img`);
    const read = async (offset: number, length: number) => {
      await file.seek(offset, Deno.SeekMode.Start);
      return await readFully(file, length);
    };
    return { read, close: () => Promise.resolve(file.close()) };
  },
};

for (const [how, hold] of Object.entries(HOLDERS)) {
  Deno.test(
    `retention: a moment held open ${how} while it is pruned gives its own bytes or an error, never others`,
    withAppliance(async (appliance) => {
      await appliance.createVolume("disk", SIZE_BYTES);
      const old = new Random(19).bytes(SIZE_BYTES);
      {
        await using disk = await appliance.disk("disk");
        for (let at = 0; at < SIZE_BYTES; at += MIB) await disk.write(at, old.subarray(at, at + MIB));
      }
      const { seq } = await appliance.mark("disk", "doomed");
      const held = await hold(appliance, `seq:${seq}`);
      try {
        // Nothing is read before the prune, so that nothing can come from a cache.
        {
          await using disk = await appliance.disk("disk");
          for (let round = 0; round < ROUNDS; round++) {
            for (let at = 0; at < SIZE_BYTES; at += MIB) {
              await disk.write(at, old.subarray(at, at + MIB).map((byte) => byte ^ (round + 1)));
            }
          }
        }
        await appliance.mark("disk", "young");
        await pause(1500);
        await appliance.varveOk("retention", "set", "disk", "--continuous", "1s");
        await appliance.varveOk("retention", "prune", "disk");
        for (let at = 0; at < SIZE_BYTES; at += MIB) {
          const expected = old.subarray(at, at + MIB);
          const found = await held.read(at, expected.length).catch((thrown: unknown) => {
            assert.ok(thrown instanceof Error);
            return undefined;
          });
          if (found !== undefined) assertSameBytes(found, expected, "the moment after the prune", at);
        }
      } finally {
        await held.close();
      }
    }),
  );
}

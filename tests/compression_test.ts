/**
 * Finished segments are compressed behind the back of hosts, by the real Worker, and no moment changes by it.
 *
 * @module
 */
import assert from "node:assert/strict";
import { type Appliance, type ApplianceOptions, openAppliance } from "../src/appliance.ts";
import { VarveError } from "../src/base/errors.ts";
import { NbdServer } from "../src/nbd/mod.ts";
import { MIB, Random } from "./support/bytes.ts";
import { NbdDisk } from "./support/nbd_disk.ts";
import { pause } from "./support/run.ts";

const SIZE_BYTES = 8 * MIB;
const CALLER = { name: "unix" };
const WORDS = [
  "varve ",
  "sediment ",
  "of ",
  "a ",
  "lake ",
  "year ",
  "layer ",
  "and ",
  "each ",
  "is ",
  "kept.\n",
];

/** A process that another test is just starting may hold the lock of the appliance before for a moment. */
async function openPatiently(options: ApplianceOptions): Promise<Appliance> {
  for (let attempt = 0;; attempt++) {
    try {
      return await openAppliance(options);
    } catch (thrown) {
      if (!(thrown instanceof VarveError) || thrown.code !== "conflict" || attempt === 50) throw thrown;
      await pause(100);
    }
  }
}

/** An appliance in this process, with its NBD server. */
class Serving implements AsyncDisposable {
  readonly appliance: Appliance;
  readonly #server: NbdServer;
  readonly #socket: string;

  private constructor(appliance: Appliance, server: NbdServer, socket: string) {
    this.appliance = appliance;
    this.#server = server;
    this.#socket = socket;
  }

  static async start(folder: string): Promise<Serving> {
    const appliance = await openPatiently({
      dataPath: `${folder}/data`,
      segmentBytes: 2 * MIB,
      compression: { intervalMs: 50, coreShare: 1, bytesPerSecond: Infinity },
    });
    const server = new NbdServer({ exports: appliance.nbdExports });
    await server.listen(`unix:${folder}/nbd.sock`);
    return new Serving(appliance, server, `${folder}/nbd.sock`);
  }

  disk(name: string): Promise<NbdDisk> {
    return NbdDisk.open(this.#socket, name);
  }

  /** Resolves when so many segments are compressed. */
  async compressed(segments: number): Promise<void> {
    for (let waits = 0; this.appliance.getVolume("disk").compression.compressedSegments < segments; waits++) {
      assert.ok(waits < 600, JSON.stringify(this.appliance.getVolume("disk")));
      // A preview brings the position of the next start up to date: what lies behind it is not compressed.
      await this.appliance.previewRetention("disk");
      await pause(50);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server.close();
    await this.appliance.close();
  }
}

function text(random: Random, length: number): Uint8Array {
  let words = "";
  while (words.length < length) words += WORDS[random.integer(0, WORDS.length - 1)];
  return new TextEncoder().encode(words.slice(0, length));
}

/** Writes text at many places and marks the present; the content at each mark. */
async function write(
  serving: Serving,
  random: Random,
  marks: Map<string, Uint8Array>,
  names: readonly string[],
): Promise<void> {
  const content = [...marks.values()].at(-1)?.slice() ?? new Uint8Array(SIZE_BYTES);
  for (const name of names) {
    await using disk = await serving.disk("disk");
    for (let i = 0; i < 24; i++) {
      const data = text(random, random.integer(1, 300_000));
      const offset = random.integer(0, SIZE_BYTES - data.length);
      await disk.write(offset, data);
      content.set(data, offset);
    }
    await serving.appliance.createMark("disk", { name, pinned: true }, CALLER);
    marks.set(name, content.slice());
  }
}

async function assertMarks(serving: Serving, marks: ReadonlyMap<string, Uint8Array>, when: string) {
  for (const [name, expected] of marks) {
    await using past = await serving.disk(`disk@mark:${name}`);
    await past.assertContent(expected, `mark ${name}, ${when}`);
  }
}

Deno.test("compression: text written over NBD shrinks, and every mark stays byte-exact through restart and prune", async () => {
  const folder = await Deno.makeTempDir({ prefix: "varve-compression-" });
  try {
    const random = new Random(41);
    const marks = new Map<string, Uint8Array>();
    {
      await using serving = await Serving.start(folder);
      await serving.appliance.createVolume({ name: "disk", sizeBytes: SIZE_BYTES }, CALLER);
      await write(serving, random, marks, ["a", "b", "c"]);
      await serving.compressed(3);
      await assertMarks(serving, marks, "compressed");
      await write(serving, random, marks, ["d"]);
      const { compression } = serving.appliance.getVolume("disk");
      assert.ok(compression.storedBytes * 2 < compression.rawBytes, JSON.stringify(compression));
    }
    {
      await using serving = await Serving.start(folder);
      await assertMarks(serving, marks, "after a restart");
      await serving.appliance.deleteMark("disk", "b", CALLER);
      marks.delete("b");
      await pause(1100);
      await serving.appliance.setRetention("disk", { continuous: "1s", tiers: [] }, CALLER);
      const expected = await serving.appliance.previewRetention("disk");
      const job = serving.appliance.startPrune("disk", CALLER);
      while (serving.appliance.getJob(job.id).state === "running") await pause(20);
      const ended = serving.appliance.getJob(job.id);
      assert.equal(ended.state, "succeeded", JSON.stringify(ended));
      assert.equal(ended.result?.["momentsLost"], expected.momentsLost);
      await assertMarks(serving, marks, "after a prune");
      await write(serving, random, marks, ["e", "f"]);
      await serving.compressed(4);
      await assertMarks(serving, marks, "compressed again");
    }
    await using serving = await Serving.start(folder);
    await assertMarks(serving, marks, "after the last restart");
    while (serving.appliance.getVolume("disk").counts.connections > 0) await pause(10);
    await serving.appliance.deleteVolume("disk", { purge: true }, CALLER);
    assert.deepEqual([...Deno.readDirSync(`${folder}/data/volumes`)], []);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

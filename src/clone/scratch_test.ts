import assert from "node:assert/strict";
import { BLOCK_BYTES } from "../base/block_device.ts";
import { MemoryDevice } from "../base/memory_device.ts";
import { SeededRandom } from "../base/seeded_random.ts";
import { FileDisk } from "../disk/mod.ts";
import { DIRECTORY, TestClone } from "./_testing.ts";
import { CloneDevice } from "./clone_device.ts";
import { Scratch, type ScratchOptions } from "./scratch.ts";

const { test } = Deno;

const SIZE_BYTES = 8 * BLOCK_BYTES;
const MAP = `${DIRECTORY}/map`;

function block(value: number): Uint8Array {
  return new Uint8Array(BLOCK_BYTES).fill(value);
}

async function makeClone(budgetBytes = SIZE_BYTES): Promise<TestClone> {
  return await new TestClone(1, new SeededRandom(1).bytes(SIZE_BYTES), budgetBytes).create();
}

/** Changes a byte of a file on the simulated disk. */
function flip(clone: TestClone, place: string, offset: number): void {
  const file = clone.disk.open(place, { mode: "write" });
  const byte = new Uint8Array(1);
  file.read(offset, byte);
  file.write(offset, Uint8Array.of((byte[0] ?? 0) ^ 1));
  file.close();
}

test("a write that storage refuses is not taken for the clone's by a later flush", async () => {
  using clone = await makeClone();
  const before = clone.content();
  for (const code of ["no-space", "io"] as const) {
    clone.disk.fail({ kind: "write", matches: (place) => place.endsWith("data.img"), code });
    assert.throws(() => clone.device.write(0, block(1)), { code });
    clone.device.write(4 * BLOCK_BYTES, block(2));
    await clone.drive(clone.device.flush());
    clone.disk.killProcess();
    await clone.open();
    before.fill(2, 4 * BLOCK_BYTES, 5 * BLOCK_BYTES);
    assert.deepEqual(clone.content(), before);
  }
});

test("a map that cannot be written refuses the change and nothing else", async () => {
  using clone = await makeClone();
  const before = clone.content();
  clone.disk.fail({ kind: "write", matches: (place) => place === MAP, code: "no-space", times: 2 });
  assert.throws(() => clone.device.write(0, block(1)), { code: "no-space" });
  assert.throws(() => clone.device.trim(0, BLOCK_BYTES), { code: "no-space" });
  assert.deepEqual(clone.content(), before);
  clone.device.write(0, block(3));
  // A vouch without space: the next flush makes up for it.
  clone.disk.fail({ kind: "write", matches: (place) => place === MAP, code: "no-space" });
  await assert.rejects(clone.drive(clone.device.flush()), { code: "no-space" });
  await clone.drive(clone.device.flush());
  clone.disk.cutPower();
  await clone.open();
  before.fill(3, 0, BLOCK_BYTES);
  assert.deepEqual(clone.content(), before);
});

test("after a sync that has failed all but reading is refused", async () => {
  for (const name of ["data.img", "map"]) {
    using clone = await makeClone();
    clone.device.write(0, block(1));
    clone.disk.fail({ kind: "sync", matches: (place) => place.endsWith(name) });
    await assert.rejects(clone.drive(clone.device.flush()), { code: "io" });
    await assert.rejects(clone.drive(clone.device.flush()), { code: "io" });
    assert.throws(() => clone.device.write(0, block(2)), { code: "io" });
    assert.throws(() => clone.device.zero(0, BLOCK_BYTES), { code: "io" });
    assert.equal(clone.content()[0], 1);
  }
});

test("a map of which a durable part is damaged refuses to be opened", async () => {
  const damages: [what: string, offset: number, work: (clone: TestClone) => Promise<void>][] = [
    ["the header", 20, () => Promise.resolve()],
    ["a record that the file began with", 40, async (clone) => {
      clone.disk.killProcess();
      await clone.open();
    }],
    ["a record before two vouches", 40, async (clone) => {
      for (const at of [1, 2]) {
        clone.device.write(at * BLOCK_BYTES, block(at));
        await clone.drive(clone.device.flush());
      }
    }],
  ];
  for (const [what, offset, work] of damages) {
    using clone = await makeClone();
    clone.device.write(0, block(7));
    await clone.drive(clone.device.flush());
    await work(clone);
    flip(clone, MAP, offset);
    clone.disk.killProcess();
    await assert.rejects(clone.open(), { code: "damaged" }, what);
  }
});

test("what is not granted changes nothing, and what is stored already needs no grant", async () => {
  using clone = await makeClone();
  clone.device.write(0, block(1));
  assert.equal(clone.grantedBytes, BLOCK_BYTES);
  clone.isTight = true;
  clone.device.write(0, block(2));
  const before = clone.content();
  assert.throws(() => clone.device.write(0, new Uint8Array(2 * BLOCK_BYTES)), /no space is granted/);
  assert.deepEqual(clone.content(), before);
  clone.device.trim(0, SIZE_BYTES);
  assert.equal(clone.scratch.storedBytes, 0, "a hole gives its space back");
});

test("holes as wide as 2 TiB take no time, no space and little to write down", async () => {
  const sizeBytes = 2 ** 41;
  const directory = Deno.makeTempDirSync({ prefix: "varve-clone-" });
  try {
    const options: ScratchOptions = {
      disk: new FileDisk(),
      directory,
      sizeBytes,
      budgetBytes: 2 ** 20,
      grant: () => {},
    };
    let scratch = await Scratch.create(options);
    const base = new MemoryDevice(sizeBytes, { content: block(9), readOnly: true });
    const open = () => new CloneDevice(base, scratch);
    open().write(2 ** 40 + 100, block(1));
    open().trim(0, sizeBytes);
    open().write(2 ** 40 + 100, block(2));
    await scratch.close();
    scratch = await Scratch.open(options);
    assert.deepEqual(open().extents(0, sizeBytes).map(({ offset, length, kind }) => [kind, offset, length]), [
      ["hole", 0, 2 ** 40],
      ["data", 2 ** 40, 2 * BLOCK_BYTES],
      ["hole", 2 ** 40 + 2 * BLOCK_BYTES, 2 ** 40 - 2 * BLOCK_BYTES],
    ]);
    assert.equal(scratch.storedBytes, 2 * BLOCK_BYTES);
    assert(Deno.statSync(`${directory}/map`).size < 1000);
    await scratch.close();
  } finally {
    Deno.removeSync(directory, { recursive: true });
  }
});

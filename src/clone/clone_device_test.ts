import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import fc from "fast-check";
import { BLOCK_BYTES } from "../base/block_device.ts";
import { isZero } from "../base/bytes.ts";
import { VarveError } from "../base/errors.ts";
import { SeededRandom } from "../base/seeded_random.ts";
import { TestClone } from "./_testing.ts";

const { test } = Deno;

const BLOCKS = 24;
/** Its last block is not whole. */
const SIZE_BYTES = BLOCKS * BLOCK_BYTES - 1000;
const SECTOR_BYTES = 512;

/** Random bytes, every third block zeroes. */
function baseContent(random: SeededRandom): Uint8Array {
  const content = random.bytes(SIZE_BYTES);
  for (let block = 0; block < BLOCKS; block += 3) {
    content.fill(0, block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES);
  }
  return content;
}

/** Offset and length, mostly at blocks' edges. */
const RANGE = fc.tuple(
  fc.oneof(fc.nat(BLOCKS - 1).map((block) => block * BLOCK_BYTES), fc.nat(SIZE_BYTES - 1)),
  fc.oneof(
    fc.integer({ min: 1, max: 6 }).map((blocks) => blocks * BLOCK_BYTES),
    fc.integer({ min: 1, max: 9000 }),
    fc.constant(SIZE_BYTES),
  ),
).map(([offset, length]) => ({ offset, length: Math.min(length, SIZE_BYTES - offset) }));

const STEP = fc.oneof(
  { weight: 8, arbitrary: RANGE.map((range) => ({ kind: "write" as const, ...range })) },
  { weight: 3, arbitrary: RANGE.map((range) => ({ kind: "trim" as const, ...range })) },
  { weight: 2, arbitrary: RANGE.map((range) => ({ kind: "zero" as const, ...range })) },
  { weight: 3, arbitrary: fc.constant({ kind: "flush" as const }) },
  { weight: 2, arbitrary: fc.constant({ kind: "flush amid writes" as const }) },
  { weight: 1, arbitrary: fc.constant({ kind: "kill" as const }) },
  { weight: 2, arbitrary: fc.integer({ min: 1, max: 30 }).map((after) => ({ kind: "cut" as const, after })) },
);

type Step = typeof STEP extends fc.Arbitrary<infer T> ? T : never;

type Change = Extract<Step, { offset: number }>;

/** A byte array, and every state of it that a power cut may leave a sector in. */
class Model {
  content: Uint8Array;
  /** The state of the last flush, and each since. */
  possible: Uint8Array[];

  constructor(content: Uint8Array) {
    this.content = content.slice();
    this.possible = [this.content.slice()];
  }

  /** Runs a change; a power cut amid it may leave any part of it, a refusal leaves nothing. */
  change(offset: number, data: Uint8Array, work: () => void): void {
    const changed = this.content.slice();
    changed.set(data, offset);
    this.possible.push(changed);
    try {
      work();
      this.content = changed;
    } catch (thrown) {
      if (thrown instanceof VarveError && thrown.code === "no-space") this.possible.pop();
      throw thrown;
    }
  }

  /** All is durable now. */
  settle(): void {
    this.possible = [this.content];
  }

  /** After a power cut each sector is as it was at some time since the last flush. */
  assertSurvived(found: Uint8Array): void {
    for (let at = 0; at < found.length; at += SECTOR_BYTES) {
      const sector = found.subarray(at, at + SECTOR_BYTES);
      const isKnown = this.possible.some((state) =>
        Buffer.compare(sector, state.subarray(at, at + SECTOR_BYTES)) === 0
      );
      assert(isKnown, `sector ${at / SECTOR_BYTES} is as it never was`);
    }
  }
}

/** As `deepEqual`, which would write all of it down. */
function assertSame(found: Uint8Array, expected: Uint8Array, what: string): void {
  if (Buffer.compare(found, expected) === 0) return;
  const at = found.findIndex((byte, index) => byte !== expected[index]);
  assert.fail(`${what}: block ${Math.floor(at / BLOCK_BYTES)} differs, byte ${at % BLOCK_BYTES} of it`);
}

/** The extents tell holes that are, cover the range, and with `max` begin in the same way. */
function checkExtents(clone: TestClone, content: Uint8Array): void {
  const all = clone.device.extents(0, SIZE_BYTES);
  let at = 0;
  for (const [index, { offset, length, kind }] of all.entries()) {
    assert.equal(offset, at);
    assert(length > 0 && kind !== all[index + 1]?.kind);
    if (kind === "hole") assert(isZero(content.subarray(offset, offset + length)), `no hole at ${offset}`);
    at += length;
  }
  assert.equal(at, SIZE_BYTES);
  for (const max of [1, 2, 3]) assert.deepEqual(clone.device.extents(0, SIZE_BYTES, max), all.slice(0, max));
}

/** Room for two thirds of the disk. */
const BUDGET_BYTES = 16 * BLOCK_BYTES;

/** Changes clone and model; what is refused must be beyond the budget, what is not must be within. */
function change(
  clone: TestClone,
  model: Model,
  step: Change,
  data: Uint8Array,
) {
  const { device, scratch } = clone;
  const { kind, offset, length } = step;
  const before = scratch.storedBytes;
  const blockIsFresh = (block: number) => scratch.stateAt(block, block + 1).state !== "data";
  let freshBytes = 0;
  for (let block = Math.floor(offset / BLOCK_BYTES); block * BLOCK_BYTES < offset + length; block++) {
    if (blockIsFresh(block)) freshBytes += BLOCK_BYTES;
  }
  try {
    model.change(
      offset,
      data,
      () => kind === "write" ? device.write(offset, data) : device[kind](offset, length),
    );
    if (kind === "write") assert.equal(scratch.storedBytes, before + freshBytes);
    assert(scratch.storedBytes <= BUDGET_BYTES);
  } catch (thrown) {
    if (!(thrown instanceof VarveError && thrown.code === "no-space")) throw thrown;
    const mostBytes = kind === "write" ? freshBytes : Math.min(freshBytes, 2 * BLOCK_BYTES);
    assert(before + mostBytes > BUDGET_BYTES, thrown.message);
    assert.equal(scratch.storedBytes, before);
  }
}

async function runStep(clone: TestClone, model: Model, step: Step, random: SeededRandom): Promise<void> {
  switch (step.kind) {
    case "write":
      return change(clone, model, step, random.bytes(step.length));
    case "trim":
    case "zero":
      return change(clone, model, step, new Uint8Array(step.length));
    case "flush":
      await clone.drive(clone.device.flush());
      return model.settle();
    case "flush amid writes": {
      const flushed = model.content;
      const before = model.possible.length;
      const flush = clone.device.flush();
      flush.catch(() => {});
      for (let count = 0; count < 3; count++) {
        await Promise.resolve();
        const offset = random.below(SIZE_BYTES - 5000);
        const kind = random.oneIn(3) ? "trim" : "write";
        const data = kind === "trim" ? new Uint8Array(5000) : random.bytes(5000);
        change(clone, model, { kind, offset, length: data.length }, data);
        clone.scheduler.run();
      }
      await clone.drive(flush);
      model.possible = [flushed, ...model.possible.slice(before)];
      return;
    }
    case "kill":
      clone.disk.killProcess();
      await clone.open();
      assertSame(clone.content(), model.content, "a kill has lost what was written");
      return model.settle();
    case "cut":
      return clone.disk.cutPowerAfter(step.after);
  }
}

async function tellStory(seed: number, steps: readonly Step[]): Promise<void> {
  const random = new SeededRandom(seed);
  const content = baseContent(random);
  using clone = new TestClone(seed, content, BUDGET_BYTES);
  await clone.create();
  const model = new Model(content);
  const restart = async () => {
    clone.disk.cutPower();
    await clone.open();
    const found = clone.content();
    model.assertSurvived(found);
    model.content = found;
    model.settle();
  };
  for (const step of steps) {
    try {
      await runStep(clone, model, step, random);
      assertSame(clone.content(), model.content, `after ${step.kind}`);
      checkExtents(clone, model.content);
    } catch (thrown) {
      if (clone.disk.powered) throw thrown;
      await restart();
    }
  }
  await restart();
}

test("CloneDevice behaves as a disk does: through writes, holes, flushes, kills and power cuts", async () => {
  await fc.assert(
    fc.asyncProperty(fc.nat(), fc.array(STEP, { minLength: 3, maxLength: 25 }), tellStory),
    { numRuns: 400 },
  );
});

test("a kill amid a change of the clone loses nothing that was acknowledged before", async () => {
  const property = fc.asyncProperty(
    fc.nat(),
    fc.array(RANGE, { minLength: 2, maxLength: 8 }),
    fc.nat(40),
    async (
      seed,
      ranges,
      dieAt,
    ) => {
      const random = new SeededRandom(seed);
      const content = baseContent(random);
      using clone = new TestClone(seed, content, SIZE_BYTES * 2);
      await clone.create();
      const model = new Model(content);
      const start = clone.disk.operations;
      clone.disk.onOperation = () => {
        if (clone.disk.operations === start + dieAt) clone.disk.killProcess();
      };
      try {
        for (const { offset, length } of ranges) {
          if (random.oneIn(2)) clone.device.flush().catch(() => {});
          await Promise.resolve();
          if (random.oneIn(3)) clone.scheduler.run();
          const kind = random.oneIn(3) ? "trim" : "write";
          const data = kind === "trim" ? new Uint8Array(length) : random.bytes(length);
          change(clone, model, { kind, offset, length }, data);
        }
      } catch {
        // It has died.
      }
      clone.disk.onOperation = () => {};
      clone.disk.killProcess();
      await clone.open();
      const found = clone.content();
      const attempted = model.possible.at(-1) ?? content;
      for (let at = 0; at < SIZE_BYTES; at++) {
        if (found[at] !== model.content[at] && found[at] !== attempted[at]) {
          assert.fail(`byte ${at} is neither as before the last change nor as after it`);
        }
      }
    },
  );
  await fc.assert(property, { numRuns: 300 });
});

/** A volume on a disk that gets full, by its own hand and by others'. */
import assert from "node:assert/strict";
import { BLOCK_BYTES } from "../base/block_device.ts";
import { VarveError } from "../base/errors.ts";
import { systemScheduler } from "../base/turns.ts";
import { type SpaceGuard, SpaceKeeper } from "../disk/mod.ts";
import { assertBytes, TestRandom, TestVolume } from "./_testing.ts";

const BLOCKS = 64;
const SIZE = BLOCKS * BLOCK_BYTES;
const LIMITS = { reserveBytes: 256 << 10, watermarkBytes: 512 << 10, floorBytes: 256 << 10 };

/** A volume on a disk of a size, with a keeper that begins anew at each opening. */
class FullDisk implements AsyncDisposable {
  readonly test: TestVolume;
  keeper: SpaceKeeper | undefined;

  constructor(capacityBytes: number, sizeBytes = SIZE) {
    this.test = new TestVolume(sizeBytes, 512 << 10);
    this.test.disk.capacityBytes = capacityBytes;
    this.test.guard = (primaryPath) => this.guard(primaryPath);
  }

  guard(primaryPath: string): SpaceGuard {
    this.keeper = new SpaceKeeper({
      disk: this.test.disk,
      path: this.test.directory,
      reservePath: `${this.test.directory}/reserve`,
      scheduler: systemScheduler,
      segmentBytes: 512 << 10,
      limits: LIMITS,
      onState: () => {},
    });
    return this.keeper.guard(primaryPath);
  }

  /** Opens the volume; where others have taken all space, these go away for it. */
  async open(): Promise<void> {
    try {
      await this.test.open();
    } catch (thrown) {
      if (!isNoSpace(thrown)) throw thrown;
      this.test.disk.foreignBytes = 0;
      await this.test.open();
    }
    this.keeper?.start();
  }

  async cutPower(survives: () => boolean): Promise<void> {
    this.keeper?.close();
    await this.test.cutPower(survives);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.keeper?.close();
    await this.test[Symbol.asyncDispose]();
  }
}

function isNoSpace(thrown: unknown): boolean {
  return thrown instanceof VarveError && thrown.code === "no-space";
}

Deno.test("Volume on a disk that gets full keeps all it acknowledged, and a refused command leaves no trace", async () => {
  let refused = 0;
  let recovered = 0;
  for (let seed = 1; seed <= 8; seed++) {
    const random = new TestRandom(seed * 7919);
    await using full = new FullDisk((3 << 20) + random.below(3 << 20));
    const { test } = full;
    await test.create();
    full.keeper?.start();
    let past = [new Uint8Array(SIZE)];
    for (let life = 0; life < 4; life++) {
      const model = past.at(-1)?.slice() ?? new Uint8Array(SIZE);
      let flushedSeq = past.length - 1;
      for (let step = 0; step < 80; step++) {
        const { live } = test.volume;
        test.clock.us += random.below(5000);
        const kind = random.below(16);
        const before = live.lastSeq;
        const offset = random.below(SIZE - 1);
        const length = 1 + random.below(Math.min(SIZE - offset, 12 * BLOCK_BYTES));
        try {
          if (kind < 10) {
            const data = new Uint8Array(length).fill(1 + random.below(255));
            live.write(offset, data);
            model.set(data, offset);
          } else if (kind < 12) {
            live.trim(offset, length);
            model.fill(0, offset, offset + length);
          } else if (kind < 13) {
            (await live.mark(JSON.stringify({ type: "mark", name: `m${before}`, pinned: true }))).told();
          } else if (kind < 14) {
            await live.flush();
            flushedSeq = live.lastSeq;
          } else if (kind < 15) {
            const free = test.disk.space("/").freeBytes;
            test.disk.foreignBytes = random.below(2) === 0
              ? 0
              : test.disk.foreignBytes + random.below(free + 1);
          } else {
            full.keeper?.look();
            await test.volume.settle().catch(() => {});
          }
        } catch (thrown) {
          if (!isNoSpace(thrown)) throw thrown;
          refused++;
          if (kind < 12) assert.equal(live.lastSeq, before, "a refused command has no sequence");
        }
        // A flush may have a record although it failed, and an attempt to settle may not.
        while (past.length <= live.lastSeq) past.push(model.slice());
        const target = new Uint8Array(SIZE);
        live.read(0, target);
        assertBytes(target, model, `seed ${seed}, life ${life}, step ${step}, live`);
      }
      await full.cutPower(() => random.below(2) === 0);
      await full.open();
      const { lastSeq } = test.volume;
      assert(lastSeq >= flushedSeq, `seed ${seed}: ends at ${lastSeq}, ${flushedSeq} was flushed`);
      for (let seq = 0; seq <= lastSeq; seq += 13) {
        assertBytes(await test.contentAt(seq), past[seq], `seed ${seed}, life ${life}, sequence ${seq}`);
      }
      assertBytes(test.primaryContent(), past[lastSeq], `seed ${seed}, life ${life}, primary`);
      past = past.slice(0, lastSeq + 1);
    }
    const { live } = test.volume;
    test.disk.foreignBytes = 0;
    test.disk.capacityBytes = 64 << 20;
    full.keeper?.look();
    const data = random.bytes(SIZE);
    live.write(0, data);
    await live.flush();
    assertBytes(test.primaryContent(), data, `seed ${seed}, after space returned`);
    recovered++;
    assert.deepEqual(full.keeper?.status().state, "ok");
  }
  assert(refused > 60 && recovered === 8, `${refused} refused`);
});

Deno.test("Volume takes only what the sparse primary beside the journal can take later", async () => {
  await using full = new FullDisk(8 << 20, 16 << 20);
  const { test } = full;
  const { live } = await test.create();
  full.keeper?.start();
  const model = new Uint8Array(16 << 20);
  let written = 0;
  const fill = () => {
    // All in one turn: nothing of it gets to the primary meanwhile.
    for (; written < model.length; written += BLOCK_BYTES) {
      live.write(written, new Uint8Array(BLOCK_BYTES).fill(1 + written % 251));
      model.fill(1 + written % 251, written, written + BLOCK_BYTES);
    }
  };
  assert.throws(fill, { name: "VarveError", code: "no-space" });
  assert(written > 2 << 20, `${written} bytes were taken`);
  await live.flush();
  const reserve = test.disk.stat(`${test.directory}/reserve`);
  assert.equal(reserve?.allocatedBytes, LIMITS.reserveBytes, "the reserve was not needed for it");
  assertBytes(test.primaryContent(), model, "primary");
});

Deno.test("Volume at the wall answers flushes with a record, and when there is no room for one without", async () => {
  await using full = new FullDisk(4 << 20);
  const { test } = full;
  const { live } = await test.create();
  full.keeper?.start();
  const block = new Uint8Array(BLOCK_BYTES).fill(7);
  const fill = () => {
    for (let i = 0; i < 2000; i++) live.write((i % BLOCKS) * BLOCK_BYTES, block);
  };
  let refused = 0;
  let atWall = 0;
  // What finished segments have not used of what was reserved for them comes back with the sync that cuts them.
  for (let before = -1; atWall > before; refused++) {
    before = live.lastSeq;
    assert.throws(fill, { name: "VarveError", code: "no-space" });
    atWall = live.lastSeq;
    await live.flush();
    assert.equal(live.lastSeq, atWall + 1, "the flush has a record");
    assert.equal(live.durableSeq, atWall + 1);
  }
  assert(refused < 10, "the wall is where it is");

  test.disk.foreignBytes += test.disk.space("/").freeBytes;
  for (let i = 0; i < 3000; i++) await live.flush();
  assert(live.lastSeq < atWall + 3001, "at last there is no room for records");
  const { lastSeq } = live;
  await live.flush();
  assert.equal(live.lastSeq, lastSeq);
  assert.equal(test.volume.journal?.refused, refused);
  test.disk.foreignBytes = 0;
  test.disk.capacityBytes = 16 << 20;
  live.write(0, block);
  await live.flush();
  assert.equal(live.lastSeq, lastSeq + 2);
});

Deno.test("Volume gives the reserve to acknowledged commands when something else has taken all space", async () => {
  await using full = new FullDisk(12 << 20);
  const { test } = full;
  const { live } = await test.create();
  full.keeper?.start();
  live.write(0, new Uint8Array(BLOCK_BYTES).fill(1));
  await live.flush();
  test.disk.foreignBytes = test.disk.space("/").freeBytes;
  const data = new TestRandom(3).bytes(32 * BLOCK_BYTES);
  live.write(8 * BLOCK_BYTES, data);
  await live.flush();
  assertBytes(test.primaryContent().slice(8 * BLOCK_BYTES, 40 * BLOCK_BYTES), data, "primary");
  // The debts are not covered now: what is reserved in the journal is no longer for data.
  assert.throws(() => live.write(0, data), { name: "VarveError", code: "no-space" });
  test.disk.foreignBytes = 0;
  full.keeper?.look();
  live.write(0, data);
  assert.equal(full.keeper?.state, "ok");
});

import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { BLOCK_BYTES } from "../base/block_device.ts";
import { VarveError } from "../base/errors.ts";
import { isZero } from "../base/bytes.ts";
import type { DiskFile } from "../disk/mod.ts";
import { assertBytes, TestRandom, TestVolume } from "./_testing.ts";
import { planPrune, prune } from "./prune.ts";

const CHUNK_BYTES = 64 * 1024;
const SIZE = 40 * CHUNK_BYTES + 5 * BLOCK_BYTES + 1234;
/** At this rate the scan takes a chunk at a time, some thirty milliseconds each. */
const SLOW_BYTES_PER_SECOND = 2 * 1024 * 1024;
/** After so many lives the copy may go on as fast as it can. */
const LIVES = 10;
const KEEP_A_DAY = { continuous: "24h", tiers: [] };

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

function isSame(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}

/** Random content with zeroes in stretches of any kind: within a block, whole blocks, whole chunks. */
function randomContent(random: TestRandom): Uint8Array {
  const content = random.bytes(SIZE);
  for (let i = random.below(8); i > 0; i--) {
    const unit = [1, BLOCK_BYTES, CHUNK_BYTES][random.below(3)] ?? 1;
    const from = random.below(Math.ceil(SIZE / unit)) * unit;
    content.fill(0, from, from + (1 + random.below(6)) * unit);
  }
  return content;
}

/** Replaces the files that a disk opens. */
function wrapPrimary(test: TestVolume, wrap: (file: DiskFile) => Partial<DiskFile>): void {
  const open = test.disk.open.bind(test.disk);
  test.disk.open = (place, options) => {
    const file = open(place, options);
    if (place !== test.row.primaryPath) return file;
    return {
      path: file.path,
      read: (offset, target) => file.read(offset, target),
      write: (offset, ...parts) => file.write(offset, ...parts),
      discard: (offset, length) => file.discard(offset, length),
      reserve: (offset, length) => file.reserve(offset, length),
      truncate: (sizeBytes) => file.truncate(sizeBytes),
      sizeBytes: () => file.sizeBytes(),
      seek: (offset, kind) => file.seek(offset, kind),
      sync: () => file.sync(),
      forgetCached: () => file.forgetCached(),
      close: () => file.close(),
      ...wrap(file),
    };
  };
}

/** Makes the primary tell its holes, as files on a file system do. */
function tellHoles(test: TestVolume): void {
  wrapPrimary(test, (file) => ({
    seek(offset, kind) {
      const block = new Uint8Array(BLOCK_BYTES);
      for (let at = offset; at < file.sizeBytes(); at = (Math.floor(at / BLOCK_BYTES) + 1) * BLOCK_BYTES) {
        const got = file.read(at, block);
        if (isZero(block.subarray(0, got)) === (kind === "hole")) return at;
      }
      return undefined;
    },
  }));
}

/** A command, and what it does to a model. */
interface Change {
  readonly kind: "write" | "trim" | "zero" | "flush" | "mark";
  readonly offset: number;
  readonly length: number;
  readonly data: Uint8Array;
}

function randomChange(random: TestRandom): Change {
  const kind = (["write", "write", "write", "trim", "zero"] as const)[random.below(5)] ?? "write";
  const offset = random.below(4) === 0 ? random.below(SIZE / BLOCK_BYTES) * BLOCK_BYTES : random.below(SIZE);
  const most = random.below(60) === 0 ? SIZE : 3 * BLOCK_BYTES;
  const length = 1 + random.below(Math.min(most, SIZE - offset));
  if (random.below(150) === 0) return { kind: "trim", offset: 0, length: SIZE, data: new Uint8Array(SIZE) };
  return { kind, offset, length, data: kind === "write" ? random.bytes(length) : new Uint8Array(length) };
}

const NOTHING = { offset: 0, length: 0, data: new Uint8Array(0) };

Deno.test("an adopted disk is captured from the first moment on, through power cuts and restarts", async () => {
  let cuts = 0;
  for (let seed = 1; seed <= 5; seed++) {
    // In small segments whole ones are lost, and those behind them survive.
    await using test = new TestVolume(SIZE, seed % 3 === 0 ? 1 << 20 : 1 << 16);
    const random = new TestRandom(seed);
    const adopted = randomContent(random);
    test.baselineBytesPerSecond = SLOW_BYTES_PER_SECOND;
    if (seed % 2 === 0) tellHoles(test);
    await test.adopt(adopted);
    let history: Change[] = [];
    let coveredBytes = 0;
    for (let life = 0; !test.volume.baselineComplete; life++) {
      const { volume } = test;
      const copied = volume.completeBaseline();
      assert(
        volume.baselineBytes >= coveredBytes,
        `seed ${seed}, life ${life}: coverage fell from ${coveredBytes} to ${volume.baselineBytes}`,
      );
      let durableSeq = volume.lastSeq;
      const waits: Promise<void>[] = [];
      for (let step = life < LIVES ? random.below(12) : 0; step > 0; step--) {
        const { live } = volume;
        test.clock.us += random.below(5000);
        const change = randomChange(random);
        history.push(change);
        if (random.below(3) === 0) await live.prepare(change.offset, change.length);
        if (change.kind === "write") live.write(change.offset, change.data);
        else if (change.kind === "trim") live.trim(change.offset, change.length);
        else live.zero(change.offset, change.length);
        switch (random.below(8)) {
          case 0: {
            const answer = live.flush();
            const { lastSeq } = live;
            history.push({ kind: "flush", ...NOTHING });
            waits.push(answer.then(() => void (durableSeq = Math.max(durableSeq, lastSeq)), () => {}));
            break;
          }
          case 1: {
            const answer = live.mark(
              JSON.stringify({ type: "mark", name: `m${history.length}`, pinned: true }),
            );
            history.push({ kind: "mark", ...NOTHING });
            waits.push(answer.then(({ seq, told }) => {
              durableSeq = Math.max(durableSeq, seq);
              told();
            }, () => {}));
            break;
          }
          case 2:
            await volume.settle();
            break;
          case 3:
            await sleep(random.below(60));
            break;
          case 4:
            live.commit();
        }
      }
      if (life >= LIVES) await copied;
      else await sleep(random.below(40));
      coveredBytes = volume.baselineBytes;
      if (life + 1 === LIVES) test.baselineBytesPerSecond = 2 ** 40;
      if (random.below(3) === 0) {
        await Promise.all(waits);
        await test.close();
      } else {
        const promisedSeq = durableSeq;
        await test.cutPower(() => random.below(2) === 0);
        await Promise.all(waits);
        cuts++;
        await test.open();
        assert(test.volume.lastSeq >= promisedSeq, `seed ${seed}, life ${life}: a flush was lost`);
        history = history.slice(0, test.volume.lastSeq);
        continue;
      }
      await test.open();
      assert.equal(test.volume.lastSeq, history.length);
    }
    assert.equal(test.volume.baselineBytes, SIZE);
    const model = adopted.slice();
    for (let seq = 0; seq <= history.length; seq++) {
      const change = history[seq - 1];
      if (change !== undefined) model.set(change.data, change.offset);
      const found = await test.contentAt(seq);
      if (!isSame(found, model)) assertBytes(found, model, `seed ${seed}, sequence ${seq}`);
    }
    await test.volume.live.flush();
    assertBytes(test.primaryContent(), model, `seed ${seed}, primary`);
  }
  assert(cuts > 12, `the power was cut ${cuts} times`);
});

Deno.test("the past is refused while the copy is incomplete, and so is pruning", async () => {
  await using test = new TestVolume(SIZE);
  test.baselineBytesPerSecond = SLOW_BYTES_PER_SECOND;
  const adopted = new TestRandom(5).bytes(SIZE);
  const volume = await test.adopt(adopted);
  volume.live.write(0, new Uint8Array(10));
  await volume.settle();
  assert.equal(volume.baselineBytes, CHUNK_BYTES);
  const refusal = (error: unknown) =>
    error instanceof VarveError && error.code === "conflict" &&
    error.message.includes(`${CHUNK_BYTES} of ${SIZE} bytes`) && error.message.includes("captured");
  await assert.rejects(volume.view(1), refusal);
  const order = { marks: [], policy: KEEP_A_DAY, nowUs: test.clock.us, onProgress: () => {} };
  await assert.rejects(planPrune(volume, { ...order, signal: new AbortController().signal }), refusal);
  await volume.completeBaseline();
  assertBytes(await test.contentAt(0), adopted, "adopted");
  await planPrune(volume, { ...order, signal: new AbortController().signal });
});

Deno.test("what is left of an adopted disk after a prune is exact", async () => {
  await using test = new TestVolume(SIZE, 1 << 17);
  const random = new TestRandom(31);
  test.baselineBytesPerSecond = SLOW_BYTES_PER_SECOND;
  const model = randomContent(random);
  const { live } = await test.adopt(model);
  const copied = test.volume.completeBaseline();
  const past = new Map<number, Uint8Array>();
  for (let step = 1; step <= 60; step++) {
    test.clock.us += 3_600_000_000;
    const { offset, data } = randomChange(random);
    live.write(offset, data);
    model.set(data, offset);
    if (step === 20) {
      // What half of the disk held before is seen by nobody any more.
      live.zero(0, 20 * CHUNK_BYTES);
      model.fill(0, 0, 20 * CHUNK_BYTES);
    }
    if (step <= 20 || step % 10 > 0) continue;
    await sleep(20);
    const { told, ...moment } = await live.mark(
      JSON.stringify({ type: "mark", name: `m${step}`, pinned: true }),
    );
    told();
    test.marks.push({ name: `m${step}`, ...moment, pinned: true, note: undefined });
    past.set(moment.seq, model.slice());
  }
  test.volume.live.baseline?.cover(0, SIZE);
  await copied;
  await test.volume.settleSegments();
  const progress = { onProgress: () => {}, signal: new AbortController().signal };
  const order = { marks: test.marks, policy: { continuous: "1h", tiers: [] }, nowUs: test.clock.us };
  const plan = await planPrune(test.volume, { ...order, ...progress });
  assert(plan.segments.length > 0 && plan.result.momentsLost > 30);
  await prune(test.volume, plan, progress);
  for (const reopen of [false, true]) {
    if (reopen) {
      await test.cutPower();
      await test.open();
    }
    for (const [seq, content] of past) assertBytes(await test.contentAt(seq), content, `sequence ${seq}`);
  }
});

Deno.test("a write over what cannot be read fails and is not captured; the scan goes on and tries again", async () => {
  await using test = new TestVolume(SIZE);
  const badChunk = 20;
  let isBroken = true;
  wrapPrimary(test, (file) => ({
    read(offset, target) {
      const badStart = badChunk * CHUNK_BYTES + 9000;
      if (isBroken && offset <= badStart && offset + target.length > badStart) {
        throw new VarveError("io", "read the primary: a bad sector");
      }
      return file.read(offset, target);
    },
  }));
  const adopted = new TestRandom(6).bytes(SIZE);
  const { live } = await test.adopt(adopted);
  const isIo = (error: unknown) => error instanceof VarveError && error.code === "io";
  assert.throws(() => live.write(badChunk * CHUNK_BYTES, new Uint8Array(4096)), isIo);
  assert.throws(() => live.trim(0, SIZE), isIo);
  assert.equal(live.lastSeq, 0);
  const copied = test.volume.completeBaseline();
  while (test.failures.length === 0) await sleep(5);
  await test.volume.settle();
  assert.equal(test.volume.baselineBytes, SIZE - CHUNK_BYTES, "all but the bad chunk");
  assert.match(test.failures.join(), /bad sector/);
  isBroken = false;
  live.write(badChunk * CHUNK_BYTES, new Uint8Array(4096).fill(1));
  await test.close();
  await copied;
  await test.open();
  await test.volume.completeBaseline();
  assertBytes(await test.contentAt(0), adopted, "adopted");
  adopted.fill(1, badChunk * CHUNK_BYTES, badChunk * CHUNK_BYTES + 4096);
  assertBytes(await test.contentAt(1), adopted, "written");
});

Deno.test("a trim of everything waits for the copy in turns, and others are captured meanwhile", async () => {
  const size = 8 * 1024 * 1024;
  await using test = new TestVolume(size);
  const adopted = new TestRandom(8).bytes(size);
  const { live } = await test.adopt(adopted);
  const preparation = live.prepare(0, size);
  assert(preparation !== undefined, "so much is not copied at once");
  let isPrepared = false;
  preparation.then(() => isPrepared = true);
  let writes = 0;
  while (!isPrepared) {
    live.write(size - 4096, new Uint8Array(4096).fill(++writes));
    await sleep(0);
  }
  assert(writes > 1, "nothing was captured while it waited");
  assert.equal(live.prepare(0, size), undefined);
  live.trim(0, size);
  assert.equal(live.lastSeq, writes + 1, "the trim is one record");
  await test.volume.completeBaseline();
  assertBytes(await test.contentAt(0), adopted, "adopted");
  assertBytes(await test.contentAt(writes + 1), new Uint8Array(size), "trimmed");
  await live.flush();
  assertBytes(test.primaryContent(), new Uint8Array(size), "primary");
});

Deno.test("an empty disk of any size is adopted without reading it", async () => {
  for (const size of [2 ** 40, 2 ** 50]) {
    await using test = new TestVolume(size);
    let reads = 0;
    wrapPrimary(test, () => ({
      sizeBytes: () => size,
      seek: () => undefined,
      read: (_offset, target) => (reads++, target.length),
      discard: () => {},
    }));
    const volume = await test.adopt(new Uint8Array(0));
    volume.live.trim(0, size);
    await volume.completeBaseline();
    assert.equal(reads, 0);
    assert.equal(volume.baselineBytes, size);
    await test.close();
    const segments = `${test.directory}/segments`;
    const bytes = test.disk.list(segments).reduce(
      (sum, name) => sum + (test.disk.stat(`${segments}/${name}`)?.sizeBytes ?? 0),
      0,
    );
    assert(bytes < 4096, `the journal has ${bytes} bytes`);
    await test.open();
    assert(test.volume.baselineComplete);
  }
});

Deno.test("a command that outlives the lost segment with what it replaced is dropped", async () => {
  // Every record has a segment of its own.
  await using test = new TestVolume(SIZE, 4096);
  const adopted = new TestRandom(9).bytes(SIZE);
  const { live } = await test.adopt(adopted);
  live.write(3 * CHUNK_BYTES, new Uint8Array(4096).fill(1));
  live.commit();
  const [older, newer] = test.disk.list(`${test.directory}/segments`);
  assert(older !== undefined && newer !== undefined);
  await test.cutPower((place) => place.endsWith(newer));
  await test.open();
  assert.equal(test.volume.lastSeq, 0);
  await test.volume.completeBaseline();
  assertBytes(await test.contentAt(0), adopted, "adopted");
  assertBytes(test.primaryContent(), adopted, "primary");
});

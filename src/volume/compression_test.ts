import assert from "node:assert/strict";
import { BLOCK_BYTES } from "../base/block_device.ts";
import { systemScheduler } from "../base/turns.ts";
import type { DiskFile, DiskOpenOptions } from "../disk/mod.ts";
import { segmentFileName } from "../journal/mod.ts";
import { VOLUME_FILES } from "../timeline/past.ts";
import { assertBytes, TestRandom, TestVolume } from "./_testing.ts";
import {
  type CompressionMeans,
  type CompressionOutcome,
  compressionTotals,
  compressSegment,
  nextToCompress,
  publishCompressed,
} from "./compression.ts";
import { planPrune, prune } from "./prune.ts";

const SIZE = 24 * BLOCK_BYTES;
const SEGMENT_BYTES = 150_000;
const HOUR_US = 3_600_000_000;
const NONE: ReadonlySet<number> = new Set();

function means(signal = new AbortController().signal): CompressionMeans {
  return { scheduler: systemScheduler, pace: { coreShare: 1, bytesPerSecond: Infinity }, signal };
}

function segmentPlace(test: TestVolume, segment: number): string {
  return `${test.directory}/${VOLUME_FILES.segments}/${segmentFileName(segment)}`;
}

function order(test: TestVolume, segment: number) {
  return { directory: test.directory, volumeId: test.row.id, segment };
}

/** Compresses the next segment, if there is one. */
async function compressNext(test: TestVolume): Promise<CompressionOutcome | undefined> {
  const segment = nextToCompress(test.volume, NONE);
  if (segment === undefined) return undefined;
  const outcome = await compressSegment(test.disk, order(test, segment), means());
  await publishCompressed(test.volume, test.disk, segment, outcome);
  return outcome;
}

async function compressAll(test: TestVolume): Promise<CompressionOutcome["kind"][]> {
  const kinds: CompressionOutcome["kind"][] = [];
  for (let outcome = await compressNext(test); outcome !== undefined; outcome = await compressNext(test)) {
    kinds.push(outcome.kind);
  }
  return kinds;
}

/** Writes of text over the whole volume; returns its content after each, by sequence from the present one on. */
function writeText(test: TestVolume, random: TestRandom, count: number, past: Uint8Array[]): void {
  const model = past.at(-1)?.slice() ?? new Uint8Array(SIZE);
  for (let i = 0; i < count; i++) {
    test.clock.us += random.below(HOUR_US / 10);
    const blocks = 1 + random.below(5);
    const offset = random.below(24 - blocks) * BLOCK_BYTES;
    const word = random.bytes(40);
    const data = Uint8Array.from({ length: blocks * BLOCK_BYTES }, (_, at) => word[at % 40] ?? 0);
    test.volume.live.write(offset, data);
    model.set(data, offset);
    past.push(model.slice());
  }
}

async function settle(test: TestVolume, past: Uint8Array[]): Promise<void> {
  await test.volume.live.flush();
  past.push(past.at(-1)?.slice() ?? new Uint8Array(SIZE));
  await test.volume.settleSegments();
}

async function assertPast(test: TestVolume, past: readonly Uint8Array[], when: string): Promise<void> {
  for (let seq = 0; seq < past.length; seq += 3) {
    assertBytes(await test.contentAt(seq), past[seq], `${when}, sequence ${seq}`);
  }
}

Deno.test("compression keeps every moment byte-exact, before and after a restart, and tells what it saved", async () => {
  await using test = new TestVolume(SIZE, SEGMENT_BYTES);
  await test.create();
  const past = [new Uint8Array(SIZE)];
  const random = new TestRandom(3);
  writeText(test, random, 120, past);
  await settle(test, past);
  const segmentBytes = () =>
    test.disk.list(`${test.directory}/segments`).reduce(
      (sum, name) => sum + (test.disk.stat(`${test.directory}/segments/${name}`)?.sizeBytes ?? 0),
      0,
    );
  const before = segmentBytes();
  const kinds = await compressAll(test);
  assert.ok(kinds.length >= 5 && kinds.every((kind) => kind === "ready"), kinds.join());
  const totals = compressionTotals(test.volume);
  assert.equal(totals.compressedSegments, kinds.length);
  assert.ok(totals.storedBytes * 3 < totals.rawBytes);
  assert.equal(before - segmentBytes(), totals.rawBytes - totals.storedBytes);
  await assertPast(test, past, "compressed");
  writeText(test, random, 10, past);
  await test.close();
  await test.open();
  assert.equal(compressionTotals(test.volume).compressedSegments, kinds.length);
  await assertPast(test, past, "after a restart");
  assert.deepEqual(test.failures, []);
});

Deno.test("what the next start would scan is not compressed, and noise is tried once and left", async () => {
  await using test = new TestVolume(SIZE, SEGMENT_BYTES);
  const { live } = await test.create();
  assert.equal(nextToCompress(test.volume, NONE), undefined);
  const random = new TestRandom(5);
  for (let i = 0; i < 20; i++) live.write(0, random.bytes(5 * BLOCK_BYTES));
  await live.flush();
  await test.volume.settleSegments();
  const scanSegment = test.volume.map.getState("scan_segment", 1);
  assert.ok((nextToCompress(test.volume, NONE) ?? Infinity) < scanSegment);
  const kinds = await compressAll(test);
  assert.ok(kinds.length >= 2 && kinds.every((kind) => kind === "incompressible"), kinds.join());
  assert.equal(test.volume.segments.isCompressed(1), false);
  assert.deepEqual(compressionTotals(test.volume), { compressedSegments: 0, rawBytes: 0, storedBytes: 0 });
  assert.deepEqual(test.disk.list(`${test.directory}/segments`).filter((name) => name.endsWith(".tmp")), []);
});

Deno.test("a damaged segment is left as it is", async () => {
  await using test = new TestVolume(SIZE, SEGMENT_BYTES);
  await test.create();
  const past = [new Uint8Array(SIZE)];
  writeText(test, new TestRandom(6), 60, past);
  await settle(test, past);
  const file = test.disk.open(segmentPlace(test, 1), { mode: "write" });
  const byte = new Uint8Array(1);
  file.read(90_000, byte);
  file.write(90_000, byte.map((value) => value ^ 1));
  const outcome = await compressNext(test);
  assert.equal(outcome?.kind, "damaged");
  assert.equal(test.volume.segments.isCompressed(1), false);
  assert.notEqual(nextToCompress(test.volume, NONE), 1, "it is not tried again");
});

/** Cuts the power at a step of the disk: the step is not taken. */
function cutAt(test: TestVolume, step: number, survives: (place: string) => boolean): () => boolean {
  const { disk } = test;
  let steps = 0;
  let isCut = false;
  const arrive = () => {
    if (++steps !== step) return;
    isCut = true;
    disk.cutPower(survives);
    throw new Error("the power is cut");
  };
  const open = disk.open.bind(disk);
  disk.open = (place: string, options?: DiskOpenOptions): DiskFile => {
    const file = open(place, options);
    if (!place.endsWith(".tmp") || options?.mode === undefined) return file;
    const write = file.write.bind(file);
    const sync = file.sync.bind(file);
    file.write = (...args) => {
      arrive();
      write(...args);
    };
    file.sync = async () => {
      arrive();
      await sync();
    };
    return file;
  };
  for (const name of ["rename", "syncDirectory"] as const) {
    const real = disk[name].bind(disk) as (...args: string[]) => Promise<void>;
    disk[name] = ((...args: string[]) => {
      arrive();
      return real(...args);
    }) as never;
  }
  return () => isCut;
}

function restoreDisk(test: TestVolume): void {
  for (const name of ["open", "rename", "syncDirectory"] as const) Reflect.deleteProperty(test.disk, name);
}

Deno.test("a power cut between any two steps of a compression leaves a readable segment", async () => {
  for (const survives of [() => false, () => true, (place: string) => place.endsWith(".tmp")]) {
    for (let step = 1;; step++) {
      await using test = new TestVolume(SIZE, SEGMENT_BYTES);
      await test.create();
      const past = [new Uint8Array(SIZE)];
      writeText(test, new TestRandom(7), 30, past);
      await settle(test, past);
      const isCut = cutAt(test, step, survives);
      await compressNext(test).catch(() => {});
      const cut = isCut();
      restoreDisk(test);
      if (!cut) test.disk.cutPower(survives);
      await test.volume.close().catch(() => {});
      await test.open();
      await assertPast(test, past, `step ${step}`);
      const names = test.disk.list(`${test.directory}/segments`);
      assert.ok(names.every((name) => !name.endsWith(".tmp")), names.join());
      const kinds = await compressAll(test);
      assert.ok(kinds.every((kind) => kind === "ready" || kind === "already"), `step ${step}: ${kinds}`);
      await assertPast(test, past, `step ${step}, compressed at last`);
      if (!cut) {
        assert.ok(step > 6, `only ${step} steps`);
        break;
      }
    }
  }
});

Deno.test("compression is cancelled in the middle and leaves nothing behind", async () => {
  await using test = new TestVolume(SIZE, SEGMENT_BYTES);
  await test.create();
  const past = [new Uint8Array(SIZE)];
  writeText(test, new TestRandom(8), 60, past);
  await settle(test, past);
  const abort = new AbortController();
  test.disk.beforeSync = () => {
    abort.abort();
    return Promise.resolve();
  };
  await assert.rejects(compressSegment(test.disk, order(test, 1), means(abort.signal)), {
    code: "cancelled",
  });
  assert.deepEqual(test.disk.list(`${test.directory}/segments`).filter((name) => name.endsWith(".tmp")), []);
});

Deno.test("a segment that a prune condemns or deletes meanwhile does not come back", async () => {
  await using test = new TestVolume(SIZE, SEGMENT_BYTES);
  await test.create();
  const past = [new Uint8Array(SIZE)];
  writeText(test, new TestRandom(9), 60, past);
  await settle(test, past);
  const outcome = await compressSegment(test.disk, order(test, 1), means());
  assert.equal(outcome.kind, "ready");
  test.volume.condemned.add(1);
  assert.notEqual(nextToCompress(test.volume, NONE), 1);
  assert.equal(await publishCompressed(test.volume, test.disk, 1, outcome), false);
  assert.equal(test.volume.segments.isCompressed(1), false);
  test.volume.condemned.clear();
  const again = await compressSegment(test.disk, order(test, 1), means());
  test.volume.map.statement("DELETE FROM segments WHERE segment = 1").run();
  test.volume.segments.forget(1);
  test.disk.remove(segmentPlace(test, 1));
  assert.equal(await publishCompressed(test.volume, test.disk, 1, again), false);
  assert.equal(test.disk.stat(segmentPlace(test, 1)), undefined);
  await assert.rejects(compressSegment(test.disk, order(test, 1), means()), { code: "not-found" });
});

Deno.test("capture, reads, compression and prunes go on at once, and every kept moment stays byte-exact", async () => {
  for (let seed = 20; seed < 24; seed++) {
    await using test = new TestVolume(SIZE, SEGMENT_BYTES);
    const random = new TestRandom(seed);
    await test.create();
    const past = [new Uint8Array(SIZE)];
    for (let round = 0; round < 4; round++) {
      writeText(test, random, 60, past);
      await settle(test, past);
      const policy = { continuous: `${2 + random.below(3)}h`, tiers: [{ every: "1h", for: "40h" }] };
      const common = { onProgress: () => {}, signal: new AbortController().signal };
      const plan = await planPrune(test.volume, { marks: [], policy, nowUs: test.clock.us, ...common });
      const [kinds] = await Promise.all([
        compressAll(test),
        prune(test.volume, plan, common),
        (async () => {
          for (let i = 0; i < 10; i++) {
            const seq = plan.keptSeqs[random.below(plan.keptSeqs.length)] ?? 0;
            assertBytes(await test.contentAt(seq), past[seq], `seed ${seed}, while at it, sequence ${seq}`);
          }
        })(),
      ]);
      if (round === 0) assert.ok(kinds.includes("ready"), kinds.join());
      await compressAll(test);
      if (random.below(2) === 0) {
        await test.close();
        await test.open();
      }
      for (const seq of plan.keptSeqs) {
        assertBytes(await test.contentAt(seq), past[seq], `seed ${seed}, round ${round}, kept ${seq}`);
      }
      for (let seq = plan.outcome.base.seq; seq < past.length; seq += 7) {
        assertBytes(await test.contentAt(seq), past[seq], `seed ${seed}, round ${round}, recent ${seq}`);
      }
      assert.deepEqual(test.failures, []);
    }
  }
});

Deno.test("a start refuses to cut a compressed segment that is damaged, and changes nothing", async () => {
  await using test = new TestVolume(SIZE, SEGMENT_BYTES);
  await test.create();
  const past = [new Uint8Array(SIZE)];
  writeText(test, new TestRandom(12), 60, past);
  await settle(test, past);
  await compressAll(test);
  // As after a power cut that has taken the newest of the map with it.
  test.volume.map.setState("scan_segment", 1);
  test.volume.map.setState("scan_offset", 64);
  test.volume.map.setState("scan_seq", 0);
  test.volume.map.setState("indexed_seq", 0);
  test.volume.map.setState("durable_seq", 0);
  await test.cutPower(() => true);
  const place = segmentPlace(test, 1);
  const file = test.disk.open(place, { mode: "write" });
  const size = file.sizeBytes();
  const byte = new Uint8Array(1);
  file.read(size - 1, byte);
  file.write(size - 1, byte.map((value) => value ^ 1));
  await assert.rejects(test.open(), { code: "damaged" });
  assert.equal(test.disk.stat(place)?.sizeBytes, size);
  assert.ok(test.disk.list(`${test.directory}/segments`).every((name) => name.endsWith(".seg")));
  file.write(size - 1, byte);
  await test.open();
  await assertPast(test, past, "scanned anew, from compressed segments");
});

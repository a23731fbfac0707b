/**
 * Random lives of a volume, and rebuilding it, for tests of this room.
 *
 * @module
 */
import assert from "node:assert/strict";
import path from "node:path";
import { BLOCK_BYTES } from "../base/block_device.ts";
import { systemScheduler } from "../base/turns.ts";
import type { PackedMoment } from "../catalog/packing.ts";
import { parseSegmentFileName, SegmentReader, walkSegment } from "../journal/mod.ts";
import { VOLUME_FILES } from "../timeline/past.ts";
import { assertBytes, type TestRandom, type TestVolume } from "./_testing.ts";
import { planPrune, prune, type PruneOptions, type PrunePlan } from "./prune.ts";
import { readVolume, type RebuiltMap, type ToldVolume } from "./rebuild.ts";

/** Size of the volume in bytes: not a whole number of blocks. */
export const SIZE = 24 * BLOCK_BYTES + 700;
/** An hour in microseconds. */
export const HOUR_US = 3_600_000_000;

/** Everything that a rebuild must give back. */
export interface Told {
  moments: PackedMoment[];
  kept: unknown[];
  marks: unknown[];
  policy: string;
  lastSeq: number;
}

/** What is there now. */
export function tell(test: TestVolume): Told {
  const { moments } = test.volume;
  return {
    moments: [...moments.between(0, Number.MAX_SAFE_INTEGER)],
    kept: moments.kept(),
    marks: test.marks.toSorted((a, b) => a.seq - b.seq || (a.name < b.name ? -1 : 1)).map((mark) => ({
      ...mark,
      note: mark.note ?? null,
    })),
    policy: test.row.policy,
    lastSeq: test.volume.lastSeq,
  };
}

/** Reads and rebuilds; the old map is deleted before unless it is to be set aside. */
export async function rebuild(
  test: TestVolume,
  options: { keepMap?: boolean } = {},
): Promise<RebuiltMap & Pick<ToldVolume, "row" | "marks" | "deleted">> {
  if (!options.keepMap) test.disk.removeDatabase(path.join(test.directory, VOLUME_FILES.map));
  const told = readVolume({
    disk: test.disk,
    directory: test.directory,
    volumeId: test.row.id,
    scheduler: systemScheduler,
  });
  try {
    const { row, marks, deleted } = told;
    return { ...await told.rebuild(), row, marks, deleted };
  } finally {
    told.close();
  }
}

/** Prunes as the appliance does. */
export async function runPrune(
  test: TestVolume,
  continuous: string,
  tiers: { every: string; for: string }[],
  common: Pick<PruneOptions, "signal" | "onProgress"> = {
    onProgress: () => {},
    signal: new AbortController().signal,
  },
): Promise<PrunePlan> {
  await test.volume.settleSegments();
  const policy = { continuous, tiers };
  const plan = await planPrune(test.volume, { marks: test.marks, policy, nowUs: test.clock.us, ...common });
  await prune(test.volume, plan, common);
  return plan;
}

/** Random commands, marks and changes of them, on the volume and on a model. */
export async function live(
  test: TestVolume,
  random: TestRandom,
  past: Uint8Array[],
  steps: number,
): Promise<void> {
  const model = past.at(-1)?.slice() ?? new Uint8Array(SIZE);
  const { live } = test.volume;
  for (let step = 0; step < steps; step++) {
    test.clock.us += random.below(HOUR_US / 2);
    const offset = random.below(SIZE - 1);
    const length = 1 + random.below(Math.min(SIZE - offset, 5 * BLOCK_BYTES));
    if (random.below(5) === 0) {
      live[random.below(2) === 0 ? "zero" : "trim"](offset, length);
      model.fill(0, offset, offset + length);
    } else {
      const data = random.bytes(length);
      live.write(offset, data);
      model.set(data, offset);
    }
    past.push(model.slice());
    if (random.below(6) === 0) {
      await live.flush();
      past.push(model.slice());
    }
    if (random.below(12) === 0) {
      const mark = { name: `m${live.lastSeq + 1}`, pinned: random.below(2) === 0, note: undefined };
      const { told, ...moment } = await live.mark(JSON.stringify({ type: "mark", ...mark }));
      told();
      past.push(model.slice());
      test.marks.push({ ...mark, ...moment });
    }
    const index = random.below(test.marks.length + 20);
    const mark = test.marks[index];
    if (mark !== undefined && random.below(2) === 0) {
      const change = { pinned: !mark.pinned, note: `note ${step}` };
      (await live.describe(JSON.stringify({ type: "mark-changed", name: mark.name, ...change })))();
      test.marks[index] = { ...mark, ...change };
    } else if (mark !== undefined) {
      (await live.describe(JSON.stringify({ type: "mark-deleted", name: mark.name })))();
      test.marks.splice(index, 1);
    }
    if (random.below(30) === 0) {
      const policy = { continuous: `${1 + random.below(9)}h`, tiers: [] };
      (await live.describe(JSON.stringify({ type: "policy", policy })))();
      test.row = { ...test.row, policy: JSON.stringify(policy) };
    }
  }
}

/** Throws unless everything is as it was, every byte of every moment included. */
export async function assertSame(
  test: TestVolume,
  before: Told,
  past: Uint8Array[],
  when: string,
): Promise<void> {
  assert.deepEqual(tell(test), before, when);
  for (const { seq } of before.moments) {
    assertBytes(await test.contentAt(seq), past[seq], `${when}, sequence ${seq}`);
  }
}

/** All files of the segments folder. */
export function segmentFiles(test: TestVolume): Map<string, Uint8Array> {
  const directory = path.join(test.directory, VOLUME_FILES.segments);
  return new Map(
    test.disk.list(directory).map((name) => {
      const file = test.disk.open(path.join(directory, name));
      const bytes = new Uint8Array(file.sizeBytes());
      file.read(0, bytes);
      file.close();
      return [name, bytes];
    }),
  );
}

/** Replaces all files of the segments folder. */
export function putSegments(test: TestVolume, files: ReadonlyMap<string, Uint8Array>): void {
  const directory = path.join(test.directory, VOLUME_FILES.segments);
  for (const name of test.disk.list(directory)) test.disk.remove(path.join(directory, name));
  for (const [name, bytes] of files) {
    const file = test.disk.open(path.join(directory, name), { mode: "create-new" });
    file.write(0, bytes);
    file.close();
  }
}

/** Where the records of a segment begin. */
export function* walk(test: TestVolume, name: string): Generator<number> {
  const segments = new SegmentReader(test.disk, path.join(test.directory, VOLUME_FILES.segments));
  const segment = parseSegmentFileName(name) ?? 0;
  for (const { offset } of walkSegment(segments.bytesOf(segment), segment)) yield offset;
  segments.close();
}

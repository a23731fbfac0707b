import assert from "node:assert/strict";
import fc from "fast-check";
import { BLOCK_BYTES } from "../base/block_device.ts";
import { MOMENT_KINDS, type PackedMoment } from "../catalog/packing.ts";
import type { Line } from "./_run_finder.ts";
import {
  type ByteRange,
  type FileHistory,
  type FileProbe,
  fileVersions,
  type ProbedStep,
} from "./versions.ts";

/** Blocks of the toy's disk. */
const ROOT = 0;
const FOLDER = 1;
const INODES = 2;
const LOG = 3;
const NOISE = 4;
const CONTENT = 5;

const KINDS = [
  "noise",
  "flush",
  "create",
  "replace",
  "remove",
  "overwrite",
  "append",
  "chmod",
  "crowd",
  "moveFolder",
  "break",
] as const;
type Step = (typeof KINDS)[number];

/** The toy's disk after one command: the file `folder/file`, and all that a probe could see of it. */
interface State {
  readonly file: { inode: number; size: number; mode: number; changed: number; content: number } | undefined;
  readonly folder: { readonly isThere: boolean; readonly changed: number };
  readonly rootChanged: number;
  readonly isBroken: boolean;
  readonly touched: readonly number[];
}

function next(state: State, step: Step, seq: number): State {
  const { file, folder } = state;
  const unchanged = { ...state, touched: [] };
  const withFile = (changed: State["file"], touched: number[]) => ({
    ...state,
    file: changed,
    touched: [LOG, ...touched],
  });
  switch (step) {
    case "noise":
      return { ...state, touched: [NOISE, LOG] };
    case "flush":
      return unchanged;
    case "create":
    case "replace": {
      if ((file === undefined) !== (step === "create") || !folder.isThere) return unchanged;
      const made = { inode: seq + 100, size: 4096, mode: 0o644, changed: seq, content: seq };
      return { ...withFile(made, [FOLDER, INODES, CONTENT]), folder: { ...folder, changed: seq } };
    }
    case "remove":
      if (file === undefined || !folder.isThere) return unchanged;
      return { ...withFile(undefined, [FOLDER, INODES]), folder: { ...folder, changed: seq } };
    case "overwrite":
      return file === undefined
        ? unchanged
        : { ...state, file: { ...file, content: seq }, touched: [CONTENT] };
    case "append":
      return file === undefined
        ? unchanged
        : withFile({ ...file, size: file.size + 4096, changed: seq }, [INODES]);
    case "chmod":
      return file === undefined
        ? unchanged
        : withFile({ ...file, mode: file.mode ^ 1, changed: seq }, [INODES]);
    case "crowd":
      return { ...state, folder: { ...folder, changed: seq }, touched: [LOG, FOLDER, INODES] };
    case "moveFolder":
      return {
        ...state,
        folder: { isThere: !folder.isThere, changed: seq },
        rootChanged: seq,
        touched: [LOG, ROOT, INODES],
      };
    case "break":
      return { ...state, isBroken: !state.isBroken, touched: [LOG, ROOT] };
  }
}

interface ToyOptions {
  readonly keepsChangeTimes: boolean;
  /** Whether every probe reads the log, which all changes of names and inodes touch. */
  readonly readsLog: boolean;
  /** Single moments that retention kept, and the first sequence from which all are kept. */
  readonly kept?: readonly number[];
  readonly horizon?: number;
  /** How far the guest's clock is off. */
  readonly skewUs?: number;
}

const MICROSECONDS = 1_000_000;

class Toy implements FileHistory {
  readonly states: State[] = [{
    file: undefined,
    folder: { isThere: true, changed: 0 },
    rootChanged: 0,
    isBroken: false,
    touched: [],
  }];
  readonly every: number[];
  readonly settled: number[];
  readonly moments: FileHistory["moments"];
  probed = 0;
  readonly #options: ToyOptions;

  constructor(steps: readonly Step[], options: ToyOptions) {
    this.#options = options;
    for (const [index, step] of steps.entries()) {
      this.states.push(next(this.states[index] ?? this.#state(0), step, index + 1));
    }
    const { horizon = 0, kept = [] } = options;
    const last = this.states.length - 1;
    const exists = (seq: number) => seq >= Math.min(horizon, last) || kept.includes(seq);
    this.every = [...this.states.keys()].filter(exists);
    this.settled = this.every.filter((seq) =>
      seq === last || seq === this.every[0] || seq < horizon || steps[seq - 1] === "flush"
    );
    this.moments = {
      every: lineOf(this.every),
      settled: lineOf(this.settled),
      momentAt: (seq): PackedMoment => ({ seq, timeUs: seq * MICROSECONDS, kind: MOMENT_KINDS.change }),
      seqAt: (timeUs) => this.moments.every.atOrBefore(Math.floor(timeUs / MICROSECONDS)),
    };
  }

  #state(seq: number): State {
    const state = this.states[seq];
    if (state === undefined) throw new Error(`no state ${seq}`);
    return state;
  }

  /** What makes a moment the same version as another; numbers of commands never come back. */
  key(seq: number): string {
    const { file, folder, isBroken } = this.#state(seq);
    if (isBroken) return "unreadable";
    if (file === undefined || !folder.isThere) return "absent";
    // Without times of change, a change that was taken back between two settled moments has left no trace.
    return JSON.stringify(this.#options.keepsChangeTimes ? file : { ...file, changed: undefined });
  }

  // deno-lint-ignore require-await
  async probe(seq: number): Promise<FileProbe> {
    assert.ok(this.every.includes(seq), `${seq} is not retained`);
    this.probed++;
    const { file, folder, rootChanged, isBroken } = this.#state(seq);
    const { keepsChangeTimes, readsLog, skewUs = 0 } = this.#options;
    const ns = (changed: number) => BigInt(changed * MICROSECONDS + skewUs) * 1000n;
    const way: ProbedStep[] = [{
      directory: 2,
      directoryChangedNs: ns(rootChanged),
      found: folder.isThere ? { inode: 3, changedNs: ns(folder.changed) } : undefined,
    }];
    const read = [ROOT, ...(readsLog ? [LOG] : [])];
    const told = (part: Partial<FileProbe>): FileProbe => ({
      state: "absent",
      place: "",
      stored: [],
      complete: true,
      way,
      read: read.map(blockRange),
      keepsChangeTimes,
      ...part,
    });
    if (isBroken) return told({ state: "unreadable", reason: "broken", way: [] });
    if (!folder.isThere) return told({});
    read.push(FOLDER);
    const { inode, changed } = file ?? {};
    const found = inode === undefined ? undefined : { inode, changedNs: ns(changed ?? 0) };
    way.push({ directory: 3, directoryChangedNs: ns(folder.changed), found });
    if (file === undefined) return told({});
    read.push(INODES);
    return told({
      state: "present",
      stored: [blockRange(CONTENT)],
      place: "at home",
      file: {
        inode: file.inode,
        type: "file",
        mode: file.mode,
        uid: 0,
        gid: 0,
        links: 1,
        sizeBytes: file.size,
        rdev: 0,
        modifiedNs: 0n,
        changedNs: keepsChangeTimes ? ns(file.changed) : 0n,
      },
    });
  }

  lastChange(ranges: readonly ByteRange[], fromSeq: number, toSeq: number): number | undefined {
    for (let seq = toSeq; seq > fromSeq; seq--) {
      const touched = this.#state(seq).touched.map((block) => block * BLOCK_BYTES);
      if (ranges.some(({ offset, length }) => touched.some((at) => at >= offset && at < offset + length))) {
        return seq;
      }
    }
    return undefined;
  }
}

function blockRange(block: number): ByteRange {
  return { offset: block * BLOCK_BYTES, length: BLOCK_BYTES };
}

function lineOf(seqs: readonly number[]): Line {
  return {
    atOrBefore: (position) => seqs.findLast((seq) => seq <= position),
    after: (position) => seqs.find((seq) => seq > position),
  };
}

interface Told {
  readonly key: string;
  from: number;
  until: number;
}

/** Every version, by a look at every moment; newest first. */
function truth(toy: Toy): { versions: Told[]; unreadable: Told[] } {
  const runs: Told[] = [];
  for (const seq of toy.settled) {
    const key = toy.key(seq);
    const last = runs.at(-1);
    if (last?.key === key) last.until = seq;
    else runs.push({ key, from: seq, until: seq });
  }
  for (const run of runs) {
    for (const seq of toy.every.filter((each) => each < run.from).toReversed()) {
      if (toy.key(seq) !== run.key) break;
      run.from = seq;
    }
    for (const seq of toy.every.filter((each) => each > run.until)) {
      if (toy.key(seq) !== run.key) break;
      run.until = seq;
    }
  }
  const versions: Told[] = [];
  for (const run of runs.filter(({ key }) => key !== "unreadable")) {
    const last = versions.at(-1);
    if (last?.key === run.key) last.until = run.until;
    else versions.push({ ...run });
  }
  return {
    versions: versions.toReversed(),
    unreadable: runs.filter(({ key }) => key === "unreadable").toReversed(),
  };
}

function steps(weights: Partial<Record<Step, number>>, maxLength: number): fc.Arbitrary<Step[]> {
  const weighted = KINDS.map((kind) => ({ weight: weights[kind] ?? 0, arbitrary: fc.constant(kind) }));
  return fc.array(fc.oneof(...weighted.filter(({ weight }) => weight > 0)), {
    minLength: 1,
    maxLength,
    size: "max",
  });
}

const CHANGES = { create: 3, replace: 2, remove: 1, overwrite: 2, append: 2, chmod: 1, moveFolder: 1 };
const BUSY = { ...CHANGES, noise: 20, flush: 8 };

async function assertExact(toy: Toy): Promise<void> {
  const found = await fileVersions(toy, { versionsMax: 10_000, probesMax: 100_000 });
  const { versions, unreadable } = truth(toy);
  assert.equal(found.truncated, false);
  const told = found.versions.map(({ from, until, file }) => ({
    key: file === undefined ? "absent" : toy.key(until.seq),
    from: from.seq,
    until: until.seq,
  }));
  assert.deepEqual(found.unproven, []);
  assert.deepEqual(told, versions);
  assert.deepEqual(
    found.unreadable.map(({ from, until }) => ({ key: "unreadable", from: from.seq, until: until.seq })),
    unreadable,
  );
  assert.equal(toy.probed, found.probes);
}

Deno.test("fileVersions() by times of change tells every version that a look at every moment tells, and exact bounds", async () => {
  const skew = fc.constantFrom(0, -3, 5, -1e6, 1e6).map((seconds) => seconds * MICROSECONDS);
  await fc.assert(
    fc.asyncProperty(steps(BUSY, 300), skew, async (history, skewUs) => {
      await assertExact(new Toy(history, { keepsChangeTimes: true, readsLog: true, skewUs }));
    }),
    { numRuns: 300 },
  );
});

Deno.test("fileVersions() without times of change tells the same by the blocks that were read", async () => {
  await fc.assert(
    fc.asyncProperty(steps({ ...BUSY, break: 1 }, 300), async (history) => {
      await assertExact(new Toy(history, { keepsChangeTimes: false, readsLog: false }));
    }),
    { numRuns: 300 },
  );
});

Deno.test("fileVersions() of a pruned history looks at retained moments alone", async () => {
  const input = [steps(BUSY, 200), fc.array(fc.nat(199), { maxLength: 9 }), fc.nat(199)] as const;
  await fc.assert(
    fc.asyncProperty(...input, async (history, keptRaw, horizon) => {
      const kept = keptRaw.filter((seq) => seq < horizon);
      await assertExact(new Toy(history, { keepsChangeTimes: true, readsLog: true, kept, horizon }));
    }),
    { numRuns: 200 },
  );
});

Deno.test("fileVersions() goes around unreadable moments, and tells what it could not prove", async () => {
  await fc.assert(
    fc.asyncProperty(steps({ ...BUSY, break: 2, crowd: 4 }, 300), async (history) => {
      const toy = new Toy(history, { keepsChangeTimes: true, readsLog: true });
      const { versions, unproven } = await fileVersions(toy, { versionsMax: 10_000, probesMax: 100_000 });
      const expected = truth(toy).versions;
      const missed = (seq: number) => unproven.some(({ from, until }) => seq >= from.seq && seq <= until.seq);
      for (const [index, { from, until, file }] of versions.entries()) {
        assert.equal(file === undefined, toy.key(until.seq) === "absent");
        const key = toy.key(from.seq);
        assert.equal(key, toy.key(until.seq));
        const isTrue = unproven.length > 0 || expected.some((each) => {
          const ends = [...between(each.from, from.seq), ...between(each.until, until.seq)];
          return each.key === key && ends.every((seq) => [key, "unreadable"].includes(toy.key(seq)));
        });
        assert.ok(isTrue, `${from.seq} to ${until.seq} is no version`);
        const newer = versions[index - 1];
        assert.ok(newer === undefined || newer.from.seq > until.seq);
        const repeats = newer !== undefined && toy.key(newer.from.seq) === toy.key(until.seq);
        assert.ok(!repeats, "the same version twice in a row");
      }
      for (const { from, until, key } of expected) {
        const isFound = versions.some((each) =>
          each.from.seq <= until && each.until.seq >= from &&
          toy.key(each.until.seq) === key
        );
        assert.ok(isFound || missed(from), `${from} to ${until} was missed: ${key}`);
      }
    }),
    { numRuns: 300 },
  );
});

function between(one: number, other: number): number[] {
  const first = Math.min(one, other);
  return Array.from({ length: Math.abs(one - other) + 1 }, (_, index) => first + index);
}

/** A history in which a version is made every so many steps, under noise. */
function longHistory(changes: readonly Step[], every: number): Step[] {
  return changes.flatMap((change) => {
    const noise = Array.from({ length: every }, (_, index): Step => index % 10 === 9 ? "flush" : "noise");
    return [...noise, change, "flush" as const];
  });
}

Deno.test("fileVersions() opens a few moments for each version, however long the history is", async () => {
  for (const [every, skewUs] of [[100, 0], [3000, 0], [3000, -1e12], [3000, 1e12]] as const) {
    const changes: Step[] = [
      "create",
      "append",
      "replace",
      "remove",
      "create",
      "chmod",
      "append",
      "overwrite",
    ];
    const toy = new Toy(longHistory(changes, every), { keepsChangeTimes: true, readsLog: true, skewUs });
    const { versions, probes } = await fileVersions(toy);
    assert.equal(versions.length, changes.length + 1);
    const each = probes / versions.length;
    const bound = skewUs === 0 ? 10 : 2 * Math.log2(toy.every.length) + 6;
    assert.ok(each <= bound, `${each} probes for each version among ${toy.every.length} moments`);
  }
});

Deno.test("fileVersions() stops at its limits, with the newest versions whole", async () => {
  const changes: Step[] = ["create", ...Array.from({ length: 20 }, (): Step => "append")];
  const toy = new Toy(longHistory(changes, 30), { keepsChangeTimes: true, readsLog: true });
  const all = await fileVersions(toy);
  assert.equal(all.truncated, false);
  assert.equal(all.versions.length, 22);
  for (const options of [{ versionsMax: 5 }, { probesMax: 30 }]) {
    const some = await fileVersions(toy, options);
    assert.equal(some.truncated, true);
    assert.ok(some.versions.length > 2 && some.versions.length < 22);
    // All but what the last would be compared with.
    const bounds = (versions: typeof all.versions) =>
      versions.map(({ from, until }) => [from.seq, until.seq]);
    assert.deepEqual(bounds(some.versions), bounds(all.versions.slice(0, some.versions.length)));
  }
});

Deno.test("fileVersions() within a part of the window begins and ends with it", async () => {
  const toy = new Toy(longHistory(["create", "append", "append"], 20), {
    keepsChangeTimes: true,
    readsLog: true,
  });
  const { versions } = await fileVersions(toy, { fromSeq: 30, toSeq: 50 });
  const [newer, older] = versions.map(({ from, until }) => [from.seq, until.seq]);
  assert.deepEqual([newer, older], [[43, 50], [30, 42]]);
  assert.deepEqual((await fileVersions(toy, { fromSeq: 50, toSeq: 30 })).versions, []);
});

Deno.test("fileVersions() says whether content or only attributes changed", async () => {
  const toy = new Toy(longHistory(["create", "chmod", "overwrite", "append"], 20), {
    keepsChangeTimes: true,
    readsLog: true,
  });
  const { versions } = await fileVersions(toy);
  assert.deepEqual(versions.map((each) => each.contentChanged), [true, true, false, undefined, undefined]);
});

Deno.test("fileVersions() ends when its signal says so", async () => {
  const toy = new Toy(longHistory(["create", "append"], 20), { keepsChangeTimes: true, readsLog: true });
  const reason = new Error("nobody waits any more");
  await assert.rejects(fileVersions(toy, { signal: AbortSignal.abort(reason) }), reason);
});

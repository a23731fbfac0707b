import assert from "node:assert/strict";
import { BLOCK_BYTES } from "./base/block_device.ts";
import { VarveError } from "./base/errors.ts";
import { ChangeMaps } from "./change_maps.ts";
import { momentInfo, resolveMoment } from "./timeline/resolve.ts";
import { ALMOST_FULL, TestRandom, TestVolume, TightDisk } from "./volume/_testing.ts";
import { planPrune, prune } from "./volume/prune.ts";

const BLOCKS = 64;
const SIZE = BLOCKS * BLOCK_BYTES + 100;
const SINCE = "qemu:dirty-bitmap:since-";

/** Change maps of the live volume, or of a sequence, as the exports make them. */
function mapsOf(test: TestVolume, seq?: number): ChangeMaps {
  const { volume } = test;
  const found = seq === undefined ? undefined : volume.moments.atSeq(seq).found;
  assert(seq === undefined || found !== undefined, `sequence ${seq} is not in the map`);
  return new ChangeMaps({
    volume,
    moment: found === undefined ? undefined : momentInfo(found),
    marks: () => test.marks,
    resolve: async (at) => {
      await volume.settle();
      return resolveMoment(at, {
        moments: volume.moments,
        findMark: (name) => test.marks.find((mark) => mark.name === name),
        nowUs: test.clock.us,
        zone: "UTC",
      });
    },
  });
}

async function mark(test: TestVolume, name: string): Promise<number> {
  const { told, ...moment } = await test.volume.live.mark(
    JSON.stringify({ type: "mark", name, pinned: false }),
  );
  told();
  test.marks.push({ name, ...moment, pinned: false, note: undefined });
  return moment.seq;
}

/** Blocks that a map calls dirty. */
async function dirtyBlocks(maps: ChangeMaps, name: string): Promise<number[]> {
  const map = await maps.open(SINCE + name);
  assert(map !== undefined);
  const dirty: number[] = [];
  for (let at = 0; at < SIZE;) {
    for (const { length, flags } of await map.runs(at, SIZE - at, 3)) {
      for (let byte = at; byte < at + length && flags === 1; byte += BLOCK_BYTES) {
        dirty.push(byte / BLOCK_BYTES);
      }
      at += length;
    }
  }
  return dirty;
}

const write = (test: TestVolume, block: number, count = 1) =>
  test.volume.live.write(block * BLOCK_BYTES, new Uint8Array(count * BLOCK_BYTES).fill(7));

Deno.test("ChangeMaps tell what was written since a mark, a sequence or a time, live and up to a moment", async () => {
  await using test = new TestVolume(SIZE);
  await test.create();
  assert.deepEqual(await dirtyBlocks(mapsOf(test), "seq:0"), [], "a volume that was just made");
  write(test, 3, 2);
  test.clock.us += 5_000_000;
  const monday = await mark(test, "monday");
  test.clock.us += 5_000_000;
  write(test, 10);
  test.volume.live.trim(4 * BLOCK_BYTES, BLOCK_BYTES);
  const tuesday = await mark(test, "tuesday");
  test.volume.live.write(SIZE - 1, Uint8Array.of(1));

  const live = mapsOf(test);
  assert.deepEqual(await dirtyBlocks(live, "mark:monday"), [4, 10, BLOCKS]);
  assert.deepEqual(await dirtyBlocks(live, `seq:${tuesday}`), [BLOCKS]);
  assert.deepEqual(await dirtyBlocks(live, "now"), []);
  const past = mapsOf(test, tuesday);
  assert.deepEqual(await dirtyBlocks(past, "mark:monday"), [4, 10]);
  assert.deepEqual(await dirtyBlocks(past, "2026-01-01T00:00:06Z"), [4, 10]);
  assert.deepEqual(await dirtyBlocks(past, "seq:0"), [3, 4, 10]);
  assert.deepEqual(await dirtyBlocks(mapsOf(test, monday), "seq:0"), [3, 4]);

  const map = await live.open(`${SINCE}mark:tuesday`);
  write(test, 20);
  assert.deepEqual(await map?.runs(20 * BLOCK_BYTES + 5, BLOCK_BYTES, 9), [
    { length: BLOCK_BYTES - 5, flags: 1 },
    { length: 5, flags: 0 },
  ], "what was written after the map was opened counts");
});

Deno.test("ChangeMaps refuse moments that do not exist or are later, and leave other names to others", async () => {
  await using test = new TestVolume(SIZE);
  await test.create();
  write(test, 1);
  const first = await mark(test, "first");
  write(test, 2);
  await mark(test, "later");
  await test.volume.settle();
  const maps = mapsOf(test, first);
  assert.equal(await maps.open("base:allocation"), undefined);
  assert.equal(await maps.open("qemu:dirty-bitmap:other"), undefined);
  const refused = async (name: string, code: string, words: RegExp) => {
    await assert.rejects(maps.open(SINCE + name), (thrown) => {
      assert(thrown instanceof VarveError);
      assert.equal(thrown.code, code);
      assert.match(thrown.message, words);
      return true;
    });
  };
  await refused("mark:later", "invalid", /is later than what is exported/);
  await refused("seq:99", "not-retained", /the nearest older is .*seq:\d/);
  await refused("mark:none", "not-found", /no mark has that name/);
  await refused("last night", "invalid", /last night/);
  assert.deepEqual(maps.list(), [`${SINCE}mark:first`]);
  assert.deepEqual(mapsOf(test).list(), [`${SINCE}mark:first`, `${SINCE}mark:later`]);
  for (let i = 0; i < 150; i++) {
    test.marks.push({ name: `m${i}`, seq: first, timeUs: 0, pinned: false, note: undefined });
  }
  assert.equal(maps.list().length, 100);
  assert.equal(maps.list().at(-1), `${SINCE}mark:m149`);
});

Deno.test("ChangeMaps are right over moments that a prune has thinned, and end when it drops their own", async () => {
  await using test = new TestVolume(SIZE, 64 << 10);
  await test.create();
  const random = new TestRandom(5);
  const contents = new Map<string, Uint8Array>();
  for (const name of ["a", "b", "c", "d"]) {
    for (let i = 0; i < 20; i++) {
      test.clock.us += 60_000_000;
      const offset = random.below(SIZE - 9000);
      if (random.below(3) === 0) test.volume.live.trim(offset, 9000);
      else test.volume.live.write(offset, random.bytes(1 + random.below(9000)));
    }
    contents.set(name, await test.contentAt(await mark(test, name)));
  }
  const [a, , c] = test.marks;
  assert(a !== undefined && c !== undefined);
  test.marks.splice(0, 4, ...test.marks.map((each) => ({ ...each, pinned: each.name !== "b" })));
  const doomed = await mapsOf(test, c.seq).open(`${SINCE}seq:${a.seq + 5}`);
  assert(doomed !== undefined);
  assert.ok((await doomed.runs(0, SIZE, 9)).length > 0);
  await test.volume.settleSegments();
  const common = { onProgress: () => {}, signal: new AbortController().signal };
  const policy = { continuous: "1m", tiers: [] };
  const plan = await planPrune(test.volume, { marks: test.marks, policy, nowUs: test.clock.us, ...common });
  await prune(test.volume, plan, common);
  assert.deepEqual(plan.marksLost, ["b"]);

  for (const [from, to] of [["a", "c"], ["a", "d"], ["c", "d"]] as const) {
    const end = test.marks.find(({ name }) => name === to);
    const dirty = new Set(await dirtyBlocks(mapsOf(test, end?.seq), `mark:${from}`));
    const [before, after] = [contents.get(from), contents.get(to)];
    for (let block = 0; block <= BLOCKS; block++) {
      const range = [block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES] as const;
      if (dirty.has(block)) continue;
      assert.deepEqual(
        after?.subarray(...range),
        before?.subarray(...range),
        `block ${block}, ${from} to ${to}`,
      );
    }
    assert.ok(dirty.size < BLOCKS, "not everything was written");
  }
  await assert.rejects(async () => await doomed.runs(0, SIZE, 9), { code: "not-retained" });
  await assert.rejects(mapsOf(test, c.seq).open(`${SINCE}seq:${a.seq + 5}`), { code: "not-retained" });
});

Deno.test("ChangeMaps of a live volume are refused in a gap of its history, and hold afterwards what changed in it", async () => {
  const disk = new TightDisk();
  await using test = new TestVolume(SIZE, 48 << 10, disk);
  test.passthrough = true;
  await test.create();
  const { live, gaps } = test.volume;
  write(test, 0);
  await mark(test, "before");
  const map = await mapsOf(test).open(`${SINCE}mark:before`);
  assert(map !== undefined);
  disk.fullFrom = ALMOST_FULL;
  for (let block = 1; gaps.open === undefined; block++) {
    write(test, block % 20);
    live.commit();
    await live.held();
  }
  write(test, 50);
  await live.sync();
  await assert.rejects(async () => await map.runs(0, SIZE, 9), { code: "conflict" });
  disk.fullFrom = undefined;
  while (gaps.open !== undefined) await new Promise((resolve) => setTimeout(resolve, 20));
  const dirty = await dirtyBlocks(mapsOf(test), "mark:before");
  for (const block of [1, 5, 50]) assert.ok(dirty.includes(block), `block ${block}`);
  assert.ok(!dirty.includes(40));
});

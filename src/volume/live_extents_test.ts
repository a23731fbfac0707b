import assert from "node:assert/strict";
import fc from "fast-check";
import { BLOCK_BYTES, type BlockDevice, type Extent } from "../base/block_device.ts";
import { blockOf, isZero } from "../base/bytes.ts";
import { type DiskFile, type DiskOpenOptions, MemoryDisk } from "../disk/mod.ts";
import { ALMOST_FULL, TestRandom, TestVolume, TightDisk } from "./_testing.ts";
import { liveExtents } from "./live_extents.ts";
import { Overlay } from "./overlay.ts";
import { Primary } from "./primary.ts";

/** Wide enough for holes that the overlay does not enter block by block. */
const SIZE = 3000 * BLOCK_BYTES + 1234;

/** A disk whose primaries have holes wherever a block is zero. */
class SparseDisk extends TightDisk {
  override open(place: string, options?: DiskOpenOptions): DiskFile {
    const file = super.open(place, options);
    if (!place.endsWith(".seg")) file.seek = (offset, kind) => seekByContent(file, offset, kind);
    return file;
  }
}

function seekByContent(file: DiskFile, offset: number, kind: "data" | "hole"): number | undefined {
  const sizeBytes = file.sizeBytes();
  const bytes = new Uint8Array(BLOCK_BYTES);
  for (let at = offset; at < sizeBytes; at = (blockOf(at) + 1) * BLOCK_BYTES) {
    const got = file.read(blockOf(at) * BLOCK_BYTES, bytes);
    if (isZero(bytes.subarray(0, got)) === (kind === "hole")) return at;
  }
  return undefined;
}

/** Throws unless the extents of a range cover it by turns, their holes are zeroes, and limited ones are a prefix. */
function assertExtents(device: BlockDevice, model: Uint8Array, offset: number, length: number): Extent[] {
  const extents = device.extents(offset, length);
  let at = offset;
  let previous = "";
  for (const extent of extents) {
    assert.equal(extent.offset, at);
    assert.ok(extent.length > 0);
    assert.notEqual(extent.kind, previous, "neighbours of one kind are one extent");
    previous = extent.kind;
    at += extent.length;
    if (extent.kind === "hole") {
      assert.ok(isZero(model.subarray(extent.offset, at)), `${extent.length} bytes at ${extent.offset}`);
    }
  }
  assert.equal(at, offset + length);
  for (const max of [1, 2, 5]) {
    assert.deepEqual(device.extents(offset, length, max), extents.slice(0, max), `at most ${max}`);
  }
  return extents;
}

Deno.test("LiveVolume's extents cover a range by turns and call nothing a hole that is not zero, in any order of changes", async () => {
  for (let seed = 1; seed <= 4; seed++) {
    await using test = new TestVolume(SIZE, 1 << 20, new SparseDisk());
    const random = new TestRandom(seed);
    const { live } = await test.create();
    const model = new Uint8Array(SIZE);
    for (let step = 0; step < 60; step++) {
      const wide = random.below(6) === 0;
      const offset = wide ? random.below(20 * BLOCK_BYTES) : random.below(SIZE);
      const length = Math.min(
        SIZE - offset,
        1 + random.below(wide ? SIZE : random.below(2) === 0 ? 9 * BLOCK_BYTES : 5000),
      );
      const kind = random.below(wide ? 2 : 5);
      if (kind === 0) live.trim(offset, length);
      else if (kind === 1) live.zero(offset, length);
      else live.write(offset, new Uint8Array(length).fill(1 + step));
      model.fill(kind < 2 ? 0 : 1 + step, offset, offset + length);
      switch (random.below(12)) {
        case 0:
          await live.flush();
          break;
        case 1:
          // In the midst of it: some overlays are on their way, and hosts go on.
          live.sync().catch(() => {});
          await Promise.resolve();
      }
      const from = random.below(SIZE);
      assertExtents(live, model, from, random.below(SIZE - from));
      if (step % 6 === 0) assertExtents(live, model, 0, SIZE);
    }
    await live.sync();
    assertExtents(live, model, 0, SIZE);
  }
});

Deno.test("LiveVolume's extents tell holes as soon as they are made, and data where there is some", async () => {
  await using test = new TestVolume(SIZE, 1 << 20, new SparseDisk());
  const { live } = await test.create();
  assert.deepEqual(live.extents(0, SIZE), [{ offset: 0, length: SIZE, kind: "hole" }]);
  const block = (kind: Extent["kind"], from: number, until: number) => ({
    offset: from * BLOCK_BYTES,
    length: Math.min(SIZE, until * BLOCK_BYTES) - from * BLOCK_BYTES,
    kind,
  });
  live.write(0, new Uint8Array(2500 * BLOCK_BYTES).fill(1));
  live.trim(10 * BLOCK_BYTES, 2000 * BLOCK_BYTES);
  live.write(500 * BLOCK_BYTES + 7, Uint8Array.of(1));
  live.zero(501 * BLOCK_BYTES - 5, 20 * BLOCK_BYTES + 5);
  live.trim(3 * BLOCK_BYTES, 2 * BLOCK_BYTES);
  const expected = [
    block("data", 0, 3),
    block("hole", 3, 5),
    block("data", 5, 10),
    block("hole", 10, 500),
    block("data", 500, 501),
    block("hole", 501, 2010),
    block("data", 2010, 2500),
    block("hole", 2500, 3001),
  ];
  const joined = expected.filter(({ length }) => length > 0);
  assert.deepEqual(live.extents(0, SIZE), joined, "from the overlay");
  await live.flush();
  assert.deepEqual(live.extents(0, SIZE), joined, "from the primary");
  live.write(3 * BLOCK_BYTES, Uint8Array.of(1));
  assert.equal(live.extents(0, SIZE, 1)[0]?.length, 4 * BLOCK_BYTES, "from both");
  assert.deepEqual(live.extents(7, 0), []);
  assert.throws(() => live.extents(SIZE, 1), { name: "VarveError", code: "out-of-range" });
});

Deno.test("LiveVolume's extents count what a gap holds back as data, and afterwards know its holes", async () => {
  const disk = new SparseDisk();
  await using test = new TestVolume(SIZE, 48 << 10, disk);
  test.passthrough = true;
  const { live } = await test.create();
  const model = new Uint8Array(SIZE);
  const change = (offset: number, byte: number, length: number) => {
    if (byte === 0) live.trim(offset, length);
    else live.write(offset, new Uint8Array(length).fill(byte));
    model.fill(byte, offset, offset + length);
  };
  change(0, 1, 20 * BLOCK_BYTES);
  disk.fullFrom = ALMOST_FULL;
  for (let i = 0; live.held() === undefined; i++) change(i * 3 * BLOCK_BYTES, 2 + i, 40_000);
  change(2000 * BLOCK_BYTES + 5, 77, 10);
  change(1000 * BLOCK_BYTES + 5, 78, 5000);
  change(1001 * BLOCK_BYTES, 0, 2 * BLOCK_BYTES);
  const held = assertExtents(live, model, 0, SIZE);
  const at = (extents: Extent[], byte: number) =>
    extents.find(({ offset, length }) => offset <= byte && byte < offset + length)?.kind;
  assert.equal(at(held, 2000 * BLOCK_BYTES + 5), "data");
  assert.equal(at(held, 1002 * BLOCK_BYTES), "data");
  await live.held();
  const direct = assertExtents(live, model, 0, SIZE);
  assert.equal(at(direct, 2000 * BLOCK_BYTES), "data");
  assert.equal(at(direct, 1002 * BLOCK_BYTES), "hole");
  disk.fullFrom = undefined;
});

/** A primary that says what it is told to say, and counts how often it is asked. */
function primaryOf(sizeBytes: number, holes: readonly (readonly [number, number])[]): {
  primary: Primary;
  seeks: () => number;
} {
  let seeks = 0;
  const file = new MemoryDisk().open("/p", { mode: "create" });
  file.seek = (offset, kind) => {
    seeks++;
    const hole = holes.find(([from, until]) => offset < until && (kind === "hole" || from <= offset));
    const found = hole === undefined
      ? kind === "data" ? offset : undefined
      : kind === "hole"
      ? Math.max(offset, hole[0])
      : hole[1];
    return found !== undefined && found < sizeBytes ? found : undefined;
  };
  return { primary: new Primary(file, sizeBytes), seeks: () => seeks };
}

Deno.test("liveExtents() counts a block of which a part is data as data", () => {
  const block = BLOCK_BYTES;
  const { primary } = primaryOf(100 * block, [
    [1000, 2 * block - 1],
    [3 * block + 1, 6 * block],
    [7 * block, 9 * block + 5],
    [11 * block + 1, 12 * block - 1],
  ]);
  const layers = { held: [], overlays: [], primary };
  assert.deepEqual(liveExtents(layers, 0, 100 * block).map(({ offset, kind }) => [offset / block, kind]), [
    [0, "data"],
    [4, "hole"],
    [6, "data"],
    [7, "hole"],
    [9, "data"],
  ]);
});

Deno.test("liveExtents() agrees with a look-up of each block, whatever lies in the overlays", () => {
  const blocks = 3000;
  const extent = fc.tuple(fc.nat(blocks), fc.constantFrom(1, 2, 7, 1100, 2000), fc.boolean(), fc.boolean());
  fc.assert(
    fc.property(fc.array(extent, { maxLength: 25 }), fc.nat(blocks), fc.nat(blocks), (list, one, other) => {
      const overlays = [new Overlay()];
      for (const [index, [firstBlock, count, isHole, next]] of list.entries()) {
        if (next) overlays.push(new Overlay());
        overlays.at(-1)?.add({
          seq: index + 1,
          firstBlock,
          blockCount: Math.min(blocks - firstBlock, isHole || index % 3 === 0 ? count : Math.min(count, 9)),
          segment: isHole ? 0 : 1,
          recordOffset: index,
          payloadBlock: 0,
        });
      }
      const { primary } = primaryOf(blocks * BLOCK_BYTES, [[700 * BLOCK_BYTES, 1500 * BLOCK_BYTES]]);
      const [from, until] = [Math.min(one, other), Math.max(one, other)];
      let expected = "";
      for (let block = from; block < until; block++) {
        const found = overlays.findLast((overlay) => overlay.find(block) !== undefined)?.find(block);
        const isHole = found === undefined ? block >= 700 && block < 1500 : found.segment === 0;
        expected += isHole ? "h" : "d";
      }
      const layers = { held: [], overlays, primary };
      const told = liveExtents(layers, from * BLOCK_BYTES, (until - from) * BLOCK_BYTES);
      assert.equal(
        told.map(({ kind, length }) => kind.slice(0, 1).repeat(length / BLOCK_BYTES)).join(""),
        expected,
      );
    }),
  );
});

Deno.test("liveExtents() of a few extents looks at few blocks, and of a large empty volume at none", () => {
  const sizeBytes = 2 ** 41;
  const many: [number, number][] = [];
  for (let i = 0; i < 1000; i++) many.push([i * 65_536, i * 65_536 + 32_768]);
  const fragmented = primaryOf(sizeBytes, many);
  const overlay = new Overlay();
  assert.equal(
    liveExtents({ held: [], overlays: [], primary: fragmented.primary }, 0, sizeBytes, 3).length,
    3,
  );
  assert.ok(fragmented.seeks() < 10, `${fragmented.seeks()} seeks`);

  const place = { segment: 1, recordOffset: 0, payloadBlock: 0 };
  for (let i = 0; i < 60_000; i++) overlay.add({ seq: i + 1, firstBlock: i * 8000, blockCount: 1, ...place });
  let lookUps = 0;
  const find = overlay.find.bind(overlay);
  overlay.find = (block) => {
    lookUps++;
    return find(block);
  };
  const empty = primaryOf(sizeBytes, [[0, sizeBytes]]);
  const layers = { held: [], overlays: [overlay], primary: empty.primary };
  assert.equal(liveExtents(layers, 0, sizeBytes, 5).length, 5);
  assert.ok(lookUps < 100, `${lookUps} look-ups`);
  lookUps = 0;
  assert.equal(liveExtents(layers, 0, sizeBytes).length, 120_000);
  assert.equal(lookUps, 60_000, "one for each block that the overlay has");
});

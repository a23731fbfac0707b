import assert from "node:assert/strict";
import { BLOCK_BYTES } from "../base/block_device.ts";
import { isZero } from "../base/bytes.ts";
import { type MapExtent, RecoveryMap } from "../catalog/recovery_map.ts";
import { REGION_BYTES } from "../catalog/region_map.ts";
import { MemoryDisk } from "../disk/mod.ts";
import { extentsOf, JournalWriter, type NewRecord, segmentFileName, SegmentReader } from "../journal/mod.ts";
import { BlockCache, RegionCache, View } from "./view.ts";

/** Two regions and a bit; the last block is cut. */
const SIZE = 2 * REGION_BYTES + 5 * BLOCK_BYTES + 77;

interface History {
  readonly disk: MemoryDisk;
  readonly map: RecoveryMap;
  readonly segments: SegmentReader;
  readonly regions: RegionCache;
  /** Puts a record into the journal and the map. */
  change(record: Partial<NewRecord>, ...payload: Uint8Array[]): void;
  view(seq: number): View;
}

function withHistory(work: (history: History) => void): void {
  const disk = new MemoryDisk();
  const map = new RecoveryMap(":memory:");
  const segments = new SegmentReader(disk, "/s");
  const regions = new RegionCache(map);
  const writer = new JournalWriter(disk, {
    directory: "/s",
    volumeId: "00".repeat(16),
    nextSegment: 1,
    lastSeq: 0,
    segmentBytes: 1 << 20,
    clock: { nowUs: () => 1 },
    describe: () => "{}",
  });
  try {
    work({
      disk,
      map,
      segments,
      regions,
      change: (partial, ...payload) => {
        const record: NewRecord = {
          kind: "write",
          flags: 0,
          seq: writer.lastSeq + 1,
          timeUs: 1,
          offset: 0,
          length: 1,
          firstBlock: 0,
          client: 0,
          ...partial,
        };
        const place = writer.append(record, ...payload);
        writer.commit();
        const payloadBytes = payload.reduce((sum, part) => sum + part.length, 0);
        const extents = extentsOf({ ...record, payloadBytes }).map((extent): MapExtent => ({
          seq: record.seq,
          firstBlock: extent.firstBlock,
          blockCount: extent.blockCount,
          segment: extent.payloadBlock < 0 ? 0 : place.segment,
          recordOffset: extent.payloadBlock < 0 ? 0 : place.offset,
          payloadBlock: Math.max(0, extent.payloadBlock),
        }));
        map.transaction(() => {
          for (const _ of map.addExtents(extents));
        });
      },
      view: (seq) => new View({ regions, segments }, seq, SIZE),
    });
  } finally {
    segments.close();
    map.close();
  }
}

/** Three writes and two trims over the edge of the first region and in the last block. */
function fill({ change }: History): void {
  const edge = REGION_BYTES / BLOCK_BYTES - 2;
  change({ firstBlock: edge }, blocks(20, 1));
  change({ firstBlock: 2 * REGION_BYTES / BLOCK_BYTES + 3 }, blocks(3, 2));
  change({ kind: "trim", offset: (edge + 1) * BLOCK_BYTES, length: 3 * BLOCK_BYTES, firstBlock: edge + 1 });
  change({ firstBlock: edge + 2 }, blocks(1, 3));
  change({ kind: "trim", offset: 0, length: REGION_BYTES, firstBlock: 0 });
}

function blocks(count: number, name: number): Uint8Array {
  return Uint8Array.from(
    { length: count * BLOCK_BYTES },
    (_, at) => (name * 50 + Math.floor(at / BLOCK_BYTES)) ^ at % 251 | 1,
  );
}

function contentOf(view: View): Uint8Array {
  const bytes = new Uint8Array(view.sizeBytes).fill(0xee);
  view.read(0, bytes);
  return bytes;
}

/** What the volume held at each sequence, byte by byte. */
function models(): Uint8Array[] {
  const edge = REGION_BYTES - 2 * BLOCK_BYTES;
  const states = [new Uint8Array(SIZE)];
  const next = (change: (bytes: Uint8Array) => void) => {
    const bytes = states.at(-1)?.slice() ?? new Uint8Array();
    change(bytes);
    states.push(bytes);
  };
  next((bytes) => bytes.set(blocks(20, 1), edge));
  next((bytes) => {
    const start = 2 * REGION_BYTES + 3 * BLOCK_BYTES;
    bytes.set(blocks(3, 2).subarray(0, SIZE - start), start);
  });
  next((bytes) => bytes.fill(0, edge + BLOCK_BYTES, edge + 4 * BLOCK_BYTES));
  next((bytes) => bytes.set(blocks(1, 3), edge + 2 * BLOCK_BYTES));
  next((bytes) => bytes.fill(0, 0, REGION_BYTES));
  return states;
}

function assertSame(actual: Uint8Array, expected: Uint8Array | undefined, message: string): void {
  assert.equal(actual.length, expected?.length, message);
  assert.equal(actual.findIndex((byte, at) => byte !== expected?.[at]), -1, message);
}

Deno.test("View reads the volume as it was at each sequence, at any offset and length", () => {
  withHistory((history) => {
    fill(history);
    for (const [seq, model] of models().entries()) {
      const view = history.view(seq);
      assertSame(contentOf(view), model, `sequence ${seq}`);
      for (
        const [offset, length] of [
          [REGION_BYTES - 3 * BLOCK_BYTES - 1, 6 * BLOCK_BYTES + 2],
          [REGION_BYTES - 1, 2],
          [REGION_BYTES - 100, 50],
          [REGION_BYTES - 2 * BLOCK_BYTES + 5, 4096],
          [SIZE - 1, 1],
          [SIZE - 5000, 5000],
          [SIZE, 0],
          [7, 0],
        ] as const
      ) {
        const target = new Uint8Array(length).fill(0xee);
        view.read(offset, target);
        assertSame(target, model.slice(offset, offset + length), `sequence ${seq}, ${length} at ${offset}`);
      }
    }
  });
});

Deno.test("View's extents cover a range exactly, by turns, and call nothing a hole that is not zero", () => {
  withHistory((history) => {
    fill(history);
    for (const [seq, model] of models().entries()) {
      const view = history.view(seq);
      for (
        const [offset, length] of [[0, SIZE], [REGION_BYTES - 5000, 10_000], [SIZE - 10, 10], [
          100,
          0,
        ]] as const
      ) {
        let at = offset;
        let previous = "";
        for (const extent of view.extents(offset, length)) {
          assert.equal(extent.offset, at);
          assert.ok(extent.length > 0);
          assert.notEqual(extent.kind, previous, "neighbours of one kind are one extent");
          previous = extent.kind;
          at += extent.length;
          if (extent.kind === "hole") {
            assert.ok(isZero(model.slice(extent.offset, at)), `sequence ${seq} at ${extent.offset}`);
          }
        }
        assert.equal(at, offset + length);
        const all = view.extents(offset, length);
        for (const max of [1, 2, 4]) assert.deepEqual(view.extents(offset, length, max), all.slice(0, max));
      }
    }
    assert.deepEqual(history.view(0).extents(0, SIZE), [{ offset: 0, length: SIZE, kind: "hole" }]);
    assert.deepEqual(history.view(3).extents(0, SIZE).map(({ kind }) => kind), [
      "hole",
      "data",
      "hole",
      "data",
      "hole",
      "data",
    ]);
  });
});

Deno.test("RegionCache answers with one look-up for all sequences between two changes, but for what a prune has dropped", () => {
  withHistory(({ map, change, regions }) => {
    for (let seq = 1; seq <= 9; seq++) {
      if (seq % 3 === 0) {
        change({ firstBlock: seq, length: BLOCK_BYTES }, new Uint8Array(BLOCK_BYTES).fill(seq));
      } else {change(
          { firstBlock: REGION_BYTES / BLOCK_BYTES, length: BLOCK_BYTES },
          new Uint8Array(BLOCK_BYTES),
        );}
    }
    map.setState("indexed_seq", 9);
    let resolved = 0;
    const resolve = map.resolveRetained.bind(map);
    map.resolveRetained = (region, seq) => {
      resolved++;
      return resolve(region, seq);
    };
    for (const seq of [9, 8, 7, 6, 5, 4, 3, 8, 5, 3, 9]) {
      const written = regions.get(0, seq).map((extent) => extent.seq);
      assert.deepEqual(written, [3, 6, 9].filter((each) => each <= seq), `at ${seq}`);
    }
    assert.equal(resolved, 3);
    regions.get(0, 20);
    assert.equal(resolved, 4, "beyond what is indexed nothing is known");
    assert.equal(regions.mayDiffer(0, 6, 8), false);
    assert.equal(regions.mayDiffer(0, 5, 8), true);
    map.setState("horizon_seq", 8);
    assert.throws(() => regions.get(0, 2), { name: "VarveError", code: "not-retained" });
    map.transaction(() => map.statement("INSERT INTO kept VALUES (4, 1, 1, 1)").run());
    const kept = new RegionCache(map);
    assert.equal(kept.get(0, 4).length, 1);
    assert.throws(() => kept.get(0, 5), { name: "VarveError", code: "not-retained" });
  });
});

Deno.test("BlockCache serves every moment that shows a block, and View reads through it what it reads without", () => {
  const cache = new BlockCache(3 * BLOCK_BYTES);
  const block = (value: number) => new Uint8Array(BLOCK_BYTES).fill(value);
  const target = new Uint8Array(BLOCK_BYTES);
  for (const number of [1, 2, 3]) cache.add(number, 10, block(number));
  assert.ok(cache.copy(1, 10, target));
  assert.deepEqual(target, block(1));
  assert.ok(!cache.copy(1, 11, target), "another version");
  cache.add(4, 10, block(4));
  assert.ok(!cache.copy(2, 10, target), "what was used longest ago has left");
  cache.add(4 + 65_536, 10, block(5));
  assert.ok(!cache.copy(4, 10, target), "what shares a place is never taken for another");

  withHistory((history) => {
    for (let seq = 1; seq <= 20; seq++) {
      history.change(
        { firstBlock: seq % 7, length: 3 * BLOCK_BYTES },
        new Uint8Array(3 * BLOCK_BYTES).fill(seq),
      );
    }
    const blocks = new BlockCache(8 * BLOCK_BYTES);
    for (const seq of [20, 19, 3, 20, 12, 3]) {
      const [plain, cached] = [new Uint8Array(10 * BLOCK_BYTES), new Uint8Array(10 * BLOCK_BYTES)];
      history.view(seq).read(0, plain);
      new View({ ...history, blocks }, seq, SIZE).read(0, cached);
      assert.deepEqual(cached, plain, `at ${seq}`);
    }
  });
});

Deno.test("View cannot be written, and refuses ranges beyond its end", async () => {
  withHistory((history) => {
    const view = history.view(0);
    for (const change of [() => view.write(), () => view.trim(), () => view.zero()]) {
      assert.throws(change, { name: "VarveError", code: "read-only" });
    }
    assert.throws(() => view.read(SIZE - 1, new Uint8Array(2)), { name: "VarveError", code: "out-of-range" });
    assert.throws(() => view.extents(SIZE, 1), { name: "VarveError", code: "out-of-range" });
    assert.equal(view.readOnly, true);
  });
  const map = new RecoveryMap(":memory:");
  const view = new View(
    { regions: new RegionCache(map), segments: new SegmentReader(new MemoryDisk(), "/s") },
    0,
    1,
  );
  view.commit();
  await view.flush();
  await view.sync();
  map.close();
});

Deno.test("View follows bytes that compaction has moved, and calls damaged what is nowhere", () => {
  withHistory((history) => {
    history.change({ firstBlock: 0 }, blocks(1, 1));
    const view = history.view(1);
    const target = new Uint8Array(BLOCK_BYTES);
    view.read(0, target);
    // The cache still knows of a place whose segment is gone.
    const [cached] = history.regions.get(0, 1);
    assert.ok(cached !== undefined);
    cached.segment = 99;
    target.fill(0);
    view.read(0, target);
    assertSame(target, blocks(1, 1), "read again from the map");
    history.segments.forget(1);
    history.disk.remove(`/s/${segmentFileName(1)}`);
    assert.throws(() => view.read(0, target), { name: "VarveError", code: "damaged" });
  });
});

Deno.test("RegionCache answers from memory until it is cleared, and keeps a bounded number of regions", () => {
  const map = new RecoveryMap(":memory:");
  let resolved = 0;
  const resolve = map.resolveRetained.bind(map);
  map.resolveRetained = (region, seq) => {
    resolved++;
    return resolve(region, seq);
  };
  const cache = new RegionCache(map);
  cache.get(0, 0);
  assert.equal(cache.get(0, 0), cache.get(0, 0));
  assert.equal(resolved, 1);
  cache.get(0, 1);
  assert.equal(resolved, 2, "another sequence is another state");
  for (let region = 1; region <= 511; region++) {
    cache.get(region, 0);
    cache.get(0, 0);
  }
  assert.equal(resolved, 513);
  cache.get(0, 0);
  assert.equal(resolved, 513, "what is used often stays");
  cache.get(0, 1);
  assert.equal(resolved, 514, "what is not used goes");
  cache.clear();
  cache.get(0, 0);
  assert.equal(resolved, 515);

  const large = { seq: 1, firstBlock: 0, blockCount: 1, segment: 1, recordOffset: 0, payloadBlock: 0 };
  map.resolveRetained = () => {
    resolved++;
    return { extents: new Array(150_000).fill(large), fromSeq: 0, endSeq: 1 };
  };
  cache.clear();
  resolved = 0;
  for (const region of [1, 2, 3, 3, 2, 1]) cache.get(region, 0);
  assert.equal(resolved, 4, "two of them fit the budget of extents, so the first was dropped");
  map.close();
});

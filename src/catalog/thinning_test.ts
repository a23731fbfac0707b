/** Thinning and moving the versions of a region, against a list of every change that was ever made. */
import assert from "node:assert/strict";
import fc from "fast-check";
import { inTurns, systemScheduler } from "../base/turns.ts";
import type { PackedExtent } from "./packing.ts";
import { type MapExtent, RecoveryMap } from "./recovery_map.ts";
import { REGION_BLOCKS, RegionPainter } from "./region_map.ts";

/** Blocks that are written to: few, so that versions replace one another. */
const BLOCKS = 60;

/** Names what is on top of each block; what is a hole for whatever reason has one name. */
function namesOf(state: readonly PackedExtent[]): string[] {
  const names = new Array<string>(BLOCKS).fill("hole");
  for (const { seq, firstBlock, blockCount, segment, recordOffset, payloadBlock } of state) {
    for (let i = 0; i < blockCount && segment > 0; i++) {
      names[firstBlock + i] = `${seq} ${segment}:${recordOffset}+${payloadBlock + i}`;
    }
  }
  return names;
}

function stateAt(extents: readonly MapExtent[], seq: number): string[] {
  const painter = new RegionPainter();
  for (const extent of extents) {
    if (extent.seq > seq) continue;
    painter.paint({ ...extent, blockCount: Math.min(extent.blockCount, REGION_BLOCKS) });
  }
  return namesOf(painter.finish());
}

/** Changes from a seed, ascending from `fromSeq`: writes, holes, holes over the whole region, two extents at times. */
function changes(seed: number, fromSeq: number, count: number): MapExtent[] {
  let state = seed >>> 0;
  const below = (limit: number) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor(state / 2 ** 32 * limit);
  };
  const extents: MapExtent[] = [];
  for (let seq = fromSeq; seq < fromSeq + count; seq++) {
    const firstBlock = below(BLOCKS - 8);
    const blockCount = 1 + below(8);
    const place = { recordOffset: seq * 1000, payloadBlock: below(4) };
    const hole = { segment: 0, recordOffset: 0, payloadBlock: 0 };
    const kind = below(200);
    if (kind === 0) extents.push({ seq, firstBlock: 0, blockCount: REGION_BLOCKS, ...hole });
    else if (kind < 20) extents.push({ seq, firstBlock, blockCount, ...hole });
    else extents.push({ seq, firstBlock, blockCount, segment: 1 + Math.floor(seq / 50), ...place });
  }
  return extents;
}

function add(map: RecoveryMap, extents: readonly MapExtent[], batch: number): void {
  for (let from = 0; from < extents.length; from += batch) {
    map.transaction(() => {
      for (const _ of map.addExtents(extents.slice(from, from + batch)));
    });
  }
}

Deno.test("RecoveryMap.thinRegion() and relocateRegion() change nothing that a kept sequence sees, nor what comes after", async () => {
  const input = [
    fc.nat(),
    fc.integer({ min: 1, max: 4000 }),
    fc.integer({ min: 1, max: 900 }),
    fc.uniqueArray(fc.nat({ max: 4000 }), { minLength: 1, maxLength: 12 }),
    fc.boolean(),
  ] as const;
  await fc.assert(
    fc.asyncProperty(...input, async (seed, count, batch, kept, withBaseline) => {
      const map = new RecoveryMap(":memory:");
      let all = changes(seed, 1, count);
      const baseline: MapExtent = {
        seq: 0,
        firstBlock: 3,
        blockCount: 40,
        segment: 999,
        recordOffset: 64,
        payloadBlock: 0,
      };
      if (withBaseline) {
        map.transaction(() => map.addBaseline([baseline]));
        all = [baseline, ...all];
      }
      add(map, all.filter(({ seq }) => seq > 0), batch);
      let keptSeqs = kept.sort((a, b) => a - b);
      for (let round = 0; round < 2; round++) {
        const baseSeq = keptSeqs.at(-1) ?? 0;
        const told = new Set<number>();
        await inTurns(map.thinRegion(0, keptSeqs, ({ segment }) => told.add(segment)), systemScheduler);
        const counted = new Set<number>();
        await inTurns(map.livingIn(0, keptSeqs, ({ segment }) => counted.add(segment)), systemScheduler);
        for (const segment of told) assert.ok(counted.has(segment), `segment ${segment} still lives`);
        // Everything up to the base moves elsewhere, as a prune would have it.
        const move = <T extends PackedExtent>(extent: T): T =>
          extent.seq > baseSeq || extent.segment === 0 || extent.segment > 5000
            ? extent
            : { ...extent, segment: extent.segment + 5000 };
        map.transaction(() => {
          for (const _ of map.relocateRegion(0, baseSeq, move));
        });
        all = all.map(move);
        const lastSeq = all.at(-1)?.seq ?? 0;
        const more = changes(seed + round + 1, Math.max(lastSeq, baseSeq) + 1, 700);
        add(map, more, batch);
        all = all.concat(more);
        const seen = [...keptSeqs, lastSeq, lastSeq + 350, lastSeq + 700];
        for (let seq = baseSeq; seq < lastSeq; seq += 1 + Math.floor((lastSeq - baseSeq) / 15)) {
          seen.push(seq);
        }
        for (const seq of seen) {
          if (seq < baseSeq && !keptSeqs.includes(seq)) continue;
          assert.deepEqual(namesOf(map.resolveRegion(0, seq)), stateAt(all, seq), `round ${round}, ${seq}`);
        }
        keptSeqs = keptSeqs.filter((_, i) => i % 2 === 1).concat(baseSeq + 300).sort((a, b) => a - b);
      }
      map.close();
    }),
    { numRuns: 60 },
  );
});

Deno.test("RecoveryMap.thinRegion() leaves rows alone when all in them lives, and gives the space of the dead back", async () => {
  const map = new RecoveryMap(":memory:");
  const all = changes(7, 1, 3000);
  add(map, all, 500);
  const rows = () => map.database.prepare("SELECT id FROM regions ORDER BY id").all().map(({ id }) => id);
  const before = rows();
  await inTurns(map.thinRegion(0, all.map(({ seq }) => seq), () => {}), systemScheduler);
  assert.deepEqual(rows(), before);
  await inTurns(map.thinRegion(0, [3000], () => {}), systemScheduler);
  const left = [...map.versionsOf(0)].flatMap(({ versions }) => versions);
  assert.ok(left.length <= BLOCKS, `${left.length} versions are left`);
  assert.deepEqual(namesOf(map.resolveRegion(0, 3000)), stateAt(all, 3000));
  map.close();
});

Deno.test("RecoveryMap.thinRegion() lets nothing be appended across a keyframe that stays", async () => {
  const map = new RecoveryMap(":memory:");
  const all = changes(11, 1, 3000).filter(({ blockCount }) => blockCount < REGION_BLOCKS);
  // The second row ends with a keyframe, and the base lies within it.
  add(map, all.slice(0, 1024), 512);
  const baseSeq = all[700]?.seq ?? 0;
  const lastSeq = all[1023]?.seq ?? 0;
  await inTurns(map.thinRegion(0, [baseSeq], () => {}), systemScheduler);
  add(map, all.slice(1024, 1100), 20);
  for (let seq = baseSeq; seq <= lastSeq + 80; seq += 5) {
    assert.deepEqual(namesOf(map.resolveRegion(0, seq)), stateAt(all.slice(0, 1100), seq), `sequence ${seq}`);
  }
  map.close();
});

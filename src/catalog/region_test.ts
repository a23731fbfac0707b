/** Painting a region and finding what lives in its history, against twins that think block by block. */
import assert from "node:assert/strict";
import fc from "fast-check";
import type { PackedExtent } from "./packing.ts";
import { LivingSieve } from "./region_history.ts";
import { findExtent, REGION_BLOCKS, RegionPainter } from "./region_map.ts";

/** Places within a region, crowded at both of its ends so that extents meet. */
const spans = fc.tuple(fc.nat({ max: 40 }), fc.integer({ min: 1, max: 25 }), fc.boolean()).map((
  [first, count, atEnd],
) => ({
  firstBlock: atEnd ? REGION_BLOCKS - 65 + first : first,
  blockCount: count,
}));

const extents = fc.tuple(spans, fc.nat({ max: 3 }), fc.nat({ max: 30 })).map((
  [span, segment, payloadBlock],
) => ({
  ...span,
  segment,
  payloadBlock: segment === 0 ? 0 : payloadBlock,
}));

/** Versions ascending in sequence; sometimes two of one sequence, as the ends of a trim are. */
const histories = fc.array(fc.tuple(extents, fc.nat({ max: 2 })), { maxLength: 40 }).map((raw) => {
  let seq = 1;
  return raw.map(([extent, step]): PackedExtent => {
    seq += step;
    return { ...extent, seq, recordOffset: extent.segment === 0 ? 0 : seq * 1000 };
  });
});

/** What is on top of a block, as text. */
function nameOf(extent: PackedExtent | undefined, block: number): string {
  if (extent === undefined) return "nothing";
  if (extent.segment === 0) return `hole ${extent.seq}`;
  return `${extent.seq} ${extent.segment}:${extent.recordOffset}+${
    extent.payloadBlock + block - extent.firstBlock
  }`;
}

function namesOf(state: readonly PackedExtent[]): string[] {
  const names = new Array<string>(REGION_BLOCKS).fill("nothing");
  let covered = 0;
  for (const extent of state) {
    assert.ok(extent.firstBlock >= covered, "sorted and without overlaps");
    covered = extent.firstBlock + extent.blockCount;
    assert.ok(extent.blockCount > 0 && covered <= REGION_BLOCKS);
    for (let block = extent.firstBlock; block < covered; block++) names[block] = nameOf(extent, block);
  }
  return names;
}

Deno.test("RegionPainter shows the newest of what was painted over each block", () => {
  fc.assert(fc.property(histories, fc.option(fc.nat({ max: 60 })), (history, holeSeq) => {
    const painter = new RegionPainter();
    const naive = new Array<PackedExtent | undefined>(REGION_BLOCKS).fill(undefined);
    for (const extent of history) {
      painter.paint(extent);
      naive.fill(extent, extent.firstBlock, extent.firstBlock + extent.blockCount);
    }
    if (holeSeq !== null) {
      painter.paintHole(holeSeq);
      const hole = {
        seq: holeSeq,
        firstBlock: 0,
        blockCount: REGION_BLOCKS,
        segment: 0,
        recordOffset: 0,
        payloadBlock: 0,
      };
      for (const [block, top] of naive.entries()) {
        if (top === undefined || top.seq < holeSeq) naive[block] = hole;
      }
    }
    assert.deepEqual(namesOf(painter.finish()), naive.map((top, block) => nameOf(top, block)));
  }));
});

Deno.test("findExtent() finds the first extent that ends after a block", () => {
  fc.assert(fc.property(histories, fc.nat({ max: REGION_BLOCKS }), (history, block) => {
    const painter = new RegionPainter();
    for (const extent of history) painter.paint(extent);
    const state = painter.finish();
    const naive = state.findIndex((extent) => extent.firstBlock + extent.blockCount > block);
    assert.equal(findExtent(state, block), naive < 0 ? state.length : naive);
  }));
});

/** What a sieve lets through, in the order in which it was added. */
function livingExtents(
  history: { baseline: PackedExtent[]; deltas: PackedExtent[]; wideHoles: number[] },
  keptSeqs: readonly number[],
): { baseline: PackedExtent[]; deltas: PackedExtent[] } {
  const living: { order: number; parts: PackedExtent[] }[] = [];
  const sieve = new LivingSieve(keptSeqs, history.wideHoles, (parts, order) => living.push({ order, parts }));
  for (const version of [...history.baseline, ...history.deltas]) sieve.add(version);
  sieve.finish();
  living.sort((a, b) => a.order - b.order);
  const split = living.findIndex(({ order }) => order >= history.baseline.length);
  const flat = (from: number, to?: number) => living.slice(from, to).flatMap(({ parts }) => parts);
  return split < 0 ? { baseline: flat(0), deltas: [] } : { baseline: flat(0, split), deltas: flat(split) };
}

Deno.test("LivingSieve keeps exactly the blocks that a kept moment sees", () => {
  const baselines = fc.array(extents.filter(({ segment }) => segment > 0), { maxLength: 5 }).map((raw) =>
    raw.map((extent, i): PackedExtent => ({ ...extent, seq: 0, recordOffset: i }))
  );
  const ascending = (max: number) =>
    fc.uniqueArray(fc.nat({ max }), { maxLength: 6 }).map((seqs) => seqs.sort((a, b) => a - b));
  fc.assert(
    fc.property(
      baselines,
      histories,
      ascending(60),
      ascending(60),
      (baseline, deltas, holeSeqs, keptSeqs) => {
        // A trim makes either a hole over the whole region or extents of its own, never both.
        const wideHoles = holeSeqs.filter((seq) => seq > 0 && deltas.every((extent) => extent.seq !== seq));
        const living = livingExtents({ baseline, deltas, wideHoles }, keptSeqs);
        const baseSeq = keptSeqs.at(-1) ?? 0;
        const stateAt = (seq: number, versions: readonly PackedExtent[]) => {
          const painter = new RegionPainter();
          for (const extent of versions) if (extent.seq <= seq) painter.paint(extent);
          const hole = wideHoles.findLast((each) => each <= seq);
          if (hole !== undefined) painter.paintHole(hole);
          return painter.finish();
        };
        const before = [...baseline, ...deltas];
        const after = [...living.baseline, ...living.deltas];
        const seenSeqs = [...keptSeqs];
        for (let seq = baseSeq; seq <= 90; seq++) seenSeqs.push(seq);
        const seen = new Set<string>();
        for (const seq of seenSeqs) {
          const names = namesOf(stateAt(seq, before));
          assert.deepEqual(namesOf(stateAt(seq, after)), names, `sequence ${seq}`);
          for (const [block, name] of names.entries()) seen.add(`${block} ${name}`);
        }
        // What no kept moment sees is gone, apart from what is newer than the base.
        for (const extent of after) {
          if (extent.seq > baseSeq) continue;
          for (let i = 0; i < extent.blockCount; i++) {
            const block = extent.firstBlock + i;
            assert.ok(
              seen.has(`${block} ${nameOf(extent, block)}`),
              `block ${block} of sequence ${extent.seq}`,
            );
          }
        }
        for (const [i, extent] of living.deltas.entries()) {
          assert.ok(
            extent.seq >= (living.deltas[i - 1]?.seq ?? 0),
          );
        }
      },
    ),
    { numRuns: 60 },
  );
});

/**
 * Which versions in a region's history some kept moment still sees.
 *
 * @module
 */
import type { PackedExtent } from "./packing.ts";
import { REGION_BLOCKS } from "./region_map.ts";

/** Every version that a region's map knows of. */
export interface RegionHistory {
  /** Content from before the first command. */
  readonly baseline: PackedExtent[];
  /** Versions, ascending in sequence. */
  readonly deltas: PackedExtent[];
  /** Sequences of holes over the whole region, ascending. */
  readonly wideHoles: number[];
}

/**
 * The versions that live: those newer than the last of `keptSeqs`, and those with a kept sequence between themselves
 * and the next version of the same block. `keptSeqs` ascends; its last is the sequence from which all are kept.
 * A run of which only parts live is cut into those parts.
 */
export function livingExtents(
  history: RegionHistory,
  keptSeqs: readonly number[],
): { baseline: PackedExtent[]; deltas: PackedExtent[] } {
  const baseSeq = keptSeqs.at(-1) ?? 0;
  const versions = history.baseline.concat(history.deltas);
  const alive = versions.map((version) =>
    version.seq > baseSeq ? undefined : new Uint8Array(version.blockCount)
  );
  const top = new Int32Array(REGION_BLOCKS).fill(-1);
  const replace = (block: number, seq: number) => {
    const index = top[block] ?? -1;
    const version = versions[index];
    if (version === undefined) return;
    const flags = alive[index];
    if (flags !== undefined && seesBetween(keptSeqs, version.seq, seq)) flags[block - version.firstBlock] = 1;
  };
  let nextHole = 0;
  const cover = (untilSeq: number) => {
    for (; (history.wideHoles[nextHole] ?? Infinity) < untilSeq; nextHole++) {
      const hole = history.wideHoles[nextHole] ?? 0;
      for (let block = 0; block < REGION_BLOCKS; block++) {
        replace(block, hole);
        top[block] = -1;
      }
    }
  };
  for (const [index, version] of versions.entries()) {
    cover(version.seq);
    const end = version.firstBlock + version.blockCount;
    for (let block = version.firstBlock; block < end; block++) {
      replace(block, version.seq);
      top[block] = index;
    }
  }
  cover(Infinity);
  for (let block = 0; block < REGION_BLOCKS; block++) replace(block, Infinity);

  const living = versions.map((version, index) => cut(version, alive[index]));
  return {
    baseline: living.slice(0, history.baseline.length).flat(),
    deltas: living.slice(history.baseline.length).flat(),
  };
}

/** Whether a kept sequence lies in `[fromSeq, untilSeq)`; all from the last one on are kept. */
function seesBetween(keptSeqs: readonly number[], fromSeq: number, untilSeq: number): boolean {
  let low = 0;
  let high = keptSeqs.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((keptSeqs[middle] ?? Infinity) < fromSeq) low = middle + 1;
    else high = middle;
  }
  return (keptSeqs[low] ?? fromSeq) < untilSeq;
}

function cut(version: PackedExtent, alive: Uint8Array | undefined): PackedExtent[] {
  if (alive === undefined) return [version];
  const parts: PackedExtent[] = [];
  for (let block = 0; block < version.blockCount;) {
    if (alive[block] === 0) {
      block++;
      continue;
    }
    const first = block;
    while (block < version.blockCount && alive[block] === 1) block++;
    parts.push({
      ...version,
      firstBlock: version.firstBlock + first,
      blockCount: block - first,
      payloadBlock: version.segment === 0 ? 0 : version.payloadBlock + first,
    });
  }
  return parts;
}

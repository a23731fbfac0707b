/**
 * Which versions in a region's history some kept moment still sees.
 *
 * @module
 */
import type { PackedExtent } from "./packing.ts";
import { REGION_BLOCKS } from "./region_map.ts";

/** A version that lies on top of some block, and which of its blocks live. */
interface Candidate {
  readonly version: PackedExtent;
  /** Position among all that were added. */
  readonly order: number;
  readonly alive: Uint8Array;
  /** Blocks that it still lies on top of. */
  topBlocks: number;
}

/**
 * Tells living versions from dead ones: those newer than the last of `keptSeqs` live, and those with a kept sequence
 * between themselves and the next version of the same block. `keptSeqs` ascends; its last is the sequence from which all
 * are kept. A run of which only parts live is cut into those parts. Memory: what lies on top of the region's blocks.
 */
export class LivingSieve {
  readonly #keptSeqs: readonly number[];
  readonly #wideHoles: readonly number[];
  readonly #onLiving: (parts: PackedExtent[], order: number) => void;
  readonly #top = new Array<Candidate | undefined>(REGION_BLOCKS).fill(undefined);
  #added = 0;
  #nextHole = 0;

  /** `wideHoles` are sequences of holes over the whole region; `onLiving` is told once of each version that lives. */
  constructor(
    keptSeqs: readonly number[],
    wideHoles: readonly number[],
    onLiving: (parts: PackedExtent[], order: number) => void,
  ) {
    this.#keptSeqs = keptSeqs;
    this.#wideHoles = wideHoles;
    this.#onLiving = onLiving;
  }

  /** Takes the next version, ascending in sequence. */
  add(version: PackedExtent): void {
    this.#coverUntil(version.seq);
    const order = this.#added++;
    const isNew = version.seq > (this.#keptSeqs.at(-1) ?? 0);
    const candidate = isNew ? undefined : {
      version,
      order,
      alive: new Uint8Array(version.blockCount),
      topBlocks: version.blockCount,
    };
    const end = version.firstBlock + version.blockCount;
    for (let block = version.firstBlock; block < end; block++) {
      this.#replace(block, version.seq);
      this.#top[block] = candidate;
    }
    if (isNew) this.#onLiving([version], order);
  }

  #coverUntil(seq: number): void {
    for (; (this.#wideHoles[this.#nextHole] ?? Infinity) < seq; this.#nextHole++) {
      this.#replaceAll(this.#wideHoles[this.#nextHole] ?? 0);
    }
  }

  #replaceAll(seq: number): void {
    for (let block = 0; block < REGION_BLOCKS; block++) {
      this.#replace(block, seq);
      this.#top[block] = undefined;
    }
  }

  #replace(block: number, seq: number): void {
    const candidate = this.#top[block];
    if (candidate === undefined) return;
    const { version, alive, order } = candidate;
    if (seesBetween(this.#keptSeqs, version.seq, seq)) alive[block - version.firstBlock] = 1;
    if (--candidate.topBlocks > 0) return;
    const parts = cut(version, alive);
    if (parts.length > 0) this.#onLiving(parts, order);
  }

  /** Ends it: what is on top now stays there. */
  finish(): void {
    this.#coverUntil(Infinity);
    this.#replaceAll(Infinity);
  }
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

function cut(version: PackedExtent, alive: Uint8Array): PackedExtent[] {
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

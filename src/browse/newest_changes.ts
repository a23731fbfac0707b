/**
 * When ranges of a volume were changed last, asked for a region at a time and remembered for neighbouring moments.
 *
 * @module
 */
import { BLOCK_BYTES } from "../base/block_device.ts";
import { REGION_BYTES } from "../catalog/region_map.ts";
import type { RegionVersions } from "./block_channel.ts";

/** What is kept of each region, and of how many: the log of a guest lies in a few. */
const KEPT_MAX = 4;
const REGIONS_MAX = 64;

/** Remembers regions of one volume. */
export class NewestChanges {
  readonly #regions = new Map<number, RegionVersions[]>();

  /**
   * The sequence, not later than `seq`, at which any byte of a range was changed last; 0 when none ever was. `load` asks for a
   * region at that sequence.
   */
  find(
    { offset, length }: { readonly offset: number; readonly length: number },
    seq: number,
    load: (region: number) => RegionVersions,
  ): number {
    const end = offset + length;
    let newest = 0;
    for (let region = Math.floor(offset / REGION_BYTES); region * REGION_BYTES < end; region++) {
      const base = region * REGION_BYTES;
      const first = Math.floor(Math.max(0, offset - base) / BLOCK_BYTES);
      const last = Math.ceil((end - base) / BLOCK_BYTES);
      newest = Math.max(newest, newestIn(this.#region(region, seq, load), first, last));
    }
    return newest;
  }

  #region(region: number, seq: number, load: (region: number) => RegionVersions): RegionVersions {
    const kept = this.#regions.get(region) ?? [];
    let found = kept.find(({ fromSeq, endSeq }) => fromSeq <= seq && seq < endSeq);
    if (found === undefined) {
      found = load(region);
      this.#regions.delete(region);
      this.#regions.set(region, [found, ...kept.slice(0, KEPT_MAX - 1)]);
      for (const oldest of this.#regions.keys()) {
        if (this.#regions.size <= REGIONS_MAX) break;
        this.#regions.delete(oldest);
      }
    }
    return found;
  }
}

/** Of the blocks from `first` up to, not including, `last`. */
function newestIn({ versions }: RegionVersions, first: number, last: number): number {
  let low = 0;
  let high = versions.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const { firstBlock = 0, blockCount = 0 } = versions[middle] ?? {};
    if (firstBlock + blockCount <= first) low = middle + 1;
    else high = middle;
  }
  let newest = 0;
  for (let index = low; index < versions.length; index++) {
    const version = versions[index];
    if (version === undefined || version.firstBlock >= last) break;
    newest = Math.max(newest, version.seq);
  }
  return newest;
}

/**
 * Where a volume changed between two moments.
 *
 * Each block of a moment comes with the sequence of the command that made it so. A block of the later moment whose sequence
 * lies behind the earlier one was written, trimmed or zeroed in between; any other is as it was. That holds for whatever
 * lies between them:
 * - **Prunes** may have thinned every moment in between. What the later moment sees is there all the same, with its
 *   sequence. What retention has dropped was seen by neither moment, or replaced by a version that is there.
 * - **Holes** count: a trim has a sequence too. A region that nothing is kept of held no data at either moment, so it is
 *   left out although it may have been trimmed. This is why the earlier moment must still be retained: data that it alone
 *   would have seen may be gone without a trace.
 * - **A gap** of the history between them: what hosts changed in it was captured at its end, behind the earlier moment.
 *   While a gap is open, changes are missing, and no moment is exact that could be the later one.
 * - **A resized volume**: a block beyond the earlier size that has a version was written behind it.
 *
 * @module
 */
import { BLOCK_BYTES } from "../base/block_device.ts";
import { ExtentList, type KindExtent } from "../base/extent_list.ts";
import { findExtent, REGION_BYTES } from "../catalog/region_map.ts";
import type { RegionCache } from "./view.ts";

/** Regions looked up at most for one answer, so that it takes milliseconds however large the volume is. */
const RESOLVED_MAX = 32;
/** Regions that ever held data asked about at most, most of which turn out to be unchanged. */
const ASKED_MAX = 1024;

/** Two moments of a volume; both are retained, and the first is not the later one. */
export interface ChangeSpan {
  /** The volume's regions. */
  readonly regions: RegionCache;
  /** The earlier moment. */
  readonly fromSeq: number;
  /** The later moment. */
  readonly toSeq: number;
}

/** What happened to a run of bytes between two moments. */
export type ChangeKind = "changed" | "same";

/**
 * At most `max` runs from `offset` on, at least one; neighbours differ in kind. They may end before the range does, where
 * an answer would take too long: whoever wants the rest asks again from there. A block that was changed and changed back
 * is told as changed; what was never touched is not.
 */
export function changesWithin(
  { regions, fromSeq, toSeq }: ChangeSpan,
  range: { readonly offset: number; readonly length: number },
  max?: number,
): KindExtent<ChangeKind>[] {
  const list = new ExtentList<ChangeKind>(range.offset, range.length, max);
  const end = range.offset + range.length;
  let region = Math.floor(range.offset / REGION_BYTES);
  for (let asked = 0, resolved = 0; !list.isDone; region++, asked++) {
    const used = regions.nextUsed(region);
    list.add(used === undefined ? end : used * REGION_BYTES, "same");
    if (used === undefined || list.isDone || resolved === RESOLVED_MAX || asked === ASKED_MAX) break;
    region = used;
    const base = region * REGION_BYTES;
    if (regions.mayDiffer(region, fromSeq, toSeq)) {
      resolved++;
      for (const extent of regions.get(region, toSeq)) {
        const start = base + extent.firstBlock * BLOCK_BYTES;
        list.add(start, "same");
        list.add(start + extent.blockCount * BLOCK_BYTES, extent.seq > fromSeq ? "changed" : "same");
      }
    }
    list.add(base + REGION_BYTES, "same");
  }
  return list.extents;
}

/** Runs of bytes. */
type Ranges = Iterable<{ readonly offset: number; readonly length: number }>;

/**
 * The newest command of the span that touched any block of `ranges`, or `undefined` when none did. Takes a look-up for each region
 * that the ranges lie in and that was changed.
 */
export function lastChangeOf(span: ChangeSpan, ranges: Ranges): number | undefined {
  let newest: number | undefined;
  for (const seq of changesOf(span, ranges, () => newest ?? span.fromSeq)) newest = seq;
  return newest;
}

/** Whether any command of the span touched a block of `ranges`. */
export function isTouched(span: ChangeSpan, ranges: Ranges): boolean {
  for (const _ of changesOf(span, ranges, () => span.fromSeq)) return true;
  return false;
}

/** Commands of the span that are newer than `behind` tells and visible in `ranges` at its end. */
function* changesOf({ regions, toSeq }: ChangeSpan, ranges: Ranges, behind: () => number): Generator<number> {
  for (const { offset, length } of ranges) {
    const end = offset + length;
    for (let region = Math.floor(offset / REGION_BYTES); region * REGION_BYTES < end; region++) {
      if (length > REGION_BYTES) region = regions.nextUsed(region) ?? Infinity;
      const base = region * REGION_BYTES;
      if (base >= end) break;
      if (!regions.mayDiffer(region, behind(), toSeq)) continue;
      const endBlock = Math.ceil((end - base) / BLOCK_BYTES);
      const extents = regions.get(region, toSeq);
      for (let i = findExtent(extents, Math.max(0, Math.floor((offset - base) / BLOCK_BYTES)));; i++) {
        const extent = extents[i];
        if (extent === undefined || extent.firstBlock >= endBlock) break;
        if (extent.seq > behind()) yield extent.seq;
      }
    }
  }
}

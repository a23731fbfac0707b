/**
 * Run lists: which clusters hold a piece of a non-resident attribute.
 *
 * Each run is a byte with two widths, then the number of clusters, then the distance of its first cluster from that of the run
 * before, signed; without a distance the run is a hole. A zero byte ends the list.
 *
 * @module
 */
import { damaged, u8 } from "../_bytes.ts";

/** Consecutive clusters, or a hole. */
export interface Run {
  /** First cluster within the attribute. */
  readonly vcn: number;
  /** First cluster on the volume; `undefined` for a hole. */
  readonly lcn: number | undefined;
  /** Number of clusters, at least 1. */
  readonly count: number;
}

/** The piece of an attribute that a run list speaks of. */
export interface RunListRange {
  /** Its first cluster. */
  readonly firstVcn: number;
  /** The cluster behind its last one. */
  readonly endVcn: number;
  /** Clusters of the volume. */
  readonly clusterCount: number;
}

/** Decodes a run list. Throws `damaged` unless it fills its range exactly with clusters of the volume. */
export function decodeRunList(bytes: Uint8Array, { firstVcn, endVcn, clusterCount }: RunListRange): Run[] {
  const fail = (found: string) => damaged("reading a run list", found);
  const runs: Run[] = [];
  let vcn = firstVcn;
  let lcn = 0;
  for (let at = 0; u8(bytes, at) !== 0;) {
    const widths = u8(bytes, at++);
    const countBytes = widths & 15;
    const distanceBytes = widths >> 4;
    const count = signed(bytes, at, countBytes);
    at += countBytes;
    if (!(count > 0 && count <= endVcn - vcn)) throw fail(`${count} clusters at ${vcn} of ${endVcn}`);
    if (distanceBytes === 0) {
      runs.push({ vcn, lcn: undefined, count });
    } else {
      lcn += signed(bytes, at, distanceBytes);
      at += distanceBytes;
      if (!(lcn >= 0 && lcn + count <= clusterCount)) {
        throw fail(`clusters ${lcn} to ${lcn + count} of ${clusterCount}`);
      }
      runs.push({ vcn, lcn, count });
    }
    vcn += count;
  }
  if (vcn !== endVcn) throw fail(`it ends at cluster ${vcn}, not at ${endVcn}`);
  return runs;
}

/** A signed number of 1 to 8 bytes; what does not fit 53 bits is damaged, since no volume has so many clusters. */
function signed(bytes: Uint8Array, at: number, width: number): number {
  if (width < 1 || width > 8) throw damaged("reading a run list", `a number of ${width} bytes`);
  let value = u8(bytes, at + width - 1) << 24 >> 24;
  for (let index = width - 2; index >= 0; index--) value = value * 256 + u8(bytes, at + index);
  if (!Number.isSafeInteger(value)) throw damaged("reading a run list", "a number beyond 2^53");
  return value;
}

/** The run of a sorted, gapless list that holds a cluster of the attribute. */
export function findRun(runs: readonly Run[], vcn: number): Run | undefined {
  let low = 0;
  let high = runs.length - 1;
  while (low <= high) {
    const middle = (low + high) >> 1;
    const run = runs[middle] as Run;
    if (vcn < run.vcn) high = middle - 1;
    else if (vcn >= run.vcn + run.count) low = middle + 1;
    else return run;
  }
  return undefined;
}

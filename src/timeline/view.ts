/**
 * A volume as it was at one sequence: an immutable block device.
 *
 * @module
 */
import { BLOCK_BYTES, type BlockDevice, type Extent } from "../base/block_device.ts";
import { blockOf, checkRange } from "../base/bytes.ts";
import { VarveError } from "../base/errors.ts";
import { ExtentList } from "../base/extent_list.ts";
import type { PackedExtent } from "../catalog/packing.ts";
import type { RecoveryMap } from "../catalog/recovery_map.ts";
import { findExtent, REGION_BLOCKS, REGION_BYTES } from "../catalog/region_map.ts";
import type { SegmentReader } from "../journal/mod.ts";

/** Resolved regions kept at most, over all views that share a {@linkcode RegionCache}. */
const REGIONS_MAX = 512;
/** Extents kept at most in all of them: about 100 bytes each. */
const EXTENTS_MAX = 400_000;

/** Remembers resolved regions of one volume, the least recently used dropped first. */
export class RegionCache {
  readonly #map: RecoveryMap;
  readonly #regions = new Map<string, PackedExtent[]>();
  #extents = 0;

  /** Resolves from `map`. */
  constructor(map: RecoveryMap) {
    this.#map = map;
  }

  /** The extents of a region as of `seq`. */
  get(region: number, seq: number): PackedExtent[] {
    const key = `${region}:${seq}`;
    let extents = this.#regions.get(key);
    if (extents === undefined) {
      extents = this.#map.resolveRetained(region, seq);
      this.#extents += extents.length;
    } else this.#regions.delete(key);
    this.#regions.set(key, extents);
    for (const [oldest, dropped] of this.#regions) {
      if (this.#regions.size <= REGIONS_MAX && this.#extents <= EXTENTS_MAX || oldest === key) break;
      this.#regions.delete(oldest);
      this.#extents -= dropped.length;
    }
    return extents;
  }

  /** The first region at or after `region` that ever held data. */
  nextUsed(region: number): number | undefined {
    return this.#map.nextUsedRegion(region);
  }

  /** Whether anything in a region may have changed after one sequence up to another; `false` is certain. */
  mayDiffer(region: number, fromSeq: number, toSeq: number): boolean {
    return this.#map.mayDiffer(region, fromSeq, toSeq);
  }

  /** Forgets everything: compaction has moved bytes to other segments. */
  clear(): void {
    this.#regions.clear();
    this.#extents = 0;
  }
}

/** What a view reads from. */
export interface ViewSource {
  /** Resolved regions. */
  readonly regions: RegionCache;
  /** The volume's segments. */
  readonly segments: SegmentReader;
}

/** Opens the volume as of `seq`. The sequence must be in the recovery map; the source must outlive the view. */
export class View implements BlockDevice {
  readonly sizeBytes: number;
  readonly readOnly = true;
  readonly #source: ViewSource;
  readonly #seq: number;

  /** A view of `sizeBytes` at `seq`. */
  constructor(source: ViewSource, seq: number, sizeBytes: number) {
    this.#source = source;
    this.#seq = seq;
    this.sizeBytes = sizeBytes;
  }

  read(offset: number, target: Uint8Array): void {
    checkRange("read", offset, target.length, this.sizeBytes);
    const end = offset + target.length;
    let at = offset;
    while (at < end) {
      const block = blockOf(at);
      if (at % BLOCK_BYTES === 0 && end - at >= BLOCK_BYTES) {
        const blocks = Math.min(blockOf(end) - block, REGION_BLOCKS - block % REGION_BLOCKS);
        this.#readBlocks(block, target.subarray(at - offset, at - offset + blocks * BLOCK_BYTES));
        at += blocks * BLOCK_BYTES;
      } else {
        const whole = new Uint8Array(BLOCK_BYTES);
        this.#readBlocks(block, whole);
        const from = at - block * BLOCK_BYTES;
        const count = Math.min(BLOCK_BYTES - from, end - at);
        target.set(whole.subarray(from, from + count), at - offset);
        at += count;
      }
    }
  }

  /** Fills whole blocks within one region, asking the map again once when compaction has moved the bytes. */
  #readBlocks(firstBlock: number, target: Uint8Array): void {
    try {
      this.#readMapped(firstBlock, target);
    } catch (thrown) {
      if (!(thrown instanceof VarveError) || thrown.code !== "not-found") throw thrown;
      this.#source.regions.clear();
      try {
        this.#readMapped(firstBlock, target);
      } catch (again) {
        if (!(again instanceof VarveError) || again.code !== "not-found") throw again;
        throw new VarveError("damaged", `read the past: a segment is missing: ${again.message}`, {
          cause: again,
        });
      }
    }
  }

  #readMapped(firstBlock: number, target: Uint8Array): void {
    const region = Math.floor(firstBlock / REGION_BLOCKS);
    const extents = this.#source.regions.get(region, this.#seq);
    const from = firstBlock - region * REGION_BLOCKS;
    const end = from + target.length / BLOCK_BYTES;
    let block = from;
    for (let i = findExtent(extents, from); block < end; i++) {
      const extent = extents[i];
      const holeEnd = extent === undefined ? end : Math.min(end, Math.max(block, extent.firstBlock));
      target.fill(0, (block - from) * BLOCK_BYTES, (holeEnd - from) * BLOCK_BYTES);
      block = holeEnd;
      if (extent === undefined || block >= end) break;
      const until = Math.min(end, extent.firstBlock + extent.blockCount);
      const part = target.subarray((block - from) * BLOCK_BYTES, (until - from) * BLOCK_BYTES);
      if (extent.segment === 0) part.fill(0);
      else {
        this.#source.segments.readBlocks({
          segment: extent.segment,
          recordOffset: extent.recordOffset,
          payloadBlock: extent.payloadBlock + (block - extent.firstBlock),
          blockCount: until - block,
          seq: extent.seq,
          firstBlock: region * REGION_BLOCKS + block,
        }, part);
      }
      block = until;
    }
  }

  extents(offset: number, length: number, max?: number): Extent[] {
    checkRange("map", offset, length, this.sizeBytes);
    const list = new ExtentList<Extent["kind"]>(offset, length, max);
    const { regions } = this.#source;
    for (let region = Math.floor(offset / REGION_BYTES); !list.isDone; region++) {
      const used = regions.nextUsed(region);
      if (used === undefined || used * REGION_BYTES >= offset + length) break;
      region = used;
      const base = region * REGION_BYTES;
      list.add(base, "hole");
      for (const extent of regions.get(region, this.#seq)) {
        list.add(base + extent.firstBlock * BLOCK_BYTES, "hole");
        list.add(
          base + (extent.firstBlock + extent.blockCount) * BLOCK_BYTES,
          extent.segment === 0 ? "hole" : "data",
        );
      }
    }
    list.add(offset + length, "hole");
    return list.extents;
  }

  write(): void {
    throw refuse();
  }

  trim(): void {
    throw refuse();
  }

  zero(): void {
    throw refuse();
  }

  commit(): void {}

  flush(): Promise<void> {
    return Promise.resolve();
  }

  sync(): Promise<void> {
    return Promise.resolve();
  }
}

function refuse(): VarveError {
  return new VarveError("read-only", "write to a moment of the past: it never changes", {
    hint: "Write to the live volume, or recover the moment to a new disk.",
  });
}

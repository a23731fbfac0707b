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
import type { RecoveryMap, ResolvedRegion } from "../catalog/recovery_map.ts";
import { findExtent, REGION_BLOCKS, REGION_BYTES } from "../catalog/region_map.ts";
import type { SegmentReader } from "../journal/mod.ts";

/** Resolved regions kept at most, over all views that share a {@linkcode RegionCache}. */
const REGIONS_MAX = 512;
/** Extents kept at most in all of them: about 100 bytes each. */
const EXTENTS_MAX = 400_000;
/** Sequences remembered for each region. */
const RETAINED_MAX = 256;

interface KeptRegion extends ResolvedRegion {
  readonly region: number;
  /** Sequences that were retained when they were asked for, behind the time when this was resolved. */
  readonly retained: Set<number>;
}

/** Remembers resolved regions of one volume, the least recently used dropped first. */
export class RegionCache {
  readonly #map: RecoveryMap;
  readonly #byRegion = new Map<number, KeptRegion[]>();
  readonly #byUse = new Set<KeptRegion>();
  #extents = 0;

  /** Resolves from `map`. */
  constructor(map: RecoveryMap) {
    this.#map = map;
  }

  /** The extents of a region as of `seq`. */
  get(region: number, seq: number): PackedExtent[] {
    return this.resolved(region, seq).extents;
  }

  /** The same, with the span of sequences for which it holds. */
  resolved(region: number, seq: number): ResolvedRegion {
    let found = this.#find(region, seq);
    if (found === undefined) {
      found = { ...this.#map.resolveRetained(region, seq), region, retained: new Set([seq]) };
      const same = this.#byRegion.get(region);
      if (same === undefined) this.#byRegion.set(region, [found]);
      else same.push(found);
      this.#extents += found.extents.length;
    } else {
      if (!found.retained.has(seq)) this.#checkRetained(found, seq);
      this.#byUse.delete(found);
    }
    this.#byUse.add(found);
    for (const oldest of this.#byUse) {
      if (this.#byUse.size <= REGIONS_MAX && this.#extents <= EXTENTS_MAX || oldest === found) break;
      this.#drop(oldest);
    }
    return found;
  }

  #find(region: number, seq: number): KeptRegion | undefined {
    return this.#byRegion.get(region)?.find(({ fromSeq, endSeq }) => fromSeq <= seq && seq < endSeq);
  }

  /**
   * What was resolved at one retained sequence holds at another one: versions that were pruned before, neither of them sees. Of one
   * that is gone it says nothing, so each is asked about once, after the region was resolved.
   */
  #checkRetained({ retained }: KeptRegion, seq: number): void {
    this.#map.checkRetained(seq);
    if (retained.size === RETAINED_MAX) retained.clear();
    retained.add(seq);
  }

  #drop(kept: KeptRegion): void {
    this.#byUse.delete(kept);
    this.#extents -= kept.extents.length;
    const others = this.#byRegion.get(kept.region)?.filter((each) => each !== kept) ?? [];
    if (others.length > 0) this.#byRegion.set(kept.region, others);
    else this.#byRegion.delete(kept.region);
  }

  /** The first region at or after `region` that ever held data. */
  nextUsed(region: number): number | undefined {
    return this.#map.nextUsedRegion(region);
  }

  /** Whether anything in a region may have changed after one sequence up to another; `false` is certain. */
  mayDiffer(region: number, fromSeq: number, toSeq: number): boolean {
    const known = this.#find(region, toSeq);
    return known === undefined ? this.#map.mayDiffer(region, fromSeq, toSeq) : known.fromSeq > fromSeq;
  }

  /** Forgets everything: compaction has moved bytes to other segments. */
  clear(): void {
    this.#byRegion.clear();
    this.#byUse.clear();
    this.#extents = 0;
  }
}

/** Blocks of one read that are looked for in a {@linkcode BlockCache}: more are content, which is seldom read again. */
const CACHED_RUN_BLOCKS = 16;

/**
 * Proved blocks of one volume, by number and the sequence that wrote them: so they serve every moment that shows them, and stay
 * right when compaction moves their bytes. For readers that look at the same metadata at many moments.
 */
export class BlockCache {
  readonly #blocksMax: number;
  readonly #blocks = new Map<
    number,
    { readonly block: number; readonly seq: number; readonly bytes: Uint8Array }
  >();

  /** Keeps at most `maxBytes`. */
  constructor(maxBytes: number) {
    this.#blocksMax = Math.floor(maxBytes / BLOCK_BYTES);
  }

  /** Copies a block to `target` when it is here. */
  copy(block: number, seq: number, target: Uint8Array): boolean {
    const key = keyOf(block, seq);
    const kept = this.#blocks.get(key);
    if (kept === undefined || kept.block !== block || kept.seq !== seq) return false;
    this.#blocks.delete(key);
    this.#blocks.set(key, kept);
    target.set(kept.bytes);
    return true;
  }

  /** Keeps a copy of a block. */
  add(block: number, seq: number, bytes: Uint8Array): void {
    const key = keyOf(block, seq);
    this.#blocks.delete(key);
    this.#blocks.set(key, { block, seq, bytes: bytes.slice() });
    for (const oldest of this.#blocks.keys()) {
      if (this.#blocks.size <= this.#blocksMax) break;
      this.#blocks.delete(oldest);
    }
  }
}

/** Numbers that meet elsewhere share a place, and the later one has it. */
function keyOf(block: number, seq: number): number {
  return seq % 2 ** 37 * 65_536 + block % 65_536;
}

/** What a view reads from. */
export interface ViewSource {
  /** Resolved regions. */
  readonly regions: RegionCache;
  /** The volume's segments. */
  readonly segments: SegmentReader;
  /** Blocks that were read before, when views of many moments are read. */
  readonly blocks?: BlockCache;
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
      else this.#readExtent(extent, region, block, part);
      block = until;
    }
  }

  /** Fills blocks that lie in one extent, from `block` of its region on. */
  #readExtent(extent: PackedExtent, region: number, block: number, target: Uint8Array): void {
    const { segments, blocks } = this.#source;
    const run = {
      segment: extent.segment,
      recordOffset: extent.recordOffset,
      payloadBlock: extent.payloadBlock + (block - extent.firstBlock),
      blockCount: target.length / BLOCK_BYTES,
      seq: extent.seq,
      firstBlock: region * REGION_BLOCKS + block,
    };
    const cache = run.blockCount <= CACHED_RUN_BLOCKS ? blocks : undefined;
    const partOf = (index: number) => target.subarray(index * BLOCK_BYTES, (index + 1) * BLOCK_BYTES);
    let known = 0;
    while (cache !== undefined && known < run.blockCount) {
      if (!cache.copy(run.firstBlock + known, run.seq, partOf(known))) break;
      known++;
    }
    if (known === run.blockCount) return;
    segments.readBlocks(run, target);
    for (let index = known; cache !== undefined && index < run.blockCount; index++) {
      cache.add(run.firstBlock + index, run.seq, partOf(index));
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

/**
 * The file allocation table: for each cluster the one that follows it. Source: Microsoft's "FAT: General Overview of On-Disk
 * Format" 1.03 and "exFAT file system specification".
 *
 * ```text
 * FAT12  12 bits: two entries in three bytes   FAT16  u16   FAT32  u32, the upper 4 bits mean nothing   exFAT  u32
 * 0 is a free cluster, …F7 a bad one, …F8 to …FF end a chain; the entries 0 and 1 stand for no cluster
 * ```
 *
 * @module
 */
import { damaged, u16, u32 } from "../_bytes.ts";
import { CHUNK_BYTES, type MetadataSource } from "./metadata_source.ts";

/** Number of the first cluster. */
export const FIRST_CLUSTER = 2;
/** What {@linkcode FatTable.next} says at the end of a chain. */
export const END_OF_CHAIN = 0;

/** How wide entries are; of the 32 bits of FAT32 28 count. */
export type FatWidth = 12 | 16 | 28 | 32;

/** Where a table lies, and how many clusters it is about. */
export interface FatTablePlace {
  /** First byte on the device: a multiple of 512. */
  readonly offset: number;
  /** Width of an entry in bits. */
  readonly width: FatWidth;
  /** Number of clusters, so the highest cluster is this plus 1. */
  readonly clusterCount: number;
}

const COUNT_BYTES = 256 * 1024;

/** Reads one table. */
export class FatTable {
  readonly #source: MetadataSource;
  readonly #place: FatTablePlace;
  /** The chunk that was used last, so that a walk along a chain need not ask the cache for each step. */
  #chunk: Uint8Array = new Uint8Array();
  #chunkIndex = -1;
  readonly #mask: number;

  /** Reads a table through the cache of `source`. */
  constructor(source: MetadataSource, place: FatTablePlace) {
    this.#source = source;
    this.#place = place;
    this.#mask = 2 ** place.width - 1;
  }

  /** Bytes of all entries of a table. */
  static bytesOf({ width, clusterCount }: Omit<FatTablePlace, "offset">): number {
    const entries = clusterCount + FIRST_CLUSTER;
    return width === 12 ? Math.ceil(entries * 1.5) : entries * (width === 16 ? 2 : 4);
  }

  /** Throws `damaged` when there is no cluster of that number. */
  check(cluster: number): void {
    if (cluster >= FIRST_CLUSTER && cluster < FIRST_CLUSTER + this.#place.clusterCount) return;
    throw damaged("following a chain of clusters", `cluster ${cluster} of ${this.#place.clusterCount}`);
  }

  /**
   * The cluster that follows one, or {@linkcode END_OF_CHAIN}. Throws `damaged` when the chain leads to a free or bad cluster or
   * to none.
   */
  next(cluster: number): number {
    this.check(cluster);
    const next = this.#entry(cluster);
    if (next >= this.#mask - 7) return END_OF_CHAIN;
    if (next === 0 || next === this.#mask - 8) {
      const kind = next === 0 ? "free" : "bad";
      throw damaged("following a chain of clusters", `what follows cluster ${cluster} is marked ${kind}`);
    }
    this.check(next);
    return next;
  }

  /** Number of free clusters; reads the whole table. */
  countFree(): number {
    const { offset, width, clusterCount } = this.#place;
    let free = 0;
    if (width === 12) {
      for (let cluster = FIRST_CLUSTER; cluster < FIRST_CLUSTER + clusterCount; cluster++) {
        if (this.#entry(cluster) === 0) free++;
      }
      return free;
    }
    const entryBytes = width === 16 ? 2 : 4;
    const end = (FIRST_CLUSTER + clusterCount) * entryBytes;
    for (let at = FIRST_CLUSTER * entryBytes; at < end; at += COUNT_BYTES) {
      const bytes = new Uint8Array(Math.min(COUNT_BYTES, end - at));
      this.#source.device.read(offset + at, bytes);
      const view = new DataView(bytes.buffer);
      if (width === 16) {
        for (let entry = 0; entry < bytes.length; entry += 2) if (view.getUint16(entry) === 0) free++;
      } else {
        for (let entry = 0; entry < bytes.length; entry += 4) {
          if ((view.getUint32(entry, true) & this.#mask) === 0) free++;
        }
      }
    }
    return free;
  }

  #entry(cluster: number): number {
    const { offset, width } = this.#place;
    if (width === 12) {
      const pair = u16(this.#source.bytes(offset + Math.floor(cluster * 1.5), 2), 0);
      return cluster % 2 === 0 ? pair & 0xfff : pair >>> 4;
    }
    const at = offset + cluster * (width === 16 ? 2 : 4);
    const index = Math.floor(at / CHUNK_BYTES);
    if (index !== this.#chunkIndex) {
      this.#chunk = this.#source.chunk(index);
      this.#chunkIndex = index;
    }
    const within = at - index * CHUNK_BYTES;
    return width === 16 ? u16(this.#chunk, within) : (u32(this.#chunk, within) & this.#mask) >>> 0;
  }
}

/**
 * The content of files: where it lies, and reading it.
 *
 * What is read here is proved by checksums, but for files that keep none. Whoever follows a stored run of `map` to the
 * device reads without that proof.
 *
 * @module
 */
import { damaged, u32 } from "../_bytes.ts";
import { ByteLru } from "../_lru.ts";
import type { ContentRun } from "../guest.ts";
import type { BlockSource } from "./block_source.ts";
import type { DataSource } from "./data_source.ts";
import { decompress } from "./decompress.ts";
import { type FileExtent, fileParts } from "./file_extents.ts";
import type { FileTree } from "./file_tree.ts";
import { COMPRESSION, EXTENT, INODE, INODE_NO_CHECKSUMS } from "./format.ts";
import { amount } from "./key.ts";

/** A file: its tree, its number there and its item. */
export interface OpenFile {
  readonly tree: FileTree;
  readonly inode: number;
  readonly item: Uint8Array;
}

/** Runs that one answer holds at most. */
const RUNS_MAX = 4096;
const CACHE_BYTES = 4 * 1024 * 1024;

/** Reads the content of files. */
export class ContentReader {
  readonly #blocks: BlockSource;
  readonly #data: DataSource;
  readonly #sectorBytes: number;
  /** Decompressed extents, by address. */
  readonly #decompressed = new ByteLru<Uint8Array>(CACHE_BYTES);

  /** Reads through `blocks` and `data`. */
  constructor(blocks: BlockSource, data: DataSource, sectorBytes: number) {
    this.#blocks = blocks;
    this.#data = data;
    this.#sectorBytes = sectorBytes;
  }

  /** As `GuestFileSystem.map`. */
  map(file: OpenFile, offset: number, length: number): ContentRun[] {
    const runs: ContentRun[] = [];
    const to = Math.min(offset + length, amount(file.item, INODE.size));
    if (offset >= to) return runs;
    for (const { start, end, extent } of fileParts(file.tree, file.inode, this.#range(offset, to))) {
      runs.push(this.#runOf(extent, start, end - start));
      if (runs.length >= RUNS_MAX) break;
    }
    return runs;
  }

  /** As `GuestFileSystem.read`. */
  read(file: OpenFile, offset: number, target: Uint8Array): number {
    const to = Math.min(offset + target.length, amount(file.item, INODE.size));
    if (offset >= to) return 0;
    for (const { start, end, extent } of fileParts(file.tree, file.inode, this.#range(offset, to))) {
      const part = target.subarray(start - offset, end - offset);
      if (extent === undefined || isHole(extent)) part.fill(0);
      else this.#readExtent(file, extent, start - extent.start, part);
    }
    return to - offset;
  }

  #range(from: number, to: number): { from: number; to: number; sectorBytes: number } {
    return { from, to, sectorBytes: this.#sectorBytes };
  }

  #runOf(extent: FileExtent | undefined, start: number, length: number): ContentRun {
    if (extent === undefined || isHole(extent)) return { kind: "hole", length };
    if (extent.type === "inline" || extent.compression !== COMPRESSION.none) return { kind: "made", length };
    const logical = extent.bytenr + extent.offset + start - extent.start;
    const chunk = this.#blocks.chunks.find(logical, length);
    return { kind: "stored", length, deviceOffset: (chunk.copies[0] ?? 0) + logical - chunk.logical };
  }

  #readExtent(file: OpenFile, extent: FileExtent, within: number, target: Uint8Array): void {
    if (extent.type === "inline") {
      const stored = extent.item.subarray(EXTENT.inline);
      const content = extent.compression === COMPRESSION.none
        ? stored
        : decompress(stored, extent.compression, extent.ramBytes, this.#sectorBytes);
      const part = content.subarray(within, within + target.length);
      target.set(part);
      target.fill(0, part.length);
    } else if (extent.compression === COMPRESSION.none) {
      this.#readStored(file, extent.bytenr + extent.offset + within, target);
    } else {
      const at = extent.offset + within;
      target.set(this.#decompress(file, extent).subarray(at, at + target.length));
    }
  }

  #decompress(file: OpenFile, extent: FileExtent): Uint8Array {
    const cached = this.#decompressed.get(extent.bytenr);
    if (cached !== undefined && cached.length === extent.ramBytes) return cached;
    if (extent.storedBytes === 0) throw damaged("decompressing an extent", "it has no bytes");
    const stored = new Uint8Array(extent.storedBytes);
    this.#readStored(file, extent.bytenr, stored);
    const content = decompress(stored, extent.compression, extent.ramBytes, this.#sectorBytes);
    this.#decompressed.set(extent.bytenr, content, content.length);
    return content;
  }

  #readStored(file: OpenFile, logical: number, target: Uint8Array): void {
    if ((u32(file.item, INODE.flags) & INODE_NO_CHECKSUMS) !== 0) this.#data.readUnproved(logical, target);
    else this.#data.readProved(logical, target);
  }
}

function isHole(extent: FileExtent): boolean {
  return extent.type === "preallocated" || (extent.type === "regular" && extent.bytenr === 0);
}

/**
 * Which chunks of an adopted disk the recovery map has the first copy of.
 *
 * The volume is divided into chunks of one size. A chunk is covered when the map holds what it had before the first
 * command. Coverage lies beside the extents, in pages of a bitmap, and both change in one transaction: told of coverage
 * first, a power cut could leave a chunk that nobody copies any more although the map does not have it.
 *
 * A page is a crc32 of its bits (four bytes, little-endian) and the bits: chunk n is bit n % 8 of byte n / 8.
 *
 * @module
 */
import { crc32 } from "node:zlib";
import { VarveError } from "../base/errors.ts";
import { extentsOf, type RecordHeader, type RecordPlace } from "../journal/mod.ts";
import { ChunkBitmap } from "./chunk_bitmap.ts";
import { blobOf, type MapExtent, type RecoveryMap } from "./recovery_map.ts";

/** Smallest size of a chunk, in bytes. */
const CHUNK_BYTES_MIN = 64 * 1024;
/** Most chunks of a volume: 2 MiB of bits. */
const CHUNKS_MAX = 2 ** 24;
const CHECKSUM_BYTES = 4;
const PAGE_BYTES = 4096;
const PAGE_CHUNKS = PAGE_BYTES * 8;
/** Extents added to the map between two yields. */
const SLICE_EXTENTS = 256;

/** Size of the chunks in which the first copy of a volume of `sizeBytes` is made: a power of two. */
export function chunkBytesFor(sizeBytes: number): number {
  let chunkBytes = CHUNK_BYTES_MIN;
  while (sizeBytes > chunkBytes * CHUNKS_MAX) chunkBytes *= 2;
  return chunkBytes;
}

/** What one baseline record says. */
export interface BaselineEntry {
  /** First byte that it covers. */
  readonly offset: number;
  /** Number of bytes that it covers. */
  readonly length: number;
  /** Where its blocks lie; all else in the range is zeroes. */
  readonly extent: MapExtent | undefined;
}

/** What a baseline record at a place says. */
export function baselineEntryOf(
  header: Pick<RecordHeader, "kind" | "flags" | "seq" | "offset" | "length" | "firstBlock" | "payloadBytes">,
  place: RecordPlace,
): BaselineEntry {
  const [found] = extentsOf(header);
  const extent = found === undefined ? undefined : {
    seq: header.seq,
    firstBlock: found.firstBlock,
    blockCount: found.blockCount,
    segment: place.segment,
    recordOffset: place.offset,
    payloadBlock: found.payloadBlock,
  };
  return { offset: header.offset, length: header.length, extent };
}

/** The coverage of one volume, as its recovery map has it. */
export class BaselineLedger {
  /** Size of a chunk; the last one may be shorter. */
  readonly chunkBytes: number;
  /** Number of chunks. */
  readonly chunkCount: number;
  /** Size of the adopted disk. */
  readonly sizeBytes: number;
  readonly #map: RecoveryMap;
  #coveredBytes: number;

  /** The coverage of a volume of `sizeBytes` that is not copied completely yet. */
  constructor(map: RecoveryMap, sizeBytes: number) {
    this.#map = map;
    this.sizeBytes = sizeBytes;
    this.chunkBytes = chunkBytesFor(sizeBytes);
    this.chunkCount = Math.ceil(sizeBytes / this.chunkBytes);
    this.#coveredBytes = map.getState("baseline_bytes", 0);
  }

  /** Bytes covered for certain; never all of them before {@linkcode BaselineLedger.finish}. */
  get coveredBytes(): number {
    return this.#coveredBytes;
  }

  /** To be called when a transaction has ended in which something was added. */
  refresh(): void {
    this.#coveredBytes = this.#map.getState("baseline_bytes", 0);
  }

  /** Every chunk that is covered. Throws `damaged` when a page cannot be proved right. */
  load(): ChunkBitmap {
    const bytes = new Uint8Array(Math.ceil(this.chunkCount / PAGE_CHUNKS) * PAGE_BYTES);
    for (const row of this.#map.statement("SELECT page, packed FROM baseline_pages").all()) {
      bytes.set(bitsOf(row["packed"]), Number(row["page"]) * PAGE_BYTES);
    }
    const bitmap = new ChunkBitmap(bytes);
    this.#setCoveredBytes(this.#bytesOf(bitmap.count(0, this.chunkCount), bitmap.has(this.chunkCount - 1)));
    this.refresh();
    return bitmap;
  }

  /**
   * Adds what is not covered yet, in the order of the journal; adding twice does no harm. A chunk counts as covered
   * when a single entry covers all of it. To be called within a transaction; yields between slices.
   */
  *add(entries: readonly BaselineEntry[]): Generator<void> {
    // What comes after the end is known already, and must not take the end back.
    if (this.#map.getState("baseline_bytes", 0) === this.sizeBytes) return;
    const pages = new Map<number, ChunkBitmap>();
    const extents: MapExtent[] = [];
    let coveredBytes = this.#map.getState("baseline_bytes", 0);
    for (const { offset, length, extent } of entries) {
      const { first, end } = this.#chunksWithin(offset, length);
      let added = 0;
      for (let chunk = first; chunk < end;) {
        const page = Math.floor(chunk / PAGE_CHUNKS);
        const until = Math.min(end, (page + 1) * PAGE_CHUNKS);
        let bitmap = pages.get(page);
        if (bitmap === undefined) pages.set(page, bitmap = this.#page(page));
        const addsLast = until === this.chunkCount && !bitmap.has(until - 1 - page * PAGE_CHUNKS);
        const count = bitmap.add(chunk - page * PAGE_CHUNKS, until - page * PAGE_CHUNKS);
        coveredBytes += this.#bytesOf(count, addsLast);
        added += count;
        chunk = until;
      }
      if (added > 0 && extent !== undefined) extents.push(extent);
    }
    for (let from = 0; from < extents.length; from += SLICE_EXTENTS) {
      this.#map.addBaseline(extents.slice(from, from + SLICE_EXTENTS));
      yield;
    }
    const insert = this.#map.statement("INSERT OR REPLACE INTO baseline_pages VALUES (?, ?)");
    for (const [page, bitmap] of pages) insert.run(page, packed(bitmap.bytes));
    this.#setCoveredBytes(coveredBytes);
  }

  /** Throws `damaged` unless every chunk is covered. */
  checkComplete(): void {
    const chunk = this.load().nextAbsent(0, this.chunkCount);
    if (chunk === this.chunkCount) return;
    throw new VarveError(
      "damaged",
      `copy an adopted disk: the recovery map has nothing from byte ${chunk * this.chunkBytes} on`,
      { hint: "Start the appliance again: it copies what the map does not have." },
    );
  }

  /** Enters that all is covered, for good. To be called within a transaction. */
  finish(): void {
    this.#map.statement("DELETE FROM baseline_pages").run();
    this.#map.setState("baseline_bytes", this.sizeBytes);
  }

  #page(page: number): ChunkBitmap {
    const row = this.#map.statement("SELECT packed FROM baseline_pages WHERE page = ?").get(page);
    return new ChunkBitmap(row === undefined ? new Uint8Array(PAGE_BYTES) : bitsOf(row["packed"]).slice());
  }

  /** Bytes in a number of chunks, of which the volume's last may be one. */
  #bytesOf(chunks: number, hasLast: boolean): number {
    return chunks * this.chunkBytes - (hasLast ? this.chunkCount * this.chunkBytes - this.sizeBytes : 0);
  }

  #setCoveredBytes(bytes: number): void {
    this.#map.setState("baseline_bytes", Math.min(bytes, this.sizeBytes - 1));
  }

  #chunksWithin(offset: number, length: number): { first: number; end: number } {
    const end = offset + length;
    return {
      first: Math.ceil(offset / this.chunkBytes),
      end: end >= this.sizeBytes ? this.chunkCount : Math.floor(end / this.chunkBytes),
    };
  }
}

function packed(bits: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(CHECKSUM_BYTES + bits.length);
  new DataView(bytes.buffer).setUint32(0, crc32(bits), true);
  bytes.set(bits, CHECKSUM_BYTES);
  return bytes;
}

function bitsOf(column: unknown): Uint8Array {
  const bytes = blobOf(column);
  const bits = bytes.subarray(CHECKSUM_BYTES);
  if (bits.length === PAGE_BYTES) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, CHECKSUM_BYTES);
    if (view.getUint32(0, true) === crc32(bits)) return bits;
  }
  throw new VarveError(
    "damaged",
    "read the recovery map: the checksum of a page of coverage does not match",
    {
      hint: "map.sqlite has changed since it was written. The segments beside it hold the whole history.",
    },
  );
}

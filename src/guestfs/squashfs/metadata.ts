/**
 * Metadata blocks: streams of them, and tables with an index of them.
 *
 * @module
 */
import { damaged, u16, u64 } from "../_bytes.ts";
import type { ChunkReader } from "../_chunks.ts";
import { ByteLru } from "../_lru.ts";
import type { Decompress } from "./decompress.ts";
import { METADATA_BYTES, METADATA_STORED } from "./format.ts";

const CACHE_BYTES = 4 * 1024 * 1024;
/** What one read may ask for; everything in these streams is smaller. */
const READ_BYTES_MAX = 128 * 1024;

interface MetadataBlock {
  readonly content: Uint8Array;
  /** Place of the block that follows. */
  readonly next: number;
}

/** A place in a stream of metadata blocks. */
export interface MetadataPosition {
  /** Place of the block on the device in bytes. */
  readonly block: number;
  /** Offset in its content. */
  readonly offset: number;
}

/** Reads and caches metadata blocks. */
export class MetadataBlocks {
  readonly #chunks: ChunkReader;
  readonly #decompress: Decompress;
  readonly #cache = new ByteLru<MetadataBlock>(CACHE_BYTES);

  /** Reads blocks of a device. */
  constructor(chunks: ChunkReader, decompress: Decompress) {
    this.#chunks = chunks;
    this.#decompress = decompress;
  }

  /** The block at a place. */
  at(place: number): MetadataBlock {
    const cached = this.#cache.get(place);
    if (cached !== undefined) return cached;
    const header = u16(this.#chunks.bytes(place, 2), 0);
    const length = (header & ~METADATA_STORED) || METADATA_STORED;
    const source = this.#chunks.bytes(place + 2, length);
    const content = (header & METADATA_STORED) === 0
      ? this.#decompress(source, METADATA_BYTES)
      : source.slice();
    if (content.length > METADATA_BYTES || content.length === 0) {
      throw damaged("reading a metadata block", `${content.length} bytes`);
    }
    const block = { content, next: place + 2 + length };
    this.#cache.set(place, block, content.length + 100);
    return block;
  }

  /** A cursor that reads a stream from a position on. */
  cursor(position: MetadataPosition): MetadataCursor {
    return new MetadataCursor(this, position);
  }

  /** One entry of a table that has an index of its blocks. */
  entry(table: number, index: number, entryBytes: number): Uint8Array {
    const perBlock = METADATA_BYTES / entryBytes;
    const block = u64(this.#chunks.bytes(table + Math.floor(index / perBlock) * 8, 8), 0);
    return this.cursor({ block, offset: (index % perBlock) * entryBytes }).read(entryBytes);
  }
}

/** Reads a stream of metadata blocks from front to back. */
export class MetadataCursor {
  readonly #blocks: MetadataBlocks;
  #block: number;
  #offset: number;

  /** Begins at a position. */
  constructor(blocks: MetadataBlocks, { block, offset }: MetadataPosition) {
    this.#blocks = blocks;
    this.#block = block;
    this.#offset = offset;
  }

  /** Where the next byte lies. */
  get position(): MetadataPosition {
    return { block: this.#block, offset: this.#offset };
  }

  /** The next bytes, which the caller must not change. Throws `damaged` beyond the end of the device. */
  read(length: number): Uint8Array {
    if (length > READ_BYTES_MAX) throw damaged("reading metadata", `${length} bytes at once`);
    const { content } = this.#current();
    if (this.#offset + length <= content.length) {
      this.#offset += length;
      return content.subarray(this.#offset - length, this.#offset);
    }
    const bytes = new Uint8Array(length);
    for (let done = 0; done < length;) {
      const part = this.#current().content.subarray(this.#offset, this.#offset + length - done);
      bytes.set(part, done);
      this.#offset += part.length;
      done += part.length;
    }
    return bytes;
  }

  /** Goes on by so many bytes. */
  skip(length: number): void {
    for (let left = length; left > 0;) {
      const part = Math.min(left, this.#current().content.length - this.#offset);
      this.#offset += part;
      left -= part;
    }
  }

  /** The block that holds the next byte: at the end of one it is the next one. */
  #current(): MetadataBlock {
    const block = this.#blocks.at(this.#block);
    if (this.#offset < block.content.length) return block;
    if (this.#offset > block.content.length) {
      throw damaged("reading metadata", `offset ${this.#offset} of ${block.content.length} bytes`);
    }
    this.#block = block.next;
    this.#offset = 0;
    return this.#blocks.at(this.#block);
  }
}

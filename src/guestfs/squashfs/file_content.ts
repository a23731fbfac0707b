/**
 * Content of files: data blocks one behind the other, holes, and an end that shares a fragment with other files.
 *
 * @module
 */
import type { BlockDevice } from "../../base/block_device.ts";
import { damaged, u32, u64 } from "../_bytes.ts";
import { ByteLru } from "../_lru.ts";
import type { ContentRun } from "../guest.ts";
import { DATA_STORED } from "./format.ts";
import type { FilePlace, Inode } from "./inode.ts";
import type { MetadataBlocks, MetadataPosition } from "./metadata.ts";
import type { Superblock } from "./superblock.ts";

/** Runs that one answer of `map` ends with, and blocks that it looks at. */
const MAPPED_RUNS_MAX = 1024;
const MAPPED_BLOCKS_MAX = 65_536;
const CACHE_BYTES = 8 * 1024 * 1024;
/** Lengths of blocks that are read at a time. */
const SEGMENT_BLOCKS = 2048;
const FRAGMENT_BYTES = 16;

/** A piece of content: a data block, a hole or a part of a fragment. */
interface Piece {
  /** Where its bytes lie, compressed or not; `undefined` for a hole. */
  readonly place: number | undefined;
  /** Bytes there. */
  readonly storedBytes: number;
  readonly compressed: boolean;
  /** Where the piece begins in what is stored there, and its length, decompressed. */
  readonly from: number;
  readonly bytes: number;
  /** What all of it decompresses to: exactly so much for a block, at most for a fragment. */
  readonly wholeBytes: number;
  readonly exact: boolean;
}

/** Lengths of a part of a file's blocks, and where each of them lies. */
interface Segment {
  readonly first: number;
  readonly lengths: Uint32Array;
  readonly places: Float64Array;
}

/** What is known of where the blocks of one file lie: the start of every segment up to the farthest that was asked for. */
interface BlockList {
  readonly starts: { readonly position: MetadataPosition; readonly place: number }[];
  current: Segment | undefined;
}

/** Reads and maps the content of files. */
export class FileContents {
  readonly #device: BlockDevice;
  readonly #superblock: Superblock;
  readonly #metadata: MetadataBlocks;
  readonly #cache = new ByteLru<Uint8Array>(CACHE_BYTES);
  readonly #lists = new WeakMap<FilePlace, BlockList>();

  /** Reads content of a device. */
  constructor(device: BlockDevice, superblock: Superblock, metadata: MetadataBlocks) {
    this.#device = device;
    this.#superblock = superblock;
    this.#metadata = metadata;
  }

  /** Fills `target` from `offset`; returns the bytes put in, short only at the end of the content. */
  read({ file, stat }: Inode, offset: number, target: Uint8Array): number {
    const length = Math.min(target.length, Math.max(0, stat.sizeBytes - offset));
    const { blockBytes } = this.#superblock;
    for (let done = 0; done < length;) {
      const piece = this.#piece(file, stat.sizeBytes, Math.floor((offset + done) / blockBytes));
      const within = (offset + done) % blockBytes;
      const part = target.subarray(done, Math.min(length, done + piece.bytes - within));
      if (piece.place === undefined) part.fill(0);
      else if (piece.compressed) {
        const from = piece.from + within;
        part.set(this.#decompressed(piece, piece.place).subarray(from, from + part.length));
      } else this.#readStored(piece.place + piece.from + within, part);
      done += part.length;
    }
    return length;
  }

  /** Where the content lies, as `GuestFileSystem.map` tells it. */
  map({ file, stat }: Inode, offset: number, length: number): ContentRun[] {
    const wanted = Math.min(length, stat.sizeBytes - offset);
    const { blockBytes } = this.#superblock;
    const runs: ContentRun[] = [];
    let blocks = 0;
    for (let done = 0; done < wanted && blocks < MAPPED_BLOCKS_MAX; blocks++) {
      const piece = this.#piece(file, stat.sizeBytes, Math.floor((offset + done) / blockBytes));
      const within = (offset + done) % blockBytes;
      const part = Math.min(wanted - done, piece.bytes - within);
      if (!append(runs, piece, within, part)) break;
      done += part;
    }
    return runs;
  }

  #piece(file: FilePlace | undefined, sizeBytes: number, index: number): Piece {
    if (file === undefined) throw damaged("reading a file", "it has no content");
    const { blockBytes } = this.#superblock;
    const bytes = Math.min(blockBytes, sizeBytes - index * blockBytes);
    if (index >= file.blocks) return this.#fragmentPiece(file, bytes);
    const { first, lengths, places } = this.#segment(file, Math.floor(index / SEGMENT_BLOCKS));
    const stored = lengths[index - first] as number;
    const place = places[index - first] as number;
    return {
      place: stored === 0 ? undefined : place,
      ...this.#stored(stored, bytes),
      from: 0,
      bytes,
      wholeBytes: bytes,
      exact: true,
    };
  }

  #fragmentPiece({ fragment, fragmentOffset }: FilePlace, bytes: number): Piece {
    if (fragment === undefined) throw damaged("reading a file", "its end is missing");
    const entry = this.#metadata.entry(this.#superblock.fragmentTable, fragment, FRAGMENT_BYTES);
    const piece = this.#stored(u32(entry, 8), fragmentOffset + bytes);
    return {
      place: u64(entry, 0),
      ...piece,
      from: fragmentOffset,
      bytes,
      wholeBytes: this.#superblock.blockBytes,
      exact: false,
    };
  }

  /** Reads a stored length; what is stored as it is must be as long as its content needs it. */
  #stored(stored: number, bytes: number): { storedBytes: number; compressed: boolean } {
    const storedBytes = stored & (DATA_STORED - 1);
    const compressed = (stored & DATA_STORED) === 0;
    if (
      stored >= DATA_STORED * 2 || storedBytes > this.#superblock.blockBytes ||
      (!compressed && storedBytes < bytes)
    ) {
      throw damaged("reading a file", `a block of ${storedBytes} bytes for ${bytes}`);
    }
    return { storedBytes, compressed };
  }

  #decompressed(piece: Piece, place: number): Uint8Array {
    const cached = this.#cache.get(place);
    const content = cached ?? this.#decompress(piece, place);
    const right = piece.exact
      ? content.length === piece.wholeBytes
      : content.length >= piece.from + piece.bytes;
    if (!right) {
      throw damaged("reading a file", `a block of ${content.length} bytes instead of ${piece.wholeBytes}`);
    }
    if (cached === undefined) this.#cache.set(place, content, content.length + 100);
    return content;
  }

  #decompress({ storedBytes, wholeBytes }: Piece, place: number): Uint8Array {
    const source = new Uint8Array(storedBytes);
    this.#readStored(place, source);
    return this.#superblock.decompress(source, wholeBytes);
  }

  #readStored(place: number, target: Uint8Array): void {
    if (place + target.length > this.#device.sizeBytes) {
      throw damaged("reading a file", `${target.length} bytes at ${place} of ${this.#device.sizeBytes}`);
    }
    this.#device.read(place, target);
  }

  #segment(file: FilePlace, number: number): Segment {
    let list = this.#lists.get(file);
    if (list === undefined) {
      list = { starts: [{ position: file.lengths, place: file.firstBlock }], current: undefined };
      this.#lists.set(file, list);
    }
    if (list.current?.first === number * SEGMENT_BLOCKS) return list.current;
    for (let known = Math.min(number, list.starts.length - 1); known <= number; known++) {
      list.current = this.#readSegment(file, list, known);
    }
    return list.current ?? this.#readSegment(file, list, number);
  }

  #readSegment(file: FilePlace, list: BlockList, number: number): Segment {
    const start = list.starts[number];
    if (start === undefined) throw damaged("reading a file", "its list of blocks ends too early");
    const first = number * SEGMENT_BLOCKS;
    const count = Math.min(SEGMENT_BLOCKS, file.blocks - first);
    const cursor = this.#metadata.cursor(start.position);
    const bytes = cursor.read(count * 4);
    const lengths = new Uint32Array(count);
    const places = new Float64Array(count);
    let place = start.place;
    for (let index = 0; index < count; index++) {
      lengths[index] = u32(bytes, index * 4);
      places[index] = place;
      place += (lengths[index] as number) & (DATA_STORED - 1);
    }
    list.starts[number + 1] ??= { position: cursor.position, place };
    return { first, lengths, places };
  }
}

/** Adds a part of a piece, to the last run where it goes on; `false` when there are enough runs. */
function append(runs: ContentRun[], piece: Piece, within: number, length: number): boolean {
  const last = runs.at(-1);
  const kind = piece.place === undefined ? "hole" : piece.compressed ? "made" : "stored";
  const deviceOffset = (piece.place ?? 0) + piece.from + within;
  const follows = last?.kind === kind &&
    (last.kind !== "stored" || last.deviceOffset + last.length === deviceOffset);
  if (follows) runs[runs.length - 1] = { ...last, length: last.length + length };
  else if (runs.length === MAPPED_RUNS_MAX) return false;
  else runs.push(kind === "stored" ? { kind, length, deviceOffset } : { kind, length });
  return true;
}

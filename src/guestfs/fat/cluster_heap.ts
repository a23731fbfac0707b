/**
 * The clusters of a FAT or exFAT file system, and what files have of them.
 *
 * @module
 */
import { VarveError } from "../../base/errors.ts";
import { damaged } from "../_bytes.ts";
import { ByteLru } from "../_lru.ts";
import type { ContentRun } from "../guest.ts";
import { ClusterChain, type ClusterRun } from "./cluster_chain.ts";
import { type FatTable, FIRST_CLUSTER } from "./fat_table.ts";
import { CHUNK_BYTES, type MetadataSource } from "./metadata_source.ts";

/** The clusters of a file or directory. */
export interface Allocation {
  /** The first one. */
  readonly first: number;
  /** How many there must be. */
  readonly clusters: number;
  /** Whether they lie one behind the other, whatever the table says (exFAT alone). */
  readonly contiguous: boolean;
}

/** Where the clusters lie. */
export interface HeapPlace {
  /** First byte of the first cluster on the device. */
  readonly offset: number;
  /** Bytes of a cluster. */
  readonly clusterBytes: number;
  /** Number of clusters. */
  readonly clusterCount: number;
}

/** Bytes of a directory, and where they lie on the device. */
export interface DirectoryPiece {
  readonly offset: number;
  readonly bytes: Uint8Array;
}

type StoredRun = Extract<ContentRun, { kind: "stored" }>;

const CHAIN_CACHE_BYTES = 40 * 1024 * 1024;
/** Steps along a chain between two answers. */
const WALK_CLUSTERS = 65_536;
/** Runs, and pieces of runs, that one answer of `map` ends with. */
const MAPPED_RUNS_MAX = 1024;
const MAPPED_PIECES_MAX = 4096;

/** Finds and reads clusters. */
export class ClusterHeap {
  /** Bytes of a cluster. */
  readonly clusterBytes: number;
  /** Number of clusters. */
  readonly clusterCount: number;
  readonly #source: MetadataSource;
  readonly #offset: number;
  readonly #table: FatTable;
  readonly #chains = new ByteLru<ClusterChain>(CHAIN_CACHE_BYTES);

  /** Clusters that `table` chains. */
  constructor(source: MetadataSource, place: HeapPlace, table: FatTable) {
    this.clusterBytes = place.clusterBytes;
    this.clusterCount = place.clusterCount;
    this.#source = source;
    this.#offset = place.offset;
    this.#table = table;
  }

  /** The first byte of a cluster on the device; throws `damaged` when there is no such cluster. */
  offsetOf(cluster: number): number {
    this.#table.check(cluster);
    return this.#offset + (cluster - FIRST_CLUSTER) * this.clusterBytes;
  }

  /** The cluster that a byte of the device lies in, or `undefined` when it lies in none. */
  clusterAt(offset: number): number | undefined {
    const index = Math.floor((offset - this.#offset) / this.clusterBytes);
    return index >= 0 && index < this.clusterCount ? FIRST_CLUSTER + index : undefined;
  }

  /** The cluster that follows one in a file or directory; throws `damaged` at its end. */
  following(cluster: number, contiguous: boolean): number {
    const next = contiguous ? cluster + 1 : this.#table.next(cluster);
    this.#table.check(next);
    return next;
  }

  /** Number of clusters in the chain of a directory, of which more than `most` are `damaged`. */
  chainLength(first: number, most: number): number {
    const { known, failure } = this.#wholeChain(first, most);
    if (failure !== undefined) throw failure;
    return known;
  }

  /** Where the bytes lie that a file has from `offset` on, in pieces that may touch. Throws `damaged` when it has fewer. */
  *stored(allocation: Allocation, offset: number, length: number): Generator<StoredRun> {
    const { clusterBytes } = this;
    const { sizeBytes } = this.#source.device;
    for (let done = 0; done < length;) {
      const index = Math.floor((offset + done) / clusterBytes);
      const within = (offset + done) % clusterBytes;
      const run = this.#run(allocation, index, Math.ceil((within + length - done) / clusterBytes));
      const deviceOffset = this.offsetOf(run.cluster) + within;
      const part = Math.min(length - done, run.count * clusterBytes - within);
      if (deviceOffset + part > sizeBytes) {
        throw damaged(
          "reading clusters",
          `${part} bytes at ${deviceOffset}, where the device has ${sizeBytes}`,
        );
      }
      yield { kind: "stored", length: part, deviceOffset };
      done += part;
    }
  }

  /** The bytes of a directory in order, in pieces of whole entries. */
  *directory(allocation: Allocation): Generator<DirectoryPiece> {
    for (const run of this.stored(allocation, 0, allocation.clusters * this.clusterBytes)) {
      yield* piecesOf(this.#source, run.deviceOffset, run.length);
    }
  }

  /** As {@linkcode directory}, of a chain of at most `most` clusters; where it is damaged, what comes before that is given first. */
  *chainedDirectory(first: number, most: number): Generator<DirectoryPiece> {
    const { known, failure } = this.#wholeChain(first, most);
    yield* this.directory({ first, clusters: known, contiguous: false });
    if (failure !== undefined) throw failure;
  }

  #wholeChain(first: number, most: number): { readonly known: number; readonly failure?: VarveError } {
    const chain = this.#chain(first, most + 1);
    try {
      const known = chain.extend(most + 1);
      if (known <= most) return { known };
      throw damaged("reading a directory", `it has more than ${most} clusters`);
    } catch (thrown) {
      if (!(thrown instanceof VarveError)) throw thrown;
      return { known: Math.min(chain.known, most), failure: thrown };
    } finally {
      this.#remember(first, chain);
    }
  }

  #run(allocation: Allocation, index: number, wanted: number): ClusterRun {
    const { first, clusters, contiguous } = allocation;
    if (contiguous) {
      this.#table.check(first);
      this.#table.check(first + clusters - 1);
      return { index, cluster: first + index, count: Math.min(wanted, clusters - index) };
    }
    const chain = this.#chain(first, clusters);
    const most = Math.min(wanted, WALK_CLUSTERS);
    try {
      chain.extend(index + most);
    } catch (thrown) {
      // What comes before the damage is as good as ever.
      if (index >= chain.known) throw thrown;
    } finally {
      this.#remember(first, chain);
    }
    if (index >= chain.known) {
      throw damaged("following a chain of clusters", `it ends after ${chain.known} of ${clusters} clusters`);
    }
    return chain.find(index, most);
  }

  #chain(first: number, limit: number): ClusterChain {
    const cached = this.#chains.get(first);
    return cached !== undefined && cached.limit >= limit
      ? cached
      : new ClusterChain(this.#table, first, limit);
  }

  #remember(first: number, chain: ClusterChain): void {
    this.#chains.set(first, chain, chain.weightBytes);
  }
}

/** The bytes of a part of the device in pieces that the cache holds. */
export function* piecesOf(source: MetadataSource, offset: number, length: number): Generator<DirectoryPiece> {
  for (let done = 0; done < length;) {
    const at = offset + done;
    const part = Math.min(length - done, CHUNK_BYTES - at % CHUNK_BYTES);
    yield { offset: at, bytes: source.bytes(at, part) };
    done += part;
  }
}

/** Pieces of content as an answer of `map`: those that touch become one, and it ends where it takes long or before a damage. */
export function mapPieces(pieces: Iterable<ContentRun>): ContentRun[] {
  const runs: ContentRun[] = [];
  try {
    gather(pieces, runs);
  } catch (thrown) {
    if (runs.length === 0) throw thrown;
  }
  return runs;
}

function gather(pieces: Iterable<ContentRun>, runs: ContentRun[]): void {
  let count = 0;
  for (const piece of pieces) {
    const last = runs.at(-1);
    if (
      last?.kind === "stored" && piece.kind === "stored" &&
      last.deviceOffset + last.length === piece.deviceOffset
    ) {
      runs[runs.length - 1] = { ...last, length: last.length + piece.length };
    } else {
      if (runs.length >= MAPPED_RUNS_MAX) break;
      runs.push(piece);
    }
    if (++count >= MAPPED_PIECES_MAX) break;
  }
}

/**
 * One chain of clusters as runs, found as far as they are needed.
 *
 * What was walked over once is kept: a chain in at most some ten thousand runs. When there are more, every second one is
 * dropped, then every second of those; between the ones that are left the table is walked again.
 *
 * @module
 */
import { VarveError } from "../../base/errors.ts";
import { damaged } from "../_bytes.ts";
import { END_OF_CHAIN, type FatTable } from "./fat_table.ts";

/** Clusters that lie one behind the other. */
export interface ClusterRun {
  /** Place of the first in its chain, from 0 on. */
  readonly index: number;
  /** Number of the first. */
  readonly cluster: number;
  /** How many they are. */
  readonly count: number;
}

const KEPT_RUNS_MAX = 16_384;
const RUN_BYTES = 64;
/** Clusters whose visits one page remembers, a bit for each. */
const PAGE_CLUSTERS = 8192;
/** Pages for all clusters that FAT32 can have: 32 MiB. */
const PAGES_MAX = 32_768;

/** A chain that begins at one cluster. */
export class ClusterChain {
  /** Clusters after which nobody will ask. */
  readonly limit: number;
  readonly #table: FatTable;
  /** Every `#stride`th of the runs that are known to their end, in order. */
  #kept: ClusterRun[] = [];
  #stride = 1;
  #closedRuns = 0;
  /** The last run that is known; it may go on. */
  #frontier: ClusterRun;
  /** The run that was found last. */
  #cursor: ClusterRun;
  #ended = false;
  /** Which clusters the chain has gone over: it must not come back to any. Dropped when its end is known. */
  #visited = new Map<number, Uint8Array>();

  /** Begins a chain of which at most `limit` clusters are asked for. Throws `damaged` when there is no cluster `first`. */
  constructor(table: FatTable, first: number, limit: number) {
    table.check(first);
    this.limit = limit;
    this.#table = table;
    this.#frontier = { index: 0, cluster: first, count: 1 };
    this.#cursor = this.#frontier;
    this.#visit(first);
  }

  /** About how much memory it takes. */
  get weightBytes(): number {
    return 200 + this.#kept.length * RUN_BYTES + this.#visited.size * (PAGE_CLUSTERS / 8 + 100);
  }

  /** How many clusters are known. */
  get known(): number {
    return this.#frontier.index + this.#frontier.count;
  }

  /** Walks on until `count` clusters are known or the chain ends; returns how many are known. Throws `damaged`. */
  extend(count: number): number {
    let { index, cluster, count: length } = this.#frontier;
    const wanted = Math.min(count, this.limit);
    try {
      while (index + length < wanted && !this.#ended) {
        const next = this.#table.next(cluster + length - 1);
        if (next === END_OF_CHAIN) {
          this.#ended = true;
          break;
        }
        this.#visit(next);
        if (next === cluster + length) {
          length++;
          continue;
        }
        this.#keep({ index, cluster, count: length });
        index += length;
        cluster = next;
        length = 1;
      }
    } finally {
      // Also what was found before a damage stays known, for the clusters are marked as visited.
      this.#frontier = { index, cluster, count: length };
    }
    if (this.#ended || index + length >= this.limit) this.#visited.clear();
    return index + length;
  }

  /** The run that the cluster at `index` of the chain, which must be known, begins; at most `most` clusters. */
  find(index: number, most: number): ClusterRun {
    let run = this.#before(index);
    while (run.index + run.count <= index) {
      // Between kept runs, so all these steps were taken before.
      const end = run.cluster + run.count;
      const next = this.#table.next(end - 1);
      run = next === end
        ? { ...run, count: run.count + 1 }
        : { index: run.index + run.count, cluster: next, count: 1 };
    }
    let { count } = run;
    const wanted = Math.min(index + most, this.known);
    while (run.index + count < wanted && this.#table.next(run.cluster + count - 1) === run.cluster + count) {
      count++;
    }
    this.#cursor = { ...run, count };
    const skip = index - run.index;
    return { index, cluster: run.cluster + skip, count: Math.min(count - skip, most) };
  }

  /** The nearest known run that does not begin after `index`. */
  #before(index: number): ClusterRun {
    if (this.#frontier.index <= index) return this.#frontier;
    let low = 0;
    for (let high = this.#kept.length; high - low > 1;) {
      const middle = (low + high) >>> 1;
      if ((this.#kept[middle]?.index ?? Infinity) <= index) low = middle;
      else high = middle;
    }
    const kept = this.#kept[low] ?? this.#frontier;
    return this.#cursor.index <= index && this.#cursor.index > kept.index ? this.#cursor : kept;
  }

  #keep(run: ClusterRun): void {
    if (this.#closedRuns++ % this.#stride !== 0) return;
    this.#kept.push(run);
    if (this.#kept.length < KEPT_RUNS_MAX) return;
    this.#kept = this.#kept.filter((_, at) => at % 2 === 0);
    this.#stride *= 2;
  }

  #visit(cluster: number): void {
    const number = Math.floor(cluster / PAGE_CLUSTERS);
    let page = this.#visited.get(number);
    if (page === undefined) {
      if (this.#visited.size >= PAGES_MAX) {
        throw new VarveError(
          "unsupported",
          "following a chain of clusters: it is longer than Varve can follow",
        );
      }
      page = new Uint8Array(PAGE_CLUSTERS / 8);
      this.#visited.set(number, page);
    }
    const bit = cluster % PAGE_CLUSTERS;
    const byte = page[bit >>> 3] ?? 0;
    if ((byte & (1 << (bit & 7))) !== 0) {
      throw damaged("following a chain of clusters", `it comes back to cluster ${cluster}`);
    }
    page[bit >>> 3] = byte | (1 << (bit & 7));
  }
}

/**
 * Where files lie on their disk, as far as it was asked for.
 *
 * @module
 */
import { VarveError } from "../base/errors.ts";
import type { ContentRun } from "../guestfs/guest.ts";

/** Runs kept at most, over all files. */
const RUNS_MAX = 100_000;

/** Files kept at most. */
const FILES_MAX = 20_000;

/** A run of a file, with its place in the file. */
export type PlacedRun = ContentRun & { readonly offset: number };

interface KnownFile {
  /** Without overlaps, by offset. */
  readonly runs: PlacedRun[];
  /** Where the file ends, once that was seen. */
  endBytes: number | undefined;
}

/** Remembers runs of files, those of the file not used for longest dropped first. */
export class ContentMaps {
  readonly #files = new Map<string, KnownFile>();
  #runs = 0;

  /** The run that holds a byte; `end` when the file ends there; `undefined` when that is not known. */
  find(key: string, offset: number): PlacedRun | "end" | undefined {
    const file = this.#files.get(key);
    if (file === undefined) return undefined;
    this.#files.delete(key);
    this.#files.set(key, file);
    if (file.endBytes !== undefined && offset >= file.endBytes) return "end";
    const run = file.runs[firstBehind(file.runs, offset) - 1];
    return run !== undefined && offset < run.offset + run.length ? run : undefined;
  }

  /**
   * Takes in what was answered for `offset`, where nothing was known; no runs mean that the file has ended. Throws `damaged` for
   * runs that make no sense.
   */
  add(key: string, offset: number, runs: readonly ContentRun[]): void {
    const file = this.#files.get(key) ?? { runs: [], endBytes: undefined };
    this.#files.delete(key);
    this.#files.set(key, file);
    if (runs.length === 0) file.endBytes = Math.min(offset, file.endBytes ?? Infinity);
    let at = offset;
    const index = firstBehind(file.runs, offset);
    const next = file.runs[index]?.offset ?? Infinity;
    const placed: PlacedRun[] = [];
    for (const run of runs) {
      if (!isSound(run)) throw new VarveError("damaged", `map a guest's file: a run of ${run.length} bytes`);
      if (at < next) placed.push({ ...run, offset: at, length: Math.min(run.length, next - at) });
      at += run.length;
    }
    file.runs.splice(index, 0, ...placed);
    this.#runs += placed.length;
    for (const [oldest, { runs }] of this.#files) {
      if (this.#runs <= RUNS_MAX && this.#files.size <= FILES_MAX || oldest === key) break;
      this.#files.delete(oldest);
      this.#runs -= runs.length;
    }
  }
}

function firstBehind(runs: readonly PlacedRun[], offset: number): number {
  let low = 0;
  let high = runs.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((runs[middle]?.offset ?? Infinity) <= offset) low = middle + 1;
    else high = middle;
  }
  return low;
}

function isSound(run: ContentRun): boolean {
  return Number.isSafeInteger(run.length) && run.length > 0 &&
    (run.kind !== "stored" || (Number.isSafeInteger(run.deviceOffset) && run.deviceOffset >= 0));
}

/**
 * Metadata contexts in the transmission phase: what they say of a range.
 *
 * @module
 */
import type { BlockDevice } from "../base/block_device.ts";
import { VarveError } from "../base/errors.ts";
import type { ExportMap, MapRun } from "./exports.ts";
import { AllocationFlag } from "./protocol.ts";

/** Runs that a context tells in one reply at most, but one always. */
export const MAX_RUNS = 4096;

/** A metadata context that a client has selected. */
export interface StatusContext {
  /** The number that stands for it on the wire. */
  readonly id: number;
  /** Its name. */
  readonly name: string;
  /** What it tells. */
  readonly map: ExportMap;
}

/** The map behind `base:allocation`. */
export function allocationMap(device: BlockDevice): ExportMap {
  return {
    runs: (offset, length, max) =>
      device.extents(offset, length, max).map((extent) => ({
        length: extent.length,
        flags: extent.kind === "hole" ? AllocationFlag.HOLE | AllocationFlag.ZERO : 0,
      })),
  };
}

/** A question to contexts. */
export interface StatusQuestion {
  /** First byte. */
  readonly offset: number;
  /** Number of bytes, above 0. */
  readonly length: number;
  /** Runs of each context at most, at least 1. */
  readonly max: number;
}

/**
 * What contexts say of a range: their runs, in the order of the contexts, from its start on and not beyond it. All of
 * them or none: throws, or rejects, as the first map that fails. A promise only when a map has to wait for something.
 */
export function statusOf(
  contexts: readonly StatusContext[],
  question: StatusQuestion,
): MapRun[][] | Promise<MapRun[][]> {
  const { offset, length, max } = question;
  const answers = contexts.map(({ map }) => {
    try {
      return map.runs(offset, length, max);
    } catch (thrown) {
      return Promise.reject(thrown);
    }
  });
  const fit = (runs: MapRun[], index: number) => fitted(contexts[index]?.name ?? "", runs, question);
  const ready = answers.filter(Array.isArray);
  if (ready.length === answers.length) return ready.map(fit);
  return Promise.all(answers).then((all) => all.map(fit));
}

/** At most `max` runs, cut to the range: a client that trusts the protocol must never be told of more. */
function fitted(name: string, runs: MapRun[], { length, max }: StatusQuestion): MapRun[] {
  const result: MapRun[] = [];
  let left = length;
  for (const run of runs) {
    const some = Math.min(run.length, left);
    if (some <= 0 || result.length === max) break;
    result.push(some === run.length ? run : { length: some, flags: run.flags });
    left -= some;
  }
  if (result.length === 0) throw new VarveError("io", `read ${name}: it tells nothing of the range`);
  return result;
}

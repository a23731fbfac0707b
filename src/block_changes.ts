/**
 * Blocks of a volume that were written between two moments, page by page.
 *
 * @module
 */
import { VarveError } from "./base/errors.ts";
import { pause, type Scheduler } from "./base/turns.ts";
import type { BlockChanges, Moment } from "./engine.ts";
import { changesWithin } from "./timeline/changes.ts";
import type { Volume } from "./volume/volume.ts";

const LIMIT = 1000;
const LIMIT_MAX = 10_000;

/** Which page is wanted; `from` is not the later moment. */
export interface BlockChangesQuery {
  /** The earlier moment. */
  readonly from: Moment;
  /** The later one. */
  readonly to: Moment;
  /** Where the page before ended; default 0. */
  readonly offset?: number;
  /** Extents in the page; at most 10,000, by default 1,000. */
  readonly limit?: number;
}

/** Throws `invalid` when `from` is the later moment; both must exist. */
export function checkSpan({ from, to }: { readonly from: Moment; readonly to: Moment }): void {
  if (from.seq <= to.seq) return;
  throw new VarveError(
    "invalid",
    `compare two moments: from, ${from.time} (seq:${from.seq}), is later than to, ${to.time} (seq:${to.seq})`,
    { field: "from", hint: "Swap them." },
  );
}

/** Finds a page, in turns. */
export async function listBlockChanges(
  volume: Volume,
  query: BlockChangesQuery,
  scheduler: Scheduler,
): Promise<BlockChanges> {
  const { from, to, offset = 0 } = query;
  const limit = Math.min(query.limit ?? LIMIT, LIMIT_MAX);
  if (to.seq > volume.indexedSeq) await volume.settle();
  const sizeBytes = Math.max(volume.sizes.at(from.seq), volume.sizes.at(to.seq));
  const extents: { offset: number; length: number }[] = [];
  let at = Math.min(offset, sizeBytes);
  while (at < sizeBytes && extents.length < limit) {
    const range = { offset: at, length: sizeBytes - at };
    for (const run of changesWithin(volume.changes(from.seq, to.seq), range)) {
      const last = extents.at(-1);
      const meets = last !== undefined && last.offset + last.length === at;
      if (run.kind === "changed" && !meets && extents.length === limit) break;
      at += run.length;
      if (run.kind !== "changed") continue;
      if (meets) last.length += run.length;
      else extents.push({ offset: at - run.length, length: run.length });
    }
    await pause(scheduler);
  }
  return {
    from,
    to,
    changedBytes: extents.reduce((sum, { length }) => sum + length, 0),
    extents,
    ...(at < sizeBytes ? { nextOffset: at } : {}),
  };
}

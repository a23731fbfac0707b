/**
 * Directories that survive power loss.
 *
 * @module
 */
import path from "node:path";
import { VarveError } from "../base/errors.ts";
import type { Disk } from "./disk.ts";

/**
 * Makes a directory and those above it; resolves when their names survive power loss, from the name of the topmost one
 * that was missing on, and at least from that of `top`. They are synced even when they were there before: an earlier
 * attempt may have died before it synced them.
 */
export async function makeDurableDirectory(disk: Disk, place: string, top: string = place): Promise<void> {
  let first = top;
  while (first !== path.dirname(first) && disk.stat(path.dirname(first)) === undefined) {
    first = path.dirname(first);
  }
  disk.makeDirectory(place);
  const parents: string[] = [];
  for (let above = path.dirname(place);; above = path.dirname(above)) {
    parents.push(above);
    if (above === path.dirname(first) || above === path.dirname(above)) break;
  }
  for (const parent of parents.reverse()) await syncWhereAllowed(disk, parent);
}

/** A directory that may be entered but not read cannot be synced. */
async function syncWhereAllowed(disk: Disk, place: string): Promise<void> {
  try {
    await disk.syncDirectory(place);
  } catch (thrown) {
    if (!(thrown instanceof VarveError) || thrown.code !== "forbidden") throw thrown;
  }
}

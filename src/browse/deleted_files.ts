/**
 * What a directory held at some time of the window and holds no longer.
 *
 * The versions of the directory are looked for like those of any file; each is listed once. So a name that was there at a settled
 * moment is found as long as the number of versions stays within the limit; see `versions.ts` for what settled means.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import type { PackedMoment } from "../catalog/packing.ts";
import type { GuestFileType, GuestStat } from "../guestfs/guest.ts";
import { type FileHistory, fileVersions, type VersionsOptions } from "./versions.ts";

/** A name in a directory, with what is known of the file. */
export interface HistoryEntry {
  /** The name, as the guest stores it. */
  readonly name: Uint8Array;
  /** Type of the file. */
  readonly type: GuestFileType | undefined;
  /** What is known of it; `undefined` when that cannot be read. */
  readonly stat: GuestStat | undefined;
}

/** The history of a directory. */
export interface DirectoryHistory extends FileHistory {
  /** What the directory holds at a moment; rejects with a `VarveError` when it cannot be read. */
  list(seq: number): Promise<readonly HistoryEntry[]>;
}

/** A name that is gone. */
export interface DeletedFile extends HistoryEntry {
  /** A moment at which it was there, the last one or near it: the file can be read there. */
  readonly lastSeen: PackedMoment;
}

/** What was found. */
export interface DeletedFiles {
  /** Names that the newest moment does not have, those that were seen last first. */
  readonly files: readonly DeletedFile[];
  /** Whether a limit was reached, or not all between two moments could be proved: there may be more. */
  readonly truncated: boolean;
}

/** Names told at most, unless more are asked for. */
const FILES_MAX = 10_000;

/** Finds what a directory held. Rejects with what `history` rejects with, and when the signal says so. */
export async function deletedFiles(
  history: DirectoryHistory,
  options: VersionsOptions & { readonly filesMax?: number } = {},
): Promise<DeletedFiles> {
  const { filesMax = FILES_MAX } = options;
  const { versions, truncated, unproven } = await fileVersions(history, options);
  const seen = new Set<string>();
  const files: DeletedFile[] = [];
  for (const [index, { until, file }] of versions.entries()) {
    if (file?.type !== "directory") continue;
    options.signal?.throwIfAborted();
    for (const entry of await history.list(until.seq)) {
      const { name } = entry;
      const key = Buffer.from(name.buffer, name.byteOffset, name.length).toString("latin1");
      if (seen.has(key)) continue;
      seen.add(key);
      if (index === 0) continue;
      if (files.length === filesMax) return { files, truncated: true };
      files.push({ ...entry, lastSeen: until });
    }
  }
  return { files, truncated: truncated || unproven.length > 0 };
}

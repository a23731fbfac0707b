/**
 * What a directory held before, and does not hold any more.
 *
 * @module
 */
import type { GuestStat } from "../guestfs/guest.ts";
import { type FileHistory, fileVersions, type MomentSpan } from "./versions.ts";

/** Versions of the directory that are looked at. */
const VERSIONS_MAX = 500;

/** A name in a directory. */
export interface NamedStat {
  /** The name. */
  readonly name: string;
  /** What it leads to. */
  readonly stat: GuestStat;
}

/** A name that is gone, with what it led to last, and the version of the directory that held it last. */
export interface DeletedFile extends NamedStat, MomentSpan {}

/** What to look for. */
export interface DeletedFilesOptions {
  /** The moment at which the names are gone. */
  readonly atSeq: number;
  /** Names told at most. */
  readonly namesMax: number;
  /** The names in the directory at a moment; none when it is no directory. */
  list(seq: number): Promise<readonly NamedStat[]>;
}

/**
 * Finds what a directory held at any moment before one, and does not hold at it; newest first. Looks at the newest few hundred
 * versions of the directory; `truncated` tells that there are more, or more names. What was there only between two moments that
 * `fileVersions` tells apart is not found.
 */
export async function deletedFiles(
  history: FileHistory,
  { atSeq, namesMax, list }: DeletedFilesOptions,
): Promise<{ readonly files: readonly DeletedFile[]; readonly truncated: boolean }> {
  const found = await fileVersions(history, { toSeq: atSeq, versionsMax: VERSIONS_MAX });
  const seen = new Set<string>();
  const files: DeletedFile[] = [];
  for (const { file, from, until } of found.versions) {
    const names = file?.type === "directory" ? await list(until.seq) : [];
    for (const { name, stat } of names) {
      if (seen.has(name)) continue;
      seen.add(name);
      if (until.seq >= atSeq) continue;
      if (files.length === namesMax) return { files, truncated: true };
      files.push({ name, stat, from, until });
    }
  }
  return { files, truncated: found.truncated };
}

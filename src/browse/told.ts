/**
 * What was found in a history, as the API tells of it.
 *
 * @module
 */
import { formatTime } from "../base/time.ts";
import type { PackedMoment } from "../catalog/packing.ts";
import type {
  DeletedFiles,
  FileChanges,
  FileVersionInfo,
  FileVersionList,
  Moment,
  MomentRange,
} from "../engine.ts";
import type { ChangedFilesEnd, FileChange } from "./changed_files.ts";
import type { DeletedFiles as FoundDeleted } from "./deleted_files.ts";
import { fileInfo } from "./file_info.ts";
import type { FileVersions, MomentSpan } from "./versions.ts";

/** Puts what was found into the API's form. */
export function toldVersions(path: string, found: FileVersions): FileVersionList {
  const normal = normalPath(path);
  return {
    path: normal,
    versions: found.versions.map(({ file, contentChanged, ...span }): FileVersionInfo => ({
      ...rangeOf(span),
      ...(file === undefined ? {} : { file: fileInfo(normal, file, file.target) }),
      ...(contentChanged === undefined ? {} : { contentChanged }),
    })),
    unreadable: found.unreadable.map(({ reason, ...span }) => ({ ...rangeOf(span), reason })),
    unproven: found.unproven.map(rangeOf),
    truncated: found.truncated,
  };
}

/** Puts names that are gone into the API's form; those about which nothing could be read are left out. */
export function toldDeleted(
  path: string,
  { files, truncated }: FoundDeleted,
): Pick<DeletedFiles, "path" | "files" | "truncated"> {
  const normal = normalPath(path);
  const base = normal === "/" ? "" : normal;
  return {
    path: normal,
    files: files.flatMap(({ name, stat, lastSeen }) =>
      stat === undefined
        ? []
        : [{ lastSeen: momentOf(lastSeen), file: fileInfo(`${base}/${text(name)}`, stat) }]
    ),
    truncated,
  };
}

/** Puts changes into the API's form, sorted by path. */
export function toldChanges(
  found: readonly FileChange[],
  { truncated }: ChangedFilesEnd,
): Pick<FileChanges, "changes" | "unreadable" | "truncated"> {
  const changes: FileChanges["changes"] = [];
  const unreadable: FileChanges["unreadable"] = [];
  for (const { kind, reason = "", contentChanged = true, ...change } of found) {
    const path = text(change.path);
    if (kind === "unreadable") {
      unreadable.push({ path, reason });
      continue;
    }
    const previousPath = change.formerPath === undefined ? undefined : text(change.formerPath);
    changes.push({
      kind,
      path,
      contentChanged,
      ...(previousPath === undefined ? {} : { previousPath }),
      ...(change.before === undefined ? {} : { before: fileInfo(previousPath ?? path, change.before) }),
      ...(change.after === undefined ? {} : { after: fileInfo(path, change.after) }),
    });
  }
  changes.sort((a, b) => a.path < b.path ? -1 : a.path > b.path ? 1 : 0);
  return { changes, unreadable, truncated };
}

function text(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes);
}

function normalPath(path: string): string {
  return `/${path.split("/").filter((part) => part !== "" && part !== ".").join("/")}`;
}

/** A span as the API tells of it. */
function rangeOf({ from, until }: MomentSpan): MomentRange {
  return { from: momentOf(from), until: momentOf(until) };
}

function momentOf({ seq, timeUs }: PackedMoment): Moment {
  return { time: formatTime(timeUs, 6), seq };
}

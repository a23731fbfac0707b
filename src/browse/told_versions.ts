/**
 * Versions of a file as the API tells of them.
 *
 * @module
 */
import { formatTime } from "../base/time.ts";
import type { PackedMoment } from "../catalog/packing.ts";
import type { FileVersionInfo, FileVersionList, Moment, MomentRange } from "../engine.ts";
import { fileInfo } from "./file_info.ts";
import type { FileVersions, MomentSpan } from "./versions.ts";

/** Puts what was found into the API's form. */
export function toldVersions(path: string, found: FileVersions): FileVersionList {
  const normal = `/${path.split("/").filter((part) => part !== "" && part !== ".").join("/")}`;
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

/** A span as the API tells of it. */
export function rangeOf({ from, until }: MomentSpan): MomentRange {
  return { from: momentOf(from), until: momentOf(until) };
}

function momentOf({ seq, timeUs }: PackedMoment): Moment {
  return { time: formatTime(timeUs, 6), seq };
}

/**
 * Files as the API tells of them.
 *
 * @module
 */
import type { FileInfo } from "../engine.ts";
import type { GuestStat } from "../guestfs/guest.ts";

/** What is told of a file at a path; `target` is that of a symbolic link. */
export function fileInfo(
  path: string,
  stat: Omit<GuestStat, "accessedNs" | "blocks512">,
  target?: Uint8Array,
): FileInfo {
  return {
    name: path.slice(path.lastIndexOf("/") + 1),
    path,
    type: stat.type,
    sizeBytes: stat.sizeBytes,
    mode: stat.mode.toString(8).padStart(4, "0"),
    uid: stat.uid,
    gid: stat.gid,
    links: stat.links,
    inode: stat.inode,
    modifiedAt: formatNs(stat.modifiedNs),
    ...(target === undefined ? {} : { target: new TextDecoder().decode(target) }),
  };
}

function formatNs(ns: bigint): string {
  const seconds = ns >= 0n ? ns / 1_000_000_000n : (ns - 999_999_999n) / 1_000_000_000n;
  const rest = ns - seconds * 1_000_000_000n;
  const whole = new Date(Number(seconds) * 1000).toISOString().slice(0, 19);
  return rest === 0n ? `${whole}Z` : `${whole}.${String(rest).padStart(9, "0")}Z`;
}

/**
 * What is mounted where, as `/proc/self/mountinfo` tells it; see proc_pid_mountinfo(5).
 *
 * Reading it asks no file system anything, so it is safe also for a mount that hangs.
 *
 * @module
 */

/** The type under which mount tables show the tree. */
export const MOUNT_TYPE = "fuse.varve";

/** One line of `/proc/self/mountinfo`. */
export interface MountEntry {
  /** Device number as `MAJOR:MINOR`: of all mounted file systems, it names one. */
  readonly device: string;
  /** Where it is mounted. */
  readonly path: string;
  /** File-system type. */
  readonly type: string;
  /** Number of the user who mounted it; FUSE alone tells that. */
  readonly owner?: number;
}

/** Reads the format of `/proc/self/mountinfo`. The last entry of a path is the one that shows. */
export function parseMountInfo(text: string): MountEntry[] {
  return text.split("\n").flatMap((line) => {
    const fields = line.split(" ");
    // Optional fields stand before the dash; type, source and the file system's own options behind it.
    const [, type, , options = ""] = fields.slice(fields.indexOf("-", 6));
    const [device, path] = [fields[2], fields[4]];
    if (device === undefined || path === undefined || type === undefined) return [];
    const owner = /(?:^|,)user_id=(\d+)/.exec(options)?.[1];
    return [{ device, path: unescape(path), type, ...(owner === undefined ? {} : { owner: Number(owner) }) }];
  });
}

/** The kernel writes space, tab, newline, backslash and `#` as three octal digits. */
function unescape(path: string): string {
  return path.replace(/\\([0-7]{3})/g, (_, octal) => String.fromCharCode(parseInt(octal, 8)));
}

/** What is mounted at a path, the one that shows last. */
export async function mountsAt(path: string): Promise<MountEntry[]> {
  return parseMountInfo(await Deno.readTextFile("/proc/self/mountinfo")).filter((entry) =>
    entry.path === path
  );
}

/** The tree that shows at a path, served or not; `undefined` when something else, or nothing, is mounted there. */
export async function treeAt(path: string): Promise<MountEntry | undefined> {
  const shown = (await mountsAt(path)).at(-1);
  return shown?.type === MOUNT_TYPE ? shown : undefined;
}

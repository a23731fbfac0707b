/**
 * A folder for tests that mount.
 *
 * @module
 */
import { shell } from "./_mounting.ts";
import { parseMountInfo } from "./mount_table.ts";

/** Gives a test a folder that all users may enter; afterwards all that is mounted below is detached, and it is removed. */
export async function withMountFolder(use: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.realPath(await Deno.makeTempDir({ prefix: "varve-fuse-" }));
  try {
    await Deno.chmod(folder, 0o755);
    await use(folder);
  } finally {
    const mounts = parseMountInfo(await Deno.readTextFile("/proc/self/mountinfo"));
    for (const { path } of mounts.reverse()) {
      if (path === folder || path.startsWith(`${folder}/`)) await shell(`umount --lazy -- '${path}'`, "/");
    }
    await Deno.remove(folder, { recursive: true });
  }
}

/**
 * Puts the tree into the host's file system and takes it out again, by mount(2) and umount2(2) as root.
 *
 * Not supported: mounting as another user through `fusermount3`.
 *
 * No thread may make a synchronous call into a mount that needs it for an answer, so everything here that
 * could touch the mount runs on another thread.
 *
 * @module
 */
import { statfs } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { VarveError } from "../src/base/errors.ts";
import { ERRNO, errnoName } from "./errno.ts";
import { lastErrno } from "../src/base/errno.ts";
import { cString, libc } from "./libc.ts";

const MS_RDONLY = 1n;
const MS_NOSUID = 2n;
const MS_NODEV = 4n;
const MS_NOEXEC = 8n;
const MNT_DETACH = 2;

/** The type under which mount tables show the tree. */
export const MOUNT_TYPE = "fuse.varve";

/** Readahead of the mount: the kernel's default of 128 KiB halves sequential reading. */
const READ_AHEAD_KIB = 1024;

/** One line of `/proc/self/mountinfo`. */
export interface MountEntry {
  /** Device number as `MAJOR:MINOR`. */
  readonly device: string;
  /** Where it is mounted. */
  readonly path: string;
  /** File-system type. */
  readonly type: string;
}

/** Reads the format of `/proc/self/mountinfo`, see proc(5). The last entry of a path is the one that shows. */
export function parseMountInfo(text: string): MountEntry[] {
  return text.split("\n").flatMap((line) => {
    const fields = line.split(" ");
    const type = fields[fields.indexOf("-") + 1];
    const [device, path] = [fields[2], fields[4]];
    if (device === undefined || path === undefined || type === undefined) return [];
    const unescaped = path.replace(/\\(\d{3})/g, (_, octal) => String.fromCharCode(parseInt(octal, 8)));
    return [{ device, path: unescaped, type }];
  });
}

async function mountsAt(path: string): Promise<MountEntry[]> {
  return parseMountInfo(await Deno.readTextFile("/proc/self/mountinfo")).filter((entry) =>
    entry.path === path
  );
}

/** Whether the mount that shows at a path is a tree, served or not. */
async function isOurs(path: string): Promise<boolean> {
  return (await mountsAt(path)).at(-1)?.type === MOUNT_TYPE;
}

/** A folder that is ready to be mounted on. */
export interface MountPoint {
  /** Absolute path without symbolic links. */
  readonly path: string;
  /** Whether we made it, and so remove it afterwards. */
  readonly made: boolean;
}

/**
 * Makes a folder ready: creates it if it is missing, and detaches what a killed appliance left on it.
 * Throws `conflict` when an appliance serves a tree there.
 */
export async function prepareMountPoint(given: string): Promise<MountPoint> {
  const path = await realPath(resolve(given));
  while (await isOurs(path)) {
    if (!await isDead(path)) {
      throw new VarveError("conflict", `Mount the tree on ${path}: a tree is served there already`, {
        hint: "Stop the other appliance, or choose another folder with --mount.",
      });
    }
    await detach(path);
  }
  try {
    if (!(await Deno.stat(path)).isDirectory) {
      throw new VarveError("invalid", `Mount the tree on ${path}: it is not a folder`);
    }
    return { path, made: false };
  } catch (thrown) {
    if (!(thrown instanceof Deno.errors.NotFound)) throw VarveError.from(thrown, `Mount the tree on ${path}`);
  }
  try {
    await Deno.mkdir(path, { recursive: true, mode: 0o755 });
  } catch (thrown) {
    throw VarveError.from(thrown, `Make the folder ${path} to mount the tree on`);
  }
  return { path: await realPath(path), made: true };
}

/** The path without symbolic links, as far as it exists. A dead mount at its end can't be asked. */
async function realPath(path: string): Promise<string> {
  try {
    return await Deno.realPath(path);
  } catch {
    const parent = dirname(path);
    return parent === path ? path : join(await realPath(parent), basename(path));
  }
}

/** Whether the server of what is mounted there is gone. `statfs` asks it; attributes may come from a cache. */
async function isDead(path: string): Promise<boolean> {
  try {
    await statfs(path);
    return false;
  } catch (thrown) {
    return thrown instanceof Error && "code" in thrown && thrown.code === "ENOTCONN";
  }
}

/** Mounts the connection behind an open `/dev/fuse`. Answers before the session has to serve. */
export function mount(device: number, point: MountPoint): void {
  const options = `fd=${device},rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other`;
  const flags = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC;
  const type = cString(MOUNT_TYPE);
  if (libc.mount(cString("varve"), cString(point.path), type, flags, cString(options)) === 0) return;
  const errno = lastErrno();
  const message = `Mount the tree on ${point.path}: ${errnoName(errno)}`;
  if (errno === ERRNO.EPERM || errno === ERRNO.EACCES) {
    throw new VarveError("forbidden", message, { hint: "Mounting needs root (CAP_SYS_ADMIN)." });
  }
  if (errno === ERRNO.ENODEV) {
    throw new VarveError("unsupported", message, { hint: "Load the kernel module: modprobe fuse." });
  }
  throw new VarveError("io", message);
}

/** Lets the kernel read further ahead; where that is not allowed, reading is slower and right all the same. */
export async function raiseReadAhead(point: MountPoint): Promise<void> {
  const device = (await mountsAt(point.path)).at(-1)?.device;
  try {
    await Deno.writeTextFile(`/sys/class/bdi/${device}/read_ahead_kb`, `${READ_AHEAD_KIB}`, {
      create: false,
    });
  } catch (thrown) {
    if (!(thrown instanceof Error && "code" in thrown)) throw thrown;
  }
}

/**
 * Takes the tree away from the path at once; does nothing when another kind of mount, or none, shows there. Clients that are inside keep it alive, so it must be served on
 * until the device says that it is gone.
 */
export async function detach(path: string): Promise<void> {
  if (!await isOurs(path)) return;
  if (await libc.umount2(cString(path), MNT_DETACH) === 0 || !await isOurs(path)) return;
  throw new VarveError("io", `Unmount ${path}: it is still mounted`, { hint: `Try: umount -l ${path}` });
}

/** Removes a folder that {@linkcode prepareMountPoint} made, if it is still empty. */
export async function removeMountPoint(point: MountPoint): Promise<void> {
  if (!point.made) return;
  try {
    await Deno.remove(point.path);
  } catch (thrown) {
    if (!(thrown instanceof Error && "code" in thrown)) throw thrown;
  }
}

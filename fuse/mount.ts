/**
 * Puts the tree into the host's file system and takes it out again: root by mount(2) and umount2(2), other users
 * through `fusermount3`.
 *
 * The kernel always enforces the guest's modes and ACLs (`default_permissions`), and nothing in the tree can be
 * executed, gain privileges or open a device. Without `allow_other` nobody but the user who mounted it gets in at
 * all, root included. So a user other than root sees what the guest's modes grant to everybody, and to a guest's
 * user or group of the same number.
 *
 * Of several appliances that want one folder, the first gets it: from the last look at the mount table until the
 * mount stands, the folder is locked (flock(2)). A tree is taken away only by who made it, which its device number
 * tells: meanwhile another appliance may have mounted on the same folder.
 *
 * No thread may make a synchronous call into a mount that needs it for an answer, so everything here that
 * could touch the mount runs on another thread, or in another process.
 *
 * @module
 */
import { statfs } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { VarveError } from "../src/base/errors.ts";
import { lastErrno } from "../src/base/errno.ts";
import { closeDevice, type DeviceHandles, openDevice, takeDevice } from "./device.ts";
import { ERRNO, errnoName } from "./errno.ts";
import { mountByHelper, unmountByHelper } from "./fusermount.ts";
import { cString, libc } from "./libc.ts";
import { MOUNT_TYPE, type MountEntry, treeAt } from "./mount_table.ts";

const MS_RDONLY = 1n;
const MS_NOSUID = 2n;
const MS_NODEV = 4n;
const MS_NOEXEC = 8n;
const MNT_DETACH = 2;

const O_NONBLOCK = 0o4000;
const O_CLOEXEC = 0o2000000;
const LOCK_EX_NB = 2 | 4;

/** Source of the mount, as mount tables show it. */
const SOURCE = "varve";

/** Readahead of the mount: the kernel's default of 128 KiB halves sequential reading. */
const READ_AHEAD_KIB = 1024;

/** Symbolic links that are followed to a mount point, as many as the kernel follows. */
const LINKS_MAX = 40;

/** How long a server has to answer before it counts as alive and busy, in milliseconds. */
const ANSWER_MS = 3000;

/** A folder that is ready to be mounted on. */
export interface MountPoint {
  /** Absolute path without symbolic links. */
  readonly path: string;
  /** Whether we made it, and so remove it afterwards. */
  readonly made: boolean;
}

/** Who may see the mount. */
export interface MountAccess {
  /** Whether other users than the one who mounts may, as far as the guest's modes let them. Default false. */
  allowOther?: boolean;
}

/** A mount that stands, not yet served. */
export interface Attached {
  /** What serves it. */
  readonly handles: DeviceHandles;
  /** Its device number, see {@linkcode MountEntry.device}. */
  readonly device: string;
}

/**
 * Makes a folder ready: creates it if it is missing, and detaches what a killed appliance left on it.
 *
 * Throws `conflict` when an appliance serves a tree there or the folder is not empty, `invalid` when it is no folder.
 * What a folder holds would be hidden, and might be the very data that this process works on: it would then wait for
 * itself.
 */
export async function prepareMountPoint(given: string): Promise<MountPoint> {
  const path = await realPath(resolve(given));
  for (let found = await treeAt(path); found !== undefined; found = await treeAt(path)) {
    if (!await isDead(path)) throw servedAlready(found);
    await detach(path, found.device);
  }
  try {
    for await (const _ of Deno.readDir(path)) {
      throw new VarveError("conflict", `Mount the tree on ${path}: the folder is not empty`, {
        hint: "Choose an empty or new folder with --mount: what is in there would be hidden.",
      });
    }
    return { path, made: false };
  } catch (thrown) {
    if (thrown instanceof Deno.errors.NotADirectory) {
      throw new VarveError("invalid", `Mount the tree on ${path}: it is not a folder`);
    }
    if (!(thrown instanceof Deno.errors.NotFound)) throw VarveError.from(thrown, `Mount the tree on ${path}`);
  }
  try {
    await Deno.mkdir(path, { recursive: true, mode: 0o755 });
  } catch (thrown) {
    throw VarveError.from(thrown, `Make the folder ${path} to mount the tree on`);
  }
  return { path: await realPath(path), made: true };
}

function servedAlready({ path, owner }: MountEntry): VarveError {
  if (owner !== undefined && owner !== Deno.uid()) {
    // Whether its server lives can't be asked: FUSE shows nothing of it to other users.
    return new VarveError("conflict", `Mount the tree on ${path}: user ${owner} has mounted a tree there`, {
      hint: `Choose another folder with --mount, or unmount it as that user: fusermount3 -u ${path}`,
    });
  }
  return new VarveError("conflict", `Mount the tree on ${path}: a tree is served there already`, {
    hint: "Stop the other appliance, or choose another folder with --mount.",
  });
}

/**
 * The path without symbolic links, as far as it exists. What is mounted at its end is not asked: a dead tree can't
 * answer, and one that hangs never does.
 */
async function realPath(given: string): Promise<string> {
  let path = given;
  for (let links = 0; links < LINKS_MAX; links++) {
    const parent = dirname(path);
    if (parent === path) return path;
    path = join(await realFolder(parent), basename(path));
    if (await treeAt(path) !== undefined) return path;
    const target = await Deno.readLink(path).catch(() => undefined);
    if (target === undefined) return path;
    path = resolve(dirname(path), target);
  }
  throw new VarveError("invalid", `Find the folder ${given}: too many symbolic links`);
}

async function realFolder(path: string): Promise<string> {
  try {
    return await Deno.realPath(path);
  } catch {
    const parent = dirname(path);
    return parent === path ? path : join(await realFolder(parent), basename(path));
  }
}

/** Whether the server of what is mounted there is gone. `statfs` asks it; attributes may come from a cache. */
async function isDead(path: string): Promise<boolean> {
  const giveUp = Promise.withResolvers<boolean>();
  const timer = setTimeout(() => giveUp.resolve(false), ANSWER_MS);
  try {
    return await Promise.race([statfs(path).then(() => false), giveUp.promise]);
  } catch (thrown) {
    // ECONNABORTED: it died while it was asked.
    return thrown instanceof Error && "code" in thrown &&
      (thrown.code === "ENOTCONN" || thrown.code === "ECONNABORTED");
  } finally {
    clearTimeout(timer);
  }
}

/**
 * Mounts the tree on a folder that is ready. Answers before anything has to be served.
 *
 * Throws `conflict` when another appliance was faster, `forbidden`, `unsupported` or `io`.
 */
export async function attach(point: MountPoint, access: MountAccess = {}): Promise<Attached> {
  // Before the lock too, for locking asks the folder, and a tree there might not answer.
  await refuseTree(point.path);
  using _lock = lockFolder(point.path);
  await refuseTree(point.path);
  const handles = await mountedDevice(point, access);
  try {
    const mounted = await treeAt(point.path);
    if (mounted !== undefined) return { handles, device: mounted.device };
    throw new VarveError("io", `Mount the tree on ${point.path}: the mount table does not show it`);
  } catch (thrown) {
    closeDevice(handles);
    throw thrown;
  }
}

async function refuseTree(path: string): Promise<void> {
  const other = await treeAt(path);
  if (other !== undefined) throw servedAlready(other);
}

async function mountedDevice(point: MountPoint, access: MountAccess): Promise<DeviceHandles> {
  if (Deno.uid() !== 0) {
    const options = ["ro", "nosuid", "nodev", "noexec", `fsname=${SOURCE}`, "subtype=varve"];
    return takeDevice(await mountByHelper(point.path, [...options, ...accessOptions(access)]));
  }
  const handles = openDevice();
  try {
    mount(handles.device, point, access);
    return handles;
  } catch (thrown) {
    closeDevice(handles);
    throw thrown;
  }
}

function accessOptions({ allowOther = false }: MountAccess): string[] {
  return allowOther ? ["default_permissions", "allow_other"] : ["default_permissions"];
}

/** Locks a folder against other appliances that are about to mount on it. Throws `conflict` when one is. */
function lockFolder(path: string): Disposable {
  const folder = libc.open(cString(path), O_NONBLOCK | O_CLOEXEC);
  if (folder < 0) throw mountFailure(path, lastErrno());
  // A file system that knows no locks answers something else; there the look at the mount table has to do.
  if (libc.flock(folder, LOCK_EX_NB) !== 0 && lastErrno() === ERRNO.EAGAIN) {
    libc.close(folder);
    throw new VarveError("conflict", `Mount the tree on ${path}: another appliance is about to do so`, {
      hint: "Choose another folder with --mount.",
    });
  }
  return { [Symbol.dispose]: () => libc.close(folder) };
}

/** Mounts, as root, the connection behind an open `/dev/fuse`. Answers before the session has to serve. */
export function mount(device: number, point: MountPoint, access: MountAccess = {}): void {
  const own = [`fd=${device}`, "rootmode=40000", "user_id=0", "group_id=0"];
  const options = cString([...own, ...accessOptions(access)].join(","));
  const flags = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC;
  if (libc.mount(cString(SOURCE), cString(point.path), cString(MOUNT_TYPE), flags, options) === 0) return;
  throw mountFailure(point.path, lastErrno());
}

function mountFailure(path: string, errno: number): VarveError {
  const message = `Mount the tree on ${path}: ${errnoName(errno)}`;
  switch (errno) {
    case ERRNO.EPERM:
      return new VarveError("forbidden", message, { hint: "Root needs CAP_SYS_ADMIN to mount." });
    case ERRNO.EACCES:
      return new VarveError("forbidden", message);
    case ERRNO.ENODEV:
      return new VarveError("unsupported", message, { hint: "Load the kernel module: modprobe fuse." });
    default:
      return new VarveError("io", message);
  }
}

/** Lets the kernel read further ahead; where that is not allowed, reading is slower and right all the same. */
export async function raiseReadAhead({ device }: Pick<Attached, "device">): Promise<void> {
  try {
    await Deno.writeTextFile(`/sys/class/bdi/${device}/read_ahead_kb`, `${READ_AHEAD_KIB}`, {
      create: false,
    });
  } catch (thrown) {
    if (!(thrown instanceof Error && "code" in thrown)) throw thrown;
  }
}

/**
 * Takes the tree away from the path at once; does nothing when another kind of mount, or none, shows there, or a tree
 * with another device number than the one given. Clients that are inside keep it alive, so it must be served on
 * until the device says that it is gone. Throws `io` when it can't be taken away.
 */
export async function detach(path: string, device?: string): Promise<void> {
  const shows = async () => {
    const shown = await treeAt(path);
    return shown !== undefined && (device === undefined || shown.device === device);
  };
  if (!await shows()) return;
  const done = Deno.uid() === 0
    ? await libc.umount2(cString(path), MNT_DETACH) === 0
    : await unmountByHelper(path);
  if (done || !await shows()) return;
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

/**
 * Has the kernel mount a disk that another process serves, so that nobody but this process can reach it.
 *
 * ```
 * disk process --FUSE-->  one file  --loop device-->  a block device  --mount, read-only-->  the guest's files
 * ```
 *
 * Neither of the two mounts is ever attached to a folder: each exists by its descriptor alone (fsmount(2)), in no namespace and in no
 * table of mounts. The loop device clears itself when its last user is gone. So all of it goes with its descriptors, and the
 * kernel closes those however the process ends.
 *
 * The block device can be written, because the drivers refuse to replay a journal on one that cannot: what they write stays in the
 * disk process's overlay.
 *
 * @module
 */
import { lastErrno } from "../../src/base/errno.ts";
import { VarveError } from "../../src/base/errors.ts";
import { cString } from "../libc.ts";
import { KernelLog } from "./kernel_log.ts";
import { checked, ERRNO_HERE, libc, OPEN } from "./libc.ts";
import { Descriptors, newMount, unsupported } from "./new_mount.ts";

/** MOUNT_ATTR_RDONLY, _NOSUID, _NODEV, _NOEXEC */
const READ_ONLY_ATTRIBUTES = 1 | 2 | 4 | 8;

const LOOP_CTL_GET_FREE = 0x4c82n;
const LOOP_CONFIGURE = 0x4c0an;
/** Fields of `struct loop_config` of `linux/loop.h` that are set, by their offset. */
const LOOP_CONFIG = { BYTES: 304, fd: 0, flags: 8 + 52, name: 8 + 56, nameBytes: 63 } as const;
const LO_FLAGS_AUTOCLEAR = 4;
/** Others may take a free loop device between our asking for one and our taking it. */
const LOOP_ATTEMPTS = 32;

const STATX_BUFFER_BYTES = 256;
const AT_EMPTY_PATH = 0x1000;
const AT_STATX_FORCE_SYNC = 0x2000;
const STATX_SIZE = 0x200;

/**
 * What drivers need besides `ro`. The `errors` ones matter most: some formats keep in the superblock what the kernel is to do about
 * damage, and one of the choices is to panic.
 */
const OPTIONS: Readonly<Record<string, readonly (readonly [string, string?])[]>> = {
  // Another moment of the same disk, or the disk itself, may be mounted at the same time.
  xfs: [["nouuid"]],
  ext4: [["errors", "remount-ro"]],
  jfs: [["errors", "remount-ro"]],
  nilfs2: [["errors", "remount-ro"]],
  exfat: [["errors", "remount-ro"]],
  // Inode numbers that are the same in the next mount.
  vfat: [["errors", "remount-ro"], ["nfs", "nostale_ro"]],
};

/** A disk that the kernel reads. */
export class KernelMount implements Disposable {
  /** Descriptor of the root directory. */
  readonly root: number;
  readonly #descriptors: Descriptors;

  private constructor(root: number, descriptors: Descriptors) {
    this.root = root;
    this.#descriptors = descriptors;
  }

  /**
   * Mounts a disk, given the path of its served file, by one of the kernel's drivers. Throws `unsupported` or `damaged` with what the
   * kernel says when it refuses, or when this host lacks something for it.
   */
  static open(disk: string, type: string): KernelMount {
    using opening = new DisposableStack();
    const descriptors = opening.use(new Descriptors());
    const file = openServedFile(disk, descriptors);
    const loop = attachLoop(file, `varve ${type}`, descriptors);
    const mount = mountLoop(loop.path, type, descriptors);
    const root = descriptors.add(
      openAt(mount, ".", OPEN.directory | OPEN.noAccessTime | OPEN.closeOnExec),
      "open the root",
    );
    opening.move();
    return new KernelMount(root, descriptors);
  }

  /** Unmounts, which ends the loop device and lets the disk server's mount go. */
  [Symbol.dispose](): void {
    this.#descriptors[Symbol.dispose]();
  }
}

function openAt(directory: number, path: string, flags: number): number {
  return libc.openat(directory, cString(path), flags);
}

/** Waits until it is served. */
function openServedFile(path: string, descriptors: Descriptors): number {
  const file = descriptors.add(
    libc.open(cString(path), OPEN.readWrite | OPEN.closeOnExec),
    "open the served disk",
  );
  // The size is not known before it is asked for, and the loop device does not ask.
  const flags = AT_EMPTY_PATH | AT_STATX_FORCE_SYNC;
  checked(
    libc.statx(file, cString(""), flags, STATX_SIZE, new Uint8Array(STATX_BUFFER_BYTES)),
    "ask for the size of the served disk",
  );
  return file;
}

function attachLoop(file: number, name: string, descriptors: Descriptors): { path: string } {
  const none = new Uint8Array(8);
  const config = new Uint8Array(LOOP_CONFIG.BYTES);
  const view = new DataView(config.buffer);
  view.setUint32(LOOP_CONFIG.fd, file, true);
  view.setUint32(LOOP_CONFIG.flags, LO_FLAGS_AUTOCLEAR, true);
  config.set(new TextEncoder().encode(name).subarray(0, LOOP_CONFIG.nameBytes), LOOP_CONFIG.name);
  using control = new Descriptors();
  const flags = OPEN.readWrite | OPEN.closeOnExec;
  const controller = control.add(
    libc.open(cString("/dev/loop-control"), flags),
    "make a loop device: open /dev/loop-control",
  );
  for (let attempt = 1;; attempt++) {
    const number = libc.ioctl(controller, LOOP_CTL_GET_FREE, none);
    if (number < 0) throw unsupported("make a loop device", lastErrno());
    const path = `/dev/loop${number}`;
    const loop = libc.open(cString(path), flags);
    if (loop < 0) throw unsupported(`make a loop device: open ${path}`, lastErrno());
    if (libc.ioctl(loop, LOOP_CONFIGURE, config) === 0) {
      // Held open until the end: it would clear itself between here and the mount.
      descriptors.add(loop, "make a loop device");
      return { path };
    }
    const errno = lastErrno();
    libc.close(loop);
    if (errno !== ERRNO_HERE.EBUSY || attempt === LOOP_ATTEMPTS) {
      throw unsupported(`make a loop device of ${path}`, errno);
    }
  }
}

function mountLoop(path: string, type: string, descriptors: Descriptors): number {
  using log = new KernelLog();
  try {
    return newMount(type, {
      options: [["source", path], ["ro"], ...OPTIONS[type] ?? []],
      attributes: READ_ONLY_ATTRIBUTES,
    }, descriptors);
  } catch (thrown) {
    if (!(thrown instanceof VarveError)) throw thrown;
    const lines = log.linesAbout(path.slice("/dev/".length));
    if (lines.length === 0) throw thrown;
    throw new VarveError(thrown.code, `${thrown.message} (the kernel's log: ${lines.join("; ")})`);
  }
}

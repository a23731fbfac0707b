/** Cuts of an image that is being written: what the disk would hold if the power failed at that moment. */
import { differences, type FileFacts, ImageDevice, run, TemporaryFolder } from "../_test_support.ts";
import { describeTree } from "../_test_support.ts";
import { type Kernel, Mount } from "../_kernel_mount.ts";
import { openGuestDisk } from "../guest_disk.ts";
import type { GuestFileSystem } from "../guest.ts";
import { SB, SUPERBLOCK_OFFSET } from "./format.ts";
import { u32 } from "../_bytes.ts";

const INODE_STEP = 2 ** 34;

/**
 * A folder on a file system of its own that shares blocks between files. A copy that shares them is taken between two
 * writes, so that it holds the first writes of those that an image got, and none that came later.
 */
export class CutFolder implements AsyncDisposable {
  readonly path: string;
  readonly #folder: TemporaryFolder;
  readonly #mount: Mount;
  #cuts = 0;

  private constructor(folder: TemporaryFolder, mount: Mount) {
    this.#folder = folder;
    this.#mount = mount;
    this.path = mount.path;
  }

  static async open(): Promise<CutFolder> {
    const folder = new TemporaryFolder();
    try {
      // In memory: the tests wait for every flush of three file systems, one on the other.
      await run("mount", "-t", "tmpfs", "-o", "size=2G", "varve-test", folder.path);
      try {
        const image = `${folder.path}/xfs`;
        await run("truncate", "-s", "8G", image);
        await run("mkfs.xfs", "-q", "-m", "reflink=1", image);
        return new CutFolder(folder, await Mount.open(image, "nouuid", "xfs"));
      } catch (thrown) {
        await run("umount", folder.path);
        throw thrown;
      }
    } catch (thrown) {
      await folder[Symbol.asyncDispose]();
      throw thrown;
    }
  }

  /** An empty btrfs in a sparse image. */
  async make(...options: string[]): Promise<string> {
    const image = `${this.path}/image`;
    await run("truncate", "-s", "256M", image);
    await run("mkfs.btrfs", "-q", "-f", ...options, image);
    return image;
  }

  /** Cuts an image now. */
  async cut(image: string): Promise<string> {
    const path = `${this.path}/cut${this.#cuts++}`;
    await run("cp", "--reflink=always", image, path);
    return path;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#mount[Symbol.asyncDispose]();
    await run("umount", this.#folder.path);
    await this.#folder[Symbol.asyncDispose]();
  }
}

/** Whether a cut holds a log that a mount replays. */
export function hasLog(device: ImageDevice): boolean {
  const bytes = new Uint8Array(8);
  device.read(SUPERBLOCK_OFFSET + SB.logRoot, bytes);
  return u32(bytes, 0) !== 0 || u32(bytes, 4) !== 0;
}

/** The file system of an image. */
export function openImage(device: ImageDevice): GuestFileSystem {
  const [partition] = openGuestDisk(device).partitions;
  if (partition?.fileSystem === undefined) throw new Error(`${partition?.reason}`);
  return partition.fileSystem;
}

/**
 * Where our tree of a cut and that of the kernel's mount of it differ, and whether it has a log. Known exceptions are no
 * difference: the numbers of subvolumes, which the kernel tells by device numbers, and times that the replay set to now.
 */
export async function compareCut(cut: string, kernel: Kernel): Promise<{ found: string[]; logged: boolean }> {
  using device = new ImageDevice(cut);
  const ours = describeTree(openImage(device), device);
  const mounted = BigInt(Date.now()) * 1_000_000n;
  const copy = `${cut}.kernel`;
  await run("cp", "--reflink=always", cut, copy);
  try {
    await using mount = await Mount.open(copy, "noatime", "btrfs");
    const theirs = kernel.describeTree(mount.path);
    return { found: differences(forgive(ours, theirs, mounted), theirs), logged: hasLog(device) };
  } finally {
    await Deno.remove(copy);
  }
}

function forgive(
  ours: ReadonlyMap<string, FileFacts>,
  theirs: ReadonlyMap<string, FileFacts>,
  mounted: bigint,
): Map<string, FileFacts> {
  const forgiven = new Map<string, FileFacts>();
  for (const [path, facts] of ours) {
    const other = theirs.get(path)?.stat;
    const stat = { ...facts.stat };
    const standIn = Math.floor(stat.inode / INODE_STEP) % 2 === 1;
    stat.inode = standIn ? 2 : stat.inode % INODE_STEP;
    for (const time of ["modifiedNs", "changedNs"] as const) {
      const set = other?.[time];
      if (set !== undefined && set >= mounted) stat[time] = set;
    }
    forgiven.set(path, { ...facts, stat });
  }
  return forgiven;
}

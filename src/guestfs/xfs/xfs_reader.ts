/**
 * The reader of XFS file systems, versions 4 and 5.
 *
 * A file system that was in use when the moment was captured still has its newest metadata in its log; opening
 * replays that in memory (see `replay.ts`), so what is shown is what a mount at that moment would show. Not done:
 * the deletion of files that were unlinked while open, which no name shows anyway.
 *
 * @module
 */
import type { BlockDevice } from "../../base/block_device.ts";
import { VarveError } from "../../base/errors.ts";
import { u32be } from "../_bytes.ts";
import type {
  ContentRun,
  GuestEntry,
  GuestFileSystem,
  GuestReader,
  GuestStat,
  GuestXattr,
} from "../guest.ts";
import { findInDirectory, listDirectory } from "./directory.ts";
import { mapContent, readContent, readTarget } from "./file_content.ts";
import { SB_MAGIC, SECTOR_BYTES } from "./format.ts";
import { type Inode, InodeTable } from "./inode.ts";
import { replayLog } from "./replay.ts";
import { SectorOverlay } from "./sector_overlay.ts";
import { measureSpace } from "./space.ts";
import { readSuperblock } from "./superblock.ts";
import { XfsVolume } from "./volume.ts";
import { readXattrs } from "./xattr.ts";

/** The reader of XFS. */
export const XFS_READER: GuestReader = { what: "an XFS file system", looksLike: looksLikeXfs, open: openXfs };

/** Whether a device starts with the magic number of XFS. */
export function looksLikeXfs(device: BlockDevice): boolean {
  if (device.sizeBytes < SECTOR_BYTES) return false;
  const bytes = new Uint8Array(SECTOR_BYTES);
  device.read(0, bytes);
  return u32be(bytes, 0) === SB_MAGIC;
}

/**
 * Opens an XFS file system, and replays its log in memory when that is needed. Throws `damaged` when the file system
 * or its log is, `unsupported` for features that Varve does not know and for a log on another device.
 */
export function openXfs(device: BlockDevice): GuestFileSystem {
  const stored = readSuperblock(device, new SectorOverlay());
  if (stored.logStart === 0) {
    throw new VarveError(
      "unsupported",
      "opening an XFS file system: its log lies on another device, so nobody can tell what is still in it",
      { hint: "Recover both disks and mount them together." },
    );
  }
  const { overlay, pending } = replayLog(device, stored);
  return new XfsReader(new XfsVolume(device, readSuperblock(device, overlay), overlay, pending));
}

class XfsReader implements GuestFileSystem {
  readonly kind = "xfs";
  readonly label: string;
  readonly root: number;
  readonly keepsChangeTimes = true;
  readonly #volume: XfsVolume;
  readonly #inodes: InodeTable;
  #space: GuestFileSystem["space"] | undefined;

  constructor(volume: XfsVolume) {
    this.#volume = volume;
    this.#inodes = new InodeTable(volume);
    this.label = volume.superblock.label;
    this.root = volume.superblock.rootInode;
    this.#directory(this.root);
  }

  get space(): GuestFileSystem["space"] {
    this.#space ??= measureSpace(this.#volume);
    return this.#space;
  }

  stat(inode: number): GuestStat {
    return this.#inodes.get(inode).stat;
  }

  lookup(directory: number, name: Uint8Array): number | undefined {
    return findInDirectory(this.#volume, this.#directory(directory), name);
  }

  readDirectory(directory: number): GuestEntry[] {
    return listDirectory(this.#volume, this.#directory(directory));
  }

  read(inode: number, offset: number, target: Uint8Array): number {
    return readContent(this.#volume, this.#file(inode, offset), offset, target);
  }

  map(inode: number, offset: number, length: number): ContentRun[] {
    return mapContent(this.#volume, this.#file(inode, offset), offset, length);
  }

  readLink(number: number): Uint8Array {
    const inode = this.#inodes.get(number);
    if (inode.stat.type !== "symlink") {
      throw new VarveError("invalid", `reading the target of inode ${number}: it is a ${inode.stat.type}`);
    }
    return readTarget(this.#volume, inode);
  }

  xattrs(inode: number): GuestXattr[] {
    return readXattrs(this.#volume, this.#inodes.get(inode));
  }

  #directory(number: number): Inode {
    const inode = this.#inodes.get(number);
    if (inode.stat.type !== "directory") {
      throw new VarveError("invalid", `reading directory ${number}: it is a ${inode.stat.type}`);
    }
    return inode;
  }

  #file(number: number, offset: number): Inode {
    if (!(Number.isSafeInteger(offset) && offset >= 0)) {
      throw new VarveError("invalid", `reading inode ${number}: offset ${offset}`);
    }
    const inode = this.#inodes.get(number);
    if (inode.stat.type !== "file") {
      throw new VarveError("invalid", `reading inode ${number}: it is a ${inode.stat.type}`);
    }
    return inode;
  }
}

/**
 * The reader of ext2, ext3 and ext4 file systems.
 *
 * A file system that was in use when the moment was captured still has its newest metadata in its journal;
 * opening replays that in memory (see `journal.ts`), so what is shown is what a mount at that moment would
 * show. Not done: the deletion of files that were unlinked while open, which no name shows anyway; directory
 * times after a fast commit stay as they were committed, where the kernel would set the time of its replay.
 *
 * @module
 */
import type { BlockDevice } from "../../base/block_device.ts";
import { VarveError } from "../../base/errors.ts";
import { damaged, isZero, u16, u32 } from "../_bytes.ts";
import type {
  ContentRun,
  GuestEntry,
  GuestFileSystem,
  GuestReader,
  GuestStat,
  GuestXattr,
} from "../guest.ts";
import { findInDirectory, listDirectory } from "./directory.ts";
import { applyFastCommits } from "./fast_commit.ts";
import { isInline, mapContent, readContent, refuseEncrypted } from "./file_content.ts";
import { COMPAT, EXT_MAGIC, INCOMPAT, INODE_BLOCK_BYTES, ROOT_INODE, SB } from "./format.ts";
import { SUPERBLOCK_BYTES, SUPERBLOCK_OFFSET } from "./format.ts";
import type { Inode } from "./inode.ts";
import { readJournal } from "./journal.ts";
import { extKind, parseSuperblock } from "./superblock.ts";
import { ExtVolume } from "./volume.ts";
import { readXattrs } from "./xattr.ts";

/** The reader of ext2, ext3 and ext4. */
export const EXT_READER: GuestReader = { what: "an ext file system", looksLike: looksLikeExt, open: openExt };

/** Whether a device starts like an ext file system: its magic number, and a block size that exists. */
export function looksLikeExt(device: BlockDevice): boolean {
  if (device.sizeBytes < SUPERBLOCK_OFFSET + SUPERBLOCK_BYTES) return false;
  const bytes = new Uint8Array(SUPERBLOCK_BYTES);
  device.read(SUPERBLOCK_OFFSET, bytes);
  return u16(bytes, SB.magic) === EXT_MAGIC && u32(bytes, SB.logBlockSize) <= 6 &&
    !isZero(bytes.subarray(0, SB.magic));
}

/**
 * Opens an ext2, ext3 or ext4 file system, and replays its journal in memory when that is needed. Throws
 * `damaged` when the file system or its journal is, `unsupported` for features that Varve does not know and
 * for a journal on another device that would have to be replayed.
 */
export function openExt(device: BlockDevice): GuestFileSystem {
  const bytes = new Uint8Array(SUPERBLOCK_BYTES);
  device.read(SUPERBLOCK_OFFSET, bytes);
  const { blockBytes, compat, incompat, journalInode } = parseSuperblock(bytes, device.sizeBytes);
  const volume = new ExtVolume(device, blockBytes, new Map());
  if ((compat & COMPAT.hasJournal) === 0 || (incompat & INCOMPAT.recover) === 0) return new ExtReader(volume);
  if (journalInode === 0) {
    throw new VarveError(
      "unsupported",
      "opening an ext file system: its journal lies on another device and was not yet replayed",
      { hint: "Recover both disks and mount them together." },
    );
  }
  const { blocks, fastCommits } = readJournal(volume);
  const replayed = new ExtVolume(device, blockBytes, blocks);
  if (replayed.superblock.blockBytes !== blockBytes) {
    throw damaged("replaying the journal", "it changes the size of blocks");
  }
  applyFastCommits(replayed, fastCommits);
  return new ExtReader(replayed);
}

class ExtReader implements GuestFileSystem {
  readonly kind: string;
  readonly label: string;
  readonly root = ROOT_INODE;
  readonly keepsChangeTimes = true;
  readonly #volume: ExtVolume;
  #space: GuestFileSystem["space"] | undefined;

  constructor(volume: ExtVolume) {
    this.#volume = volume;
    this.kind = extKind(volume.superblock);
    this.label = volume.superblock.label;
    this.#directory(ROOT_INODE);
  }

  get space(): GuestFileSystem["space"] {
    this.#space ??= this.#measure();
    return this.#space;
  }

  stat(inode: number): GuestStat {
    return this.#volume.inodes.get(inode).stat;
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
    const inode = this.#volume.inodes.get(number);
    if (inode.type !== "symlink") {
      throw new VarveError("invalid", `reading the target of inode ${number}: it is a ${inode.type}`);
    }
    refuseEncrypted(inode);
    const { sizeBytes } = inode;
    const { blockBytes, clusterBlocks } = this.#volume.superblock;
    if (sizeBytes === 0 || sizeBytes > blockBytes) {
      throw damaged(`reading the target of inode ${number}`, `${sizeBytes} bytes`);
    }
    // A short target lies in the inode: then no block is counted but that of the attributes.
    const xattrBlocks512 = inode.xattrBlock === 0 ? 0 : clusterBlocks * blockBytes / 512;
    if (!isInline(inode) && inode.stat.blocks512 === xattrBlocks512) {
      if (sizeBytes >= INODE_BLOCK_BYTES) {
        throw damaged(`reading the target of inode ${number}`, `${sizeBytes} bytes within the inode`);
      }
      return inode.blockArea.slice(0, sizeBytes);
    }
    const target = new Uint8Array(sizeBytes);
    readContent(this.#volume, inode, 0, target);
    return target;
  }

  xattrs(inode: number): GuestXattr[] {
    return readXattrs(this.#volume, this.#volume.inodes.get(inode));
  }

  #directory(number: number): Inode {
    const inode = this.#volume.inodes.get(number);
    if (inode.type !== "directory") {
      throw new VarveError("invalid", `reading directory ${number}: it is a ${inode.type}`);
    }
    refuseEncrypted(inode);
    return inode;
  }

  #file(number: number, offset: number): Inode {
    if (!(Number.isSafeInteger(offset) && offset >= 0)) {
      throw new VarveError("invalid", `reading inode ${number}: offset ${offset}`);
    }
    const inode = this.#volume.inodes.get(number);
    if (inode.type !== "file") {
      throw new VarveError("invalid", `reading inode ${number}: it is a ${inode.type}`);
    }
    refuseEncrypted(inode);
    return inode;
  }

  #measure(): GuestFileSystem["space"] {
    const { superblock, groups, inodes } = this.#volume;
    const { blockBytes, blockCount, inodeCount, compat, journalInode } = superblock;
    const internal = superblock.clusterBlocks === 1 && (compat & COMPAT.hasJournal) !== 0 &&
      journalInode !== 0;
    const journal = internal ? Math.floor(inodes.getAny(journalInode).sizeBytes / blockBytes) : 0;
    const free = groups.free();
    return {
      blockBytes,
      blocks: Math.max(0, blockCount - groups.overheadBlocks() - journal),
      freeBlocks: free.blocks,
      inodes: inodeCount,
      freeInodes: free.inodes,
    };
  }
}

/**
 * Files of one moment, for whoever shows them: what a guest reader found, wherever it runs.
 *
 * @module
 */
import type { Awaitable } from "../base/awaitable.ts";
import type { ErrorCode } from "../base/errors.ts";
import type { DiskPiece, GuestFileSystem, GuestFileType, GuestStat, GuestXattr } from "../guestfs/guest.ts";

/** One name in a directory. */
export interface PastEntry {
  /** The name as the guest stores it. */
  readonly name: Uint8Array;
  /** Inode that the name leads to. */
  readonly inode: number;
  /** Type if it is known. */
  readonly type: GuestFileType | undefined;
  /** What the guest keeps about the inode; `undefined` when that cannot be read. */
  readonly stat: GuestStat | undefined;
}

/** A directory's names, in the order of the guest. */
export interface PastListing {
  /** How many. */
  readonly length: number;
  /** One of them, from 0 on. */
  at(index: number): PastEntry;
}

/**
 * A file system of the past. Methods throw, or reject with, `VarveError`: `damaged`, `unsupported`, `invalid` and `not-found` are
 * facts about the moment, `io` and `cancelled` may pass.
 */
export interface PastFileSystem
  extends Pick<GuestFileSystem, "kind" | "label" | "root" | "keepsChangeTimes"> {
  /** Total and free space as `statfs` shows them. */
  space(): Awaitable<GuestFileSystem["space"]>;
  /** What is known of an inode. */
  stat(inode: number): Awaitable<GuestStat>;
  /** What is known of the inode behind a name, or `undefined`. */
  lookup(directory: number, name: Uint8Array): Awaitable<GuestStat | undefined>;
  /** Every name in a directory. */
  list(directory: number): Awaitable<PastListing>;
  /** The target of a symbolic link. */
  readLink(inode: number): Awaitable<Uint8Array>;
  /** All extended attributes of an inode. */
  xattrs(inode: number): Awaitable<readonly GuestXattr[]>;
  /** Reads file content; answers the number of bytes put in `target`, short only at the end of the file. */
  read(inode: number, offset: number, target: Uint8Array): Awaitable<number>;
  /**
   * The first offset at or after `offset` of that kind, the end of the file counting as a hole; `undefined` when there is none.
   */
  seek(inode: number, offset: number, kind: "data" | "hole"): Awaitable<number | undefined>;
}

/** A partition, a logical volume, or the whole disk. */
export interface PastPartition {
  /** As in `GuestPartition`. */
  readonly name: string;
  /** Where it lies on the disk. */
  readonly pieces: readonly DiskPiece[];
  /** Its file system, or `undefined` when none that can be read was found. */
  readonly fileSystem: PastFileSystem | undefined;
  /** Why there is no file system, as a sentence for people; set exactly when `fileSystem` is `undefined`. */
  readonly reason: string | undefined;
  /** As in `GuestPartition`. */
  readonly refusal?: ErrorCode;
  /** What could be done about that, in sentences for people. */
  readonly hint?: string;
}

/** What the disk of a moment holds. */
export interface PastDisk {
  /** How it is divided. */
  readonly table: "none" | "mbr" | "gpt";
  /** As in `GuestDisk`. */
  readonly partitions: readonly PastPartition[];
}

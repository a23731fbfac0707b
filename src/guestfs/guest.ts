/**
 * What every guest file-system reader offers, whatever the format.
 *
 * Readers are synchronous and read-only; they are given a {@linkcode BlockDevice} and nothing else. Input is
 * hostile: any structure may be damaged on purpose. A reader answers with data, or throws a `VarveError`
 * (`damaged`, `io`, `unsupported`, `not-found`, `invalid`); it never loops without bound and never allocates
 * by a size it has not checked.
 *
 * @module
 */
import type { BlockDevice } from "../base/block_device.ts";

/** The closed set of file types. */
export type GuestFileType = "file" | "directory" | "symlink" | "fifo" | "socket" | "block" | "character";

/** What the guest keeps about one inode. */
export interface GuestStat {
  /** The guest's own inode number, unique within its file system. */
  readonly inode: number;
  /** Kind of file. */
  readonly type: GuestFileType;
  /** Permission bits with set-user-id, set-group-id and sticky: the low 12 bits of `st_mode`. */
  readonly mode: number;
  /** Owner. */
  readonly uid: number;
  /** Group. */
  readonly gid: number;
  /** Number of hard links. */
  readonly links: number;
  /** Size in bytes; for a symlink the length of its target. */
  readonly sizeBytes: number;
  /** Space taken, in units of 512 bytes, as `st_blocks`. */
  readonly blocks512: number;
  /** Device number (`makedev` encoding of Linux) for block and character files, else 0. */
  readonly rdev: number;
  /** Last access, in nanoseconds since 1970. */
  readonly accessedNs: bigint;
  /** Last change of content, in nanoseconds since 1970. */
  readonly modifiedNs: bigint;
  /** Last change of the inode, in nanoseconds since 1970. */
  readonly changedNs: bigint;
  /** Creation, in nanoseconds since 1970, where the guest keeps it. */
  readonly bornNs?: bigint;
}

/** One name in a directory. Names are bytes: a guest need not use UTF-8. */
export interface GuestEntry {
  /** The name as the guest stores it, without `.` and `..`. */
  readonly name: Uint8Array;
  /** Inode that the name leads to. */
  readonly inode: number;
  /** Type if the directory tells it, else `undefined`: `stat` knows. */
  readonly type: GuestFileType | undefined;
}

/** One extended attribute, with the full name as Linux shows it (`user.x`, `system.posix_acl_access`). */
export interface GuestXattr {
  /** Full name in UTF-8 bytes. */
  readonly name: Uint8Array;
  /** Value as `getxattr` would return it on Linux (ACLs already in the `posix_acl_xattr` form). */
  readonly value: Uint8Array;
}

/** A file system found on a device, open for reading. */
export interface GuestFileSystem {
  /** Short name of the format, for example `ext4`. */
  readonly kind: string;
  /** Volume label, or an empty string. */
  readonly label: string;
  /** Inode number of the root directory. */
  readonly root: number;
  /** Total and free space as `statfs` shows them. */
  readonly space: {
    readonly blockBytes: number;
    readonly blocks: number;
    readonly freeBlocks: number;
    readonly inodes: number;
    readonly freeInodes: number;
  };
  /** What is known of an inode. Throws `not-found` when it is free. */
  stat(inode: number): GuestStat;
  /** The inode behind a name in a directory, or `undefined`. Must not read the whole directory when an index exists. */
  lookup(directory: number, name: Uint8Array): number | undefined;
  /** Every name in a directory, in the order of the guest, without `.` and `..`. */
  readDirectory(directory: number): GuestEntry[];
  /** Reads file content; returns the number of bytes put in `target`, short only at the end of the file. */
  read(inode: number, offset: number, target: Uint8Array): number;
  /** The target of a symbolic link. */
  readLink(inode: number): Uint8Array;
  /** All extended attributes of an inode. */
  xattrs(inode: number): GuestXattr[];
  /** Data and holes of a file, for `SEEK_DATA` and `SEEK_HOLE`: the first offset at or after `offset` of that kind, or `undefined`. */
  seek(inode: number, offset: number, kind: "data" | "hole"): number | undefined;
}

/** A partition, or the whole device, and what was found there. */
export interface GuestPartition {
  /** `p1`, `p2`, … in the order of the table; an empty string when the whole device is one file system. */
  readonly name: string;
  /** First byte on the device. */
  readonly offset: number;
  /** Length in bytes. */
  readonly length: number;
  /** The file system, or `undefined` when none that can be read was found. */
  readonly fileSystem: GuestFileSystem | undefined;
  /** Why there is no file system, as a sentence for people; set exactly when `fileSystem` is `undefined`. */
  readonly reason: string | undefined;
}

/** What a device holds: one nameless partition, or those of its table. */
export interface GuestDisk {
  /** How the device is divided. */
  readonly table: "none" | "mbr" | "gpt";
  /** At least one entry when `table` is `none`; may be empty for an empty table. */
  readonly partitions: readonly GuestPartition[];
}

/** Finds out what a device holds. `src/guestfs/mod.ts` exports the implementation as `openGuestDisk`. */
export type OpenGuestDisk = (device: BlockDevice) => GuestDisk;

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
import type { ErrorCode } from "../base/errors.ts";

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

/** A run of a file's content, and where its bytes are. */
export type ContentRun =
  /** They lie as they are on the file system's device from `deviceOffset` on. */
  | { readonly kind: "stored"; readonly length: number; readonly deviceOffset: number }
  /** They are zeroes that take no space. */
  | { readonly kind: "hole"; readonly length: number }
  /** Only `read` can tell them: they lie within the inode, are compressed, or lie on the device in another form. */
  | { readonly kind: "made"; readonly length: number };

/** A file system found on a device, open for reading. */
export interface GuestFileSystem {
  /** Short name of the format, for example `ext4`. */
  readonly kind: string;
  /** Volume label, or an empty string. */
  readonly label: string;
  /** Inode number of the root directory. */
  readonly root: number;
  /**
   * Whether a file whose inode number, size, `changedNs` and place on the disk are what they were has not been changed in between, but
   * for writes in that place. Formats without a time of change say `false`.
   */
  readonly keepsChangeTimes: boolean;
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
  /**
   * Where the content of a file lies from `offset` on: at least one run, one behind the other, together at most `length` bytes and
   * fewer where an answer would take long; none at or beyond the end of the file. Whoever holds the device reads stored runs from
   * there, without this reader.
   */
  map(inode: number, offset: number, length: number): ContentRun[];
}

/** How one format is recognised and read. */
export interface GuestReader {
  /** What a device of this format holds, as in "the partition holds …": `an ext file system`. */
  readonly what: string;
  /** Whether a device starts like this format; reads little, and throws only what the device throws. */
  looksLike(device: BlockDevice): boolean;
  /** Opens it. Throws `damaged` and `unsupported`, with a message that says what was found. */
  open(device: BlockDevice): GuestFileSystem;
}

/** A run of bytes of a partition, and where it lies on the disk. */
export interface DiskPiece {
  /** First byte on the disk. */
  readonly offset: number;
  /** Number of bytes. */
  readonly length: number;
}

/** A partition, a logical volume in one, or the whole device, and what was found there. */
export interface GuestPartition {
  /**
   * `p1`, `p2`, … in the order of the table; an empty string when the whole device is one file system. A logical volume has its
   * name behind that of its partition, as in `p2/root`, or alone.
   */
  readonly name: string;
  /** Where it lies on the disk, in its own order: one piece unless it is a logical volume of several. */
  readonly pieces: readonly DiskPiece[];
  /** The file system, or `undefined` when none that can be read was found. */
  readonly fileSystem: GuestFileSystem | undefined;
  /** Why there is no file system, as a sentence for people; set exactly when `fileSystem` is `undefined`. */
  readonly reason: string | undefined;
  /** Code of the error with which a reader that knows the format refused it, if one did. */
  readonly refusal?: ErrorCode;
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

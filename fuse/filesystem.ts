/**
 * What a file system offers to the session that serves it: a tree of nodes.
 *
 * The session keeps the kernel's books (node numbers, look-up counts, handles, time-outs) and knows nothing of
 * what is served; a file system knows nothing of the protocol. All of it is read-only.
 *
 * Every method may answer at once or with a promise. Answering at once is the fast way: a promise costs the
 * request a turn of the event loop. What a method throws is translated by `errnoOfThrown`.
 *
 * @module
 */
import type { Awaitable } from "../src/base/awaitable.ts";
import type { GuestFileType } from "../src/guestfs/guest.ts";

/** What `stat` shows of a node. */
export interface Attributes {
  /** Inode number, unique within the mount: `st_ino`. */
  readonly inode: bigint;
  /** Kind of file. */
  readonly type: GuestFileType;
  /** The low 12 bits of `st_mode`. */
  readonly mode: number;
  /** Owner. */
  readonly uid: number;
  /** Group. */
  readonly gid: number;
  /** Number of hard links. */
  readonly links: number;
  /** Size in bytes. */
  readonly sizeBytes: number;
  /** Space taken, in units of 512 bytes. */
  readonly blocks512: number;
  /** Device number of block and character files, else 0. */
  readonly rdev: number;
  /** Last access, in nanoseconds since 1970. */
  readonly accessedNs: bigint;
  /** Last change of content, in nanoseconds since 1970. */
  readonly modifiedNs: bigint;
  /** Last change of the inode, in nanoseconds since 1970. */
  readonly changedNs: bigint;
}

/** What `statfs` shows. */
export interface Space {
  /** Size of the blocks that the other numbers count. */
  readonly blockBytes: number;
  /** Blocks in all. */
  readonly blocks: number;
  /** Blocks not in use. */
  readonly freeBlocks: number;
  /** Inodes in all. */
  readonly inodes: number;
  /** Inodes not in use. */
  readonly freeInodes: number;
}

/** An extended attribute. */
export interface Xattr {
  /** Full name as bytes, for example that of `user.comment`. */
  readonly name: Uint8Array;
  /** Its value. */
  readonly value: Uint8Array;
}

interface AnyNode {
  /**
   * Identity: two nodes with equal keys are one and the same to the kernel, which then keeps one set of cached
   * pages, names and attributes for them. A directory must have one key for each path that leads to it, because
   * Linux knows a directory by one name only; files may share a key between names.
   */
  readonly key: string;
  /** How long the kernel may keep the attributes, in seconds; 0 asks each time. */
  readonly attributeSeconds: number;
  /** What `stat` shows. */
  attributes(): Awaitable<Attributes>;
  /** Extended attributes; a node without the method has none. */
  xattrs?(): Awaitable<readonly Xattr[]>;
  /** What `statfs` shows; a node without the method shows an empty file system. */
  space?(): Awaitable<Space>;
}

/** A directory. */
export interface DirectoryNode extends AnyNode {
  readonly kind: "directory";
  /** Nothing below ever changes: the kernel may keep listings and the absence of names. */
  readonly immutable: boolean;
  /** The node behind a name, or `undefined`. The name is the callee's to keep. */
  lookup(name: Uint8Array): Awaitable<Found | undefined>;
  /** All names, without `.` and `..`. */
  list(): Awaitable<readonly ListedName[]>;
}

/** A symbolic link. */
export interface SymlinkNode extends AnyNode {
  readonly kind: "symlink";
  /** Where it leads, as bytes. */
  target(): Awaitable<Uint8Array>;
}

/** A regular file. */
export interface FileNode extends AnyNode {
  readonly kind: "file";
  /** Opens it for reading. */
  open(): Awaitable<OpenFile>;
}

/** A device, a FIFO or a socket: it can be looked at and no more. */
export interface SpecialNode extends AnyNode {
  readonly kind: "special";
}

/** Anything in the tree. */
export type Node = DirectoryNode | SymlinkNode | FileNode | SpecialNode;

/** The answer to a look-up. */
export interface Found {
  /** The node. */
  readonly node: Node;
  /** Its attributes. */
  readonly attributes: Attributes;
  /** How long the kernel may keep the name, in seconds; 0 asks each time. */
  readonly nameSeconds: number;
}

/** One name in a directory. */
export interface ListedName {
  /** The name as bytes. */
  readonly name: Uint8Array;
  /** Inode number, or `undefined` when it costs too much to know. */
  readonly inode: bigint | undefined;
  /** Kind of file, or `undefined` when it is not known. */
  readonly type: GuestFileType | undefined;
  /**
   * The look-up of this name, if it costs next to nothing: the kernel is then spared asking. Answers
   * `undefined` when it can't tell now.
   */
  found?(): Found | undefined;
}

/** A file that was opened. */
export interface OpenFile {
  /** `keep`: the content never changes, so cached pages stay valid. `direct`: every read comes here. */
  readonly caching: "keep" | "direct";
  /** Fills `target` from `offset`; answers the number of bytes, short only at the end of the file. */
  read(offset: number, target: Uint8Array): Awaitable<number>;
  /** The first offset at or after `offset` of that kind, or `undefined` at or beyond the end of the file. */
  seek(offset: number, kind: "data" | "hole"): Awaitable<number | undefined>;
}

/** What a session serves. */
export interface FileSystem {
  /** The directory at the mount point. */
  readonly root: DirectoryNode;
  /** Called once, when nothing more will be asked. */
  close(): void;
}

/**
 * The kernel's side of FUSE: numbers and layouts of Linux `include/uapi/linux/fuse.h`, protocol 7.38.
 *
 * This file is the only home of the format: codec, session and tests import it. Everything travels in the
 * byte order of the host; Varve serves little-endian hosts alone (x86-64 and arm64).
 *
 * ```
 * request   in_header (40 bytes)  body of the operation  names, each ended by NUL
 * reply     out_header (16 bytes) body; `error` is 0 or a negated errno, and then no body follows
 * ```
 *
 * @module
 */

/** Major version of the protocol. */
export const FUSE_MAJOR = 7;
/** Minor version whose layouts stand here. */
export const FUSE_MINOR = 38;
/** Oldest minor version that is served: 7.28 (Linux 4.20) brought `max_pages` and the caching of symlinks. */
export const FUSE_MINOR_MIN = 28;
/** Node number of the root. */
export const FUSE_ROOT_ID = 1;
/** Inode number that a directory listing gives for an entry of which it is not known. */
export const FUSE_UNKNOWN_INODE = 0xffffffffn;

/** Largest write that is negotiated; the mount is read-only, but it also bounds what one `read` may return. */
export const MAX_WRITE_BYTES = 1024 * 1024;
/** Pages per request, so that one READ asks for up to 1 MiB. */
export const MAX_PAGES = 256;
/** Most bytes that one READ or READDIR may ask for. */
export const MAX_READ_BYTES = MAX_PAGES * 4096;
/** The buffer given to `read` of the device must hold the largest request: header, body and `max_write`. */
export const REQUEST_BUFFER_BYTES = MAX_WRITE_BYTES + 4096;
/** Requests that the kernel may have under way in the background (readahead). */
export const MAX_BACKGROUND = 64;

/** Operation codes, `enum fuse_opcode`. */
export const OPCODE = {
  LOOKUP: 1,
  FORGET: 2,
  GETATTR: 3,
  SETATTR: 4,
  READLINK: 5,
  SYMLINK: 6,
  MKNOD: 8,
  MKDIR: 9,
  UNLINK: 10,
  RMDIR: 11,
  RENAME: 12,
  LINK: 13,
  OPEN: 14,
  READ: 15,
  WRITE: 16,
  STATFS: 17,
  RELEASE: 18,
  FSYNC: 20,
  SETXATTR: 21,
  GETXATTR: 22,
  LISTXATTR: 23,
  REMOVEXATTR: 24,
  FLUSH: 25,
  INIT: 26,
  OPENDIR: 27,
  READDIR: 28,
  RELEASEDIR: 29,
  FSYNCDIR: 30,
  ACCESS: 34,
  CREATE: 35,
  INTERRUPT: 36,
  DESTROY: 38,
  IOCTL: 39,
  BATCH_FORGET: 42,
  FALLOCATE: 43,
  READDIRPLUS: 44,
  RENAME2: 45,
  LSEEK: 46,
  COPY_FILE_RANGE: 47,
  TMPFILE: 51,
} as const;

/** Flags of INIT that Varve asks for, by their bit. */
export const INIT_FLAG = {
  ASYNC_READ: 1 << 0,
  DO_READDIRPLUS: 1 << 13,
  READDIRPLUS_AUTO: 1 << 14,
  PARALLEL_DIROPS: 1 << 18,
  POSIX_ACL: 1 << 20,
  ABORT_ERROR: 1 << 21,
  MAX_PAGES: 1 << 22,
  CACHE_SYMLINKS: 1 << 23,
} as const;

/** Flag of INIT with which a file that is written takes more than one page at a time. */
export const BIG_WRITES_FLAG: number = 1 << 5;

/** Flags in the reply to OPEN and OPENDIR. */
export const OPEN_FLAG = {
  /** Every read goes to the server, whatever size the file shows. */
  DIRECT_IO: 1 << 0,
  /** What is cached from an earlier open stays valid. */
  KEEP_CACHE: 1 << 1,
  /** The kernel may cache the listing of this directory. */
  CACHE_DIR: 1 << 3,
} as const;

/** `whence` of LSEEK. */
export const SEEK = { DATA: 3, HOLE: 4 } as const;

/** File type bits of `st_mode`; shifted right by 12 they are the `type` of a directory entry. */
export const MODE_TYPE = {
  fifo: 0o010000,
  character: 0o020000,
  directory: 0o040000,
  block: 0o060000,
  file: 0o100000,
  symlink: 0o120000,
  socket: 0o140000,
} as const;

/** Access mode bits in the flags of OPEN; anything but zero (O_RDONLY) wants to write. */
export const OPEN_ACCESS_MASK = 0o3;

/** Byte offset of each field of a C struct, and its size as `BYTES`. */
export type Layout<Field extends string> = Readonly<Record<Field | "BYTES", number>>;

/** Lays fields out one after the other; every struct of the protocol is padded by hand, so no gaps arise. */
function struct<const Field extends string>(
  ...fields: readonly (readonly [Field, 2 | 4 | 8])[]
): Layout<Field> {
  const layout: Record<string, number> = {};
  let offset = 0;
  for (const [name, width] of fields) {
    layout[name] = offset;
    offset += width;
  }
  layout["BYTES"] = offset;
  return layout as Layout<Field>;
}

/** `struct fuse_in_header` */
export const IN_HEADER: Layout<
  "len" | "opcode" | "unique" | "nodeid" | "uid" | "gid" | "pid" | "total_extlen" | "padding"
> = struct(
  ["len", 4],
  ["opcode", 4],
  ["unique", 8],
  ["nodeid", 8],
  ["uid", 4],
  ["gid", 4],
  ["pid", 4],
  ["total_extlen", 2],
  ["padding", 2],
);

/** `struct fuse_out_header` */
export const OUT_HEADER: Layout<"len" | "error" | "unique"> = struct(["len", 4], ["error", 4], ["unique", 8]);

/** `struct fuse_init_in` as far as it is read; newer kernels send more. */
export const INIT_IN: Layout<"major" | "minor" | "max_readahead" | "flags"> = struct(
  ["major", 4],
  ["minor", 4],
  ["max_readahead", 4],
  ["flags", 4],
);

/** `struct fuse_init_out`; `unused` stands for 28 bytes. */
export const INIT_OUT: Layout<
  | "major"
  | "minor"
  | "max_readahead"
  | "flags"
  | "max_background"
  | "congestion_threshold"
  | "max_write"
  | "time_gran"
  | "max_pages"
  | "map_alignment"
  | "flags2"
  | "unused"
  | "unused2"
  | "unused3"
  | "unused4"
> = struct(
  ["major", 4],
  ["minor", 4],
  ["max_readahead", 4],
  ["flags", 4],
  ["max_background", 2],
  ["congestion_threshold", 2],
  ["max_write", 4],
  ["time_gran", 4],
  ["max_pages", 2],
  ["map_alignment", 2],
  ["flags2", 4],
  ["unused", 8],
  ["unused2", 8],
  ["unused3", 8],
  ["unused4", 4],
);

/** `struct fuse_attr` */
export const ATTR: Layout<
  | "ino"
  | "size"
  | "blocks"
  | "atime"
  | "mtime"
  | "ctime"
  | "atimensec"
  | "mtimensec"
  | "ctimensec"
  | "mode"
  | "nlink"
  | "uid"
  | "gid"
  | "rdev"
  | "blksize"
  | "flags"
> = struct(
  ["ino", 8],
  ["size", 8],
  ["blocks", 8],
  ["atime", 8],
  ["mtime", 8],
  ["ctime", 8],
  ["atimensec", 4],
  ["mtimensec", 4],
  ["ctimensec", 4],
  ["mode", 4],
  ["nlink", 4],
  ["uid", 4],
  ["gid", 4],
  ["rdev", 4],
  ["blksize", 4],
  ["flags", 4],
);

/** `struct fuse_entry_out` without the `fuse_attr` that follows it at once. */
export const ENTRY_OUT: Layout<
  "nodeid" | "generation" | "entry_valid" | "attr_valid" | "entry_valid_nsec" | "attr_valid_nsec"
> = struct(
  ["nodeid", 8],
  ["generation", 8],
  ["entry_valid", 8],
  ["attr_valid", 8],
  ["entry_valid_nsec", 4],
  ["attr_valid_nsec", 4],
);

/** `struct fuse_attr_out` without the `fuse_attr` that follows it at once. */
export const ATTR_OUT: Layout<"attr_valid" | "attr_valid_nsec" | "dummy"> = struct(
  ["attr_valid", 8],
  ["attr_valid_nsec", 4],
  ["dummy", 4],
);

/** `struct fuse_forget_in` */
export const FORGET_IN: Layout<"nlookup"> = struct(["nlookup", 8]);
/** `struct fuse_batch_forget_in`, followed by `count` times {@linkcode FORGET_ONE}. */
export const BATCH_FORGET_IN: Layout<"count" | "dummy"> = struct(["count", 4], ["dummy", 4]);
/** `struct fuse_forget_one` */
export const FORGET_ONE: Layout<"nodeid" | "nlookup"> = struct(["nodeid", 8], ["nlookup", 8]);
/** `struct fuse_open_in`, also for OPENDIR. */
export const OPEN_IN: Layout<"flags" | "open_flags"> = struct(["flags", 4], ["open_flags", 4]);
/** `struct fuse_open_out` */
export const OPEN_OUT: Layout<"fh" | "open_flags" | "padding"> = struct(
  ["fh", 8],
  ["open_flags", 4],
  ["padding", 4],
);
/** `struct fuse_read_in`, also for READDIR and READDIRPLUS. */
export const READ_IN: Layout<
  "fh" | "offset" | "size" | "read_flags" | "lock_owner" | "flags" | "padding"
> = struct(
  ["fh", 8],
  ["offset", 8],
  ["size", 4],
  ["read_flags", 4],
  ["lock_owner", 8],
  ["flags", 4],
  ["padding", 4],
);
/** `struct fuse_write_in`, followed by the bytes. */
export const WRITE_IN: Layout<
  "fh" | "offset" | "size" | "write_flags" | "lock_owner" | "flags" | "padding"
> = struct(
  ["fh", 8],
  ["offset", 8],
  ["size", 4],
  ["write_flags", 4],
  ["lock_owner", 8],
  ["flags", 4],
  ["padding", 4],
);
/** `struct fuse_write_out` */
export const WRITE_OUT: Layout<"size" | "padding"> = struct(["size", 4], ["padding", 4]);
/** `struct fuse_release_in`, also for RELEASEDIR. */
export const RELEASE_IN: Layout<"fh" | "flags" | "release_flags" | "lock_owner"> = struct(
  ["fh", 8],
  ["flags", 4],
  ["release_flags", 4],
  ["lock_owner", 8],
);
/** `struct fuse_getxattr_in`, also for LISTXATTR; for GETXATTR the name follows. */
export const GETXATTR_IN: Layout<"size" | "padding"> = struct(["size", 4], ["padding", 4]);
/** `struct fuse_getxattr_out` */
export const GETXATTR_OUT: Layout<"size" | "padding"> = struct(["size", 4], ["padding", 4]);
/** `struct fuse_interrupt_in` */
export const INTERRUPT_IN: Layout<"unique"> = struct(["unique", 8]);
/** `struct fuse_lseek_in` */
export const LSEEK_IN: Layout<"fh" | "offset" | "whence" | "padding"> = struct(
  ["fh", 8],
  ["offset", 8],
  ["whence", 4],
  ["padding", 4],
);
/** `struct fuse_lseek_out` */
export const LSEEK_OUT: Layout<"offset"> = struct(["offset", 8]);
/** `struct fuse_kstatfs`, which is all of `struct fuse_statfs_out`; 24 spare bytes end it. */
export const STATFS_OUT: Layout<
  | "blocks"
  | "bfree"
  | "bavail"
  | "files"
  | "ffree"
  | "bsize"
  | "namelen"
  | "frsize"
  | "padding"
  | "spare"
  | "spare2"
  | "spare3"
> = struct(
  ["blocks", 8],
  ["bfree", 8],
  ["bavail", 8],
  ["files", 8],
  ["ffree", 8],
  ["bsize", 4],
  ["namelen", 4],
  ["frsize", 4],
  ["padding", 4],
  ["spare", 8],
  ["spare2", 8],
  ["spare3", 8],
);
/**
 * `struct fuse_dirent` up to its name; the name follows and the whole is padded to 8 bytes. In the answer to
 * READDIRPLUS a `fuse_entry_out` with its `fuse_attr` stands before it.
 */
export const DIRENT: Layout<"ino" | "off" | "namelen" | "type"> = struct(
  ["ino", 8],
  ["off", 8],
  ["namelen", 4],
  ["type", 4],
);

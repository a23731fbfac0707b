/**
 * Decodes requests of the kernel and encodes the replies, by the layouts of `abi.ts`.
 *
 * Node numbers and handles are given out by the session and stay far below 2^53, so they are numbers; `unique`
 * is opaque and stays a BigInt. Names are bytes and are copied out of the request, whose buffer is used again.
 *
 * @module
 */
import {
  ATTR,
  ATTR_OUT,
  BATCH_FORGET_IN,
  DIRENT,
  ENTRY_OUT,
  FORGET_IN,
  FORGET_ONE,
  GETXATTR_IN,
  GETXATTR_OUT,
  IN_HEADER,
  INIT_IN,
  INIT_OUT,
  INTERRUPT_IN,
  LSEEK_IN,
  LSEEK_OUT,
  MAX_READ_BYTES,
  MODE_TYPE,
  OPCODE,
  OPEN_IN,
  OPEN_OUT,
  OUT_HEADER,
  READ_IN,
  RELEASE_IN,
  STATFS_OUT,
  WRITE_IN,
  WRITE_OUT,
} from "./abi.ts";
import type { Attributes, Space } from "./filesystem.ts";

/** What INIT says about the kernel, and what is answered. */
export interface InitParameters {
  /** Major version of the protocol. */
  readonly major: number;
  /** Minor version of the protocol. */
  readonly minor: number;
  /** Most bytes that the kernel reads ahead. */
  readonly maxReadahead: number;
  /** Bits of `INIT_FLAG`. */
  readonly flags: number;
}

/** The part of a request that depends on its operation. */
export type RequestBody =
  | { readonly op: "init"; readonly init: InitParameters }
  | { readonly op: "lookup"; readonly name: Uint8Array }
  | { readonly op: "forget"; readonly nodes: readonly { readonly node: number; readonly count: number }[] }
  | { readonly op: "getattr" | "readlink" | "statfs" | "destroy" }
  | { readonly op: "open" | "opendir"; readonly flags: number }
  | {
    readonly op: "read" | "readdir" | "readdirplus";
    readonly handle: number;
    readonly offset: number;
    readonly size: number;
  }
  | { readonly op: "release" | "releasedir"; readonly handle: number }
  | { readonly op: "getxattr"; readonly size: number; readonly name: Uint8Array }
  | { readonly op: "listxattr"; readonly size: number }
  | { readonly op: "lseek"; readonly handle: number; readonly offset: number; readonly whence: number }
  | { readonly op: "interrupt"; readonly target: bigint }
  | { readonly op: "ioctl" }
  /** Would change something. */
  | { readonly op: "change" }
  /** Not served. */
  | { readonly op: "other"; readonly opcode: number };

/** One request. */
export type Request = RequestBody & {
  /** Names the request in its reply and in an interrupt. */
  readonly unique: bigint;
  /** The node it is about; 0 where it is about none. */
  readonly node: number;
};

/** Decodes a request; throws `RangeError` when it is shorter than its operation says. */
export function decodeRequest(bytes: Uint8Array): Request {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const opcode = view.getUint32(IN_HEADER.opcode, true);
  const unique = view.getBigUint64(IN_HEADER.unique, true);
  const node = getUint53(view, IN_HEADER.nodeid);
  return { ...decodeBody(opcode, view, bytes, node), unique, node };
}

function decodeBody(opcode: number, view: DataView, bytes: Uint8Array, node: number): RequestBody {
  const body = IN_HEADER.BYTES;
  switch (opcode) {
    case OPCODE.INIT:
      return {
        op: "init",
        init: {
          major: view.getUint32(body + INIT_IN.major, true),
          minor: view.getUint32(body + INIT_IN.minor, true),
          maxReadahead: view.getUint32(body + INIT_IN.max_readahead, true),
          flags: view.getUint32(body + INIT_IN.flags, true),
        },
      };
    case OPCODE.LOOKUP:
      return { op: "lookup", name: nameAt(bytes, body) };
    case OPCODE.FORGET:
      return { op: "forget", nodes: [{ node, count: getUint53(view, body + FORGET_IN.nlookup) }] };
    case OPCODE.BATCH_FORGET: {
      const nodes = [];
      const count = view.getUint32(body + BATCH_FORGET_IN.count, true);
      for (let index = 0; index < count; index++) {
        const one = body + BATCH_FORGET_IN.BYTES + index * FORGET_ONE.BYTES;
        nodes.push({
          node: getUint53(view, one + FORGET_ONE.nodeid),
          count: getUint53(view, one + FORGET_ONE.nlookup),
        });
      }
      return { op: "forget", nodes };
    }
    case OPCODE.GETATTR:
      return { op: "getattr" };
    case OPCODE.READLINK:
      return { op: "readlink" };
    case OPCODE.STATFS:
      return { op: "statfs" };
    case OPCODE.DESTROY:
      return { op: "destroy" };
    case OPCODE.OPEN:
      return { op: "open", flags: view.getUint32(body + OPEN_IN.flags, true) };
    case OPCODE.OPENDIR:
      return { op: "opendir", flags: view.getUint32(body + OPEN_IN.flags, true) };
    case OPCODE.READ:
      return { op: "read", ...readFields(view, body) };
    case OPCODE.READDIR:
      return { op: "readdir", ...readFields(view, body) };
    case OPCODE.READDIRPLUS:
      return { op: "readdirplus", ...readFields(view, body) };
    case OPCODE.RELEASE:
      return { op: "release", handle: getUint53(view, body + RELEASE_IN.fh) };
    case OPCODE.RELEASEDIR:
      return { op: "releasedir", handle: getUint53(view, body + RELEASE_IN.fh) };
    case OPCODE.GETXATTR:
      return {
        op: "getxattr",
        size: view.getUint32(body + GETXATTR_IN.size, true),
        name: nameAt(bytes, body + GETXATTR_IN.BYTES),
      };
    case OPCODE.LISTXATTR:
      return { op: "listxattr", size: view.getUint32(body + GETXATTR_IN.size, true) };
    case OPCODE.LSEEK:
      return {
        op: "lseek",
        handle: getUint53(view, body + LSEEK_IN.fh),
        offset: getUint53(view, body + LSEEK_IN.offset),
        whence: view.getUint32(body + LSEEK_IN.whence, true),
      };
    case OPCODE.INTERRUPT:
      return { op: "interrupt", target: view.getBigUint64(body + INTERRUPT_IN.unique, true) };
    case OPCODE.IOCTL:
      return { op: "ioctl" };
    case OPCODE.SETATTR:
    case OPCODE.SYMLINK:
    case OPCODE.MKNOD:
    case OPCODE.MKDIR:
    case OPCODE.UNLINK:
    case OPCODE.RMDIR:
    case OPCODE.RENAME:
    case OPCODE.RENAME2:
    case OPCODE.LINK:
    case OPCODE.WRITE:
    case OPCODE.SETXATTR:
    case OPCODE.REMOVEXATTR:
    case OPCODE.CREATE:
    case OPCODE.TMPFILE:
    case OPCODE.FALLOCATE:
    case OPCODE.COPY_FILE_RANGE:
      return { op: "change" };
    default:
      return { op: "other", opcode };
  }
}

/** What a WRITE writes; `data` lies in the request. */
export interface WriteRequest {
  /** First byte in the file. */
  readonly offset: number;
  /** The bytes. */
  readonly data: Uint8Array;
}

/**
 * Decodes a WRITE, for the one file that takes it; `undefined` for any other request. Throws `RangeError` when it is shorter than it
 * says.
 */
export function decodeWrite(bytes: Uint8Array): WriteRequest | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (view.getUint32(IN_HEADER.opcode, true) !== OPCODE.WRITE) return undefined;
  const body = IN_HEADER.BYTES;
  const size = view.getUint32(body + WRITE_IN.size, true);
  const start = body + WRITE_IN.BYTES;
  if (start + size > bytes.length) {
    throw new RangeError(`Decode a write of ${size} bytes: the request has ${bytes.length} in all`);
  }
  return { offset: getUint53(view, body + WRITE_IN.offset), data: bytes.subarray(start, start + size) };
}

function readFields(view: DataView, body: number): { handle: number; offset: number; size: number } {
  return {
    handle: getUint53(view, body + READ_IN.fh),
    offset: getUint53(view, body + READ_IN.offset),
    size: Math.min(view.getUint32(body + READ_IN.size, true), MAX_READ_BYTES),
  };
}

/** A copy of the bytes up to the next NUL. */
function nameAt(bytes: Uint8Array, start: number): Uint8Array {
  const end = bytes.indexOf(0, start);
  if (end < 0) throw new RangeError(`Decode a name at byte ${start}: no end in ${bytes.length} bytes`);
  return bytes.slice(start, end);
}

/** A 64-bit number as a number; beyond 2^53 it is rounded, which only offsets past every file's end can be. */
function getUint53(view: DataView, offset: number): number {
  return view.getUint32(offset, true) + view.getUint32(offset + 4, true) * 0x1_0000_0000;
}

function setUint53(view: DataView, offset: number, value: number): void {
  view.setUint32(offset, value >>> 0, true);
  view.setUint32(offset + 4, Math.floor(value / 0x1_0000_0000), true);
}

/** Room for one reply: the header, then the body. It is used again for later replies. */
export class ReplyBuffer {
  /** Everything: header and body. */
  readonly bytes: Uint8Array<ArrayBuffer> = new Uint8Array(OUT_HEADER.BYTES + MAX_READ_BYTES);
  /** The body alone. */
  readonly body: Uint8Array<ArrayBuffer> = this.bytes.subarray(OUT_HEADER.BYTES);
  readonly #view = new DataView(this.bytes.buffer);
  readonly #bodyView = new DataView(this.bytes.buffer, OUT_HEADER.BYTES);

  /** Puts the header before a body of `bodyBytes` and answers both. */
  finish(unique: bigint, bodyBytes: number): Uint8Array<ArrayBuffer> {
    return this.#header(unique, 0, OUT_HEADER.BYTES + bodyBytes);
  }

  /** A reply that says why there is none; `errno` is positive. */
  finishError(unique: bigint, errno: number): Uint8Array<ArrayBuffer> {
    return this.#header(unique, -errno, OUT_HEADER.BYTES);
  }

  #header(unique: bigint, error: number, length: number): Uint8Array<ArrayBuffer> {
    this.#view.setUint32(OUT_HEADER.len, length, true);
    this.#view.setInt32(OUT_HEADER.error, error, true);
    this.#view.setBigUint64(OUT_HEADER.unique, unique, true);
    return this.bytes.subarray(0, length);
  }

  /** The body of the answer to INIT; answers its length, as every `put` does. */
  putInit(
    init: InitParameters & {
      readonly maxBackground: number;
      readonly maxWrite: number;
      readonly maxPages: number;
    },
  ): number {
    const view = this.#bodyView;
    this.body.fill(0, 0, INIT_OUT.BYTES);
    view.setUint32(INIT_OUT.major, init.major, true);
    view.setUint32(INIT_OUT.minor, init.minor, true);
    view.setUint32(INIT_OUT.max_readahead, init.maxReadahead, true);
    view.setUint32(INIT_OUT.flags, init.flags >>> 0, true);
    view.setUint16(INIT_OUT.max_background, init.maxBackground, true);
    view.setUint16(INIT_OUT.congestion_threshold, Math.floor((init.maxBackground * 3) / 4), true);
    view.setUint32(INIT_OUT.max_write, init.maxWrite, true);
    view.setUint32(INIT_OUT.time_gran, 1, true);
    view.setUint16(INIT_OUT.max_pages, init.maxPages, true);
    return INIT_OUT.BYTES;
  }

  /** A found entry. With node 0 it tells that the name does not exist, for `nameSeconds` long. */
  putEntry(
    entry: { node: number; nameSeconds: number; attributeSeconds: number; attributes?: Attributes },
    at = 0,
  ): number {
    const view = this.#bodyView;
    this.body.fill(0, at, at + ENTRY_OUT.BYTES + ATTR.BYTES);
    setUint53(view, at + ENTRY_OUT.nodeid, entry.node);
    const nameSeconds = Math.floor(entry.nameSeconds);
    setUint53(view, at + ENTRY_OUT.entry_valid, nameSeconds);
    view.setUint32(
      at + ENTRY_OUT.entry_valid_nsec,
      Math.round((entry.nameSeconds - nameSeconds) * 1e9),
      true,
    );
    setUint53(view, at + ENTRY_OUT.attr_valid, entry.attributeSeconds);
    if (entry.attributes !== undefined) this.#putAttr(entry.attributes, at + ENTRY_OUT.BYTES);
    return ENTRY_OUT.BYTES + ATTR.BYTES;
  }

  /** The answer to GETATTR. */
  putAttributes(attributes: Attributes, seconds: number): number {
    this.body.fill(0, 0, ATTR_OUT.BYTES);
    setUint53(this.#bodyView, ATTR_OUT.attr_valid, seconds);
    this.#putAttr(attributes, ATTR_OUT.BYTES);
    return ATTR_OUT.BYTES + ATTR.BYTES;
  }

  #putAttr(attributes: Attributes, at: number): void {
    const view = this.#bodyView;
    view.setBigUint64(at + ATTR.ino, attributes.inode, true);
    setUint53(view, at + ATTR.size, attributes.sizeBytes);
    setUint53(view, at + ATTR.blocks, attributes.blocks512);
    putTime(view, at + ATTR.atime, at + ATTR.atimensec, attributes.accessedNs);
    putTime(view, at + ATTR.mtime, at + ATTR.mtimensec, attributes.modifiedNs);
    putTime(view, at + ATTR.ctime, at + ATTR.ctimensec, attributes.changedNs);
    view.setUint32(at + ATTR.mode, MODE_TYPE[attributes.type] | (attributes.mode & 0o7777), true);
    view.setUint32(at + ATTR.nlink, attributes.links, true);
    view.setUint32(at + ATTR.uid, attributes.uid, true);
    view.setUint32(at + ATTR.gid, attributes.gid, true);
    view.setUint32(at + ATTR.rdev, attributes.rdev >>> 0, true);
    view.setUint32(at + ATTR.blksize, 4096, true);
    view.setUint32(at + ATTR.flags, 0, true);
  }

  /** The answer to OPEN and OPENDIR. */
  putOpen(handle: number, flags: number): number {
    setUint53(this.#bodyView, OPEN_OUT.fh, handle);
    this.#bodyView.setUint32(OPEN_OUT.open_flags, flags, true);
    this.#bodyView.setUint32(OPEN_OUT.padding, 0, true);
    return OPEN_OUT.BYTES;
  }

  /** Bytes as they are: the target of a link, the value of an attribute. */
  putBytes(bytes: Uint8Array): number {
    this.body.set(bytes);
    return bytes.length;
  }

  /** The size of an attribute, for a caller that has no room for it yet. */
  putXattrSize(size: number): number {
    this.#bodyView.setUint32(GETXATTR_OUT.size, size, true);
    this.#bodyView.setUint32(GETXATTR_OUT.padding, 0, true);
    return GETXATTR_OUT.BYTES;
  }

  /** The answer to WRITE. */
  putWritten(size: number): number {
    this.#bodyView.setUint32(WRITE_OUT.size, size, true);
    this.#bodyView.setUint32(WRITE_OUT.padding, 0, true);
    return WRITE_OUT.BYTES;
  }

  /** The answer to LSEEK. */
  putOffset(offset: number): number {
    setUint53(this.#bodyView, LSEEK_OUT.offset, offset);
    return LSEEK_OUT.BYTES;
  }

  /** The answer to STATFS. */
  putSpace(space: Space): number {
    const view = this.#bodyView;
    this.body.fill(0, 0, STATFS_OUT.BYTES);
    setUint53(view, STATFS_OUT.blocks, space.blocks);
    setUint53(view, STATFS_OUT.bfree, space.freeBlocks);
    setUint53(view, STATFS_OUT.bavail, space.freeBlocks);
    setUint53(view, STATFS_OUT.files, space.inodes);
    setUint53(view, STATFS_OUT.ffree, space.freeInodes);
    view.setUint32(STATFS_OUT.bsize, space.blockBytes, true);
    view.setUint32(STATFS_OUT.namelen, 255, true);
    view.setUint32(STATFS_OUT.frsize, space.blockBytes, true);
    return STATFS_OUT.BYTES;
  }

  /** A name of a listing; `next` is the offset at which the listing goes on behind it. */
  putListed(
    listed: { name: Uint8Array; inode: bigint; type: Attributes["type"] | undefined; next: number },
    at: number,
  ): number {
    const view = this.#bodyView;
    view.setBigUint64(at + DIRENT.ino, listed.inode, true);
    setUint53(view, at + DIRENT.off, listed.next);
    view.setUint32(at + DIRENT.namelen, listed.name.length, true);
    view.setUint32(at + DIRENT.type, listed.type === undefined ? 0 : MODE_TYPE[listed.type] >>> 12, true);
    const bytes = listedBytes(listed.name.length, false);
    this.body.set(listed.name, at + DIRENT.BYTES);
    this.body.fill(0, at + DIRENT.BYTES + listed.name.length, at + bytes);
    return bytes;
  }
}

/** Bytes that a name takes in a listing; with `plus` also its entry. */
export function listedBytes(nameBytes: number, plus: boolean): number {
  const dirent = (DIRENT.BYTES + nameBytes + 7) & ~7;
  return plus ? ENTRY_OUT.BYTES + ATTR.BYTES + dirent : dirent;
}

/** Seconds, rounded down even before 1970, and nanoseconds. */
function putTime(view: DataView, secondsAt: number, nanosecondsAt: number, ns: bigint): void {
  const nanoseconds = ((ns % 1_000_000_000n) + 1_000_000_000n) % 1_000_000_000n;
  view.setBigInt64(secondsAt, (ns - nanoseconds) / 1_000_000_000n, true);
  view.setUint32(nanosecondsAt, Number(nanoseconds), true);
}

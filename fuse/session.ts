/**
 * Serves a {@linkcode FileSystem} to the kernel over one descriptor of `/dev/fuse`.
 *
 * The loop polls, drains and answers. What holds:
 *
 * 1. The request buffer is used again at once, so nothing keeps a reference into it (names are copied).
 * 2. A reply is encoded and sent in one synchronous step, so one buffer serves all of them. READ alone is
 *    filled before that step and takes a buffer of its own from a small pool.
 * 3. Every number handed out in a reply that the kernel did not take is taken back.
 * 4. With promises pending, microtasks run and the descriptor is drained again before the next poll, as each
 *    poll costs wakes of two threads. A drain ends after {@linkcode DRAIN_MS_MAX} all the same, because only
 *    the poll lets timers and messages of this thread run.
 * 5. The serving thread never makes a synchronous call into its own mount: it would wait for itself for ever.
 *
 * The end: a plain mount sends no DESTROY; a read says ENODEV once the last user is gone, also after a lazy
 * unmount, or ECONNABORTED after an abort. {@linkcode Session.stop} ends the loop earlier.
 *
 * @module
 */
import { type Awaitable, chain } from "../src/base/awaitable.ts";
import { VarveError } from "../src/base/errors.ts";
import {
  FUSE_MAJOR,
  FUSE_MINOR,
  FUSE_MINOR_MIN,
  FUSE_UNKNOWN_INODE,
  INIT_FLAG,
  MAX_BACKGROUND,
  MAX_PAGES,
  MAX_WRITE_BYTES,
  OPEN_ACCESS_MASK,
  OPEN_FLAG,
  SEEK,
} from "./abi.ts";
import { decodeRequest, type InitParameters, listedBytes, ReplyBuffer, type Request } from "./codec.ts";
import type { Device } from "./device.ts";
import { ERRNO, errnoOfThrown } from "./errno.ts";
import type { DirectoryNode, FileSystem, Found, ListedName, Node, OpenFile } from "./filesystem.ts";
import { NodeTable } from "./node_table.ts";
import { Replies } from "./replies.ts";

/** Longest stretch of draining before timers and messages get their turn, in milliseconds. */
const DRAIN_MS_MAX = 2;
/**
 * How long the loop looks for the next request before it polls, in milliseconds. A client that does one thing
 * after the other comes back within this time, and a poll costs it two more wakes of sleeping threads.
 */
const LINGER_MS = 0.05;
/** Reply buffers kept for later; more are made when that many promises are pending. */
const SPARE_BUFFERS_MAX = 4;
/** How long the kernel may remember that a name does not exist where nothing changes, in seconds. */
const ABSENT_SECONDS = 86_400;

const WANTED_FLAGS = Object.values(INIT_FLAG).reduce((all, flag) => all | flag, 0);

const READ_ONLY_EMPTY_SPACE = { blockBytes: 4096, blocks: 0, freeBlocks: 0, inodes: 0, freeInodes: 0 };

const DOT = new Uint8Array([0x2e]);
const DOT_DOT = new Uint8Array([0x2e, 0x2e]);

interface OpenDirectory {
  readonly node: DirectoryNode;
  /** Taken at offset 0, so that offsets keep their meaning while the directory changes. */
  listing?: readonly ListedName[];
}

/** What a {@linkcode Session} may be told. */
export interface SessionOptions {
  /** Called once the kernel and the session agree on the protocol. */
  onReady?: () => void;
}

/** One mount being served. */
export class Session {
  readonly #device: Pick<Device, "wait" | "receive" | "send">;
  readonly #fileSystem: FileSystem;
  readonly #options: SessionOptions;
  readonly #nodes: NodeTable;
  readonly #files = new Map<number, OpenFile>();
  readonly #directories = new Map<number, OpenDirectory>();
  readonly #replies: Replies;
  readonly #reply: ReplyBuffer;
  readonly #spareBuffers: ReplyBuffer[] = [];
  #nextHandle = 1;
  #stopped = false;

  constructor(
    device: Pick<Device, "wait" | "receive" | "send">,
    fileSystem: FileSystem,
    options: SessionOptions = {},
  ) {
    this.#device = device;
    this.#fileSystem = fileSystem;
    this.#options = options;
    this.#nodes = new NodeTable(fileSystem.root);
    this.#replies = new Replies(device);
    this.#reply = this.#replies.buffer;
  }

  /** Nodes that the kernel knows, the root among them. */
  get nodeCount(): number {
    return this.#nodes.size;
  }

  /** Makes `run` end at the next wake of its poll; see `wakeDevice`. */
  stop(): void {
    this.#stopped = true;
  }

  /** Serves until the mount is gone or {@linkcode Session.stop} was called; rejects when it can't go on. */
  async run(): Promise<void> {
    try {
      while (await this.#drain() && !this.#stopped) await this.#device.wait();
    } finally {
      this.#replies.close();
      this.#fileSystem.close();
    }
  }

  /** Answers what has arrived. `false` when the mount is gone. */
  async #drain(): Promise<boolean> {
    const startMs = performance.now();
    let idleMs = startMs + LINGER_MS;
    for (let nowMs = startMs; nowMs < idleMs && nowMs < startMs + DRAIN_MS_MAX; nowMs = performance.now()) {
      const received = this.#device.receive();
      if (received === "ended") return false;
      if (received !== "empty") {
        this.#dispatch(received);
        idleMs = performance.now() + LINGER_MS;
      } else if (this.#replies.isAnyPending) {
        await Promise.resolve();
      }
    }
    return true;
  }

  #dispatch(bytes: Uint8Array): void {
    const request = decodeRequest(bytes);
    if (request.op === "init") return this.#init(request.unique, request.init);
    try {
      this.#handle(request);
    } catch (thrown) {
      this.#replies.fail(request.unique, errnoOfThrown(thrown));
    }
  }

  #handle(request: Exclude<Request, { op: "init" }>): void {
    switch (request.op) {
      case "forget":
        for (const { node, count } of request.nodes) this.#nodes.forget(node, count);
        return;
      case "interrupt":
        return this.#replies.interrupt(request.target);
      case "lookup":
        return this.#lookup(request.unique, request.node, request.name);
      case "getattr":
        return this.#withNode(request, (node) =>
          this.#replies.answer(
            request.unique,
            node.attributes(),
            (attributes) => this.#reply.putAttributes(attributes, node.attributeSeconds),
          ));
      case "readlink":
        return this.#withNode(request, (node) => {
          if (node.kind !== "symlink") return this.#replies.fail(request.unique, ERRNO.EINVAL);
          this.#replies.answer(request.unique, node.target(), (target) => this.#reply.putBytes(target));
        });
      case "open":
        return this.#open(request.unique, request.node, request.flags);
      case "read":
        return this.#read(request);
      case "lseek":
        return this.#seek(request);
      case "release":
        this.#files.delete(request.handle);
        return this.#replies.succeed(request.unique);
      case "opendir":
        return this.#openDirectory(request.unique, request.node);
      case "readdir":
      case "readdirplus":
        return this.#readDirectory(request);
      case "releasedir":
        this.#directories.delete(request.handle);
        return this.#replies.succeed(request.unique);
      case "statfs":
        return this.#withNode(request, (node) =>
          this.#replies.answer(
            request.unique,
            node.space?.() ?? READ_ONLY_EMPTY_SPACE,
            (space) => this.#reply.putSpace(space),
          ));
      case "getxattr":
        return this.#getXattr(request);
      case "listxattr":
        return this.#listXattr(request);
      case "destroy":
        this.stop();
        return this.#replies.succeed(request.unique);
      case "change":
        return this.#replies.fail(request.unique, ERRNO.EROFS);
      case "ioctl":
        return this.#replies.fail(request.unique, ERRNO.ENOTTY);
      case "other":
        // FLUSH, FSYNC and ACCESS among them: the kernel takes ENOSYS as consent and asks no more.
        return this.#replies.fail(request.unique, ERRNO.ENOSYS);
    }
  }

  #withNode(request: { unique: bigint; node: number }, use: (node: Node) => void): void {
    const node = this.#nodes.get(request.node);
    if (node === undefined) return this.#replies.fail(request.unique, ERRNO.ENOENT);
    use(node);
  }

  #init(unique: bigint, kernel: InitParameters): void {
    if (kernel.major < FUSE_MAJOR || (kernel.major === FUSE_MAJOR && kernel.minor < FUSE_MINOR_MIN)) {
      this.#replies.fail(unique, ERRNO.EPROTO);
      throw new VarveError(
        "unsupported",
        `Agree with the kernel on FUSE 7.${FUSE_MINOR_MIN} or newer: it offers ${kernel.major}.${kernel.minor}`,
        { hint: "Use Linux 4.20 or newer." },
      );
    }
    const length = this.#reply.putInit({
      major: FUSE_MAJOR,
      minor: Math.min(FUSE_MINOR, kernel.minor),
      maxReadahead: kernel.maxReadahead,
      flags: kernel.flags & WANTED_FLAGS,
      maxBackground: MAX_BACKGROUND,
      maxWrite: MAX_WRITE_BYTES,
      maxPages: MAX_PAGES,
    });
    this.#replies.send(unique, length);
    // A newer major version asks again, in our version.
    if (kernel.major === FUSE_MAJOR) this.#options.onReady?.();
  }

  #lookup(unique: bigint, parent: number, name: Uint8Array): void {
    this.#withNode({ unique, node: parent }, (directory) => {
      if (directory.kind !== "directory") return this.#replies.fail(unique, ERRNO.ENOTDIR);
      let handed: number | undefined;
      this.#replies.answer(unique, directory.lookup(name), (found) => {
        if (found === undefined) {
          if (!directory.immutable) return -ERRNO.ENOENT;
          return this.#reply.putEntry({ node: 0, nameSeconds: ABSENT_SECONDS, attributeSeconds: 0 });
        }
        handed = this.#nodes.hand(found.node);
        return this.#putFound(found, handed);
      }, () => {
        if (handed !== undefined) this.#nodes.forget(handed, 1);
      });
    });
  }

  #putFound(found: Found, number: number, at = 0): number {
    return this.#reply.putEntry({
      node: number,
      nameSeconds: found.nameSeconds,
      attributeSeconds: found.node.attributeSeconds,
      attributes: found.attributes,
    }, at);
  }

  #open(unique: bigint, number: number, flags: number): void {
    this.#withNode({ unique, node: number }, (node) => {
      if ((flags & OPEN_ACCESS_MASK) !== 0) return this.#replies.fail(unique, ERRNO.EROFS);
      if (node.kind !== "file") {
        return this.#replies.fail(unique, node.kind === "directory" ? ERRNO.EISDIR : ERRNO.EINVAL);
      }
      let handle = 0;
      this.#replies.answer(unique, node.open(), (file) => {
        handle = this.#nextHandle++;
        this.#files.set(handle, file);
        const flag = file.caching === "keep" ? OPEN_FLAG.KEEP_CACHE : OPEN_FLAG.DIRECT_IO;
        return this.#reply.putOpen(handle, flag);
      }, () => this.#files.delete(handle));
    });
  }

  #read(request: Request & { op: "read" | "readdir" | "readdirplus" }): void {
    const { unique, handle, offset, size } = request;
    const file = this.#files.get(handle);
    if (file === undefined) return this.#replies.fail(unique, ERRNO.EINVAL);
    const buffer = this.#spareBuffers.pop() ?? new ReplyBuffer();
    const putBack = () => {
      if (this.#spareBuffers.length < SPARE_BUFFERS_MAX) this.#spareBuffers.push(buffer);
    };
    let length: Awaitable<number>;
    try {
      length = file.read(offset, buffer.body.subarray(0, size));
    } catch (thrown) {
      putBack();
      throw thrown;
    }
    if (!(length instanceof Promise)) {
      this.#device.send(buffer.finish(unique, length));
      return putBack();
    }
    // The filled buffer is copied to the shared one: this way is rare, and #answer knows about interrupts.
    this.#replies.answer(unique, length, (bytes) => {
      putBack();
      return this.#reply.putBytes(buffer.body.subarray(0, bytes));
    });
  }

  #seek(request: Request & { op: "lseek" }): void {
    const { unique, handle, offset, whence } = request;
    const file = this.#files.get(handle);
    if (file === undefined || (whence !== SEEK.DATA && whence !== SEEK.HOLE)) {
      return this.#replies.fail(unique, ERRNO.EINVAL);
    }
    const found = file.seek(offset, whence === SEEK.DATA ? "data" : "hole");
    this.#replies.answer(unique, found, (at) => at === undefined ? -ERRNO.ENXIO : this.#reply.putOffset(at));
  }

  #openDirectory(unique: bigint, number: number): void {
    this.#withNode({ unique, node: number }, (node) => {
      if (node.kind !== "directory") return this.#replies.fail(unique, ERRNO.ENOTDIR);
      const handle = this.#nextHandle++;
      this.#directories.set(handle, { node });
      const flags = node.immutable ? OPEN_FLAG.KEEP_CACHE | OPEN_FLAG.CACHE_DIR : 0;
      this.#replies.answer(
        unique,
        undefined,
        () => this.#reply.putOpen(handle, flags),
        () => this.#directories.delete(handle),
      );
    });
  }

  #readDirectory(request: Request & { op: "read" | "readdir" | "readdirplus" }): void {
    const { unique, handle, offset, size, op } = request;
    const directory = this.#directories.get(handle);
    if (directory === undefined) return this.#replies.fail(unique, ERRNO.EINVAL);
    const listing = offset === 0 || directory.listing === undefined
      ? chain(directory.node.list(), (names) => directory.listing = withDots(names))
      : directory.listing;
    const handed: number[] = [];
    this.#replies.answer(
      unique,
      listing,
      (names) => this.#putListing(names, { from: offset, size, plus: op === "readdirplus", handed }),
      () => handed.forEach((number) => this.#nodes.forget(number, 1)),
    );
  }

  #putListing(
    names: readonly ListedName[],
    { from, size, plus, handed }: { from: number; size: number; plus: boolean; handed: number[] },
  ): number {
    let at = 0;
    for (let index = from; index < names.length; index++) {
      const listed = names[index];
      if (listed === undefined || at + listedBytes(listed.name.length, plus) > size) break;
      let found: Found | undefined;
      if (plus) {
        found = foundOrNothing(listed);
        if (found === undefined) {
          // Number 0: the name is there, its node is not told.
          at += this.#reply.putEntry({ node: 0, nameSeconds: 0, attributeSeconds: 0 }, at);
        } else {
          const number = this.#nodes.hand(found.node);
          handed.push(number);
          at += this.#putFound(found, number, at);
        }
      }
      at += this.#reply.putListed({
        name: listed.name,
        inode: found?.attributes.inode ?? listed.inode ?? FUSE_UNKNOWN_INODE,
        type: found?.attributes.type ?? listed.type,
        next: index + 1,
      }, at);
    }
    return at;
  }

  #getXattr({ unique, node: number, name, size }: Request & { op: "getxattr" }): void {
    this.#withNode(
      { unique, node: number },
      (node) =>
        this.#replies.answer(unique, node.xattrs?.() ?? [], (xattrs) => {
          const found = xattrs.find((xattr) => equalBytes(xattr.name, name));
          return found === undefined ? -ERRNO.ENODATA : this.#putXattr(found.value, size);
        }),
    );
  }

  #listXattr({ unique, node: number, size }: Request & { op: "listxattr" }): void {
    this.#withNode(
      { unique, node: number },
      (node) =>
        this.#replies.answer(unique, node.xattrs?.() ?? [], (xattrs) => {
          const bytes = new Uint8Array(xattrs.reduce((sum, xattr) => sum + xattr.name.length + 1, 0));
          let at = 0;
          for (const { name } of xattrs) {
            bytes.set(name, at);
            at += name.length + 1;
          }
          return this.#putXattr(bytes, size);
        }),
    );
  }

  #putXattr(bytes: Uint8Array, size: number): number {
    if (size === 0) return this.#reply.putXattrSize(bytes.length);
    return bytes.length > size ? -ERRNO.ERANGE : this.#reply.putBytes(bytes);
  }
}

function withDots(names: readonly ListedName[]): readonly ListedName[] {
  const dots = [DOT, DOT_DOT].map((name): ListedName => ({ name, inode: undefined, type: "directory" }));
  return [...dots, ...names];
}

/** A damaged inode must not hide its neighbours: it is listed by its name alone. */
function foundOrNothing(listed: ListedName): Found | undefined {
  try {
    return listed.found?.();
  } catch {
    return undefined;
  }
}

function equalBytes(left: Uint8Array, right: Uint8Array): boolean {
  return left.length === right.length && left.every((byte, index) => byte === right[index]);
}

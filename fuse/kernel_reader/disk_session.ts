/**
 * Serves one file to the kernel over one descriptor of `/dev/fuse`: the disk on which a loop device stands.
 *
 * The file is the root of its mount, so there are no names. It takes writes, and everything is answered at once and in order. What holds:
 *
 * 1. A request that fails answers an errno; the first failure of the disk itself is kept for whoever asks why a mount failed.
 * 2. What would change more than bytes (FALLOCATE, SETATTR) is not supported: the loop device then writes zeroes.
 *
 * @module
 */
import { VarveError } from "../../src/base/errors.ts";
import {
  BIG_WRITES_FLAG,
  FUSE_MAJOR,
  FUSE_MINOR,
  FUSE_MINOR_MIN,
  INIT_FLAG,
  MAX_BACKGROUND,
  MAX_PAGES,
  MAX_WRITE_BYTES,
  OPEN_FLAG,
} from "../abi.ts";
import { decodeRequest, decodeWrite, type InitParameters, ReplyBuffer, type Request } from "../codec.ts";
import type { Device } from "../device.ts";
import { ERRNO, errnoOfThrown } from "../errno.ts";
import type { OverlayDisk } from "./overlay_disk.ts";

/** As in the session of the tree. */
const DRAIN_MS_MAX = 2;
const LINGER_MS = 0.05;
/** How long the kernel keeps the file's attributes: they never change. */
const FOREVER_SECONDS = 86_400;

const WANTED_FLAGS = INIT_FLAG.ASYNC_READ | INIT_FLAG.ABORT_ERROR | INIT_FLAG.MAX_PAGES | BIG_WRITES_FLAG;

/** One disk being served. */
export class DiskSession {
  readonly #device: Pick<Device, "wait" | "receive" | "send">;
  readonly #disk: Pick<OverlayDisk, "sizeBytes" | "read" | "write">;
  readonly #reply = new ReplyBuffer();
  #failure: VarveError | undefined;
  #stopped = false;

  constructor(
    device: Pick<Device, "wait" | "receive" | "send">,
    disk: Pick<OverlayDisk, "sizeBytes" | "read" | "write">,
  ) {
    this.#device = device;
    this.#disk = disk;
  }

  /** The first failure of the disk, if there was one. */
  get failure(): VarveError | undefined {
    return this.#failure;
  }

  /** Makes `run` end at the next wake of its poll; see `wakeDevice`. */
  stop(): void {
    this.#stopped = true;
  }

  /** Serves until the mount is gone or {@linkcode DiskSession.stop} was called; rejects when it can't go on. */
  async run(): Promise<void> {
    while (!this.#stopped && this.#drain()) await this.#device.wait();
  }

  /** Answers what has arrived. `false` when the mount is gone. */
  #drain(): boolean {
    const startMs = performance.now();
    let idleMs = startMs + LINGER_MS;
    for (let nowMs = startMs; nowMs < idleMs && nowMs < startMs + DRAIN_MS_MAX; nowMs = performance.now()) {
      const received = this.#device.receive();
      if (received === "ended") return false;
      if (received === "empty") continue;
      this.#answer(received);
      idleMs = performance.now() + LINGER_MS;
    }
    return true;
  }

  #answer(bytes: Uint8Array): void {
    const request = decodeRequest(bytes);
    if (request.op === "forget" || request.op === "interrupt") return;
    let length: number;
    try {
      const written = decodeWrite(bytes);
      length = written === undefined ? this.#handle(request) : this.#write(written.offset, written.data);
    } catch (thrown) {
      this.#failure ??= VarveError.from(thrown, "serve a disk to the kernel");
      length = -errnoOfThrown(thrown);
    }
    this.#device.send(
      length < 0
        ? this.#reply.finishError(request.unique, -length)
        : this.#reply.finish(request.unique, length),
    );
  }

  /** Fills the reply; answers its length, or a negated errno. */
  #handle(request: Exclude<Request, { op: "forget" | "interrupt" }>): number {
    switch (request.op) {
      case "init":
        return this.#init(request.init);
      case "getattr":
        return this.#reply.putAttributes(attributesOf(this.#disk.sizeBytes), FOREVER_SECONDS);
      case "open":
        return this.#reply.putOpen(1, OPEN_FLAG.KEEP_CACHE);
      case "read":
        return this.#read(request.offset, request.size);
      case "release":
        return 0;
      case "destroy":
        this.stop();
        return 0;
      case "change":
        return -ERRNO.EOPNOTSUPP;
      default:
        // FLUSH and FSYNC among them: nothing here outlives the mount. The kernel takes ENOSYS as consent and asks no more.
        return -ERRNO.ENOSYS;
    }
  }

  #init(kernel: InitParameters): number {
    if (kernel.major !== FUSE_MAJOR || kernel.minor < FUSE_MINOR_MIN) return -ERRNO.EPROTO;
    return this.#reply.putInit({
      major: FUSE_MAJOR,
      minor: Math.min(FUSE_MINOR, kernel.minor),
      maxReadahead: kernel.maxReadahead,
      flags: kernel.flags & WANTED_FLAGS,
      maxBackground: MAX_BACKGROUND,
      maxWrite: MAX_WRITE_BYTES,
      maxPages: MAX_PAGES,
    });
  }

  #read(offset: number, size: number): number {
    const length = Math.max(0, Math.min(size, this.#disk.sizeBytes - offset));
    this.#disk.read(offset, this.#reply.body.subarray(0, length));
    return length;
  }

  #write(offset: number, data: Uint8Array): number {
    this.#disk.write(offset, data);
    return this.#reply.putWritten(data.length);
  }
}

function attributesOf(sizeBytes: number): Parameters<ReplyBuffer["putAttributes"]>[0] {
  return {
    inode: 1n,
    type: "file",
    mode: 0o600,
    uid: 0,
    gid: 0,
    links: 1,
    sizeBytes,
    blocks512: Math.ceil(sizeBytes / 512),
    rdev: 0,
    accessedNs: 0n,
    modifiedNs: 0n,
    changedNs: 0n,
  };
}

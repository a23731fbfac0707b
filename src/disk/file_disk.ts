/**
 * The machine's own files and block devices.
 *
 * @module
 */
import fs from "node:fs";
import path from "node:path";
import { DatabaseSync } from "node:sqlite";
import { VarveError } from "../base/errors.ts";
import type { Disk, DiskFile, DiskLock, DiskOpenOptions, DiskSpace, DiskStat } from "./disk.ts";
import { beginWriting, dropCleanPages, endOf, punchHole, reserveSpace, seekKind } from "./libc.ts";

/** Endings of the files that SQLite keeps beside a database. */
const DATABASE_COMPANIONS = ["-wal", "-shm"];

const ZEROES = new Uint8Array(1 << 20);

function attempt<T>(tried: string, work: () => T): T {
  try {
    return work();
  } catch (thrown) {
    throw VarveError.from(thrown, tried);
  }
}

function syncDescriptor(fd: number, place: string, how: typeof fs.fsync): Promise<void> {
  return new Promise((resolve, reject) => {
    how(fd, (error) => error ? reject(VarveError.from(error, `sync ${place}`)) : resolve());
  });
}

class LocalFile implements DiskFile {
  readonly path: string;
  readonly threadPath: string;
  readonly #fd: number;
  readonly #isBlockDevice: boolean;

  constructor(place: string, fd: number, isBlockDevice: boolean) {
    this.path = place;
    this.threadPath = `/proc/self/fd/${fd}`;
    this.#fd = fd;
    this.#isBlockDevice = isBlockDevice;
  }

  read(offset: number, target: Uint8Array): number {
    return attempt(`read ${this.path}`, () => {
      let done = 0;
      while (done < target.length) {
        const count = fs.readSync(this.#fd, target, done, target.length - done, offset + done);
        if (count === 0) break;
        done += count;
      }
      return done;
    });
  }

  write(offset: number, ...parts: Uint8Array[]): void {
    attempt(`write ${this.path}`, () => {
      let at = offset;
      for (const part of parts) {
        let done = 0;
        while (done < part.length) done += fs.writeSync(this.#fd, part, done, part.length - done, at + done);
        at += part.length;
      }
    });
  }

  discard(offset: number, length: number): void {
    if (length === 0 || punchHole(this.#fd, offset, length)) return;
    for (let done = 0; done < length; done += ZEROES.length) {
      this.write(offset + done, ZEROES.subarray(0, Math.min(ZEROES.length, length - done)));
    }
  }

  reserve(offset: number, length: number): void {
    const outcome = reserveSpace(this.#fd, offset, length);
    if (outcome === "reserved") return;
    if (typeof outcome === "number") {
      throw new VarveError("io", `reserve ${length} bytes for ${this.path}: found errno ${outcome}`);
    }
    const free = fs.statfsSync(path.dirname(this.path));
    if (outcome === "full" || free.bavail * free.bsize < length) {
      throw new VarveError(
        "no-space",
        `reserve ${length} bytes for ${this.path}: ${free.bavail * free.bsize} bytes are free`,
        { hint: "Free space on that file system, or prune the history." },
      );
    }
  }

  truncate(sizeBytes: number): void {
    attempt(`truncate ${this.path}`, () => fs.ftruncateSync(this.#fd, sizeBytes));
  }

  cut(sizeBytes: number): Promise<void> {
    return new Promise((resolve, reject) => {
      fs.ftruncate(
        this.#fd,
        sizeBytes,
        (error) => error ? reject(VarveError.from(error, `truncate ${this.path}`)) : resolve(),
      );
    });
  }

  sizeBytes(): number {
    return this.#isBlockDevice ? endOf(this.#fd) : fs.fstatSync(this.#fd).size;
  }

  seek(offset: number, kind: "data" | "hole"): number | undefined {
    const end = this.sizeBytes();
    if (offset >= end) return undefined;
    // A block device cannot tell; it is data throughout.
    if (this.#isBlockDevice) return kind === "data" ? offset : undefined;
    const found = seekKind(this.#fd, offset, kind);
    if (found >= 0) return found >= end ? undefined : found;
    // Nothing found is an answer only where the storage can tell; else all of it counts as data.
    const tells = seekKind(this.#fd, offset, "hole") === offset;
    return kind === "data" && !tells ? offset : undefined;
  }

  beginWriting(offset: number, length: number): void {
    beginWriting(this.#fd, offset, length);
  }

  sync(): Promise<void> {
    return syncDescriptor(this.#fd, this.path, fs.fdatasync);
  }

  forgetCached(offset = 0, length = 0): void {
    dropCleanPages(this.#fd, offset, length);
  }

  close(): void {
    fs.closeSync(this.#fd);
  }
}

/** The file systems of this machine. */
export class FileDisk implements Disk {
  open(place: string, options: DiskOpenOptions = {}): DiskFile {
    return attempt(`open ${place}`, () => {
      const mode = options.mode ?? "read";
      const { O_RDONLY, O_RDWR, O_CREAT, O_EXCL } = fs.constants;
      const flags = mode === "read"
        ? O_RDONLY
        : mode === "write"
        ? O_RDWR
        : mode === "create"
        ? O_RDWR | O_CREAT
        : O_RDWR | O_CREAT | O_EXCL;
      const fd = fs.openSync(place, flags, 0o600);
      const stat = fs.fstatSync(fd);
      if (!stat.isFile() && !stat.isBlockDevice()) {
        fs.closeSync(fd);
        throw new VarveError("invalid", `open ${place}: it is neither a file nor a block device`);
      }
      return new LocalFile(place, fd, stat.isBlockDevice());
    });
  }

  stat(place: string): DiskStat | undefined {
    return attempt(`look at ${place}`, () => {
      const stat = fs.statSync(place, { throwIfNoEntry: false });
      if (stat === undefined) return undefined;
      if (stat.isBlockDevice()) {
        const fd = fs.openSync(place, fs.constants.O_RDONLY);
        try {
          return { kind: "block", sizeBytes: endOf(fd), allocatedBytes: 0, identity: `block:${stat.rdev}` };
        } finally {
          fs.closeSync(fd);
        }
      }
      return {
        kind: stat.isFile() ? "file" : "other",
        sizeBytes: stat.size,
        allocatedBytes: stat.blocks * 512,
        identity: `inode:${stat.dev}:${stat.ino}`,
      };
    });
  }

  list(directory: string): string[] {
    return attempt(
      `list ${directory}`,
      () => fs.existsSync(directory) ? fs.readdirSync(directory).sort() : [],
    );
  }

  makeDirectory(place: string): void {
    attempt(`make directory ${place}`, () => fs.mkdirSync(place, { recursive: true, mode: 0o700 }));
  }

  remove(place: string): void {
    attempt(`remove ${place}`, () => fs.rmSync(place, { force: true }));
  }

  removeTree(place: string): void {
    attempt(`remove ${place}`, () => fs.rmSync(place, { force: true, recursive: true }));
  }

  rename(source: string, target: string): void {
    attempt(`rename ${source} to ${target}`, () => fs.renameSync(source, target));
  }

  space(place: string): DiskSpace {
    return attempt(`look at the space of ${place}`, () => {
      const { blocks, bavail, bsize } = fs.statfsSync(place);
      const fileSystem = String(fs.statSync(place).dev);
      return { totalBytes: blocks * bsize, freeBytes: bavail * bsize, fileSystem };
    });
  }

  lock(place: string): DiskLock | undefined {
    return attempt(`lock ${place}`, () => {
      const file = Deno.openSync(place, { create: true, read: true, write: true, mode: 0o600 });
      if (file.tryLockSync(true)) return { release: () => file.close() };
      file.close();
      return undefined;
    });
  }

  openDatabase(place: string, options: { readOnly?: boolean } = {}): DatabaseSync {
    return new DatabaseSync(place, { readOnly: options.readOnly ?? false });
  }

  removeDatabase(place: string): void {
    for (const suffix of DATABASE_COMPANIONS) this.remove(place + suffix);
    this.remove(place);
  }

  /**
   * Companions first: a log that was left under the name would be taken for that of the database that comes next.
   */
  async renameDatabase(source: string, target: string): Promise<void> {
    this.removeDatabase(target);
    if (this.stat(source) === undefined) return this.removeDatabase(source);
    const file = this.open(source, { mode: "write" });
    try {
      await file.sync();
    } finally {
      file.close();
    }
    for (const suffix of DATABASE_COMPANIONS) {
      if (this.stat(source + suffix) !== undefined) this.rename(source + suffix, target + suffix);
    }
    this.rename(source, target);
    await this.syncDirectory(path.dirname(source));
    if (path.dirname(target) !== path.dirname(source)) await this.syncDirectory(path.dirname(target));
  }

  async syncDirectory(place: string): Promise<void> {
    const fd = attempt(`open ${place}`, () => fs.openSync(place, fs.constants.O_RDONLY));
    try {
      await syncDescriptor(fd, place, fs.fsync);
    } finally {
      fs.closeSync(fd);
    }
  }
}

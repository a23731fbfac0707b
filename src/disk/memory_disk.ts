/**
 * A disk in memory, for tests: the same behaviour as {@linkcode FileDisk}, and it can lose its power.
 *
 * @module
 */
import path from "node:path";
import { DatabaseSync } from "node:sqlite";
import { VarveError } from "../base/errors.ts";
import type { Disk, DiskFile, DiskLock, DiskOpenOptions, DiskSpace, DiskStat } from "./disk.ts";
import { FileDisk } from "./file_disk.ts";

interface Contents {
  live: Uint8Array;
  /** What storage holds for certain: the state at the last sync. */
  durable: Uint8Array;
  readonly inode: number;
  /** Pages that take space, by number: those written to or reserved, and not given back since. */
  readonly pages: Set<number>;
}

const PAGE_BYTES = 4096;

/** Takes space for a range page by page; returns how many bytes of it, from its start, have space. */
type TakeSpace = (contents: Contents, offset: number, length: number) => number;

class MemoryFile implements DiskFile {
  readonly path: string;
  readonly #contents: Contents;
  readonly #writable: boolean;
  readonly #isLost: () => boolean;
  readonly #beforeSync: () => Promise<void>;
  readonly #take: TakeSpace;

  constructor(
    place: string,
    contents: Contents,
    writable: boolean,
    isLost: () => boolean,
    beforeSync: () => Promise<void>,
    take: TakeSpace,
  ) {
    this.path = place;
    this.#take = take;
    this.#contents = contents;
    this.#writable = writable;
    this.#isLost = isLost;
    this.#beforeSync = beforeSync;
  }

  #check(tried: string, changes: boolean): void {
    if (this.#isLost()) throw new VarveError("io", `${tried} ${this.path}: the power is cut`);
    if (changes && !this.#writable) {
      throw new VarveError("read-only", `${tried} ${this.path}: it was opened for reading`);
    }
  }

  read(offset: number, target: Uint8Array): number {
    this.#check("read", false);
    const part = this.#contents.live.subarray(offset, offset + target.length);
    target.set(part);
    return part.length;
  }

  write(offset: number, ...parts: Uint8Array[]): void {
    this.#check("write", true);
    let at = offset;
    for (const whole of parts) {
      const part = whole.subarray(0, this.#take(this.#contents, at, whole.length));
      if (at + part.length > this.#contents.live.length) this.#resize(at + part.length);
      this.#contents.live.set(part, at);
      if (part.length < whole.length) {
        throw new VarveError("no-space", `write ${this.path}: no space left on the disk`);
      }
      at += part.length;
    }
  }

  discard(offset: number, length: number): void {
    this.#check("discard", true);
    this.#contents.live.fill(0, offset, offset + length);
    const end = Math.floor((offset + length) / PAGE_BYTES);
    for (let page = Math.ceil(offset / PAGE_BYTES); page < end; page++) this.#contents.pages.delete(page);
  }

  reserve(offset: number, length: number): void {
    this.#check("reserve", true);
    const before = new Set(this.#contents.pages);
    if (this.#take(this.#contents, offset, length) === length) return;
    for (const page of this.#contents.pages) if (!before.has(page)) this.#contents.pages.delete(page);
    throw new VarveError("no-space", `reserve ${length} bytes for ${this.path}: no space left on the disk`);
  }

  truncate(sizeBytes: number): void {
    this.#check("truncate", true);
    this.#resize(sizeBytes);
    const end = Math.ceil(sizeBytes / PAGE_BYTES);
    for (const page of this.#contents.pages) if (page >= end) this.#contents.pages.delete(page);
  }

  #resize(sizeBytes: number): void {
    const resized = new Uint8Array(sizeBytes);
    resized.set(this.#contents.live.subarray(0, sizeBytes));
    this.#contents.live = resized;
  }

  sizeBytes(): number {
    return this.#contents.live.length;
  }

  seek(offset: number, kind: "data" | "hole"): number | undefined {
    return kind === "data" && offset < this.#contents.live.length ? offset : undefined;
  }

  async sync(): Promise<void> {
    this.#check("sync", false);
    const covered = this.#contents.live.slice();
    await this.#beforeSync();
    this.#check("sync", false);
    this.#contents.durable = covered;
  }

  forgetCached(): void {}

  close(): void {}
}

/** Files in memory, databases apart. Directories exist as soon as something is in them. */
export class MemoryDisk implements Disk {
  /** Awaited within every sync of a file, before it takes effect: makes syncs take time. */
  beforeSync: () => Promise<void> = () => Promise.resolve();
  /**
   * Its size; `undefined` for one that never gets full. Files take space by the page, as they are written to or
   * reserved; databases take none. To be set before there are files.
   */
  capacityBytes: number | undefined;
  /** Space that something else takes. */
  foreignBytes = 0;
  #files = new Map<string, Contents>();
  #durableNames = new Map<string, Contents>();
  #inodes = 0;
  readonly #locks = new Set<string>();
  #life = 0;

  open(place: string, options: DiskOpenOptions = {}): DiskFile {
    const mode = options.mode ?? "read";
    let contents = this.#files.get(place);
    if (contents !== undefined && mode === "create-new") {
      throw new VarveError("conflict", `open ${place}: it exists`);
    }
    if (contents === undefined) {
      if (mode === "read" || mode === "write") {
        throw new VarveError("not-found", `open ${place}: no such file`);
      }
      contents = {
        live: new Uint8Array(0),
        durable: new Uint8Array(0),
        inode: ++this.#inodes,
        pages: new Set(),
      };
      this.#files.set(place, contents);
    }
    const life = this.#life;
    return new MemoryFile(
      place,
      contents,
      mode !== "read",
      () => this.#life !== life,
      () => this.beforeSync(),
      (contents, offset, length) => this.#take(contents, offset, length),
    );
  }

  #take({ pages }: Contents, offset: number, length: number): number {
    if (this.capacityBytes === undefined) return length;
    let freeBytes = this.space("/").freeBytes;
    const end = Math.ceil((offset + length) / PAGE_BYTES);
    for (let page = Math.floor(offset / PAGE_BYTES); page < end; page++) {
      if (pages.has(page)) continue;
      if (freeBytes < PAGE_BYTES) return Math.max(0, page * PAGE_BYTES - offset);
      pages.add(page);
      freeBytes -= PAGE_BYTES;
    }
    return length;
  }

  stat(place: string): DiskStat | undefined {
    const contents = this.#files.get(place);
    if (contents === undefined) return undefined;
    return {
      kind: "file",
      sizeBytes: contents.live.length,
      allocatedBytes: this.capacityBytes === undefined
        ? contents.live.length
        : contents.pages.size * PAGE_BYTES,
      identity: `memory:${contents.inode}`,
    };
  }

  list(directory: string): string[] {
    return [...this.#files.keys()].filter((name) => path.dirname(name) === directory).map((name) =>
      path.basename(name)
    ).sort();
  }

  makeDirectory(_place: string): void {}

  remove(place: string): void {
    this.#files.delete(place);
  }

  removeTree(place: string): void {
    for (const name of this.#files.keys()) {
      if (name === place || name.startsWith(`${place}/`)) this.#files.delete(name);
    }
  }

  rename(source: string, target: string): void {
    const contents = this.#files.get(source);
    if (contents === undefined) throw new VarveError("not-found", `rename ${source}: no such file`);
    this.#files.delete(source);
    this.#files.set(target, contents);
  }

  space(_place: string): DiskSpace {
    if (this.capacityBytes === undefined) return { totalBytes: 2 ** 40, freeBytes: 2 ** 40 };
    let takenBytes = this.foreignBytes;
    for (const { pages } of this.#files.values()) takenBytes += pages.size * PAGE_BYTES;
    return { totalBytes: this.capacityBytes, freeBytes: Math.max(0, this.capacityBytes - takenBytes) };
  }

  lock(place: string): DiskLock | undefined {
    if (this.#locks.has(place)) return undefined;
    this.#locks.add(place);
    return { release: () => void this.#locks.delete(place) };
  }

  /** Databases alone lie on the machine's own disk, at the same path. */
  openDatabase(place: string, options: { readOnly?: boolean } = {}): DatabaseSync {
    return new DatabaseSync(place, { readOnly: options.readOnly ?? false });
  }

  removeDatabase(place: string): void {
    new FileDisk().removeDatabase(place);
  }

  renameDatabase(source: string, target: string): Promise<void> {
    return new FileDisk().renameDatabase(source, target);
  }

  syncDirectory(directory: string): Promise<void> {
    for (const name of this.#durableNames.keys()) {
      if (path.dirname(name) === directory && !this.#files.has(name)) this.#durableNames.delete(name);
    }
    for (const [name, contents] of this.#files) {
      if (path.dirname(name) === directory) this.#durableNames.set(name, contents);
    }
    return Promise.resolve();
  }

  /**
   * Cuts the power: every open file refuses further use, and what was not synced is gone, apart from files that
   * `survives` picks, which the disk happened to have written already.
   */
  cutPower(survives: (place: string) => boolean = () => false): void {
    this.#life++;
    for (const place of this.#files.keys()) {
      if (!this.#durableNames.has(place) && !survives(place)) this.#files.delete(place);
    }
    for (const [place, contents] of this.#durableNames) this.#files.set(place, contents);
    for (const [place, contents] of this.#files) {
      if (!survives(place)) {
        contents.live = contents.durable.slice();
        const end = Math.ceil(contents.live.length / PAGE_BYTES);
        for (const page of contents.pages) if (page >= end) contents.pages.delete(page);
      }
      contents.durable = contents.live.slice();
    }
    this.#durableNames = new Map(this.#files);
  }
}

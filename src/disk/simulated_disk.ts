/**
 * The faulty twin of the machine's disk: a disk in memory that a seed drives. It loses, tears and reorders what no
 * sync has covered, fails, fills up and flips bits, on order of a test, and its power can be cut at any operation.
 *
 * Rules of what survives a power cut:
 * - a write, discard or change of size that a sync has covered survives; any other survives wholly, in part (by sectors
 *   of 512 bytes), or not at all, independently of the others;
 * - a name that was made, renamed or removed survives for certain once `syncDirectory` of its directory has covered it,
 *   which holds for directories too; a rename is atomic;
 * - a sync covers what came before its call, takes simulated time and takes effect at its end; one that fails leaves
 *   what it covered in doubt for ever, as operating systems then take it for written;
 * - of a database with `synchronous = FULL` every commit survives, of one with `NORMAL` a prefix of the commits since
 *   the last checkpoint.
 *
 * Handles of before a power cut or the death of the process refuse use for ever, and their syncs never resolve.
 *
 * @module
 */
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import type { DatabaseSync } from "node:sqlite";
import { VarveError } from "../base/errors.ts";
import type { SeededRandom } from "../base/seeded_random.ts";
import type { Scheduler } from "../base/turns.ts";
import type { Disk, DiskFile, DiskLock, DiskOpenOptions, DiskSpace, DiskStat } from "./disk.ts";
import { cutLog, SimulatedDatabase } from "./_simulated_database.ts";
import { FileNode } from "./_simulated_file.ts";
import { type DatabaseNode, DirectoryNode, type TreeNode } from "./_simulated_tree.ts";

/** Operations on files that may be ordered to fail. */
export type FaultKind = "read" | "write" | "sync" | "commit";

/** An order for failures. */
export interface FaultOrder {
  /** What fails. */
  readonly kind: FaultKind;
  /** On which path; all when left out. Commits fail by the path of their database. */
  readonly matches?: (place: string) => boolean;
  /** `io`: the storage fails. `no-space`: it is full. Default `io`. */
  readonly code?: "io" | "no-space";
  /** So many matching operations pass before. Default 0. */
  readonly after?: number;
  /** So many fail. Default 1. */
  readonly times?: number;
}

/** What becomes of a sync on a disk that lies. */
export type SyncTruth = "honest" | "ignored" | "deferred";

/** How a simulated disk is made. */
export interface SimulatedDiskOptions {
  /** Decides everything that is left to chance. */
  readonly random: SeededRandom;
  /** Gives syncs their time. */
  readonly scheduler: Scheduler;
  /** Space in bytes, `Infinity` for more than anybody needs; databases are not counted. That is the default. */
  readonly capacityBytes?: number;
  /** Name of a directory at the top that is a file system of its own, with more space than anybody needs. */
  readonly otherFileSystem?: string;
  /** The longest that a sync takes, in milliseconds. Default 20. */
  readonly syncMs?: number;
  /**
   * Makes the disk lie about syncs: an `ignored` one never takes effect, a `deferred` one only when the next honest
   * one of a file ends. Default: every sync is honest.
   */
  readonly truth?: (place: string, what: "file" | "directory") => SyncTruth;
}

interface ArmedFault {
  readonly order: FaultOrder;
  toPass: number;
  toFail: number;
}

/** The disk. Directories must be made before anything is put into them; `/` is there. */
export class SimulatedDisk implements Disk, Disposable {
  /** Operations so far, over all lives. */
  operations = 0;
  /** Told of every operation, before it is carried out. */
  onOperation: (what: string, place: string) => void = () => {};
  /** Space in bytes. */
  capacityBytes: number;
  readonly #random: SeededRandom;
  readonly #scheduler: Scheduler;
  readonly #syncMs: number;
  readonly #otherFileSystem: string | undefined;
  readonly #truth: NonNullable<SimulatedDiskOptions["truth"]>;
  readonly #scratch: string;
  readonly #root = new DirectoryNode();
  readonly #locks = new Set<string>();
  readonly #databases = new Set<SimulatedDatabase>();
  readonly #full = new Set<string>();
  #faults: ArmedFault[] = [];
  #deferred: (() => void)[] = [];
  #inodes = 0;
  #scratchNames = 0;
  #life = 0;
  #powered = true;
  #cutAt = Infinity;

  /** An empty disk with power. */
  constructor(options: SimulatedDiskOptions) {
    this.#random = options.random;
    this.#scheduler = options.scheduler;
    this.capacityBytes = options.capacityBytes ?? Infinity;
    this.#syncMs = options.syncMs ?? 20;
    this.#otherFileSystem = options.otherFileSystem;
    this.#truth = options.truth ?? (() => "honest");
    const shared = "/dev/shm";
    const base = fs.existsSync(shared) ? shared : os.tmpdir();
    this.#scratch = fs.mkdtempSync(path.join(base, "varve-simulated-"));
  }

  /** Whether there is power. Without it everything throws until {@linkcode SimulatedDisk.restorePower}. */
  get powered(): boolean {
    return this.#powered;
  }

  /** Cuts the power at the `count`-th operation from now on, 1 being the next; that operation fails already. */
  cutPowerAfter(count: number): void {
    this.#cutAt = this.operations + count;
  }

  /** Takes an order of {@linkcode SimulatedDisk.cutPowerAfter} back. */
  keepPower(): void {
    this.#cutAt = Infinity;
  }

  /** Orders failures. Orders end with the life in which they were given; without power there is none. */
  fail(order: FaultOrder): void {
    if (!this.#powered) return;
    this.#faults.push({ order, toPass: order.after ?? 0, toFail: order.times ?? 1 });
  }

  /** Takes back all orders of failures; returns how many had not been carried out in full. */
  clearFaults(): number {
    const left = this.#faults.length;
    this.#faults = [];
    return left;
  }

  /** Runs what only looks, while no failure is carried out. */
  withoutFaults<T>(work: () => T): T {
    const faults = this.#faults;
    const life = this.#life;
    this.#faults = [];
    try {
      return work();
    } finally {
      // The power may be cut meanwhile.
      if (life === this.#life) this.#faults = faults;
    }
  }

  /** Cuts the power now. */
  cutPower(): void {
    this.#powered = false;
    this.#endLife();
  }

  /** Gives power back: what has not survived is gone. */
  restorePower(): void {
    if (this.#powered) return;
    this.#root.cutPower(this.#random);
    const kept = new Set<string>();
    for (const node of this.#root.below()) if (node.kind === "database") kept.add(node.scratchPath);
    for (const name of fs.readdirSync(this.#scratch)) {
      const place = path.join(this.#scratch, name.replace(/-wal$|-shm$/, ""));
      if (!kept.has(place)) fs.rmSync(path.join(this.#scratch, name));
    }
    for (const place of [...kept].sort()) if (!this.#full.has(place)) cutLog(place, this.#random);
    this.#powered = true;
  }

  /** The process dies: what it had handed over stays, unsynced still; everything that it held open is gone. */
  killProcess(): void {
    this.#endLife();
  }

  #endLife(): void {
    this.#life++;
    this.#cutAt = Infinity;
    this.#faults = [];
    this.#deferred = [];
    this.#locks.clear();
    for (const database of this.#databases) {
      this.#remember(database);
      database.abandon();
    }
    this.#databases.clear();
  }

  /** Removes the scratch folder of the databases. */
  [Symbol.dispose](): void {
    this.#endLife();
    fs.rmSync(this.#scratch, { recursive: true, force: true });
  }

  /** Where the bytes of a database lie on the machine, for tests that look into it; `undefined` when there is none. */
  scratchPath(place: string): string | undefined {
    const node = this.#node(place);
    return node?.kind === "database" ? node.scratchPath : undefined;
  }

  /** Flips one bit of a file, behind everybody's back. */
  flipBit(place: string, offset: number, bit: number): void {
    this.#file(place, "flip a bit of").flipBit(offset, bit);
  }

  /** Whether a failed sync has left something of a file in doubt, and nothing has settled it since. */
  isInDoubt(place: string): boolean {
    return this.#file(place, "look at").isInDoubt;
  }

  /** Bytes of a file that are no hole, by page of 4 KiB; for tests that compare it with a model. */
  pagesOf(place: string): ReadonlyMap<number, Uint8Array> {
    return this.#file(place, "look at").live.pages;
  }

  /** Counts an operation; throws when there is no power, or none any more. */
  #operate(life: number, what: string, place: string): void {
    if (life !== this.#life || !this.#powered) {
      throw new VarveError("io", `${what} ${place}: the power was cut or the process has ended`);
    }
    this.operations++;
    this.onOperation(what, place);
    if (this.operations < this.#cutAt) return;
    this.cutPower();
    throw new VarveError("io", `${what} ${place}: the power is cut`);
  }

  #fault(kind: FaultKind, place: string): FaultOrder | undefined {
    for (const fault of this.#faults) {
      if (fault.order.kind !== kind || !(fault.order.matches?.(place) ?? true)) continue;
      if (fault.toPass-- > 0) continue;
      if (--fault.toFail <= 0) this.#faults = this.#faults.filter((other) => other !== fault);
      return fault.order;
    }
    return undefined;
  }

  #throwFault(kind: FaultKind, place: string): void {
    const fault = this.#fault(kind, place);
    if (fault === undefined) return;
    const full = fault.code === "no-space";
    throw new VarveError(
      full ? "no-space" : "io",
      `${kind} ${place}: ${full ? "ENOSPC: no space left on device" : "EIO: i/o error"}`,
    );
  }

  #node(place: string): TreeNode | undefined {
    let node: TreeNode = this.#root;
    for (const name of place.split("/")) {
      if (name === "") continue;
      if (node.kind !== "directory") return undefined;
      const next = node.live.get(name);
      if (next === undefined) return undefined;
      node = next;
    }
    return node;
  }

  #directory(place: string, tried: string): DirectoryNode {
    const node = this.#node(place);
    if (node?.kind === "directory") return node;
    throw new VarveError("not-found", `${tried}: ENOENT: no such directory`);
  }

  #file(place: string, tried: string): FileNode {
    const node = this.#node(place);
    if (node?.kind === "file") return node;
    throw new VarveError("not-found", `${tried} ${place}: ENOENT: no such file`);
  }

  open(place: string, options: DiskOpenOptions = {}): DiskFile {
    const life = this.#life;
    this.#operate(life, "open", place);
    const mode = options.mode ?? "read";
    const found = this.#node(place);
    if (found !== undefined && found.kind !== "file") {
      throw new VarveError("invalid", `open ${place}: it is neither a file nor a block device`);
    }
    if (found !== undefined && mode === "create-new") {
      throw new VarveError("conflict", `open ${place}: EEXIST: file already exists`);
    }
    if (found === undefined && (mode === "read" || mode === "write")) {
      throw new VarveError("not-found", `open ${place}: ENOENT: no such file or directory`);
    }
    const node = found ?? new FileNode(++this.#inodes);
    if (found === undefined) {
      this.#directory(path.dirname(place), `open ${place}`).change([], { name: path.basename(place), node });
    }
    return this.#handle(place, node, mode !== "read", life);
  }

  #handle(place: string, node: FileNode, writable: boolean, life: number): DiskFile {
    const begin = (what: string, changes: boolean) => {
      this.#operate(life, what, place);
      if (changes && !writable) {
        throw new VarveError("read-only", `${what} ${place}: it was opened for reading`);
      }
    };
    return {
      path: place,
      read: (offset, target) => {
        begin("read", false);
        this.#throwFault("read", place);
        return node.live.read(offset, target);
      },
      write: (offset, ...parts) => {
        begin("write", true);
        let at = offset;
        for (const part of parts) {
          this.#write(node, place, at, part);
          at += part.length;
        }
      },
      discard: (offset, length) => {
        begin("discard", true);
        this.#throwFault("write", place);
        node.discard(offset, length);
      },
      reserve: (offset, length) => {
        begin("reserve", true);
        this.#checkSpace(place, node.costOf(offset, length), `reserve ${length} bytes for ${place}`);
        node.reserve(offset, length);
      },
      truncate: (sizeBytes) => {
        begin("truncate", true);
        this.#throwFault("write", place);
        node.resize(sizeBytes);
      },
      sizeBytes: () => node.live.sizeBytes,
      seek: (offset, kind) => {
        begin("seek", false);
        return node.live.seek(offset, kind);
      },
      sync: () => this.#syncFile(node, place, life),
      forgetCached: () => {
        begin("forget what is cached of", false);
        node.forgetCached(this.#random);
      },
      close: () => {},
    };
  }

  #write(node: FileNode, place: string, offset: number, bytes: Uint8Array): void {
    try {
      this.#throwFault("write", place);
      this.#checkSpace(place, node.costOf(offset, bytes.length), `write ${bytes.length} bytes to ${place}`);
    } catch (thrown) {
      // Some of it may have been written before it failed.
      const written = this.#random.below(bytes.length + 1);
      if (node.costOf(offset, written) <= this.#freeBytes(place)) {
        node.write(offset, bytes.subarray(0, written));
      }
      throw thrown;
    }
    node.write(offset, bytes);
  }

  async #syncFile(node: FileNode, place: string, life: number): Promise<void> {
    this.#operate(life, "sync", place);
    const truth = this.#truth(place, "file");
    const fault = this.#fault("sync", place);
    const cover = node.cover();
    await this.#takeTime(life);
    if (fault !== undefined) {
      node.abandon(cover);
      throw new VarveError("io", `sync ${place}: EIO: i/o error`);
    }
    this.#settle(truth, () => node.settle(cover));
  }

  #settle(truth: SyncTruth, effect: () => void): void {
    if (truth === "ignored") return;
    if (truth === "deferred") {
      this.#deferred.push(effect);
      return;
    }
    effect();
    const deferred = this.#deferred;
    this.#deferred = [];
    for (const late of deferred) late();
  }

  /** Resolves after a time of the seed's choice, and never when the life ends before. */
  #takeTime(life: number): Promise<void> {
    const delayMs = this.#random.oneIn(4) ? 0 : this.#random.below(this.#syncMs * 1000) / 1000;
    return new Promise((resolve) => {
      this.#scheduler.after(delayMs, () => {
        if (life === this.#life && this.#powered) resolve();
      });
    });
  }

  stat(place: string): DiskStat | undefined {
    this.#operate(this.#life, "stat", place);
    const node = this.#node(place);
    if (node?.kind === "file") {
      return {
        kind: "file",
        sizeBytes: node.live.sizeBytes,
        allocatedBytes: node.allocatedBytes,
        identity: `simulated:${node.inode}`,
      };
    }
    if (node?.kind === "directory") {
      return { kind: "other", sizeBytes: 0, allocatedBytes: 0, identity: `simulated:${place}` };
    }
    const suffix = /-wal$|-shm$/.exec(place)?.[0] ?? "";
    const base = this.#node(place.slice(0, place.length - suffix.length));
    if (base?.kind !== "database") return undefined;
    const sizeBytes = fs.statSync(base.scratchPath + suffix, { throwIfNoEntry: false })?.size;
    return sizeBytes === undefined
      ? undefined
      : { kind: "file", sizeBytes, allocatedBytes: sizeBytes, identity: `simulated:${place}` };
  }

  list(directory: string): string[] {
    this.#operate(this.#life, "list", directory);
    const node = this.#node(directory);
    return node?.kind === "directory" ? [...node.live.keys()].sort() : [];
  }

  makeDirectory(place: string): void {
    this.#operate(this.#life, "make directory", place);
    let node: DirectoryNode = this.#root;
    for (const name of place.split("/")) {
      if (name === "") continue;
      const next: TreeNode = node.live.get(name) ?? new DirectoryNode();
      if (next.kind !== "directory") {
        throw new VarveError("conflict", `make directory ${place}: ${name} is none`);
      }
      if (!node.live.has(name)) node.change([], { name, node: next });
      node = next;
    }
  }

  remove(place: string): void {
    this.#operate(this.#life, "remove", place);
    const node = this.#node(place);
    if (node === undefined) return;
    if (node.kind === "directory") throw new VarveError("io", `remove ${place}: EISDIR: it is a directory`);
    this.#directory(path.dirname(place), `remove ${place}`).change([path.basename(place)]);
  }

  removeTree(place: string): void {
    const node = this.#node(place);
    if (node?.kind === "directory") {
      for (const name of [...node.live.keys()].sort()) this.removeTree(path.join(place, name));
    }
    this.#operate(this.#life, "remove tree", place);
    if (node === undefined) return;
    this.#directory(path.dirname(place), `remove ${place}`).change([path.basename(place)]);
  }

  rename(source: string, target: string): void {
    this.#operate(this.#life, "rename", source);
    const node = this.#node(source);
    if (node === undefined) throw new VarveError("not-found", `rename ${source}: ENOENT: no such file`);
    if (path.dirname(source) !== path.dirname(target)) {
      throw new VarveError("unsupported", `rename ${source} to ${target}: the directories differ`);
    }
    this.#directory(path.dirname(source), `rename ${source}`).change([path.basename(source)], {
      name: path.basename(target),
      node,
    });
  }

  /** A database takes its log along: it belongs to the database, not to the name. */
  removeDatabase(place: string): void {
    this.remove(place);
  }

  async renameDatabase(source: string, target: string): Promise<void> {
    this.removeDatabase(target);
    if (this.#node(source) === undefined) return;
    this.rename(source, target);
    await this.syncDirectory(path.dirname(target));
  }

  async syncDirectory(place: string): Promise<void> {
    const life = this.#life;
    this.#operate(life, "sync directory", place);
    const directory = this.#directory(place, `sync ${place}`);
    this.#throwFault("sync", place);
    const truth = this.#truth(place, "directory");
    const cover = directory.cover();
    await this.#takeTime(life);
    if (truth === "honest") directory.settle(cover);
  }

  space(place: string): DiskSpace {
    this.#operate(this.#life, "look at the space of", place);
    const isOther = this.#isOther(place);
    const totalBytes = Math.min(isOther ? Infinity : this.capacityBytes, 2 ** 40);
    const freeBytes = Math.min(totalBytes, Math.max(0, this.#freeBytes(place)));
    return { totalBytes, freeBytes, fileSystem: isOther ? "other" : "main" };
  }

  #isOther(place: string): boolean {
    return this.#otherFileSystem !== undefined && place.split("/")[1] === this.#otherFileSystem;
  }

  /** Bytes that files take. A file that is open and has no name any more is not counted. */
  usedBytes(): number {
    let used = 0;
    for (const [name, top] of this.#root.live) {
      if (name === this.#otherFileSystem) continue;
      for (const node of top.kind === "directory" ? top.below() : [top]) {
        if (node.kind === "file") used += node.allocatedBytes;
      }
    }
    return used;
  }

  #freeBytes(place: string): number {
    if (this.capacityBytes === Infinity || this.#isOther(place)) return Infinity;
    return this.capacityBytes - this.usedBytes();
  }

  #checkSpace(place: string, wantedBytes: number, tried: string): void {
    if (wantedBytes === 0) return;
    const freeBytes = this.#freeBytes(place);
    if (wantedBytes <= freeBytes) return;
    throw new VarveError(
      "no-space",
      `${tried}: ENOSPC: no space left on device, ${freeBytes} bytes are free`,
    );
  }

  lock(place: string): DiskLock | undefined {
    const life = this.#life;
    this.#operate(life, "lock", place);
    if (this.#locks.has(place)) return undefined;
    this.#locks.add(place);
    return {
      release: () => {
        if (life === this.#life) this.#locks.delete(place);
      },
    };
  }

  openDatabase(place: string, options: { readonly readOnly?: boolean } = {}): DatabaseSync {
    const life = this.#life;
    this.#operate(life, "open database", place);
    const found = this.#node(place);
    if (found !== undefined && found.kind !== "database") {
      throw new VarveError("invalid", `open database ${place}: it is none`);
    }
    if (found === undefined && options.readOnly) {
      throw new VarveError("not-found", `open database ${place}: ENOENT: no such file`);
    }
    let node = found;
    if (node === undefined) {
      node = { kind: "database", scratchPath: path.join(this.#scratch, `${++this.#scratchNames}.sqlite`) };
      // SQLite syncs the directory of a database that it makes.
      const directory = this.#directory(path.dirname(place), `open database ${place}`);
      directory.addDurably(path.basename(place), node);
    }
    return this.#openDatabase(place, node, options.readOnly ?? false, life);
  }

  #openDatabase(place: string, node: DatabaseNode, readOnly: boolean, life: number): DatabaseSync {
    const database: SimulatedDatabase = new SimulatedDatabase(node.scratchPath, readOnly, {
      host: {
        operate: (what) => this.#operate(life, what, place),
        commitFault: () => {
          const fault = this.#fault("commit", place);
          if (fault === undefined) return undefined;
          return new Error(fault.code === "no-space" ? "database or disk is full" : "disk I/O error");
        },
        wantsCheckpoint: () => this.#random.oneIn(50),
      },
      onClose: () => {
        this.#databases.delete(database);
        this.#remember(database);
      },
    });
    this.#databases.add(database);
    return database;
  }

  #remember(database: SimulatedDatabase): void {
    if (database.isFull) this.#full.add(database.scratchPath);
    else this.#full.delete(database.scratchPath);
  }
}

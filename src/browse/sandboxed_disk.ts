/**
 * A moment's files through a sandbox: what they are is asked there, what they hold is read here.
 *
 * The sandbox says where a file's bytes lie on its disk, and this side reads them from the view. So content does not go through
 * the sandbox, and a reader that was led astray can show no more than other bytes of the same disk.
 *
 * @module
 */
import { type Awaitable, chain } from "../base/awaitable.ts";
import type { BlockDevice } from "../base/block_device.ts";
import { VarveError } from "../base/errors.ts";
import { Lru } from "../base/lru.ts";
import type { DiskPiece, GuestFileSystem, GuestStat, GuestXattr } from "../guestfs/guest.ts";
import { ContentMaps, type PlacedRun } from "./content_maps.ts";
import type {
  DiskSummary,
  FileSystemSummary,
  GuestCallName,
  GuestCalls,
  GuestDetails,
  QuestionOf,
} from "./guest_calls.ts";
import { Neighbours } from "./neighbours.ts";
import { PackedListing } from "./packed_listing.ts";
import type { PastDisk, PastFileSystem, PastListing } from "./past_file_system.ts";
import { readPieces } from "./pieces.ts";

/** How much of a file its runs are asked for at a time. */
const MAPPED_BYTES = 1024 ** 3;
/** Bytes that one question for made content returns at most. */
const MADE_BYTES_MAX = 1024 * 1024;

/** Files that are asked about at once. */
const DETAILED_MAX = 64;
/** Files whose details are kept. */
const DETAILS_MAX = 20_000;

/** Largest attributes of one file that are kept. */
const KEPT_XATTR_BYTES = 4096;

/** Asks the sandbox about one moment. */
export type AskGuest = <Name extends GuestCallName>(
  question: QuestionOf<Name>,
) => Promise<GuestCalls[Name]["answer"]>;

/** What is known of the files of many moments, in memory that they share. */
export class GuestCache {
  /** Where files lie. */
  readonly maps = new ContentMaps();
  /** Attributes and targets of links, by file. */
  readonly details = new Lru<GuestDetails>(DETAILS_MAX);
  /** What was listed last. */
  readonly neighbours = new Neighbours();
}

/** Where a {@linkcode sandboxedDisk} gets what it shows. */
export interface SandboxedDiskOptions {
  /** The disk, for what files hold. */
  readonly device: BlockDevice;
  /** Asks the sandbox. */
  readonly ask: AskGuest;
  /** What is known already. */
  readonly cache: GuestCache;
  /** Tells the moment from all others in the cache. */
  readonly key: string;
}

/** A disk as the sandbox described it. */
export function sandboxedDisk(summary: DiskSummary, options: SandboxedDiskOptions): PastDisk {
  return {
    table: summary.table,
    partitions: summary.partitions.map(({ name, pieces, fileSystem, reason, refusal }, partition) => ({
      name,
      pieces,
      reason,
      ...(refusal === undefined ? {} : { refusal }),
      fileSystem: fileSystem === undefined
        ? undefined
        : new SandboxedFileSystem(fileSystem, { ...options, partition, pieces }),
    })),
  };
}

interface Parts extends SandboxedDiskOptions {
  readonly partition: number;
  readonly pieces: readonly DiskPiece[];
}

class SandboxedFileSystem implements PastFileSystem {
  readonly kind: string;
  readonly label: string;
  readonly root: number;
  readonly keepsChangeTimes: boolean;
  readonly #parts: Parts;
  readonly #key: string;

  constructor({ kind, label, root, keepsChangeTimes }: FileSystemSummary, parts: Parts) {
    this.kind = kind;
    this.label = label;
    this.root = root;
    this.keepsChangeTimes = keepsChangeTimes;
    this.#parts = parts;
    this.#key = `${parts.key}:${parts.partition}`;
  }

  space(): Promise<GuestFileSystem["space"]> {
    const { ask, partition } = this.#parts;
    return ask({ call: "space", partition });
  }

  stat(inode: number): Promise<GuestStat> {
    const { ask, partition } = this.#parts;
    return ask({ call: "stat", partition, inode });
  }

  lookup(directory: number, name: Uint8Array): Promise<GuestStat | undefined> {
    const { ask, partition } = this.#parts;
    return ask({ call: "lookup", partition, inode: directory, name });
  }

  async list(directory: number): Promise<PastListing> {
    const { ask, partition, cache } = this.#parts;
    const listing = new PackedListing(await ask({ call: "list", partition, inode: directory }));
    cache.neighbours.remember(this.#key, listing);
    return listing;
  }

  readLink(inode: number): Awaitable<Uint8Array> {
    const { ask, partition } = this.#parts;
    return chain(
      this.#details(inode),
      ({ target }) => target ?? ask({ call: "readLink", partition, inode }),
    );
  }

  xattrs(inode: number): Awaitable<GuestXattr[]> {
    const { ask, partition } = this.#parts;
    return chain(
      this.#details(inode),
      ({ xattrs }) => xattrs ?? ask({ call: "xattrs", partition, inode }),
    );
  }

  #keyOf(inode: number): string {
    return `${this.#key}:${inode}`;
  }

  #details(inode: number): Awaitable<GuestDetails> {
    return this.#parts.cache.details.get(this.#keyOf(inode)) ?? this.#askDetails(inode);
  }

  /** Asks for those of its neighbours too: they come next. */
  async #askDetails(inode: number): Promise<GuestDetails> {
    const { ask, partition, cache } = this.#parts;
    const inodes = cache.neighbours.from(this.#key, inode, DETAILED_MAX);
    const all = await ask({ call: "details", partition, inodes });
    for (const { runs, ...details } of all) {
      const key = this.#keyOf(details.inode);
      if (runs !== undefined && cache.maps.find(key, 0) === undefined) cache.maps.add(key, 0, runs);
      if (xattrBytes(details) <= KEPT_XATTR_BYTES) cache.details.set(key, details);
    }
    return all[0] ?? { inode };
  }

  read(inode: number, offset: number, target: Uint8Array): Awaitable<number> {
    return this.#fill(inode, offset, target, 0);
  }

  /** Goes on synchronously as long as everything is known and stored. */
  #fill(inode: number, offset: number, target: Uint8Array, from: number): Awaitable<number> {
    for (let done = from; done < target.length;) {
      const run = this.#parts.cache.maps.find(this.#keyOf(inode), offset + done);
      if (run === "end") return done;
      if (run === undefined || run.kind === "made") {
        const at = done;
        const more = run === undefined
          ? this.#learn(inode, offset + at).then(() => 0)
          : this.#make(inode, run, offset + at, target.subarray(at));
        return more.then((count) => this.#fill(inode, offset, target, at + count));
      }
      const within = offset + done - run.offset;
      const part = target.subarray(done, done + run.length - within);
      if (run.kind === "hole") part.fill(0);
      else readPieces(this.#parts.device, this.#parts.pieces, run.deviceOffset + within, part);
      done += part.length;
    }
    return target.length;
  }

  /** Makes known where a byte of a file lies. */
  async #learn(inode: number, offset: number): Promise<void> {
    const { ask, partition, cache: { maps } } = this.#parts;
    const key = this.#keyOf(inode);
    if (offset === 0) await this.#details(inode);
    if (maps.find(key, offset) !== undefined) return;
    const runs = await ask({ call: "map", partition, inode, offset, length: MAPPED_BYTES });
    if (maps.find(key, offset) === undefined) maps.add(key, offset, runs);
  }

  async #make(inode: number, run: PlacedRun, offset: number, target: Uint8Array): Promise<number> {
    const { ask, partition } = this.#parts;
    const length = Math.min(target.length, run.offset + run.length - offset, MADE_BYTES_MAX);
    const bytes = await ask({ call: "read", partition, inode, offset, length });
    if (bytes.length === 0 || bytes.length > length) {
      throw new VarveError("damaged", `read inode ${inode}: ${bytes.length} of ${length} bytes at ${offset}`);
    }
    target.set(bytes);
    return bytes.length;
  }

  seek(inode: number, offset: number, kind: "data" | "hole"): Awaitable<number | undefined> {
    return chain(
      this.#runAt(inode, offset),
      (run) => run === "end" ? undefined : this.#seek(inode, offset, kind),
    );
  }

  #seek(inode: number, from: number, kind: "data" | "hole"): Awaitable<number | undefined> {
    for (let at = from;;) {
      const run = this.#parts.cache.maps.find(this.#keyOf(inode), at);
      if (run === undefined) {
        const next = at;
        return this.#learn(inode, next).then(() => this.#seek(inode, next, kind));
      }
      if (run === "end") return kind === "hole" ? at : undefined;
      if ((run.kind === "hole" ? "hole" : "data") === kind) return at;
      at = run.offset + run.length;
    }
  }

  #runAt(inode: number, offset: number): Awaitable<PlacedRun | "end" | undefined> {
    const { maps } = this.#parts.cache;
    const key = this.#keyOf(inode);
    return maps.find(key, offset) ?? this.#learn(inode, offset).then(() => maps.find(key, offset));
  }
}

function xattrBytes({ xattrs = [] }: GuestDetails): number {
  return xattrs.reduce((sum, { value }) => sum + value.length, 0);
}

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
import type { DiskPiece, GuestFileSystem, GuestStat, GuestXattr } from "../guestfs/guest.ts";
import { ContentMaps, type PlacedRun } from "./content_maps.ts";
import type { DiskSummary, FileSystemSummary, GuestCallName, GuestCalls, QuestionOf } from "./guest_calls.ts";
import { PackedListing } from "./packed_listing.ts";
import type { PastDisk, PastFileSystem, PastListing } from "./past_file_system.ts";
import { readPieces } from "./pieces.ts";

/** How much of a file its runs are asked for at a time. */
const MAPPED_BYTES = 1024 ** 3;
/** Bytes that one question for made content returns at most. */
const MADE_BYTES_MAX = 1024 * 1024;

/** Asks the sandbox about one moment. */
export type AskGuest = <Name extends GuestCallName>(
  question: QuestionOf<Name>,
) => Promise<GuestCalls[Name]["answer"]>;

/** A disk as the sandbox described it, read from `device`. */
export function sandboxedDisk(summary: DiskSummary, device: BlockDevice, ask: AskGuest): PastDisk {
  return {
    table: summary.table,
    partitions: summary.partitions.map(({ name, pieces, fileSystem, reason }, partition) => ({
      name,
      pieces,
      reason,
      fileSystem: fileSystem === undefined
        ? undefined
        : new SandboxedFileSystem(fileSystem, { partition, pieces, device, ask }),
    })),
  };
}

interface Parts {
  readonly partition: number;
  readonly pieces: readonly DiskPiece[];
  readonly device: BlockDevice;
  readonly ask: AskGuest;
}

class SandboxedFileSystem implements PastFileSystem {
  readonly kind: string;
  readonly label: string;
  readonly root: number;
  readonly keepsChangeTimes: boolean;
  readonly #parts: Parts;
  readonly #maps = new ContentMaps();

  constructor({ kind, label, root, keepsChangeTimes }: FileSystemSummary, parts: Parts) {
    this.kind = kind;
    this.label = label;
    this.root = root;
    this.keepsChangeTimes = keepsChangeTimes;
    this.#parts = parts;
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
    const { ask, partition } = this.#parts;
    return new PackedListing(await ask({ call: "list", partition, inode: directory }));
  }

  readLink(inode: number): Promise<Uint8Array> {
    const { ask, partition } = this.#parts;
    return ask({ call: "readLink", partition, inode });
  }

  xattrs(inode: number): Promise<GuestXattr[]> {
    const { ask, partition } = this.#parts;
    return ask({ call: "xattrs", partition, inode });
  }

  read(inode: number, offset: number, target: Uint8Array): Awaitable<number> {
    return this.#fill(inode, offset, target, 0);
  }

  /** Goes on synchronously as long as everything is known and stored. */
  #fill(inode: number, offset: number, target: Uint8Array, from: number): Awaitable<number> {
    for (let done = from; done < target.length;) {
      const run = this.#maps.find(inode, offset + done);
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

  async #learn(inode: number, offset: number): Promise<void> {
    const { ask, partition } = this.#parts;
    const runs = await ask({ call: "map", partition, inode, offset, length: MAPPED_BYTES });
    if (this.#maps.find(inode, offset) === undefined) this.#maps.add(inode, offset, runs);
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
      const run = this.#maps.find(inode, at);
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
    return this.#maps.find(inode, offset) ??
      this.#learn(inode, offset).then(() => this.#maps.find(inode, offset));
  }
}

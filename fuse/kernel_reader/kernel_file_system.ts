/**
 * Files of the past as the host's kernel reads them.
 *
 * @module
 */
import { VarveError } from "../../src/base/errors.ts";
import type { KernelPartition } from "../../src/browse/kernel_reading.ts";
import { PackedListing } from "../../src/browse/packed_listing.ts";
import type { PastFileSystem, PastListing } from "../../src/browse/past_file_system.ts";
import type { GuestFileSystem, GuestStat, GuestXattr } from "../../src/guestfs/guest.ts";
import type { FileHandles } from "./file_handles.ts";
import type { MountedDisk } from "./mounted_disk.ts";
import { type MountedDisks, partitionKey } from "./mounted_disks.ts";
import type { FoundFile, MountSummary } from "./reader_calls.ts";

/** Bytes that one question for content returns at most. */
const READ_BYTES_MAX = 1024 * 1024;

/** What a {@linkcode KernelFileSystem} works with. */
export interface KernelFileSystemParts {
  /** Which partition. */
  readonly partition: KernelPartition;
  /** What was mounted. */
  readonly summary: MountSummary;
  /** Where it is mounted, again when need be. */
  readonly disks: MountedDisks;
  /** What leads from inode numbers to files. */
  readonly handles: FileHandles;
}

/** A file system that the kernel reads. */
export class KernelFileSystem implements PastFileSystem {
  readonly kind: string;
  readonly label: string;
  readonly root: number;
  /** The kernel's drivers differ in what they call the time of a change. */
  readonly keepsChangeTimes = false;
  readonly #parts: KernelFileSystemParts;
  readonly #key: string;

  constructor(parts: KernelFileSystemParts) {
    this.kind = parts.partition.type;
    this.label = parts.summary.label;
    this.root = parts.summary.root.stat.inode;
    this.#parts = parts;
    this.#key = partitionKey(parts.partition);
    this.#learn(parts.summary.root);
  }

  space(): Promise<GuestFileSystem["space"]> {
    return this.#use((disk) => disk.ask({ call: "space" }));
  }

  stat(inode: number): Promise<GuestStat> {
    return this.#useFile(inode, async (disk, handle) => (await disk.ask({ call: "stat", handle })).stat);
  }

  lookup(directory: number, name: Uint8Array): Promise<GuestStat | undefined> {
    return this.#useFile(directory, async (disk, handle) => {
      const found = await disk.ask({ call: "lookup", handle, name });
      if (found !== undefined) this.#learn(found);
      return found?.stat;
    });
  }

  list(directory: number): Promise<PastListing> {
    return this.#useFile(directory, async (disk, handle) => {
      const { entries, handles } = await disk.ask({ call: "list", handle });
      const listing = new PackedListing(entries);
      this.#parts.handles.add(
        this.#key,
        handles.map((found, index) => [listing.at(index).inode, found] as const),
      );
      return listing;
    });
  }

  readLink(inode: number): Promise<Uint8Array> {
    return this.#useFile(inode, (disk, handle) => disk.ask({ call: "readLink", handle }));
  }

  xattrs(inode: number): Promise<readonly GuestXattr[]> {
    return this.#useFile(inode, (disk, handle) => disk.ask({ call: "xattrs", handle }));
  }

  read(inode: number, offset: number, target: Uint8Array): Promise<number> {
    return this.#useFile(inode, async (disk, handle) => {
      for (let done = 0; done < target.length;) {
        const length = Math.min(target.length - done, READ_BYTES_MAX);
        const bytes = await disk.ask({ call: "read", handle, offset: offset + done, length });
        target.set(bytes, done);
        done += bytes.length;
        if (bytes.length < length) return done;
      }
      return target.length;
    });
  }

  seek(inode: number, offset: number, kind: "data" | "hole"): Promise<number | undefined> {
    return this.#useFile(inode, (disk, handle) => disk.ask({ call: "seek", handle, offset, kind }));
  }

  #learn({ stat, handle }: FoundFile): void {
    this.#parts.handles.add(this.#key, [[stat.inode, handle]]);
  }

  #use<T>(use: (disk: MountedDisk) => Promise<T>): Promise<T> {
    const { disks, partition } = this.#parts;
    return disks.use(partition, ({ disk }) => use(disk));
  }

  /** A file whose handle was forgotten is looked for. */
  #useFile<T>(inode: number, use: (disk: MountedDisk, handle: string) => Promise<T>): Promise<T> {
    return this.#use(async (disk) => {
      const known = this.#parts.handles.get(this.#key, inode);
      if (known !== undefined) return await use(disk, known);
      if (!Number.isSafeInteger(inode) || inode < 0) {
        throw new VarveError("not-found", `find inode ${inode}: there is none of that number`);
      }
      const found = await disk.ask({ call: "find", inode });
      this.#learn(found);
      return await use(disk, found.handle);
    });
  }
}

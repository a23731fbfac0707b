/**
 * A disk whose reader runs in this thread: for tests, and for disks that nobody need be kept from.
 *
 * @module
 */
import { seekContent } from "../guestfs/content.ts";
import type { GuestDisk, GuestFileSystem, GuestStat } from "../guestfs/guest.ts";
import { VarveError } from "../base/errors.ts";
import type { PastDisk, PastEntry, PastFileSystem, PastListing } from "./past_file_system.ts";

/** Shows what a reader found. Everything is answered at once. */
export function directDisk(disk: GuestDisk): PastDisk {
  return {
    table: disk.table,
    partitions: disk.partitions.map((partition) => ({
      ...partition,
      fileSystem: partition.fileSystem === undefined ? undefined : new DirectFileSystem(partition.fileSystem),
    })),
  };
}

class DirectFileSystem implements PastFileSystem {
  readonly kind: string;
  readonly label: string;
  readonly root: number;
  readonly keepsChangeTimes: boolean;
  readonly #guest: GuestFileSystem;

  constructor(guest: GuestFileSystem) {
    this.kind = guest.kind;
    this.label = guest.label;
    this.root = guest.root;
    this.keepsChangeTimes = guest.keepsChangeTimes;
    this.#guest = guest;
  }

  space(): GuestFileSystem["space"] {
    return this.#guest.space;
  }

  stat(inode: number): GuestStat {
    return this.#guest.stat(inode);
  }

  lookup(directory: number, name: Uint8Array): GuestStat | undefined {
    const inode = this.#guest.lookup(directory, name);
    return inode === undefined ? undefined : this.#guest.stat(inode);
  }

  list(directory: number): PastListing {
    const entries = this.#guest.readDirectory(directory);
    return {
      length: entries.length,
      at: (index): PastEntry => {
        const entry = entries[index];
        if (entry === undefined) throw new RangeError(`listing: no entry ${index} of ${entries.length}`);
        return { ...entry, stat: this.#statOrNothing(entry.inode) };
      },
    };
  }

  #statOrNothing(inode: number): GuestStat | undefined {
    try {
      return this.#guest.stat(inode);
    } catch (thrown) {
      if (thrown instanceof VarveError) return undefined;
      throw thrown;
    }
  }

  readLink(inode: number): Uint8Array {
    return this.#guest.readLink(inode);
  }

  xattrs(inode: number): ReturnType<GuestFileSystem["xattrs"]> {
    return this.#guest.xattrs(inode);
  }

  read(inode: number, offset: number, target: Uint8Array): number {
    return this.#guest.read(inode, offset, target);
  }

  seek(inode: number, offset: number, kind: "data" | "hole"): number | undefined {
    const { sizeBytes } = this.#guest.stat(inode);
    return seekContent(this.#guest, { inode, sizeBytes }, { offset, kind });
  }
}

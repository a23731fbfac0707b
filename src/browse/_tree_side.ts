/**
 * The files of one moment, as a comparison of two looks at them.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { BLOCK_BYTES, type BlockDevice } from "../base/block_device.ts";
import { VarveError } from "../base/errors.ts";
import type { ContentRun, DiskPiece, GuestFileSystem, GuestStat } from "../guestfs/guest.ts";
import { onDisk, type Place, placeOf } from "./_file_probe.ts";
import type { ByteRange } from "./_ranges.ts";

/** A name, and itself as a text of one character a byte. */
export interface ListedName {
  /** The name. */
  readonly name: Uint8Array;
  /** The same, as the key of a map. */
  readonly key: string;
  /** Inode that it leads to. */
  readonly inode: number;
}

/** Where a file lies, roughly. */
export interface Layout {
  /** What its map says. */
  readonly runs: readonly ContentRun[];
  /** Every block of the disk that holds bytes of it. */
  readonly blocks: readonly ByteRange[];
}

/** Whether two maps say the same. */
export function isSameLayout(one: Layout, other: Layout): boolean {
  return one.runs.length === other.runs.length && one.runs.every((run, index) => {
    const same = other.runs[index];
    return same !== undefined && run.kind === same.kind && run.length === same.length &&
      (run.kind !== "stored" || same.kind !== "stored" || run.deviceOffset === same.deviceOffset);
  });
}

/** Runs of content looked at when it is asked where a file lies. */
const RUNS_MAX = 1024;
const SLASH = 0x2f;

/** One partition at one moment. */
export class TreeSide {
  /** As `GuestFileSystem.keepsChangeTimes`. */
  readonly keepsChangeTimes: boolean;
  readonly #device: BlockDevice;
  readonly #partition: { readonly fileSystem: GuestFileSystem; readonly pieces: readonly DiskPiece[] };

  /** A partition of the disk `device`. */
  constructor(
    device: BlockDevice,
    partition: { readonly fileSystem: GuestFileSystem; readonly pieces: readonly DiskPiece[] },
  ) {
    this.#device = device;
    this.#partition = partition;
    this.keepsChangeTimes = partition.fileSystem.keepsChangeTimes;
  }

  /** What is known of the file that names lead to from the root, links not followed; `undefined` when there is none. */
  find(names: readonly string[]): GuestStat | undefined {
    const { fileSystem } = this.#partition;
    let stat: GuestStat | undefined = fileSystem.stat(fileSystem.root);
    for (const name of names) {
      if (stat?.type !== "directory") return undefined;
      const inode = fileSystem.lookup(stat.inode, new TextEncoder().encode(name));
      stat = inode === undefined ? undefined : this.stat(inode);
    }
    return stat;
  }

  /** The names in a directory. */
  list(directory: number): ListedName[] {
    return this.#partition.fileSystem.readDirectory(directory).map(({ name, inode }) => ({
      name,
      key: Buffer.from(name.buffer, name.byteOffset, name.length).toString("latin1"),
      inode,
    }));
  }

  /** What is known of an inode; `undefined` when it is free. */
  stat(inode: number): GuestStat | undefined {
    try {
      return this.#partition.fileSystem.stat(inode);
    } catch (thrown) {
      if (thrown instanceof VarveError && thrown.code === "not-found") return undefined;
      throw thrown;
    }
  }

  /** The target of a symbolic link, as the key of a map. */
  targetOf({ inode }: GuestStat): string {
    return this.#partition.fileSystem.readLink(inode).toHex();
  }

  /** The extended attributes of a file, as the key of a map. */
  xattrsOf({ inode }: GuestStat): string {
    return this.#partition.fileSystem.xattrs(inode)
      .map(({ name, value }) => `${name.toHex()}=${value.toHex()}`).sort().join(" ");
  }

  /** Where a file lies, roughly; `undefined` when it does not simply lie in blocks, or in very many pieces. */
  layoutOf({ inode, sizeBytes }: GuestStat): Layout | undefined {
    const { fileSystem, pieces } = this.#partition;
    const runs: ContentRun[] = [];
    for (let at = 0; at < sizeBytes;) {
      const mapped = fileSystem.map(inode, at, sizeBytes - at);
      if (mapped.length === 0 || runs.length + mapped.length > RUNS_MAX) return undefined;
      for (const run of mapped) {
        if (run.kind === "made") return undefined;
        at += run.length;
        runs.push(run);
      }
    }
    const blocks = runs.flatMap((run) =>
      run.kind === "stored" ? [...onDisk(pieces, run.deviceOffset, run.length)] : []
    )
      .map(({ offset, length }) => {
        const first = Math.floor(offset / BLOCK_BYTES) * BLOCK_BYTES;
        return { offset: first, length: Math.ceil((offset + length) / BLOCK_BYTES) * BLOCK_BYTES - first };
      });
    return { runs, blocks };
  }

  /** Where a file lies, exactly. */
  placeOf(stat: GuestStat): Place {
    return placeOf(this.#device, this.#partition, stat);
  }
}

/** A path with one more name. */
export function joinPath(path: Uint8Array, name: Uint8Array): Uint8Array {
  const bare = path.at(-1) === SLASH ? path.length - 1 : path.length;
  const joined = new Uint8Array(bare + 1 + name.length);
  joined.set(path.subarray(0, bare));
  joined[bare] = SLASH;
  joined.set(name, bare + 1);
  return joined;
}

/**
 * The reader of NTFS volumes, versions 1 to 3.1.
 *
 * What is shown is what a read-only mount by ntfs-3g shows: no permissions (everything belongs to root, mode 0777), named streams as
 * extended attributes, no 8.3 names and no files of NTFS itself in listings. Two things differ. A name is found also in another case,
 * as Windows finds it. And a file with a reparse point that isn't known stays a file, whose content is refused, instead of becoming a
 * broken link.
 *
 * The journal `$LogFile` is not replayed, and neither is the image that a hibernated Windows would return to: a volume that was in use
 * is shown as it is in place, as a read-only mount by ntfs-3g does. A record that was only half written is told by its update sequence
 * and refused; a name whose file was deleted since is refused by the sequence number of the record.
 *
 * @module
 */
import type { BlockDevice } from "../../base/block_device.ts";
import { VarveError } from "../../base/errors.ts";
import type {
  ContentRun,
  GuestEntry,
  GuestFileSystem,
  GuestReader,
  GuestStat,
  GuestXattr,
} from "../guest.ts";
import { BOOT_SECTOR_BYTES, hasNtfsMagic } from "./boot_sector.ts";
import { findBytes, listDirectory } from "./directory.ts";
import { ATTRIBUTE, NAME_INDEX, RECORD } from "./format.ts";
import type { NtfsInode } from "./inode.ts";
import { readNamedStreams } from "./named_streams.ts";
import { type Nature, natureOf } from "./nature.ts";
import { measureSpace } from "./space.ts";
import type { NtfsStream } from "./stream.ts";
import { NtfsVolume } from "./volume.ts";

const MODE = 0o777;
/** Runs that one answer of `map` ends with. */
const MAPPED_RUNS_MAX = 1024;
/** Pieces of content that one answer of `map` looks at; compressed files have many that are one run for the caller. */
const MAPPED_PIECES_MAX = 16_384;

/** The reader of NTFS. */
export const NTFS_READER: GuestReader = {
  what: "an NTFS file system",
  looksLike: looksLikeNtfs,
  open: (device) => new NtfsReader(new NtfsVolume(device)),
};

/** Whether a device starts like an NTFS volume. */
export function looksLikeNtfs(device: BlockDevice): boolean {
  if (device.sizeBytes < BOOT_SECTOR_BYTES) return false;
  const bytes = new Uint8Array(BOOT_SECTOR_BYTES);
  device.read(0, bytes);
  return hasNtfsMagic(bytes);
}

class NtfsReader implements GuestFileSystem {
  readonly kind = "ntfs";
  readonly label: string;
  readonly root = RECORD.root;
  /**
   * NTFS has a time of change, but it cannot be relied on: Windows writes it when a file is closed, so small content (within the
   * record) and the space that a file takes change before it does, and any program may set it or have it left alone.
   */
  readonly keepsChangeTimes = false;
  readonly #volume: NtfsVolume;
  readonly #natures = new WeakMap<NtfsInode, Nature>();
  #space: GuestFileSystem["space"] | undefined;

  constructor(volume: NtfsVolume) {
    this.#volume = volume;
    this.label = volume.label;
    this.#directory(RECORD.root);
  }

  get space(): GuestFileSystem["space"] {
    this.#space ??= measureSpace(this.#volume);
    return this.#space;
  }

  stat(number: number): GuestStat {
    const inode = this.#volume.inode(number);
    const { type, target, rdev } = this.#nature(inode);
    const stream = type === "directory"
      ? inode.stream(ATTRIBUTE.indexAllocation, NAME_INDEX)
      : inode.stream(ATTRIBUTE.data);
    return {
      inode: number,
      type,
      mode: MODE,
      uid: 0,
      gid: 0,
      // Each directory has one parent, and ntfs-3g counts nothing else.
      links: type === "directory" ? 1 : inode.record.links,
      sizeBytes: target?.length ?? stream?.sizeBytes ?? 0,
      blocks512: Math.ceil((stream?.takenBytes ?? 0) / 512),
      rdev,
      ...inode.times,
    };
  }

  lookup(directory: number, name: Uint8Array): number | undefined {
    return findBytes(this.#volume, this.#directory(directory), name);
  }

  readDirectory(directory: number): GuestEntry[] {
    return listDirectory(this.#volume, this.#directory(directory));
  }

  read(inode: number, offset: number, target: Uint8Array): number {
    return this.#content(inode, offset)?.read(this.#volume.device, offset, target) ?? 0;
  }

  map(inode: number, offset: number, length: number): ContentRun[] {
    const stream = this.#content(inode, offset);
    const runs: ContentRun[] = [];
    const wanted = Math.min(length, (stream?.sizeBytes ?? 0) - offset);
    if (stream === undefined || wanted <= 0) return runs;
    let pieces = 0;
    for (const run of stream.runs(offset, wanted)) {
      const last = runs.at(-1);
      if (last?.kind === run.kind && run.kind !== "stored") {
        runs[runs.length - 1] = { kind: run.kind, length: last.length + run.length };
      } else if (runs.length === MAPPED_RUNS_MAX) break;
      else runs.push(run);
      if (++pieces === MAPPED_PIECES_MAX) break;
    }
    return runs;
  }

  readLink(number: number): Uint8Array {
    const { type, target } = this.#nature(this.#volume.inode(number));
    if (target === undefined) {
      throw new VarveError("invalid", `reading the target of inode ${number}: it is a ${type}`);
    }
    return target;
  }

  xattrs(inode: number): GuestXattr[] {
    return readNamedStreams(this.#volume, this.#volume.inode(inode));
  }

  #nature(inode: NtfsInode): Nature {
    const known = this.#natures.get(inode);
    if (known !== undefined) return known;
    const nature = natureOf(this.#volume, inode);
    this.#natures.set(inode, nature);
    return nature;
  }

  #directory(number: number): NtfsInode {
    const inode = this.#volume.inode(number);
    const { type } = this.#nature(inode);
    if (type !== "directory") throw new VarveError("invalid", `reading directory ${number}: it is a ${type}`);
    return inode;
  }

  /** The content of a file, or `undefined` when it never had any. */
  #content(number: number, offset: number): NtfsStream | undefined {
    if (!(Number.isSafeInteger(offset) && offset >= 0)) {
      throw new VarveError("invalid", `reading inode ${number}: offset ${offset}`);
    }
    const inode = this.#volume.inode(number);
    const { type, refusal } = this.#nature(inode);
    if (type !== "file") throw new VarveError("invalid", `reading inode ${number}: it is a ${type}`);
    if (refusal !== undefined) throw new VarveError("unsupported", `reading inode ${number}: ${refusal}`);
    const stream = inode.stream(ATTRIBUTE.data);
    stream?.refuseUnreadable();
    return stream;
  }
}

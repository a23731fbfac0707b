/**
 * The reader of btrfs file systems.
 *
 * What is shown is what a mount without options shows: the default subvolume, with the other subvolumes and the snapshots
 * below it as directories. What was synced after the last commit is replayed in memory (see `log_replay.ts`).
 *
 * Every subvolume numbers its inodes on its own. Here an inode has one number of 53 bits, the same in every view:
 *
 * ```text
 * bits 35 to 52   0 for the top subvolume, else the subvolume's number less 255
 * bit 34          set for the empty directory that stands for subvolumes which a snapshot of a directory mentions
 * bits 0 to 33    the inode's number; for such an empty directory that of the directory that mentions it
 * ```
 *
 * So up to 2^34 inodes can be shown in each of 2^18 subvolumes; what lies beyond is `unsupported`.
 *
 * Metadata are proved by their checksums, and so is what `read` gives of files that have them; a stored run of `map` leads to
 * bytes that nothing here has proved. Not done: stripes over several devices, zoned file systems, extent-tree-v2,
 * raid-stripe-tree, encryption; the hashes of fs-verity are not compared.
 *
 * @module
 */
import type { BlockDevice } from "../../base/block_device.ts";
import { VarveError } from "../../base/errors.ts";
import { damaged } from "../_bytes.ts";
import type {
  ContentRun,
  GuestEntry,
  GuestFileSystem,
  GuestFileType,
  GuestReader,
  GuestStat,
  GuestXattr,
} from "../guest.ts";
import { type Entry, findEntry, nameHash, parseEntries } from "./entries.ts";
import { ContentReader, type OpenFile } from "./file_content.ts";
import { CHUNK_TYPE, INODE, OBJECT, TYPE } from "./format.ts";
import { inodeItem, statOf, typeOf } from "./inode.ts";
import { amount } from "./key.ts";
import { looksLikeBtrfs } from "./superblock.ts";
import { BtrfsVolume, type Subvolume } from "./volume.ts";

/** The reader of btrfs. */
export const BTRFS_READER: GuestReader = {
  what: "a btrfs file system",
  looksLike: looksLikeBtrfs,
  open: (device: BlockDevice): GuestFileSystem => new BtrfsReader(new BtrfsVolume(device)),
};

const SUBVOLUME_STEP = 2 ** 35;
const EMPTY_BIT = 2 ** 34;
const SUBVOLUMES_MAX = 2 ** 18;
/** Longest target of a symbolic link that Linux makes. */
const TARGET_BYTES_MAX = 4096;

const ENTRY_TYPES: readonly (GuestFileType | undefined)[] = [
  undefined,
  "file",
  "directory",
  "character",
  "block",
  "fifo",
  "socket",
  "symlink",
];

/** An inode that was looked up: `empty` when it stands for subvolumes that are not here. */
interface Found {
  readonly subvolume: Subvolume;
  readonly inode: number;
  readonly item: Uint8Array;
  readonly empty: boolean;
}

class BtrfsReader implements GuestFileSystem {
  readonly kind = "btrfs";
  readonly label: string;
  readonly root: number;
  readonly keepsChangeTimes = true;
  readonly #volume: BtrfsVolume;
  readonly #content: ContentReader;

  constructor(volume: BtrfsVolume) {
    this.#volume = volume;
    this.label = volume.superblock.label;
    this.#content = new ContentReader(volume.blocks, volume.data, volume.superblock.sectorBytes);
    const subvolume = volume.subvolume(volume.defaultSubvolume);
    if (subvolume === undefined) {
      throw damaged(
        "opening a btrfs file system",
        `its default subvolume ${volume.defaultSubvolume} is missing`,
      );
    }
    this.root = numberOf(subvolume.id, subvolume.root);
    this.#directory(this.root);
  }

  /**
   * As `statfs`, but that space is free to the last byte: the kernel takes off what it keeps in reserve, and counts metadata
   * that are stored twice twice. Like the kernel this does not count inodes, which have no limit.
   */
  get space(): GuestFileSystem["space"] {
    const { sectorBytes, totalBytes, usedBytes } = this.#volume.superblock;
    const data = this.#volume.blocks.chunks.chunks.filter(({ type }) => (type & CHUNK_TYPE.data) !== 0);
    const doubled = CHUNK_TYPE.dup | CHUNK_TYPE.raid1 | CHUNK_TYPE.raid10;
    const copies = data.length > 0 && data.every(({ type }) => (type & doubled) !== 0) ? 2 : 1;
    const blocks = Math.floor(totalBytes / copies / sectorBytes);
    const freeBlocks = Math.max(0, blocks - Math.ceil(usedBytes / sectorBytes));
    return { blockBytes: sectorBytes, blocks, freeBlocks, inodes: 0, freeInodes: 0 };
  }

  stat(inode: number): GuestStat {
    const { item, empty } = this.#find(inode);
    const stat = statOf(item, inode, this.#volume.superblock.sectorBytes);
    if (!empty) return stat;
    const { bornNs: _, ...shown } = stat;
    return { ...shown, mode: 0o755, links: 1, sizeBytes: 0, blocks512: 0 };
  }

  lookup(directory: number, name: Uint8Array): number | undefined {
    const found = this.#directory(directory);
    if (found.empty) return undefined;
    const item = found.subvolume.tree.get(found.inode, TYPE.directoryItem, nameHash(name));
    const entry = findEntry(item, name);
    return entry === undefined ? undefined : this.#target(found, entry);
  }

  readDirectory(directory: number): GuestEntry[] {
    const found = this.#directory(directory);
    if (found.empty) return [];
    const entries: GuestEntry[] = [];
    for (const { data } of found.subvolume.tree.range(found.inode, TYPE.directoryIndex)) {
      for (const entry of parseEntries(data)) {
        // The entry may be kept for long, and must not keep the tree block.
        entries.push({
          name: entry.name.slice(),
          inode: this.#target(found, entry),
          type: ENTRY_TYPES[entry.type],
        });
      }
    }
    return entries;
  }

  read(inode: number, offset: number, target: Uint8Array): number {
    return this.#content.read(this.#file(inode, offset), offset, target);
  }

  map(inode: number, offset: number, length: number): ContentRun[] {
    return this.#content.map(this.#file(inode, offset), offset, length);
  }

  readLink(inode: number): Uint8Array {
    const found = this.#find(inode);
    if (typeOf(found.item) !== "symlink") {
      throw new VarveError("invalid", `reading the target of inode ${inode}: it is a ${typeOf(found.item)}`);
    }
    const size = amount(found.item, INODE.size);
    if (size === 0 || size > TARGET_BYTES_MAX) {
      throw damaged(`reading the target of inode ${inode}`, `${size} bytes`);
    }
    const target = new Uint8Array(size);
    this.#content.read(openFile(found), 0, target);
    return target;
  }

  xattrs(inode: number): GuestXattr[] {
    const { subvolume, inode: number, empty } = this.#find(inode);
    if (empty) return [];
    const xattrs: GuestXattr[] = [];
    for (const { data } of subvolume.tree.range(number, TYPE.xattr)) {
      for (const { name, value } of parseEntries(data)) {
        xattrs.push({ name: name.slice(), value: value.slice() });
      }
    }
    return xattrs;
  }

  /** The number of what an entry leads to. */
  #target({ subvolume, inode }: Found, { location, name }: Entry): number {
    if (location.type === TYPE.inodeItem) return numberOf(subvolume.id, location.objectid);
    if (location.type !== TYPE.rootItem) {
      throw damaged("reading a directory", `an entry of type ${location.type}`);
    }
    const home = this.#volume.isHomeOf(location.objectid, subvolume.id, inode, name);
    const target = home ? this.#volume.subvolume(location.objectid) : undefined;
    if (target !== undefined) return numberOf(target.id, target.root);
    return numberOf(subvolume.id, inode) + EMPTY_BIT;
  }

  #find(number: number): Found {
    const fail = (found: string) => new VarveError("not-found", `reading inode ${number}: ${found}`);
    if (!(Number.isSafeInteger(number) && number > 0)) throw fail("there is no such number");
    const slot = Math.floor(number / SUBVOLUME_STEP);
    const subvolume = this.#volume.subvolume(slot === 0 ? OBJECT.topSubvolume : slot + OBJECT.firstFree - 1);
    if (subvolume === undefined) throw fail("its subvolume does not exist");
    const inode = number % EMPTY_BIT;
    const item = inodeItem(subvolume.tree, inode);
    if (item === undefined) throw fail("it is free");
    const empty = Math.floor(number / EMPTY_BIT) % 2 === 1;
    if (empty && typeOf(item) !== "directory") throw fail("there is no such directory");
    return { subvolume, inode, item, empty };
  }

  #directory(number: number): Found {
    const found = this.#find(number);
    if (typeOf(found.item) !== "directory") {
      throw new VarveError("invalid", `reading directory ${number}: it is a ${typeOf(found.item)}`);
    }
    return found;
  }

  #file(number: number, offset: number): OpenFile {
    if (!(Number.isSafeInteger(offset) && offset >= 0)) {
      throw new VarveError("invalid", `reading inode ${number}: offset ${offset}`);
    }
    const found = this.#find(number);
    if (typeOf(found.item) !== "file") {
      throw new VarveError("invalid", `reading inode ${number}: it is a ${typeOf(found.item)}`);
    }
    return openFile(found);
  }
}

function openFile({ subvolume, inode, item }: Found): OpenFile {
  return { tree: subvolume.tree, inode, item };
}

/** The one number of an inode of a subvolume. */
function numberOf(subvolume: number, inode: number): number {
  const slot = subvolume === OBJECT.topSubvolume ? 0 : subvolume - OBJECT.firstFree + 1;
  if (slot >= SUBVOLUMES_MAX || inode >= EMPTY_BIT) {
    throw new VarveError(
      "unsupported",
      `numbering inode ${inode} of subvolume ${subvolume}: it is too large`,
    );
  }
  return slot * SUBVOLUME_STEP + inode;
}

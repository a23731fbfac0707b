/**
 * The files of one moment, as the guest kept them.
 *
 * Files are one node per (volume, sequence, partition, inode), whatever path leads to them, so that the kernel
 * keeps their pages once. Folders are one node per path into the moment as well, because Linux knows a folder
 * by a single name: were they shared, reading `at/now/etc` would move the kernel's `points/…/etc` away.
 *
 * @module
 */
import { type Awaitable, chain } from "../src/base/awaitable.ts";
import { VarveError } from "../src/base/errors.ts";
import type { PastDisk, PastFileSystem, PastPartition } from "../src/browse/past_file_system.ts";
import type { GuestStat } from "../src/guestfs/guest.ts";
import type {
  Attributes,
  DirectoryNode,
  FileNode,
  Found,
  ListedName,
  Node,
  OpenFile,
  Space,
  SpecialNode,
  SymlinkNode,
  Xattr,
} from "./filesystem.ts";
import type { Lru } from "../src/base/lru.ts";
import { momentKey, type MomentStore, type PastMoment } from "./moment_store.ts";
import { FixedDirectory, FOREVER_SECONDS, foundNode, inodeOf, nameText, TextFile } from "./virtual.ts";

/** Longest name that the kernel takes in a listing; one longer or malformed name would spoil the whole listing. */
const NAME_BYTES_MAX = 1024;

/** What the folder of a moment needs. */
export interface MomentFolderOptions {
  /** The moment. */
  readonly moment: PastMoment;
  /** The path by which it was reached, below the volume. */
  readonly path: string;
  /** Where moments are open. */
  readonly moments: MomentStore;
  /** What such folders look like, by moment: it outlives the open moment, so that `ls -l points` opens each once. */
  readonly folders: Lru<FolderLook>;
  /** A folder that is found by its name, and not listed. */
  readonly hidden: { readonly name: string; readonly node: () => DirectoryNode };
}

/** What listings ask about the folder of a moment. */
export interface FolderLook {
  /** Its attributes. */
  readonly attributes: Attributes;
  /** Its extended attributes, if they are small. */
  readonly xattrs: readonly Xattr[] | undefined;
}

/** Largest extended attributes that are remembered, values together. */
const REMEMBERED_XATTR_BYTES = 1024;

/** The folder of a moment: the root of its file system, one folder per partition, or a text that says why not. */
export class MomentFolder implements DirectoryNode {
  readonly kind = "directory";
  readonly immutable = true;
  readonly attributeSeconds: number = FOREVER_SECONDS;
  readonly key: string;
  readonly #options: MomentFolderOptions;

  constructor(options: MomentFolderOptions) {
    this.#options = options;
    this.key = `${momentKey(options.moment)}\0${options.path}`;
  }

  /** Those of the guest's root, if the whole disk is one file system. */
  attributes(): Awaitable<Attributes> {
    const known = this.#options.folders.get(momentKey(this.#options.moment));
    return known?.attributes ?? chain(this.#look(), ({ attributes }) => attributes);
  }

  /** The guest root's. */
  xattrs(): Awaitable<readonly Xattr[]> {
    const known = this.#options.folders.get(momentKey(this.#options.moment))?.xattrs;
    return known ?? chain(this.#content(), (content) => content.xattrs?.() ?? []);
  }

  #look(): Awaitable<FolderLook> {
    return chain(
      this.#content(),
      (content) =>
        chain(content.attributes(), (attributes) =>
          chain(smallXattrs(content), (xattrs) => {
            const look = { attributes, xattrs };
            this.#options.folders.set(momentKey(this.#options.moment), look);
            return look;
          })),
    );
  }

  /** Finds a name: the guest's, or that of the hidden folder. */
  lookup(name: Uint8Array): Awaitable<Found | undefined> {
    const { hidden } = this.#options;
    return chain(this.#content(), (content) =>
      chain(content.lookup(name), (found) => {
        if (found !== undefined || nameText(name) !== hidden.name) return found;
        return foundNode(hidden.node(), 0);
      }));
  }

  /** Lists the names. */
  list(): Awaitable<readonly ListedName[]> {
    return chain(this.#content(), (content) => content.list());
  }

  /** The guest's, or the size of the disk. */
  space(): Awaitable<Space> {
    return chain(this.#content(), (content) => content.space?.() ?? this.#diskSpace());
  }

  #diskSpace(): Awaitable<Space> {
    return this.#options.moments.use(this.#options.moment, ({ device }) => ({
      blockBytes: 4096,
      blocks: Math.ceil(device.sizeBytes / 4096),
      freeBlocks: 0,
      inodes: 0,
      freeInodes: 0,
    }));
  }

  #content(): Awaitable<DirectoryNode> {
    return this.#options.moments.use(
      this.#options.moment,
      (view) => chain(view.disk(), ({ partitions }) => this.#contentOf(partitions, "")),
    );
  }

  /** Of the partitions whose names begin with `prefix`, a file system, a text, or a folder for each next part of a name. */
  #contentOf(partitions: readonly PastPartition[], prefix: string): DirectoryNode {
    const itself = partitions.find(({ name }) => name === prefix);
    if (itself !== undefined) return this.#partitionNode(itself);
    if (partitions.length === 0) {
      return this.#textNode("", "its partition table is empty");
    }
    const below = prefix === "" ? "" : `${prefix}/`;
    const parts = partitions.filter(({ name }) => name.startsWith(below))
      .map(({ name }) => name.slice(below.length).split("/")[0] ?? "");
    const children = [...new Set(parts)].map((part) =>
      [part, this.#contentOf(partitions, below + part)] as const
    );
    return this.#fixed(prefix === "" ? this.key : `${this.key}\0${prefix}`, Object.fromEntries(children));
  }

  #partitionNode({ name, fileSystem, reason = "none was found", hint }: PastPartition): DirectoryNode {
    return fileSystem === undefined
      ? this.#textNode(name, reason, hint)
      : new GuestDirectory(new GuestPlace(this.#options, this.key, name), fileSystem.root);
  }

  #textNode(name: string, reason: string, hint?: string): DirectoryNode {
    const { volume, seq, timeNs } = this.#options.moment;
    const key = `${this.key}\0${name}`;
    const what = name === "" ? "The disk" : `Partition ${name}`;
    const text = `${what} has no file system that Varve reads: ${reason}\n` +
      `The whole disk at this moment is ${volume}/images/seq:${seq}.img.\n` +
      (hint === undefined ? "" : `\n${hint}\n`);
    return this.#fixed(key, { README: new TextFile(`${key}\0README`, timeNs, () => text) });
  }

  #fixed(key: string, children: Record<string, Node>): DirectoryNode {
    return new FixedDirectory(key, { immutable: true, timeNs: this.#options.moment.timeNs, children });
  }
}

/** Extended attributes that are worth remembering; those that can't be read are asked for again when needed. */
async function smallXattrs(content: DirectoryNode): Promise<readonly Xattr[] | undefined> {
  try {
    const xattrs = await content.xattrs?.() ?? [];
    return xattrs.reduce((sum, { value }) => sum + value.length, 0) > REMEMBERED_XATTR_BYTES
      ? undefined
      : xattrs;
  } catch {
    return undefined;
  }
}

/** A guest file system as reached by one path: opens it when needed, names and numbers its nodes. */
class GuestPlace {
  readonly #options: MomentFolderOptions;
  readonly #partition: string;
  readonly #folderKey: string;
  readonly #fileKey: string;
  readonly #inodeBase: bigint;

  constructor(options: MomentFolderOptions, folderKey: string, partition: string) {
    this.#options = options;
    this.#partition = partition;
    this.#folderKey = `${folderKey}\0${partition}\0`;
    this.#fileKey = `${momentKey(options.moment)}\0\0${partition}\0`;
    this.#inodeBase = inodeOf(this.#fileKey);
  }

  /** Uses the file system, which stays open until what `use` answers is there. */
  use<T>(use: (fileSystem: PastFileSystem) => Awaitable<T>): Awaitable<T> {
    const { moments, moment } = this.#options;
    return moments.use(moment, (view) => chain(view.disk(), (disk) => use(this.#find(disk))));
  }

  #find(disk: PastDisk): PastFileSystem {
    const partition = disk.partitions.find(({ name }) => name === this.#partition);
    if (partition?.fileSystem !== undefined) return partition.fileSystem;
    throw new VarveError("io", `Open a file system again: ${partition?.reason ?? "its partition is gone"}`);
  }

  folderKey(inode: number): string {
    return this.#folderKey + inode;
  }

  fileKey(inode: number): string {
    return this.#fileKey + inode;
  }

  /** Unique within a moment, and across moments as far as 64 bits make it so. */
  inode(inode: number): bigint {
    return this.#inodeBase ^ BigInt(inode);
  }

  attributes(stat: GuestStat): Attributes {
    return { ...stat, inode: this.inode(stat.inode) };
  }

  found(stat: GuestStat): Found {
    return { node: this.#node(stat), attributes: this.attributes(stat), nameSeconds: FOREVER_SECONDS };
  }

  #node({ type, inode }: GuestStat): Node {
    switch (type) {
      case "directory":
        return new GuestDirectory(this, inode);
      case "symlink":
        return new GuestSymlink(this, inode);
      case "file":
        return new GuestFile(this, inode);
      default:
        return new GuestSpecial(this, inode);
    }
  }
}

abstract class GuestNode {
  readonly attributeSeconds: number = FOREVER_SECONDS;
  protected readonly place: GuestPlace;
  protected readonly inode: number;

  constructor(place: GuestPlace, inode: number) {
    this.place = place;
    this.inode = inode;
  }

  get key(): string {
    return this.place.fileKey(this.inode);
  }

  attributes(): Awaitable<Attributes> {
    return chain(
      this.place.use((fileSystem) => fileSystem.stat(this.inode)),
      (stat) => this.place.attributes(stat),
    );
  }

  xattrs(): Awaitable<readonly Xattr[]> {
    return this.place.use((fileSystem) => fileSystem.xattrs(this.inode));
  }

  space(): Awaitable<Space> {
    return this.place.use((fileSystem) => fileSystem.space());
  }
}

class GuestDirectory extends GuestNode implements DirectoryNode {
  readonly kind = "directory";
  readonly immutable = true;

  override get key(): string {
    return this.place.folderKey(this.inode);
  }

  lookup(name: Uint8Array): Awaitable<Found | undefined> {
    return chain(
      this.place.use((fileSystem) => fileSystem.lookup(this.inode, name)),
      (stat) => stat === undefined ? undefined : this.place.found(stat),
    );
  }

  list(): Awaitable<ListedName[]> {
    return chain(this.place.use((fileSystem) => fileSystem.list(this.inode)), (listing) => {
      const names: ListedName[] = [];
      for (let index = 0; index < listing.length; index++) {
        const { name, inode, type } = listing.at(index);
        if (!isListable(name)) continue;
        names.push({
          name,
          inode: this.place.inode(inode),
          type,
          found: () => {
            const { stat } = listing.at(index);
            return stat === undefined ? undefined : this.place.found(stat);
          },
        });
      }
      return names;
    });
  }
}

class GuestFile extends GuestNode implements FileNode {
  readonly kind = "file";

  open(): OpenFile {
    return {
      caching: "keep",
      read: (offset, target) => this.place.use((fileSystem) => fileSystem.read(this.inode, offset, target)),
      seek: (offset, kind) => this.place.use((fileSystem) => fileSystem.seek(this.inode, offset, kind)),
    };
  }
}

class GuestSymlink extends GuestNode implements SymlinkNode {
  readonly kind = "symlink";

  target(): Awaitable<Uint8Array> {
    return this.place.use((fileSystem) => fileSystem.readLink(this.inode));
  }
}

class GuestSpecial extends GuestNode implements SpecialNode {
  readonly kind = "special";
}

/** A damaged directory may hold names that no path can spell. */
function isListable(name: Uint8Array): boolean {
  if (name.length === 0 || name.length > NAME_BYTES_MAX) return false;
  if (name[0] === 0x2e && (name.length === 1 || (name.length === 2 && name[1] === 0x2e))) return false;
  return !name.includes(0x2f) && !name.includes(0);
}

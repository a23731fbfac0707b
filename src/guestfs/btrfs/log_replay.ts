/**
 * Replays the log of one subvolume: what was synced after the last commit.
 *
 * A log is a tree of copies of the items of the files that were synced. The kernel puts them into the subvolume when it
 * mounts; here they go into an overlay in memory. The order matters, and is the kernel's:
 *
 * 1. Inodes: attributes and, within the ranges for which the log speaks, names that the log does not have are deleted;
 *    then the inode is taken over, and a file is cut at its size. Only now all inodes exist that names may lead to.
 * 2. Names in the order of directories: those that lead to an inode are added, and what was in their place is unlinked.
 *    A name whose reference is in the log too waits for the next step, which knows more.
 * 3. Attributes, references from inodes to names with the names that belong to them, and extents.
 * 4. The names of every inode that was touched are counted; what has none left is deleted, a directory with all in it.
 *
 * The format of logs has no specification but the kernel's `fs/btrfs/tree-log.c`. Where a mount sets times to the moment
 * of the replay (of directories and inodes of which it unlinks a name), the times stay as they were.
 *
 * @module
 */
import { VarveError } from "../../base/errors.ts";
import { damaged, latin1, slice, u32 } from "../_bytes.ts";
import { type Entry, findEntry, parseEntries, parseReferences, without } from "./entries.ts";
import type { FileTree } from "./file_tree.ts";
import { FOLDED_MAX, INODE, TYPE } from "./format.ts";
import { inodeItem, typeOf } from "./inode.ts";
import { BETWEEN, folded, type Key } from "./key.ts";
import { replayExtent, truncateToSize } from "./replay_extents.ts";
import { isNameless, replayInode, requireInode, setLinks } from "./replay_inodes.ts";
import { ENTRY_DIRECTORY, isNamed, NameKeeper, placesOfReference } from "./replay_names.ts";
import type { Superblock } from "./superblock.ts";
import { FIRST_KEY, type Item, LAST_KEY, type Tree } from "./tree.ts";

/** Bytes of a log that are replayed at most: the overlay is kept in memory. */
const LOG_BYTES_MAX = 128 * 1024 * 1024;

/** One replay. */
export class LogReplay {
  readonly #tree: FileTree;
  readonly #log: Tree;
  readonly #superblock: Superblock;
  readonly #names: NameKeeper;
  /** Inodes whose names are counted at the end. */
  readonly #touched = new Set<number>();
  #lastNames: { place: string; names: ReadonlySet<string> } = { place: "", names: new Set() };

  /** Replays `log` into `tree`. */
  constructor(tree: FileTree, log: Tree, superblock: Superblock) {
    this.#tree = tree;
    this.#log = log;
    this.#superblock = superblock;
    this.#names = new NameKeeper(tree, superblock.nodeBytes);
  }

  /** Does it; throws `damaged` where a mount would fail, and `unsupported` for a log that is too long. */
  run(): void {
    this.#refuseLong();
    for (const [key, data] of this.#items()) {
      if (key.type === TYPE.inodeItem) this.#replayInode(key.objectid, slice(data, 0, INODE.bytes));
    }
    for (const [key, data] of this.#items()) {
      if (key.type === TYPE.directoryIndex) this.#replayName(key, data);
    }
    for (const [key, data] of this.#items()) {
      if (key.type === TYPE.xattr) this.#tree.set(key.objectid, key.type, key.offset, data);
      else if (key.type === TYPE.inodeRef || key.type === TYPE.inodeExtref) this.#replayReferences(key, data);
      else if (key.type === TYPE.extentData) {
        replayExtent(this.#tree, key.objectid, key.offset, data, this.#superblock);
      }
    }
    this.#countNames();
  }

  #refuseLong(): void {
    let left = LOG_BYTES_MAX / this.#superblock.nodeBytes;
    for (const _ of this.#log.leaves(FIRST_KEY, LAST_KEY)) {
      if (--left < 0) {
        throw new VarveError("unsupported", `replaying the log: it has more than ${LOG_BYTES_MAX} bytes`);
      }
    }
  }

  /** The items of inodes in the log, without those of nameless inodes. */
  *#items(): Generator<Item> {
    let nameless = false;
    for (const item of this.#log.items(FIRST_KEY, LAST_KEY)) {
      const [key, data] = item;
      if (key.objectid >= BETWEEN) return;
      if (key.type === TYPE.inodeItem) nameless = isNameless(data);
      if (!nameless) yield item;
    }
  }

  #replayInode(inode: number, logged: Uint8Array): void {
    this.#deleteXattrs(inode);
    const type = typeOf(logged);
    if (type === "directory" && inodeItem(this.#tree, inode) !== undefined) this.#deleteNames(inode);
    replayInode(this.#tree, inode, logged);
    if (type === "file") truncateToSize(this.#tree, inode, this.#superblock.sectorBytes);
    this.#touched.add(inode);
  }

  #deleteXattrs(inode: number): void {
    for (const { offset, data } of [...this.#tree.range(inode, TYPE.xattr)]) {
      const logged = this.#logGet(inode, TYPE.xattr, offset);
      let kept: Uint8Array | undefined = data;
      for (const { name } of parseEntries(data)) {
        const entry = findEntry(logged, name) === undefined ? findEntry(kept, name) : undefined;
        if (kept !== undefined && entry !== undefined) kept = without(kept, entry);
      }
      if (kept !== data) this.#tree.set(inode, TYPE.xattr, offset, kept);
    }
  }

  /** Deletes the names that the log does not have in the ranges of a directory for which it speaks. */
  #deleteNames(directory: number): void {
    let from = 0;
    for (const [key, data] of this.#log.items(...rangeOf(directory, TYPE.directoryLogIndex))) {
      const to = folded(data, 0);
      for (const { index, entry } of [...this.#names.inOrder(directory, Math.max(from, key.offset), to)]) {
        if (findEntry(this.#logGet(directory, TYPE.directoryIndex, index), entry.name) === undefined) {
          this.#unlinkEntry(directory, entry);
        }
      }
      from = to + 1;
    }
  }

  #replayName(key: Key, data: Uint8Array): void {
    const directory = key.objectid;
    requireInode(this.#tree, directory);
    const [entry] = parseEntries(data);
    if (entry === undefined) {
      throw damaged("replaying the log", `an entry of directory ${directory} is empty`);
    }
    const { location, name } = entry;
    const inode = location.objectid;
    const exists = location.type === TYPE.inodeItem && inodeItem(this.#tree, inode) !== undefined;
    const named = this.#settle(directory, this.#names.find(directory, name), entry, exists);
    const placed = this.#settle(directory, this.#names.findIndex(directory, key.offset, name), entry, exists);
    if ((named && placed) || !exists || this.#isReferenceLogged(inode, directory, name)) return;
    const added = this.#names.link(directory, inode, name, { index: key.offset, referenced: true });
    if (added && entry.type !== ENTRY_DIRECTORY) this.#touched.add(inode);
  }

  /** Whether an existing entry says what the log says; if not, and the log's inode exists, it is unlinked. */
  #settle(directory: number, found: Entry | undefined, logged: Entry, exists: boolean): boolean {
    if (found === undefined) return false;
    const { location, type } = found;
    const same = location.objectid === logged.location.objectid && location.type === logged.location.type &&
      location.offset === logged.location.offset && type === logged.type;
    if (!same && exists) this.#unlinkEntry(directory, found);
    return same;
  }

  #replayReferences(key: Key, data: Uint8Array): void {
    const { objectid: inode, type, offset } = key;
    // Not all directories of an inode need to have been logged: a name in one that does not exist is left out.
    if (type === TYPE.inodeRef && inodeItem(this.#tree, offset) === undefined) return;
    requireInode(this.#tree, inode);
    const logged = parseReferences(data, type, offset);
    const cleared = new Set<string>();
    for (const { directory, index, name } of logged) {
      if (inodeItem(this.#tree, directory) === undefined || this.#isIn(directory, inode, index, name)) {
        continue;
      }
      // The root directory refers to itself, and that is never changed.
      if (inode === directory && this.#names.references(inode, TYPE.inodeRef, directory).length > 0) return;
      this.#unlinkOldNames(directory, inode, name, cleared);
      const placed = this.#names.findIndex(directory, index, name);
      if (placed !== undefined) this.#unlinkEntry(directory, placed);
      const named = this.#names.find(directory, name);
      if (named !== undefined) this.#unlinkEntry(directory, named);
      if (this.#names.references(inode, type, offset).some((each) => isNamed(each, directory, name))) {
        if (!this.#names.unlink(directory, inode, name)) return;
      }
      const other = this.#names.find(directory, name);
      if (other !== undefined && !this.#names.unlink(directory, this.#existing(other), name)) return;
      if (!this.#names.link(directory, inode, name, { index, referenced: false })) {
        throw damaged("replaying the log", `two names have place ${index} of directory ${directory}`);
      }
    }
    for (const old of this.#names.references(inode, type, offset)) {
      if (logged.some((each) => isNamed(each, old.directory, old.name))) continue;
      if (inodeItem(this.#tree, old.directory) === undefined) return;
      if (!this.#names.unlink(old.directory, inode, old.name)) return;
    }
    this.#tree.set(inode, type, offset, data);
  }

  #isIn(directory: number, inode: number, index: number, name: Uint8Array): boolean {
    return this.#names.findIndex(directory, index, name)?.location.objectid === inode &&
      this.#names.find(directory, name)?.location.objectid === inode;
  }

  /**
   * Unlinks the names of an inode in a directory that the log does not have, among those that are kept where `name` would be;
   * `cleared` knows where that was done.
   */
  #unlinkOldNames(directory: number, inode: number, name: Uint8Array, cleared: Set<string>): void {
    for (const [type, offset] of placesOfReference(directory, name)) {
      const place = `${type}/${offset}/${directory}`;
      if (cleared.has(place)) continue;
      cleared.add(place);
      for (const old of this.#names.references(inode, type, offset)) {
        if (old.directory !== directory || this.#loggedNames(inode, type, offset).has(nameKey(old))) continue;
        if (!this.#names.unlink(directory, inode, old.name)) {
          throw damaged("replaying the log", `inode ${inode} has a name that directory ${directory} lacks`);
        }
      }
    }
  }

  #isReferenceLogged(inode: number, directory: number, name: Uint8Array): boolean {
    const key = nameKey({ directory, name });
    return placesOfReference(directory, name)
      .some(([type, offset]) => this.#loggedNames(inode, type, offset).has(key));
  }

  /** The names that an item of references in the log has. */
  #loggedNames(inode: number, type: number, offset: number): ReadonlySet<string> {
    const place = `${inode}/${type}/${offset}`;
    if (this.#lastNames.place !== place) {
      const item = this.#logGet(inode, type, offset);
      const references = item === undefined ? [] : parseReferences(item, type, offset);
      this.#lastNames = { place, names: new Set(references.map(nameKey)) };
    }
    return this.#lastNames.names;
  }

  #unlinkEntry(directory: number, entry: Entry): void {
    const inode = this.#existing(entry);
    this.#touched.add(inode);
    if (!this.#names.unlink(directory, inode, entry.name)) {
      throw damaged("replaying the log", `directory ${directory} has half of a name of inode ${inode}`);
    }
  }

  /** The inode that an entry leads to, which must exist. */
  #existing({ location }: Entry): number {
    if (location.type !== TYPE.inodeItem) throw damaged("replaying the log", "it deletes a subvolume");
    requireInode(this.#tree, location.objectid);
    return location.objectid;
  }

  #countNames(): void {
    // A set is walked over in the order of adding, with what is added meanwhile.
    for (const inode of this.#touched) {
      this.#touched.delete(inode);
      const item = requireInode(this.#tree, inode);
      const links = this.#names.count(inode);
      if (links !== u32(item, INODE.links)) setLinks(this.#tree, inode, links);
      if (links > 0) continue;
      if (typeOf(item) === "directory") {
        for (const { entry } of [...this.#names.inOrder(inode)]) this.#unlinkEntry(inode, entry);
      }
      this.#tree.set(inode, TYPE.inodeItem, 0, undefined);
    }
  }

  #logGet(objectid: number, type: number, offset: number): Uint8Array | undefined {
    return this.#log.get({ objectid, type, offset });
  }
}

function nameKey({ directory, name }: { directory: number; name: Uint8Array }): string {
  return `${directory}/${latin1(name)}`;
}

function rangeOf(objectid: number, type: number): [Key, Key] {
  return [{ objectid, type, offset: 0 }, { objectid, type, offset: FOLDED_MAX }];
}

/**
 * Names as the replay of a log changes them: a name is three things, an entry found by its hash, an entry in the order of
 * the directory, and a reference from the inode, and this keeps them together.
 *
 * @module
 */
import { VarveError } from "../../base/errors.ts";
import { damaged, equalBytes, u32 } from "../_bytes.ts";
import {
  type Entry,
  extendedReferenceHash,
  findEntry,
  nameHash,
  parseEntries,
  parseReferences,
  type Reference,
  REFERENCE_BYTES,
  without,
} from "./entries.ts";
import type { FileTree } from "./file_tree.ts";
import { ENTRY, HEADER_BYTES, INODE, ITEM_BYTES, TYPE } from "./format.ts";
import { typeOf } from "./inode.ts";
import { BETWEEN } from "./key.ts";
import { addToInode, requireInode, setLinks } from "./replay_inodes.ts";

/** File types as numbers of the directory format. */
const ENTRY_TYPES = {
  file: 1,
  directory: 2,
  character: 3,
  block: 4,
  fifo: 5,
  socket: 6,
  symlink: 7,
} as const;
/** The number of the type of a directory. */
export const ENTRY_DIRECTORY: number = ENTRY_TYPES.directory;

/** References that one replay looks at: items full of them would make it take the square of their number. */
const REFERENCES_MAX = 50_000_000;

/** Changes names in a tree. */
export class NameKeeper {
  readonly #tree: FileTree;
  readonly #itemBytesMax: number;
  /** How many references were looked at. */
  #references = 0;

  /** Works on a tree whose blocks have `nodeBytes`. */
  constructor(tree: FileTree, nodeBytes: number) {
    this.#tree = tree;
    this.#itemBytesMax = nodeBytes - HEADER_BYTES - ITEM_BYTES;
  }

  /** The entry of a name. */
  find(directory: number, name: Uint8Array): Entry | undefined {
    return findEntry(this.#tree.get(directory, TYPE.directoryItem, nameHash(name)), name);
  }

  /** The entry at a place in the order of the directory, if it has this name. */
  findIndex(directory: number, index: number, name: Uint8Array): Entry | undefined {
    return findEntry(this.#tree.get(directory, TYPE.directoryIndex, index), name);
  }

  /** The references of an inode in its item of one key. */
  references(inode: number, type: number, offset: number): Reference[] {
    const item = this.#tree.get(inode, type, offset);
    if (item === undefined) return [];
    const references = parseReferences(item, type, offset);
    this.#references += references.length;
    if (this.#references > REFERENCES_MAX) {
      throw new VarveError(
        "unsupported",
        `replaying the log: more than ${REFERENCES_MAX} names are to be compared`,
      );
    }
    return references;
  }

  /** How many names an inode has. */
  count(inode: number): number {
    let count = 0;
    for (const type of [TYPE.inodeRef, TYPE.inodeExtref]) {
      for (const { offset, data } of this.#tree.range(inode, type)) {
        count += parseReferences(data, type, offset).length;
      }
    }
    return count;
  }

  /** Removes a name from everywhere; returns whether it was there. */
  unlink(directory: number, inode: number, name: Uint8Array): boolean {
    const hash = nameHash(name);
    const item = this.#tree.get(directory, TYPE.directoryItem, hash);
    const entry = findEntry(item, name);
    if (item === undefined || entry === undefined) return false;
    this.#tree.set(directory, TYPE.directoryItem, hash, without(item, entry));
    const index = this.#removeReference(directory, inode, name);
    if (index === undefined) return false;
    this.#tree.set(directory, TYPE.directoryIndex, index, undefined);
    addToInode(this.#tree, directory, INODE.size, -2 * name.length);
    setLinks(this.#tree, inode, Math.max(0, u32(requireInode(this.#tree, inode), INODE.links) - 1));
    return true;
  }

  /**
   * Adds a name, with `referenced` also the reference from the inode. Returns false and changes nothing when there is such
   * a name already.
   */
  link(
    directory: number,
    inode: number,
    name: Uint8Array,
    { index, referenced }: { readonly index: number; readonly referenced: boolean },
  ): boolean {
    if (Math.max(directory, inode, index) >= BETWEEN) {
      throw damaged("replaying the log", `place ${index} of directory ${directory} for inode ${inode}`);
    }
    const hash = nameHash(name);
    const item = this.#tree.get(directory, TYPE.directoryItem, hash);
    const taken = findEntry(item, name) !== undefined ||
      this.#tree.get(directory, TYPE.directoryIndex, index) !== undefined;
    if (taken || (referenced && !this.#addReference(directory, inode, name, index))) return false;
    const entry = new Uint8Array(ENTRY.name + name.length);
    const view = new DataView(entry.buffer);
    view.setBigUint64(ENTRY.location, BigInt(inode), true);
    view.setUint8(ENTRY.location + 8, TYPE.inodeItem);
    view.setUint16(ENTRY.nameLength, name.length, true);
    view.setUint8(ENTRY.type, ENTRY_TYPES[typeOf(requireInode(this.#tree, inode))]);
    entry.set(name, ENTRY.name);
    this.#tree.set(directory, TYPE.directoryItem, hash, joined(item, entry));
    this.#tree.set(directory, TYPE.directoryIndex, index, entry);
    addToInode(this.#tree, directory, INODE.size, 2 * name.length);
    return true;
  }

  /** The names of a directory in their order, with their places. */
  *inOrder(directory: number, from?: number, to?: number): Generator<{ index: number; entry: Entry }> {
    for (const { offset, data } of this.#tree.range(directory, TYPE.directoryIndex, from, to)) {
      const [entry] = parseEntries(data);
      if (entry === undefined) throw damaged("reading a directory", `the entry at ${offset} is empty`);
      yield { index: offset, entry };
    }
  }

  /** Removes the reference of a name; returns the place of the name in its directory. */
  #removeReference(directory: number, inode: number, name: Uint8Array): number | undefined {
    for (const [type, offset] of placesOfReference(directory, name)) {
      const item = this.#tree.get(inode, type, offset);
      const found = this.references(inode, type, offset).find((each) => isNamed(each, directory, name));
      if (item === undefined || found === undefined) continue;
      this.#tree.set(inode, type, offset, without(item, found));
      return found.index;
    }
    return undefined;
  }

  /** Adds a reference, an extended one when the item of the others has no room; returns false when there is one of that name. */
  #addReference(directory: number, inode: number, name: Uint8Array, index: number): boolean {
    const item = this.#tree.get(inode, TYPE.inodeRef, directory);
    if (this.references(inode, TYPE.inodeRef, directory).some((each) => isNamed(each, directory, name))) {
      return false;
    }
    const extended = (item?.length ?? 0) + REFERENCE_BYTES + name.length > this.#itemBytesMax;
    const reference = new Uint8Array(REFERENCE_BYTES + (extended ? 8 : 0) + name.length);
    const view = new DataView(reference.buffer);
    if (extended) view.setBigUint64(0, BigInt(directory), true);
    const at = extended ? 8 : 0;
    view.setBigUint64(at, BigInt(index), true);
    view.setUint16(at + 8, name.length, true);
    reference.set(name, at + REFERENCE_BYTES);
    if (!extended) {
      this.#tree.set(inode, TYPE.inodeRef, directory, joined(item, reference));
      return true;
    }
    const hash = extendedReferenceHash(directory, name);
    if (this.references(inode, TYPE.inodeExtref, hash).some((each) => isNamed(each, directory, name))) {
      return false;
    }
    this.#tree.set(
      inode,
      TYPE.inodeExtref,
      hash,
      joined(this.#tree.get(inode, TYPE.inodeExtref, hash), reference),
    );
    return true;
  }
}

/** The types and offsets of the two items of an inode that may refer to a name. */
export function placesOfReference(directory: number, name: Uint8Array): [type: number, offset: number][] {
  return [[TYPE.inodeRef, directory], [TYPE.inodeExtref, extendedReferenceHash(directory, name)]];
}

/** Whether a reference is that of a name. */
export function isNamed(reference: Reference, directory: number, name: Uint8Array): boolean {
  return reference.directory === directory && equalBytes(reference.name, name);
}

function joined(item: Uint8Array | undefined, more: Uint8Array): Uint8Array {
  if (item === undefined) return more;
  const both = new Uint8Array(item.length + more.length);
  both.set(item);
  both.set(more, item.length);
  return both;
}

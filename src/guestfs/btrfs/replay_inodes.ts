/**
 * Inode items as the replay of a log changes them.
 *
 * @module
 */
import { damaged, equalBytes, u32 } from "../_bytes.ts";
import type { FileTree } from "./file_tree.ts";
import { INODE, TYPE } from "./format.ts";
import { inodeItem, typeOf } from "./inode.ts";
import { amount } from "./key.ts";

/** The item of an inode that must be there; throws `damaged`. */
export function requireInode(tree: FileTree, inode: number): Uint8Array {
  const item = inodeItem(tree, inode);
  if (item === undefined) throw damaged("replaying the log", `inode ${inode} is missing`);
  return item;
}

/** Adds to a 64-bit field of an inode. */
export function addToInode(tree: FileTree, inode: number, field: number, change: number): void {
  setInode(tree, inode, field, Math.max(0, amount(requireInode(tree, inode), field) + change));
}

/** Sets a 64-bit field of an inode. */
export function setInode(tree: FileTree, inode: number, field: number, value: number): void {
  tree.set(inode, TYPE.inodeItem, 0, withField(requireInode(tree, inode), field, value));
}

/** Sets the number of names of an inode. */
export function setLinks(tree: FileTree, inode: number, links: number): void {
  const item = requireInode(tree, inode).slice();
  new DataView(item.buffer).setUint32(INODE.links, links, true);
  tree.set(inode, TYPE.inodeItem, 0, item);
}

/**
 * Takes the item of an inode from the log.
 *
 * The space taken is counted up again when extents are replayed, and the size of a directory when its names are, so both
 * stay what they were in the tree, and are 0 for a new inode. An item of generation 0 was logged only so that the inode
 * exists: one that is there already keeps everything but, for a file, its size.
 */
export function replayInode(tree: FileTree, inode: number, logged: Uint8Array): void {
  const old = inodeItem(tree, inode);
  if (old !== undefined && equalBytes(old, logged)) return;
  const type = typeOf(logged);
  if (old !== undefined && amount(logged, INODE.generation) === 0) {
    const size = amount(logged, INODE.size);
    if (type === "file" && typeOf(old) === "file" && size !== 0) setInode(tree, inode, INODE.size, size);
    return;
  }
  let item = withField(logged, INODE.takenBytes, old === undefined ? 0 : amount(old, INODE.takenBytes));
  if (type === "directory") {
    const size = old !== undefined && typeOf(old) === "directory" ? amount(old, INODE.size) : 0;
    item = withField(item, INODE.size, size);
  }
  tree.set(inode, TYPE.inodeItem, 0, item);
}

/** Whether the log has an inode that no name led to any more: nothing of it is replayed. */
export function isNameless(logged: Uint8Array): boolean {
  return u32(logged, INODE.links) === 0;
}

function withField(item: Uint8Array, field: number, value: number): Uint8Array {
  const changed = item.slice();
  const view = new DataView(changed.buffer);
  view.setUint32(field, value % 2 ** 32, true);
  view.setUint32(field + 4, Math.floor(value / 2 ** 32), true);
  return changed;
}

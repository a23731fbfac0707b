/**
 * File extents as the replay of a log changes them.
 *
 * @module
 */
import { damaged, equalBytes, slice } from "../_bytes.ts";
import { parseExtent } from "./file_extents.ts";
import type { FileTree } from "./file_tree.ts";
import { COMPRESSION, EXTENT, FOLDED_MAX, INODE, TYPE } from "./format.ts";
import { amount } from "./key.ts";
import { addToInode, requireInode } from "./replay_inodes.ts";
import type { Superblock } from "./superblock.ts";

/** Drops what lies beyond the size of a file, so that only what was logged there comes back. */
export function truncateToSize(tree: FileTree, inode: number, sectorBytes: number): void {
  const size = amount(requireInode(tree, inode), INODE.size);
  const dropped = dropExtents(
    tree,
    inode,
    Math.ceil(size / sectorBytes) * sectorBytes,
    FOLDED_MAX,
    sectorBytes,
  );
  if (dropped !== 0) addToInode(tree, inode, INODE.takenBytes, -dropped);
}

/** Puts an extent from the log in the place of all that it overlaps. */
export function replayExtent(
  tree: FileTree,
  inode: number,
  start: number,
  logged: Uint8Array,
  { sectorBytes, noHoles }: Superblock,
): void {
  requireInode(tree, inode);
  const extent = parseExtent(logged, start, sectorBytes);
  const inline = extent.type === "inline";
  const existing = tree.get(inode, TYPE.extentData, start);
  if (!inline && existing !== undefined && equalBytes(existing, logged)) return;
  const dropped = dropExtents(tree, inode, start, start + extent.length, sectorBytes);
  const hole = !inline && extent.bytenr === 0;
  if (!(hole && noHoles)) tree.set(inode, TYPE.extentData, start, logged);
  const added = inline ? extent.ramBytes : hole ? 0 : extent.length;
  addToInode(tree, inode, INODE.takenBytes, added - dropped);
}

/** Takes a range out of the extents of a file; returns the bytes that took space. Throws `damaged` for half of an inline one. */
function dropExtents(tree: FileTree, inode: number, start: number, end: number, sectorBytes: number): number {
  let dropped = 0;
  const first = tree.floor(inode, TYPE.extentData, start)?.offset ?? start;
  for (const { offset, data } of [...tree.range(inode, TYPE.extentData, first, end - 1)]) {
    const extent = parseExtent(data, offset, sectorBytes);
    const extentEnd = offset + extent.length;
    if (extentEnd <= start && extent.length > 0) continue;
    if (extent.type === "inline") {
      if (offset < start || extentEnd > end) {
        throw damaged("replaying the log", `it cuts the inline extent of inode ${inode}`);
      }
      dropped += extent.ramBytes;
    } else if (extent.bytenr !== 0) {
      dropped += Math.min(end, extentEnd) - Math.max(start, offset);
    }
    tree.set(inode, TYPE.extentData, offset, undefined);
    if (offset < start) tree.set(inode, TYPE.extentData, offset, cut(data, 0, start - offset));
    if (extentEnd > end) tree.set(inode, TYPE.extentData, end, cut(data, end - offset, extentEnd - end));
  }
  return dropped;
}

/** The item of a part of an extent. */
function cut(item: Uint8Array, from: number, length: number): Uint8Array {
  const part = slice(item, 0, EXTENT.bytes).slice();
  const view = new DataView(part.buffer);
  const put = (field: number, value: number) => view.setBigUint64(field, BigInt(value), true);
  // A hole has no place in an extent.
  if (amount(item, EXTENT.bytenr) !== 0 || item[EXTENT.compression] !== COMPRESSION.none) {
    put(EXTENT.offset, amount(item, EXTENT.offset) + from);
  }
  put(EXTENT.length, length);
  return part;
}

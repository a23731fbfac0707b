/**
 * Targets of Windows' symbolic links and junctions, in words that Linux understands where they stay on the volume.
 *
 * @module
 */
import { VarveError } from "../../base/errors.ts";
import { damaged, u8 } from "../_bytes.ts";
import { readReference } from "./attribute.ts";
import { findInDirectory } from "./directory.ts";
import { ATTRIBUTE, FILE_FLAG, NAMESPACE_DOS, RECORD } from "./format.ts";
import type { NtfsInode } from "./inode.ts";
import type { NtfsVolume } from "./volume.ts";

/** Levels that a link may lie below the root; Windows' paths end at 32,767 characters. */
const DEPTH_MAX = 1024;

/**
 * Translates the target of the link `inode`. A relative one gets Linux's separators and the case of the names that it leads to. One
 * with a drive letter, or from the root of a drive, becomes relative when there is such a path on this volume: as in ntfs-3g, it is
 * then taken for the drive that is meant. Anything else stays as the guest wrote it.
 */
export function translateTarget(volume: NtfsVolume, inode: NtfsInode, target: string): string {
  const rooted = /^(?:\\\?\?\\)?[A-Za-z]:\\(.+)$/s.exec(target) ?? /^\\(?![\\?])(.*)$/s.exec(target);
  try {
    if (rooted !== null) {
      const names = walk(volume, volume.inode(RECORD.root), componentsOf(rooted[1] ?? ""));
      if (names === undefined) return target;
      return [...Array<string>(depthOf(volume, inode)).fill(".."), ...names].join("/") || ".";
    }
    if (/^\\|^.:/s.test(target)) return target;
    const plain = componentsOf(target);
    return (walk(volume, parentOf(volume, inode), plain) ?? plain).join("/") || ".";
  } catch (thrown) {
    // Damage on the way of a link is told where it is; the link still has its own words.
    if (thrown instanceof VarveError && thrown.code !== "io") return target;
    throw thrown;
  }
}

function componentsOf(path: string): string[] {
  return path.split("\\").filter((name) => name !== "");
}

/**
 * The names as the directories have them, or `undefined` when one is not there. Another link on the way is not followed: from there on
 * they stay as they are.
 */
function walk(volume: NtfsVolume, start: NtfsInode, components: readonly string[]): string[] | undefined {
  const names: string[] = [];
  let directory = start;
  for (const [index, component] of components.entries()) {
    if ((directory.flags & FILE_FLAG.reparsePoint) !== 0) return [...names, ...components.slice(index)];
    if (!directory.record.directory) return undefined;
    if (component === "..") directory = parentOf(volume, directory);
    else if (component !== ".") {
      const found = findInDirectory(volume, directory, component);
      if (found === undefined) return undefined;
      names.push(found.name);
      directory = volume.inode(found.reference.record);
      continue;
    }
    names.push(component);
  }
  return names;
}

/** The directory of the first name of a file. */
function parentOf(volume: NtfsVolume, inode: NtfsInode): NtfsInode {
  for (const { content } of inode.attributes(ATTRIBUTE.fileName)) {
    if (!(content instanceof Uint8Array) || u8(content, 0x41) === NAMESPACE_DOS) continue;
    return volume.inode(readReference(content, 0).record);
  }
  throw damaged(`reading file ${inode.number}`, "it has no name");
}

/** Directories between a file and the root. */
function depthOf(volume: NtfsVolume, inode: NtfsInode): number {
  let depth = 0;
  for (let at = parentOf(volume, inode); at.number !== RECORD.root; at = parentOf(volume, at)) {
    if (++depth > DEPTH_MAX) throw damaged(`reading file ${inode.number}`, "its directories lead nowhere");
  }
  return depth;
}

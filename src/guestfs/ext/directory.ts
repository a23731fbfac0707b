/**
 * Directories: every name, or the inode behind one name.
 *
 * @module
 */
import { VarveError } from "../../base/errors.ts";
import { damaged, equalBytes, latin1 } from "../_bytes.ts";
import type { GuestEntry, GuestFileType } from "../guest.ts";
import { directoryBlock, type DirectoryRecord, directoryRecords, isIndexed } from "./directory_block.ts";
import { inlineParts, isInline } from "./file_content.ts";
import { ENCODING_UTF8, foldName } from "./casefold.ts";
import { INCOMPAT, INODE_FLAG } from "./format.ts";
import { candidateLeaves } from "./htree.ts";
import type { Inode } from "./inode.ts";
import type { ExtVolume } from "./volume.ts";

/** Names that one directory may have here; listing more would need more memory than a view should take. */
const ENTRIES_MAX = 10_000_000;
/** Blocks of one directory that are looked at, for the same reason. */
const BLOCKS_MAX = 1_000_000;
/** Holes that a directory may have: real ones have none. */
const HOLES_MAX = 1024;
/** Directories within an inode start with the number of their parent instead of `.` and `..`. */
const INLINE_PARENT_BYTES = 4;

const FILE_TYPES: readonly (GuestFileType | undefined)[] = [
  undefined,
  "file",
  "directory",
  "character",
  "block",
  "fifo",
  "socket",
  "symlink",
];

/** Every name of a directory but `.` and `..`, in the order of its blocks; fast commits come last. */
export function listDirectory(volume: ExtVolume, directory: Inode): GuestEntry[] {
  const newer = volume.newer.directories.get(directory.number);
  const typed = (volume.superblock.incompat & INCOMPAT.fileType) !== 0;
  const entries: GuestEntry[] = [];
  if (newer?.fresh !== true) {
    for (const { inode, name, fileType } of allRecords(volume, directory)) {
      if (isDots(name) || newer?.names.has(latin1(name)) === true) continue;
      if (entries.length === ENTRIES_MAX) {
        throw new VarveError("unsupported", `listing directory ${directory.number}: too many names`);
      }
      entries.push({ name: name.slice(), inode, type: typed ? FILE_TYPES[fileType] : undefined });
    }
  }
  for (const entry of newer?.names.values() ?? []) {
    if (entry !== undefined) entries.push(entry);
  }
  return entries;
}

/**
 * The inode behind a name, by the index where there is one. `.` and `..` are not found. Where the guest does not tell upper
 * from lower case, neither does this.
 */
export function findInDirectory(volume: ExtVolume, directory: Inode, name: Uint8Array): number | undefined {
  if (isDots(name) || name.length === 0) return undefined;
  const newer = volume.newer.directories.get(directory.number);
  const folded = foldsCase(volume, directory) ? foldName(name) : undefined;
  if (newer !== undefined) {
    const key = latin1(name);
    if (newer.names.has(key) || (newer.fresh && folded === undefined)) return newer.names.get(key)?.inode;
    if (folded !== undefined) return findFolded(volume, directory, folded);
  }
  const hashed = folded === undefined ? name : new TextEncoder().encode(folded);
  const leaves = isIndexed(volume, directory) && !isInline(directory)
    ? candidateLeaves(volume, directory, hashed)
    : undefined;
  const records = leaves === undefined
    ? allRecords(volume, directory)
    : recordsOfBlocks(volume, directory, leaves);
  for (const record of records) {
    if (equalBytes(record.name, name) || (folded !== undefined && foldName(record.name) === folded)) {
      return isDots(record.name) ? undefined : record.inode;
    }
  }
  // The guest may have folded the name in another way than it is here, and so put it elsewhere.
  return folded === undefined || leaves === undefined ? undefined : findFolded(volume, directory, folded);
}

function foldsCase(volume: ExtVolume, directory: Inode): boolean {
  return volume.superblock.encoding === ENCODING_UTF8 && (directory.flags & INODE_FLAG.casefold) !== 0;
}

function findFolded(volume: ExtVolume, directory: Inode, folded: string): number | undefined {
  return listDirectory(volume, directory).find(({ name }) => foldName(name) === folded)?.inode;
}

function isDots(name: Uint8Array): boolean {
  return name.length <= 2 && name[0] === 0x2e && (name.length === 1 || name[1] === 0x2e);
}

function allRecords(volume: ExtVolume, directory: Inode): Generator<DirectoryRecord> {
  return isInline(directory)
    ? inlineRecords(volume, directory)
    : recordsOfBlocks(volume, directory, dataBlocks(volume, directory));
}

function* inlineRecords(volume: ExtVolume, directory: Inode): Generator<DirectoryRecord> {
  const [first, second] = inlineParts(directory);
  yield* directoryRecords(volume, directory, first, INLINE_PARENT_BYTES);
  yield* directoryRecords(volume, directory, second, 0);
}

function* recordsOfBlocks(
  volume: ExtVolume,
  directory: Inode,
  logicals: Iterable<number>,
): Generator<DirectoryRecord> {
  const seen = new Set<number>();
  for (const logical of logicals) {
    const { physical } = volume.findRun(directory, logical);
    if (physical === undefined || seen.has(physical)) {
      throw damaged(
        `reading directory ${directory.number}`,
        physical === undefined ? `block ${logical} is a hole` : `block ${physical} is in it twice`,
      );
    }
    seen.add(physical);
    if (seen.size > BLOCKS_MAX) {
      throw new VarveError("unsupported", `reading directory ${directory.number}: it is too large`);
    }
    yield* directoryRecords(volume, directory, directoryBlock(volume, directory, logical, physical), 0);
  }
}

/** The logical blocks that exist: holes are skipped in whole runs, as the kernel does. */
function* dataBlocks(volume: ExtVolume, directory: Inode): Generator<number> {
  const end = Math.ceil(directory.sizeBytes / volume.superblock.blockBytes);
  let holes = 0;
  for (let logical = 0; logical < end;) {
    const run = volume.findRun(directory, logical);
    const runEnd = Math.min(end, logical + run.count);
    if (run.physical === undefined && ++holes > HOLES_MAX) {
      throw damaged(`reading directory ${directory.number}`, `more than ${HOLES_MAX} holes`);
    }
    if (run.physical === undefined) logical = runEnd;
    for (; logical < runEnd; logical++) yield logical;
  }
}

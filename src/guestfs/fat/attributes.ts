/**
 * What FAT and exFAT have in common in what a file shows.
 *
 * @module
 */
import { VarveError } from "../../base/errors.ts";
import type { GuestStat } from "../guest.ts";

/** What an entry says of its file. */
export interface EntryFacts {
  readonly directory: boolean;
  readonly readOnly: boolean;
  readonly accessedNs: bigint;
  readonly modifiedNs: bigint;
  readonly bornNs: bigint | undefined;
}

/** Where a file is and how large. */
export interface EntrySize {
  readonly inode: number;
  readonly sizeBytes: number;
  readonly clusterBytes: number;
}

/**
 * As Linux shows an entry to root with a mask of 022. There is no time of a change of the inode: that of the content stands for it. A
 * directory has one link, which tells programs that its subdirectories were not counted.
 */
export function statOf(facts: EntryFacts, { inode, sizeBytes, clusterBytes }: EntrySize): GuestStat {
  return {
    inode,
    type: facts.directory ? "directory" : "file",
    mode: facts.readOnly && !facts.directory ? 0o555 : 0o755,
    uid: 0,
    gid: 0,
    links: 1,
    sizeBytes,
    blocks512: Math.ceil(sizeBytes / clusterBytes) * clusterBytes / 512,
    rdev: 0,
    accessedNs: facts.accessedNs,
    modifiedNs: facts.modifiedNs,
    changedNs: facts.modifiedNs,
    ...(facts.bornNs === undefined ? {} : { bornNs: facts.bornNs }),
  };
}

/** Throws `invalid` unless `inode` is what a call needs. */
export function requireType(inode: number, directory: boolean, wanted: "file" | "directory"): void {
  const found = directory ? "directory" : "file";
  if (found !== wanted) throw new VarveError("invalid", `reading ${wanted} ${inode}: it is a ${found}`);
}

/** Throws `invalid` for an offset that is none. */
export function requireOffset(inode: number, offset: number): void {
  if (Number.isSafeInteger(offset) && offset >= 0) return;
  throw new VarveError("invalid", `reading inode ${inode}: offset ${offset}`);
}

/** An error for a number that no entry has. */
export function noSuchInode(inode: number): VarveError {
  return new VarveError("not-found", `reading inode ${inode}: there is no entry of a file`);
}

/**
 * Content of files, long symlinks and large attributes: blocks, or bytes within the inode.
 *
 * @module
 */
import { VarveError } from "../../base/errors.ts";
import { equalBytes } from "../_bytes.ts";
import type { ContentRun } from "../guest.ts";
import { INODE_FLAG } from "./format.ts";
import type { Inode } from "./inode.ts";
import type { ExtVolume } from "./volume.ts";
import { inodeXattrEntries, XATTR_PREFIX_SYSTEM } from "./xattr_entries.ts";

/** Runs that one answer of `map` ends with. */
const MAPPED_RUNS_MAX = 1024;

const INLINE_NAME = new TextEncoder().encode("data");

/** Whether the content lies in the inode. */
export function isInline(inode: Inode): boolean {
  return (inode.flags & INODE_FLAG.inlineData) !== 0;
}

/** The two parts of content within an inode: `i_block`, then the value of the attribute `system.data`. */
export function inlineParts(inode: Inode): [Uint8Array, Uint8Array] {
  const rest = inodeXattrEntries(inode)
    .find((entry) => entry.prefix === XATTR_PREFIX_SYSTEM && equalBytes(entry.name, INLINE_NAME));
  return [inode.blockArea, rest?.value ?? new Uint8Array()];
}

/** Refuses content that only a key could make readable. */
export function refuseEncrypted(inode: Inode): void {
  if ((inode.flags & INODE_FLAG.encrypted) === 0) return;
  throw new VarveError(
    "unsupported",
    `reading inode ${inode.number}: the guest encrypted it, and its key is not here`,
  );
}

/** Fills `target` from `offset`; returns the bytes put in, short only at the end of the content. */
export function readContent(volume: ExtVolume, inode: Inode, offset: number, target: Uint8Array): number {
  const length = Math.min(target.length, Math.max(0, inode.sizeBytes - offset));
  if (length === 0) return 0;
  const wanted = target.subarray(0, length);
  if (isInline(inode)) readInline(inode, offset, wanted);
  else readBlocks(volume, inode, offset, wanted);
  return length;
}

function readInline(inode: Inode, offset: number, target: Uint8Array): void {
  target.fill(0);
  let start = 0;
  for (const part of inlineParts(inode)) {
    const from = Math.max(offset, start);
    const to = Math.min(offset + target.length, start + part.length);
    if (from < to) target.set(part.subarray(from - start, to - start), from - offset);
    start += part.length;
  }
}

function readBlocks(volume: ExtVolume, inode: Inode, offset: number, target: Uint8Array): void {
  const { blockBytes } = volume.superblock;
  for (let done = 0; done < target.length;) {
    const logical = Math.floor((offset + done) / blockBytes);
    const within = (offset + done) % blockBytes;
    const run = volume.findRun(inode, logical);
    const part = target.subarray(done, Math.min(target.length, done + run.count * blockBytes - within));
    if (run.physical === undefined) part.fill(0);
    else volume.blocks.read(run.physical, within, part);
    done += part.length;
  }
}

/** Where the content lies from `offset` on, as `GuestFileSystem.map` tells it. */
export function mapContent(volume: ExtVolume, inode: Inode, offset: number, length: number): ContentRun[] {
  const wanted = Math.min(length, inode.sizeBytes - offset);
  if (wanted <= 0) return [];
  if (isInline(inode)) return [{ kind: "made", length: wanted }];
  const { blockBytes } = volume.superblock;
  const runs: ContentRun[] = [];
  for (let done = 0; done < wanted && runs.length < MAPPED_RUNS_MAX;) {
    const logical = Math.floor((offset + done) / blockBytes);
    const within = (offset + done) % blockBytes;
    const run = volume.findRun(inode, logical);
    const part = Math.min(wanted - done, run.count * blockBytes - within);
    if (run.physical === undefined) runs.push({ kind: "hole", length: part });
    else runs.push(...volume.blocks.map(run.physical, within, part));
    done += part;
  }
  return runs;
}

/**
 * Content of files, long symlinks and large attributes: blocks, or bytes within the inode.
 *
 * @module
 */
import { VarveError } from "../../base/errors.ts";
import { equalBytes } from "../_bytes.ts";
import { INODE_FLAG } from "./format.ts";
import type { Inode } from "./inode.ts";
import type { ExtVolume } from "./volume.ts";
import { inodeXattrEntries, XATTR_PREFIX_SYSTEM } from "./xattr_entries.ts";

/** Runs that one `seek` looks at; beyond it, it answers "data", which a caller may always believe. */
const SEEK_RUNS_MAX = 65536;

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

/** First offset at or after `offset` of that kind, or `undefined`; the end of the file counts as a hole. */
export function seekContent(
  volume: ExtVolume,
  inode: Inode,
  offset: number,
  kind: "data" | "hole",
): number | undefined {
  const { blockBytes } = volume.superblock;
  if (offset >= inode.sizeBytes) return undefined;
  if (isInline(inode)) return kind === "data" ? offset : inode.sizeBytes;
  let at = offset;
  for (let runs = 0; at < inode.sizeBytes; runs++) {
    const logical = Math.floor(at / blockBytes);
    const run = volume.findRun(inode, logical);
    const found = run.physical === undefined ? "hole" : "data";
    if (found === kind || (kind === "data" && runs >= SEEK_RUNS_MAX)) return at;
    if (runs >= SEEK_RUNS_MAX) break;
    at = (logical + run.count) * blockBytes;
  }
  return kind === "data" ? undefined : inode.sizeBytes;
}

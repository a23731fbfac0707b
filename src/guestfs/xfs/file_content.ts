/**
 * Content of files and targets of symlinks.
 *
 * @module
 */
import { VarveError } from "../../base/errors.ts";
import { damaged, u32be } from "../_bytes.ts";
import { readRuns } from "../content.ts";
import type { ContentRun } from "../guest.ts";
import { findRun } from "./extents.ts";
import { DIFLAG_REALTIME, FORK_FORMAT, REMOTE_HEADER, REMOTE_HEADER_BYTES, SYMLINK_MAGIC } from "./format.ts";
import type { Inode } from "./inode.ts";
import type { XfsVolume } from "./volume.ts";

/** Runs that one answer of `map` ends with. */
const MAPPED_RUNS_MAX = 1024;
/** Linux refuses longer targets. */
const TARGET_BYTES_MAX = 1024;

function* runsOf(volume: XfsVolume, inode: Inode, offset: number, length: number): Generator<ContentRun> {
  const { blockBytes } = volume.superblock;
  for (let done = 0; done < length;) {
    const within = (offset + done) % blockBytes;
    const run = findRun(volume, inode.data, Math.floor((offset + done) / blockBytes));
    const part = Math.min(length - done, run.count * blockBytes - within);
    yield run.offset === undefined
      ? { kind: "hole", length: part }
      : { kind: "stored", length: part, deviceOffset: run.offset + within };
    done += part;
  }
}

function checkContent(volume: XfsVolume, inode: Inode): void {
  volume.pending.checkContent(inode.number);
  if ((inode.flags & DIFLAG_REALTIME) === 0) return;
  throw new VarveError(
    "unsupported",
    `reading inode ${inode.number}: its content lies in the realtime section, which is another device`,
  );
}

/** Fills `target` from `offset`; returns the bytes put in, short only at the end of the content. */
export function readContent(volume: XfsVolume, inode: Inode, offset: number, target: Uint8Array): number {
  checkContent(volume, inode);
  const length = Math.min(target.length, Math.max(0, inode.stat.sizeBytes - offset));
  if (length === 0) return 0;
  readRuns(volume.device, runsOf(volume, inode, offset, length), target.subarray(0, length), () => {});
  return length;
}

/** Where the content lies from `offset` on, as `GuestFileSystem.map` tells it. */
export function mapContent(volume: XfsVolume, inode: Inode, offset: number, length: number): ContentRun[] {
  checkContent(volume, inode);
  const wanted = Math.min(length, inode.stat.sizeBytes - offset);
  const runs: ContentRun[] = [];
  if (wanted <= 0) return runs;
  for (const run of runsOf(volume, inode, offset, wanted)) {
    runs.push(run);
    if (runs.length === MAPPED_RUNS_MAX) break;
  }
  return runs;
}

/** The target of a symlink: within the inode, or in blocks that have headers on version 5. */
export function readTarget(volume: XfsVolume, inode: Inode): Uint8Array {
  const fail = (found: string) => damaged(`reading the target of inode ${inode.number}`, found);
  volume.pending.checkContent(inode.number);
  const { data, stat: { sizeBytes } } = inode;
  if (sizeBytes === 0 || sizeBytes > TARGET_BYTES_MAX) throw fail(`${sizeBytes} bytes`);
  if (data.format === FORK_FORMAT.local) {
    if (sizeBytes > data.bytes.length) throw fail(`${sizeBytes} bytes within the inode`);
    return data.bytes.slice(0, sizeBytes);
  }
  const { v5, blockBytes } = volume.superblock;
  const header = v5 ? REMOTE_HEADER_BYTES : 0;
  const target = new Uint8Array(sizeBytes);
  let logical = 0;
  for (let done = 0; done < sizeBytes; logical++) {
    // Linux writes the blocks of an extent as one: a header each extent. Targets end within three blocks.
    const run = findRun(volume, data, logical);
    if (run.offset === undefined) throw fail("it has a hole");
    const blocks = Math.min(run.count, Math.ceil((sizeBytes - done + header) / blockBytes));
    const bytes = volume.metadata.block(run.offset, blocks * blockBytes);
    if (v5) {
      if (u32be(bytes, 0) !== SYMLINK_MAGIC || u32be(bytes, 4) !== done) throw fail("its header is wrong");
      const place = { offset: run.offset, owner: inode.number, what: "the target" };
      volume.proveBlock(bytes, REMOTE_HEADER, place);
    }
    const part = Math.min(bytes.length - header, sizeBytes - done);
    if (v5 && u32be(bytes, 8) !== part) throw fail("its header counts other bytes");
    target.set(bytes.subarray(header, header + part), done);
    done += part;
    logical += blocks - 1;
  }
  return target;
}

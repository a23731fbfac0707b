/**
 * The pieces that every reader of one file system shares.
 *
 * @module
 */
import type { BlockDevice } from "../../base/block_device.ts";
import { type DeviceMoment, momentOf } from "../moment_device.ts";
import { type BlockOverlay, BlockSource } from "./block_source.ts";
import { findExtentRun, type Run } from "./extents.ts";
import { FastCommitOverlay } from "./fast_commit_overlay.ts";
import { INODE_FLAG, LOGICAL_BLOCK_END, SUPERBLOCK_BYTES, SUPERBLOCK_OFFSET } from "./format.ts";
import { GroupTable } from "./group_table.ts";
import { findIndirectRun } from "./indirect.ts";
import { type Inode, InodeTable } from "./inode.ts";
import { parseSuperblock, type Superblock } from "./superblock.ts";

/** One file system, seen through the overlay of its journal. */
export class ExtVolume {
  /** The superblock, as the overlay shows it. */
  readonly superblock: Superblock;
  /** Its blocks. */
  readonly blocks: BlockSource;
  /** Its group descriptors. */
  readonly groups: GroupTable;
  /** Its inodes. */
  readonly inodes: InodeTable;
  /** The moment that the device shows, when it knows it. */
  readonly moment: DeviceMoment | undefined;
  /** What fast commits changed since the last transaction of the journal. */
  readonly newer: FastCommitOverlay = new FastCommitOverlay();

  /**
   * Opens the file system on a device whose blocks have `blockBytes`. Throws `damaged` and `unsupported` as
   * {@linkcode parseSuperblock}.
   */
  constructor(device: BlockDevice, blockBytes: number, overlay: BlockOverlay) {
    this.moment = momentOf(device);
    const unchecked = new BlockSource(device, blockBytes, Math.floor(device.sizeBytes / blockBytes), overlay);
    const bytes = new Uint8Array(SUPERBLOCK_BYTES);
    unchecked.read(Math.floor(SUPERBLOCK_OFFSET / blockBytes), SUPERBLOCK_OFFSET % blockBytes, bytes);
    this.superblock = parseSuperblock(bytes, device.sizeBytes);
    this.blocks = new BlockSource(device, blockBytes, this.superblock.blockCount, overlay);
    this.groups = new GroupTable(this.superblock, this.blocks);
    this.inodes = new InodeTable(this.superblock, this.groups, this.blocks, this.newer.inodes);
  }

  /** The run of blocks that a logical block of an inode lies in. */
  findRun(inode: Inode, logical: number): Run {
    if (logical >= LOGICAL_BLOCK_END) return { physical: undefined, count: Number.MAX_SAFE_INTEGER };
    const newer = this.newer.ranges.get(inode.number)?.find(logical);
    if (newer !== undefined && "run" in newer) return newer.run;
    const run = (inode.flags & INODE_FLAG.extents) !== 0
      ? findExtentRun(this.blocks, this.superblock.checksums, inode, logical)
      : findIndirectRun(this.blocks, inode, logical);
    if (newer === undefined || newer.nextStart >= logical + run.count) return run;
    return { physical: run.physical, count: newer.nextStart - logical };
  }
}

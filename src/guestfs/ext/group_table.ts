/**
 * Group descriptors: where each group keeps its inode table, and what is free.
 *
 * @module
 */
import { damaged, u16, u32 } from "../_bytes.ts";
import type { BlockSource } from "./block_source.ts";
import { crc32c, crc32cNumber } from "./crc32c.ts";
import { COMPAT, GROUP, INCOMPAT, RO_COMPAT, SUPERBLOCK_OFFSET } from "./format.ts";
import { crc16 } from "./legacy_crc.ts";
import type { Superblock } from "./superblock.ts";

const NO_CHECKSUM = new Uint8Array(2);
/** Above this many groups (16 TiB and more of 4 KiB blocks) free space is taken from the superblock. */
const GROUPS_COUNTED_MAX = 131072;

/** The group descriptors of a file system, read as needed and checked on every use. */
export class GroupTable {
  readonly #superblock: Superblock;
  readonly #blocks: BlockSource;

  /** Reads the descriptors through `blocks`. */
  constructor(superblock: Superblock, blocks: BlockSource) {
    this.#superblock = superblock;
    this.#blocks = blocks;
  }

  /** First block of the inode table of a group. */
  inodeTable(group: number): number {
    const descriptor = this.#descriptor(group);
    return u32(descriptor, GROUP.inodeTableLow) +
      (descriptor.length >= 64 ? u32(descriptor, GROUP.inodeTableHigh) * 2 ** 32 : 0);
  }

  /** Free blocks and inodes, summed over the groups as the kernel does when it mounts. */
  free(): { blocks: number; inodes: number } {
    const { groupCount, clusterBlocks, freeBlocks, freeInodes } = this.#superblock;
    if (groupCount > GROUPS_COUNTED_MAX) return { blocks: freeBlocks, inodes: freeInodes };
    let clusters = 0;
    let inodes = 0;
    for (let group = 0; group < groupCount; group++) {
      const descriptor = this.#descriptor(group);
      clusters += u16(descriptor, GROUP.freeBlocksLow);
      inodes += u16(descriptor, GROUP.freeInodesLow);
      if (descriptor.length >= 64) {
        clusters += u16(descriptor, GROUP.freeBlocksHigh) * 65536;
        inodes += u16(descriptor, GROUP.freeInodesHigh) * 65536;
      }
    }
    return { blocks: clusters * clusterBlocks, inodes };
  }

  /** Blocks that hold the structure of the file system and never files, the journal apart. */
  overheadBlocks(): number {
    const { groupCount, firstDataBlock, clusterBlocks, overheadClusters } = this.#superblock;
    if (clusterBlocks > 1 || groupCount > GROUPS_COUNTED_MAX) return overheadClusters * clusterBlocks;
    const { inodesPerGroup, inodeBytes, blockBytes, reservedDescriptorBlocks } = this.#superblock;
    const tableBlocks = Math.ceil(inodesPerGroup * inodeBytes / blockBytes);
    let blocks = firstDataBlock;
    for (let group = 0; group < groupCount; group++) {
      const copy = this.#hasSuperblock(group);
      blocks += tableBlocks + 2 + this.#descriptorBlocks(group) + (copy ? 1 + reservedDescriptorBlocks : 0);
    }
    return blocks;
  }

  #descriptor(group: number): Uint8Array {
    const { descriptorBytes, groupCount, blockBytes } = this.#superblock;
    if (group >= groupCount) throw damaged("finding a block group", `${group} of ${groupCount}`);
    const perBlock = blockBytes / descriptorBytes;
    const block = this.#blocks.block(this.#descriptorBlock(Math.floor(group / perBlock), perBlock));
    const at = (group % perBlock) * descriptorBytes;
    const descriptor = block.subarray(at, at + descriptorBytes);
    if (!this.#checksumHolds(group, descriptor)) {
      throw damaged(`reading the descriptor of block group ${group}`, "its checksum does not match");
    }
    return descriptor;
  }

  /** Which block holds the descriptors of a run of groups; with meta_bg it lies in the first of these groups. */
  #descriptorBlock(index: number, perBlock: number): number {
    const { incompat, firstMetaGroup, blockBytes, firstDataBlock, blocksPerGroup } = this.#superblock;
    if ((incompat & INCOMPAT.metaBg) === 0 || index < firstMetaGroup) {
      return Math.floor(SUPERBLOCK_OFFSET / blockBytes) + 1 + index;
    }
    const group = index * perBlock;
    // With blocks of 1 KiB and clusters the superblock is block 1 of group 0, not block 0.
    const bootBlock = blockBytes === 1024 && index === 0 && firstDataBlock === 0 ? 1 : 0;
    return firstDataBlock + group * blocksPerGroup + (this.#hasSuperblock(group) ? 1 : 0) + bootBlock;
  }

  #descriptorBlocks(group: number): number {
    const { incompat, firstMetaGroup, groupCount, descriptorBytes, blockBytes } = this.#superblock;
    const perBlock = blockBytes / descriptorBytes;
    const meta = (incompat & INCOMPAT.metaBg) !== 0;
    if (meta && Math.floor(group / perBlock) >= firstMetaGroup) {
      const place = group % perBlock;
      return place === 0 || place === 1 || place === perBlock - 1 ? 1 : 0;
    }
    if (!this.#hasSuperblock(group)) return 0;
    return meta ? firstMetaGroup : Math.ceil(groupCount / perBlock);
  }

  #hasSuperblock(group: number): boolean {
    const { compat, roCompat, backupGroups } = this.#superblock;
    if (group === 0) return true;
    if ((compat & COMPAT.sparseSuper2) !== 0) return backupGroups.includes(group);
    if (group === 1 || (roCompat & RO_COMPAT.sparseSuper) === 0) return true;
    return [3, 5, 7].some((base) => isPowerOf(base, group));
  }

  #checksumHolds(group: number, descriptor: Uint8Array): boolean {
    const { checksums, checksumSeed, roCompat, uuid } = this.#superblock;
    const stored = u16(descriptor, GROUP.checksum);
    const after = descriptor.subarray(GROUP.checksum + 2);
    if (checksums) {
      const head = crc32c(crc32cNumber(checksumSeed, group), descriptor, 0, GROUP.checksum);
      return (crc32c(crc32c(head, NO_CHECKSUM), after) & 0xffff) === stored;
    }
    if ((roCompat & RO_COMPAT.descriptorChecksum) === 0) return true;
    const number = Uint8Array.of(group, group >>> 8, group >>> 16, group >>> 24);
    const head = crc16(crc16(crc16(0xffff, uuid), number), descriptor.subarray(0, GROUP.checksum));
    return crc16(head, after) === stored;
  }
}

function isPowerOf(base: number, value: number): boolean {
  let power = base;
  while (power < value) power *= base;
  return power === value;
}

/**
 * Space and inodes, counted over the groups, as a mount counts them when the log was in use.
 *
 * @module
 */
import { damaged, u32be } from "../_bytes.ts";
import type { GuestFileSystem } from "../guest.ts";
import { checksumMatches } from "./checksum.ts";
import { AGF_MAGIC, AGI_MAGIC } from "./format.ts";
import type { XfsVolume } from "./volume.ts";

const AGF = { freeListCount: 48, freeBlocks: 52, treeBlocks: 60, crc: 216 } as const;
const AGI = { inodes: 16, freeInodes: 28, crc: 312 } as const;

/**
 * Sums up all groups. The kernel shows fewer free blocks than this: it holds some back for its own trees and for its root.
 */
export function measureSpace(volume: XfsVolume): GuestFileSystem["space"] {
  const { blockBytes, blocks, logBlocks, groups, groupBlocks, sectorBytes, inodeBytes, inodesMaxPercent } =
    volume.superblock;
  let freeBlocks = 0;
  let used = 0;
  let freeInodes = 0;
  for (let group = 0; group < groups; group++) {
    const start = group * groupBlocks * blockBytes;
    const free = header(volume, start + sectorBytes, { magic: AGF_MAGIC, crc: AGF.crc });
    freeBlocks += u32be(free, AGF.freeBlocks) + u32be(free, AGF.freeListCount) + u32be(free, AGF.treeBlocks);
    const inodes = header(volume, start + 2 * sectorBytes, { magic: AGI_MAGIC, crc: AGI.crc });
    used += u32be(inodes, AGI.inodes);
    freeInodes += u32be(inodes, AGI.freeInodes);
  }
  freeBlocks = Math.min(freeBlocks, blocks);
  // Inodes are made while there is room for them.
  const possible = used + freeBlocks * (blockBytes / inodeBytes);
  const most = inodesMaxPercent === 0
    ? possible
    : Math.floor(blocks * inodesMaxPercent / 100) * (blockBytes / inodeBytes);
  const inodes = Math.max(used, Math.min(possible, most));
  return {
    blockBytes,
    blocks: blocks - logBlocks,
    freeBlocks,
    inodes,
    freeInodes: inodes - used + freeInodes,
  };
}

function header(
  volume: XfsVolume,
  offset: number,
  { magic, crc }: { magic: number; crc: number },
): Uint8Array {
  const { metadata, superblock: { v5, sectorBytes } } = volume;
  const bytes = metadata.copy(offset, sectorBytes);
  if (u32be(bytes, 0) !== magic) throw damaged("reading the header of a group", "its magic number is wrong");
  if (v5 && !metadata.replayed(offset, sectorBytes) && !checksumMatches(bytes, crc)) {
    throw damaged("reading the header of a group", "its checksum does not match");
  }
  return bytes;
}

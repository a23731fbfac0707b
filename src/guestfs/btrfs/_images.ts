/** Images in memory whose structures tests damage. */
import { crc32c } from "../ext/crc32c.ts";
import { folded } from "./key.ts";
import { CHECKSUM_BYTES, HEADER, SB, SUPERBLOCK_BYTES, SUPERBLOCK_OFFSET } from "./format.ts";
import { equalBytes, u32, u64 } from "../_bytes.ts";

/** Writes the checksum of a block of `length` bytes, in a file system that uses CRC-32C. */
export function repairChecksum(image: Uint8Array, at: number, length: number): void {
  const value = ~crc32c(0xffffffff, image, at + CHECKSUM_BYTES, at + length);
  new DataView(image.buffer, image.byteOffset).setUint32(at, value >>> 0, true);
}

/** Writes the checksum of the superblock. */
export function repairSuperblock(image: Uint8Array): void {
  repairChecksum(image, SUPERBLOCK_OFFSET, SUPERBLOCK_BYTES);
}

/** Bytes of a tree block, as the superblock tells. */
export function nodeBytesOf(image: Uint8Array): number {
  return u32(image, SUPERBLOCK_OFFSET + SB.nodeBytes);
}

/** Where a tree block lies in an image, and what its header says. */
export interface TreeBlockPlace {
  readonly at: number;
  readonly bytenr: number;
  readonly owner: number;
  readonly generation: number;
}

/** Offsets of all blocks that look like tree blocks of this file system, old ones too. */
export function treeBlocks(image: Uint8Array): TreeBlockPlace[] {
  const id = image.subarray(SUPERBLOCK_OFFSET + SB.fsid, SUPERBLOCK_OFFSET + SB.fsid + 16);
  const found: TreeBlockPlace[] = [];
  for (let at = 2 ** 20; at + 4096 <= image.length; at += 4096) {
    if (!equalBytes(image.subarray(at + HEADER.fsid, at + HEADER.fsid + 16), id)) continue;
    found.push({
      at,
      bytenr: u64(image, at + HEADER.bytenr),
      owner: folded(image, at + HEADER.owner),
      generation: u64(image, at + HEADER.generation),
    });
  }
  return found;
}

/**
 * The pieces that every reader of one file system shares: its geometry, its metadata, and the proof that a block is
 * the one that was asked for.
 *
 * @module
 */
import type { BlockDevice } from "../../base/block_device.ts";
import { damaged, equalBytes, u32be, u64be } from "../_bytes.ts";
import { checksumMatches } from "./checksum.ts";
import type { BlockHeader } from "./format.ts";
import { SECTOR_BYTES } from "./format.ts";
import type { PendingChanges } from "./intents.ts";
import { MetadataSource } from "./metadata_source.ts";
import type { SectorOverlay } from "./sector_overlay.ts";
import type { Superblock } from "./superblock.ts";

/** One file system, seen through the overlay of its log. */
export class XfsVolume {
  /** The superblock, as the overlay shows it. */
  readonly superblock: Superblock;
  /** Where file content is read. */
  readonly device: BlockDevice;
  /** Its metadata. */
  readonly metadata: MetadataSource;
  /** What the log announced, and did not do. */
  readonly pending: PendingChanges;

  constructor(device: BlockDevice, superblock: Superblock, overlay: SectorOverlay, pending: PendingChanges) {
    this.device = device;
    this.superblock = superblock;
    this.metadata = new MetadataSource(device, overlay);
    this.pending = pending;
  }

  /** Byte of the device where `count` blocks from a block address on lie; outside of its group it is `damaged`. */
  blockOffset(address: number, count: number): number {
    return blockOffset(this.superblock, address, count);
  }

  /**
   * Proves on version 5 that a block that belongs to an inode is what it says: its checksum (but for blocks that the log
   * changed: their proof is that of its records), address, file system and owner.
   */
  proveBlock(
    bytes: Uint8Array,
    header: BlockHeader,
    place: {
      readonly offset: number;
      readonly owner: number;
      readonly what: string;
      /** Whether the log changed it; found out when absent. */
      readonly replayed?: boolean;
    },
  ): void {
    if (!this.superblock.v5) return;
    const { offset, owner, what } = place;
    const fail = (found: string) => damaged(`reading ${what} of inode ${owner}`, found);
    const replayed = place.replayed ?? this.metadata.replayed(offset, bytes.length);
    if (!replayed && !checksumMatches(bytes, header.crc)) throw fail("its checksum does not match");
    if (u64be(bytes, header.address) * SECTOR_BYTES !== offset) throw fail("it belongs to another place");
    if (!equalBytes(bytes.subarray(header.uuid, header.uuid + 16), this.superblock.metaUuid)) {
      throw fail("it belongs to another file system");
    }
    if (u64be(bytes, header.owner) !== owner) {
      throw fail(`it belongs to inode ${u32be(bytes, header.owner + 4)}`);
    }
  }
}

/** See {@linkcode XfsVolume.blockOffset}. */
export function blockOffset(superblock: Superblock, address: number, count: number): number {
  const { groupBlocksLog, groupBlocks, groups, blocks, blockBytes } = superblock;
  const group = Math.floor(address / 2 ** groupBlocksLog);
  const within = address % 2 ** groupBlocksLog;
  const linear = group * groupBlocks + within;
  if (!(group < groups && within + count <= groupBlocks && linear + count <= blocks)) {
    throw damaged("following a block address", `block ${within} of group ${group}, ${count} blocks`);
  }
  return linear * blockBytes;
}

/**
 * The superblock of SquashFS, checked.
 *
 * @module
 */
import { VarveError } from "../../base/errors.ts";
import { damaged, u16, u32, u64 } from "../_bytes.ts";
import { type Decompress, decompressorOf } from "./decompress.ts";
import { NO_TABLE_HALF, SB, SQUASHFS_MAGIC } from "./format.ts";

/** What the superblock says; places are in bytes from the start of the device. */
export interface Superblock {
  readonly inodes: number;
  readonly blockBytes: number;
  readonly fragments: number;
  readonly ids: number;
  readonly decompress: Decompress;
  /** Position of the root's inode: 65536 times the block's place in the inode table, plus the offset. */
  readonly root: number;
  readonly bytesUsed: number;
  readonly idTable: number;
  /** `undefined` when there are no attributes. */
  readonly xattrTable: number | undefined;
  readonly inodeTable: number;
  readonly directoryTable: number;
  readonly fragmentTable: number;
  /** From inode numbers to positions; `undefined` when there is none. */
  readonly exportTable: number | undefined;
}

/** Parses the first bytes of a device of `deviceBytes`. Throws `damaged` and `unsupported`. */
export function parseSuperblock(bytes: Uint8Array, deviceBytes: number): Superblock {
  const fail = (found: string) => damaged("reading the superblock", found);
  if (u32(bytes, 0) !== SQUASHFS_MAGIC) throw fail("its magic number is missing");
  const [major, minor] = [u16(bytes, SB.major), u16(bytes, SB.minor)];
  if (major !== 4 || minor !== 0) {
    throw new VarveError(
      "unsupported",
      `opening a SquashFS file system: version ${major}.${minor}, only 4.0 is known`,
    );
  }
  const decompress = decompressorOf(u16(bytes, SB.compressor));
  const blockBytes = u32(bytes, SB.blockBytes);
  const blockLog = u16(bytes, SB.blockLog);
  if (blockLog < 12 || blockLog > 20 || blockBytes !== 2 ** blockLog) {
    throw fail(`blocks of ${blockBytes} bytes, 2^${blockLog}`);
  }
  const bytesUsed = u64(bytes, SB.bytesUsed);
  if (bytesUsed > deviceBytes) throw fail(`${bytesUsed} bytes on a device of ${deviceBytes} bytes`);
  const table = (at: number) => {
    if (u32(bytes, at) === NO_TABLE_HALF && u32(bytes, at + 4) === NO_TABLE_HALF) return undefined;
    const place = u64(bytes, at);
    if (place >= bytesUsed) throw fail(`a table at ${place} of ${bytesUsed} bytes`);
    return place;
  };
  const needed = (at: number) => {
    const place = table(at);
    if (place === undefined) throw fail("a table is missing");
    return place;
  };
  const fragments = u32(bytes, SB.fragments);
  const ids = u16(bytes, SB.ids);
  const inodes = u32(bytes, SB.inodes);
  if (ids === 0 || inodes === 0) throw fail(`${inodes} inodes of ${ids} owners`);
  return {
    inodes,
    blockBytes,
    fragments,
    ids,
    decompress,
    root: u64(bytes, SB.root),
    bytesUsed,
    idTable: needed(SB.idTable),
    xattrTable: table(SB.xattrTable),
    inodeTable: needed(SB.inodeTable),
    directoryTable: needed(SB.directoryTable),
    fragmentTable: fragments === 0 ? 0 : needed(SB.fragmentTable),
    exportTable: table(SB.exportTable),
  };
}

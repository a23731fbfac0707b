/**
 * Blocks of directories and the entries in them.
 *
 * ```text
 * u32 inode (0: unused), u16 record length, u8 name length, u8 type, name, padding to 4
 * ```
 * The records of a block cover it without gaps. With checksums the last 12 bytes are a record that belongs to
 * no name and ends in a CRC-32C; blocks of an index hold one record that covers the whole block and hides it.
 *
 * @module
 */
import { damaged, slice, u16, u32, u8 } from "../_bytes.ts";
import { crc32c } from "./crc32c.ts";
import { COMPAT, DIRENT_HEADER_BYTES, DIRENT_TAIL_BYTES, DIRENT_TAIL_TYPE, INODE_FLAG } from "./format.ts";
import type { Inode } from "./inode.ts";
import type { ExtVolume } from "./volume.ts";

/** One used record. */
export interface DirectoryRecord {
  readonly inode: number;
  /** The name, still within its block. */
  readonly name: Uint8Array;
  /** `file_type`, 0 for unknown. */
  readonly fileType: number;
}

const NO_CHECKSUM = new Uint8Array(4);

/** Whether a directory has an index of its names. */
export function isIndexed(volume: ExtVolume, directory: Inode): boolean {
  return (directory.flags & INODE_FLAG.indexed) !== 0 &&
    (volume.superblock.compat & COMPAT.dirIndex) !== 0;
}

/** A block of a directory, its checksum verified. */
export function directoryBlock(
  volume: ExtVolume,
  directory: Inode,
  logical: number,
  physical: number,
): Uint8Array {
  return volume.blocks.checkedBlock(physical, directory.number, (bytes) => {
    if (!volume.superblock.checksums) return;
    const index = isIndexed(volume, directory) &&
      (logical === 0 || recordBytes(bytes, 0, bytes.length) === bytes.length);
    const holds = index ? indexChecksumHolds : leafChecksumHolds;
    if (!holds(bytes, directory.checksumSeed)) {
      throw damaged(
        `reading block ${logical} of directory ${directory.number}`,
        "its checksum does not match",
      );
    }
  });
}

/** Where the counts and entries of an index block start: after its one or two records, and the root's own header. */
export function indexStart(bytes: Uint8Array): number | undefined {
  const first = recordBytes(bytes, 0, bytes.length);
  if (first === bytes.length) return 8;
  if (first !== 12 || recordBytes(bytes, 12, bytes.length) !== bytes.length - 12) return undefined;
  return u32(bytes, 24) === 0 && u8(bytes, 29) === 8 ? 32 : undefined;
}

function leafChecksumHolds(bytes: Uint8Array, seed: number): boolean {
  const tail = bytes.length - DIRENT_TAIL_BYTES;
  return u32(bytes, tail) === 0 && u16(bytes, tail + 4) === DIRENT_TAIL_BYTES &&
    u8(bytes, tail + 6) === 0 && u8(bytes, tail + 7) === DIRENT_TAIL_TYPE &&
    u32(bytes, tail + 8) === crc32c(seed, bytes, 0, tail);
}

function indexChecksumHolds(bytes: Uint8Array, seed: number): boolean {
  const start = indexStart(bytes);
  if (start === undefined) return false;
  const tail = start + u16(bytes, start) * 8;
  const used = start + u16(bytes, start + 2) * 8;
  if (tail + 8 > bytes.length || used > tail) return false;
  const sum = crc32c(crc32c(seed, bytes, 0, used), bytes, tail, tail + 4);
  return crc32c(sum, NO_CHECKSUM) === u32(bytes, tail + 4);
}

/** Record length; blocks of 64 KiB need more than 16 bits, which hide in the two lowest. */
function recordBytes(bytes: Uint8Array, at: number, blockBytes: number): number {
  const stored = u16(bytes, at + 4);
  if (blockBytes < 65536) return stored;
  return stored === 65535 || stored === 0 ? blockBytes : (stored & 65532) | ((stored & 3) << 16);
}

/** The used records of a block, or of a part of an inode, from `from` on; `.` and `..` too. */
export function* directoryRecords(
  volume: ExtVolume,
  directory: Inode,
  bytes: Uint8Array,
  from: number,
): Generator<DirectoryRecord> {
  const { blockBytes, inodeCount } = volume.superblock;
  const fail = (found: string) => damaged(`reading directory ${directory.number}`, found);
  for (let at = from; at < bytes.length;) {
    const inode = u32(bytes, at);
    const length = recordBytes(bytes, at, blockBytes);
    const nameBytes = u8(bytes, at + 6);
    if (
      length < DIRENT_HEADER_BYTES + (inode === 0 ? 0 : nameBytes) || (length & 3) !== 0 ||
      at + length > bytes.length
    ) {
      throw fail(`a record of ${length} bytes at ${at} of ${bytes.length}`);
    }
    if (inode > inodeCount) throw fail(`inode ${inode} of ${inodeCount}`);
    if (inode !== 0) {
      const name = slice(bytes, at + DIRENT_HEADER_BYTES, at + DIRENT_HEADER_BYTES + nameBytes);
      if (nameBytes === 0 || name.includes(0) || name.includes(0x2f)) {
        throw fail("a name that no file may have");
      }
      yield { inode, name, fileType: u8(bytes, at + 7) };
    }
    at += length;
  }
}

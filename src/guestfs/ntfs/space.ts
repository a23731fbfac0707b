/**
 * Free space, counted in the bitmaps of clusters and of records.
 *
 * @module
 */
import { damaged } from "../_bytes.ts";
import type { GuestFileSystem } from "../guest.ts";
import { ATTRIBUTE, RECORD } from "./format.ts";
import type { NtfsStream } from "./stream.ts";
import type { NtfsVolume } from "./volume.ts";

const CHUNK_BYTES = 1024 * 1024;

/** Number of ones in a byte. */
const ONES = Uint8Array.from({ length: 256 }, (_, byte) => byte.toString(2).replaceAll("0", "").length);

/** Total and free space, in clusters, as ntfs-3g counts it: each free cluster has room for records too. */
export function measureSpace(volume: NtfsVolume): GuestFileSystem["space"] {
  const { clusterBytes, clusterCount, recordBytes } = volume.geometry;
  const clusters = volume.inode(RECORD.bitmap).needStream(ATTRIBUTE.data);
  const freeBlocks = countZeroes(volume, clusters, clusterCount);
  const records = volume.inode(RECORD.mft).needStream(ATTRIBUTE.bitmap);
  const recordBits = records.sizeBytes * 8;
  const roomBits = records.takenBytes * 8;
  if (roomBits > clusterCount * clusterBytes || recordBits > roomBits) {
    throw damaged("measuring the volume", `a bitmap of ${recordBits} file records`);
  }
  const newRecords = Math.floor(freeBlocks * clusterBytes / recordBytes);
  return {
    blockBytes: clusterBytes,
    blocks: clusterCount,
    freeBlocks,
    inodes: roomBits + newRecords,
    freeInodes: countZeroes(volume, records, recordBits) + roomBits - recordBits + newRecords,
  };
}

/** Zeroes among the first `bits` of a bitmap. */
function countZeroes(volume: NtfsVolume, bitmap: NtfsStream, bits: number): number {
  const bytes = Math.ceil(bits / 8);
  if (bitmap.sizeBytes < bytes) {
    throw damaged("measuring the volume", `a bitmap of ${bitmap.sizeBytes} bytes for ${bits} bits`);
  }
  let ones = 0;
  const chunk = new Uint8Array(Math.min(CHUNK_BYTES, bytes));
  for (let at = 0; at < bytes; at += chunk.length) {
    const part = chunk.subarray(0, Math.min(chunk.length, bytes - at));
    bitmap.read(volume.device, at, part);
    // Bits behind the last one count for nothing.
    if (at + part.length === bytes && bits % 8 !== 0) {
      part[part.length - 1] = (part.at(-1) ?? 0) & ((1 << bits % 8) - 1);
    }
    for (const byte of part) ones += ONES[byte] as number;
  }
  return bits - ones;
}

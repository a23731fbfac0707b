/**
 * Says what a partition holds when Varve cannot read it as a file system.
 *
 * @module
 */
import type { BlockDevice } from "../base/block_device.ts";
import { isZero, latin1 } from "./_bytes.ts";

/** Bytes that are looked at to find out whether a partition holds nothing but zeroes. */
const ZERO_SCAN_BYTES = 16 * 1024 * 1024;
const CHUNK_BYTES = 256 * 1024;
/** Range whose extents are asked for at once. */
const WINDOW_BYTES = 1024 * 1024 * 1024;

interface Signature {
  readonly what: string;
  /** Byte offsets where the magic may stand. */
  readonly offsets: readonly number[];
  /** Each character is one byte. */
  readonly magic: string;
}

function signatures(sizeBytes: number): readonly Signature[] {
  const at = (...offsets: number[]) => offsets;
  // The older forms of an md superblock lie at the end, aligned to 4 KiB and to 64 KiB.
  const mdEnd = Math.floor(sizeBytes / 4096) * 4096 - 8192;
  const mdOldest = Math.floor(sizeBytes / 65536) * 65536 - 65536;
  return [
    { what: "a LUKS encrypted volume", offsets: at(0), magic: "LUKS\xba\xbe" },
    { what: "an LVM2 physical volume", offsets: at(24, 536, 1048, 1560), magic: "LVM2 001" },
    { what: "an exFAT file system", offsets: at(3), magic: "EXFAT   " },
    { what: "a FAT file system", offsets: at(82), magic: "FAT32   " },
    { what: "a FAT file system", offsets: at(54), magic: "FAT12   " },
    { what: "a FAT file system", offsets: at(54), magic: "FAT16   " },
    { what: "a FAT file system", offsets: at(54), magic: "FAT     " },
    { what: "a squashfs file system", offsets: at(0), magic: "hsqs" },
    { what: "an EROFS file system", offsets: at(1024), magic: "\xe2\xe1\xf5\xe0" },
    { what: "an F2FS file system", offsets: at(1024), magic: "\x10\x20\xf5\xf2" },
    { what: "an ISO 9660 file system", offsets: at(32769), magic: "CD001" },
    { what: "swap space", offsets: at(4086, 8182, 16374, 65526), magic: "SWAPSPACE2" },
    { what: "a member of an md RAID", offsets: at(0, 4096, mdEnd, mdOldest), magic: "\xfc\x4e\x2b\xa9" },
  ];
}

/** What a device that holds no readable file system is known by, such as `a btrfs file system`. */
export function findSignature(device: BlockDevice): string | undefined {
  return signatures(device.sizeBytes)
    .find(({ offsets, magic }) => offsets.some((offset) => carries(device, offset, magic)))?.what;
}

/** Why a device cannot be browsed, as a sentence for people. */
export function describeContent(device: BlockDevice): string {
  const found = findSignature(device);
  if (found !== undefined) {
    return `the partition holds ${found}, which Varve cannot browse yet; ` +
      "its image is still available under images/";
  }
  return holdsOnlyZeroes(device) ? "nothing has been written here yet" : "no known file system";
}

function carries(device: BlockDevice, offset: number, magic: string): boolean {
  if (offset < 0 || offset + magic.length > device.sizeBytes) return false;
  const bytes = new Uint8Array(magic.length);
  device.read(offset, bytes);
  return latin1(bytes) === magic;
}

function holdsOnlyZeroes(device: BlockDevice): boolean {
  let budget = ZERO_SCAN_BYTES;
  for (let start = 0; start < device.sizeBytes; start += WINDOW_BYTES) {
    const window = Math.min(WINDOW_BYTES, device.sizeBytes - start);
    for (const { offset, length, kind } of device.extents(start, window)) {
      if (kind === "hole") continue;
      for (let at = offset; at < offset + length; at += CHUNK_BYTES) {
        const chunk = new Uint8Array(Math.min(CHUNK_BYTES, offset + length - at));
        budget -= chunk.length;
        if (budget < 0) return false;
        device.read(at, chunk);
        if (!isZero(chunk)) return false;
      }
    }
  }
  return true;
}

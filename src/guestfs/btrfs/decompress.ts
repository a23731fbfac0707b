/**
 * Compressed extents: a zlib or zstd stream, or LZO blocks of one sector each.
 *
 * ```text
 * LZO   u32 bytes of all of this, then for every sector u32 bytes of the block, the block;
 *       a length is never split between two sectors: zero bytes fill the rest of the first
 * ```
 *
 * @module
 */
import { inflateSync, zstdDecompressSync } from "node:zlib";
import { VarveError } from "../../base/errors.ts";
import { damaged, slice, u16, u32, u8 } from "../_bytes.ts";
import { COMPRESSION } from "./format.ts";
import { decompressLzo } from "./lzo.ts";

/**
 * Decompresses an extent whose content has `ramBytes`, at most 128 KiB; what the stream leaves open is zero, as in the last
 * sector of a file. Throws `damaged` for a stream that is malformed or too long.
 */
export function decompress(
  stored: Uint8Array,
  compression: number,
  ramBytes: number,
  sectorBytes: number,
): Uint8Array {
  const content = new Uint8Array(ramBytes);
  if (compression === COMPRESSION.lzo) {
    decompressSectors(stored, content, sectorBytes);
    return content;
  }
  try {
    const options = { maxOutputLength: ramBytes };
    content.set(
      compression === COMPRESSION.zlib
        ? inflateSync(stored, options)
        : zstdDecompressSync(stored.subarray(0, zstdFrameBytes(stored)), options),
    );
  } catch (thrown) {
    if (thrown instanceof VarveError) throw thrown;
    // The library's errors have no type of their own.
    throw new VarveError(
      "damaged",
      `decompressing an extent: ${thrown instanceof Error ? thrown.message : thrown}`,
      {
        cause: thrown,
      },
    );
  }
  return content;
}

/**
 * Bytes of the zstd frame that `stored` begins with, after RFC 8878: zeroes follow it up to the end of the sector, which the
 * library would take for another frame.
 */
function zstdFrameBytes(stored: Uint8Array): number {
  const descriptor = u8(stored, 4);
  const single = (descriptor & 0x20) !== 0;
  const dictionaryBytes = [0, 1, 2, 4][descriptor & 3] ?? 0;
  const sizeBytes = [single ? 1 : 0, 2, 4, 8][descriptor >>> 6] ?? 0;
  let at = 5 + (single ? 0 : 1) + dictionaryBytes + sizeBytes;
  for (let last = false; !last;) {
    const header = u8(stored, at) | u16(stored, at + 1) << 8;
    last = (header & 1) !== 0;
    const repeated = (header >>> 1 & 3) === 1;
    at += 3 + (repeated ? 1 : header >>> 3);
  }
  const end = at + ((descriptor & 4) !== 0 ? 4 : 0);
  if (end > stored.length) throw damaged("decompressing an extent", "its zstd frame goes on beyond its end");
  return end;
}

function decompressSectors(stored: Uint8Array, content: Uint8Array, sectorBytes: number): void {
  const end = u32(stored, 0);
  if (end > stored.length || end < 4) {
    throw damaged("decompressing an extent", `it says that it has ${end} bytes`);
  }
  let done = 0;
  for (let at = 4; at < end;) {
    const left = sectorBytes - at % sectorBytes;
    if (left < 4) at += left;
    if (at >= end) break;
    const length = u32(stored, at);
    if (at + 4 + length > end || done >= content.length) {
      throw damaged("decompressing an extent", `a block of ${length} bytes does not fit`);
    }
    const sector = content.subarray(done, done + sectorBytes);
    done += decompressLzo(slice(stored, at + 4, at + 4 + length), sector);
    at += 4 + length;
  }
}

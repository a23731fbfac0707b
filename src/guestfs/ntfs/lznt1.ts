/**
 * LZNT1, as NTFS compresses with it. Source of the knowledge: Microsoft's [MS-XCA], section 2.5.
 *
 * The bytes are chunks of a 16-bit header each and up to 4096 bytes of content. In a compressed chunk a byte of eight flags precedes
 * eight items: a byte as it is, or 16 bits that tell how far back in the same chunk to copy from, and how much. How those 16 bits
 * are divided depends on how much of the chunk there is already.
 *
 * @module
 */
import { damaged, u16, u8 } from "../_bytes.ts";

const CHUNK_BYTES = 4096;
const COMPRESSED = 0x8000;
const COPY_BYTES_MIN = 3;

/**
 * Decompresses into `target`, where each chunk has its own 4096 bytes; what the chunks leave is zero. Throws `damaged` for what no
 * compressor writes.
 */
export function decompressLznt1(bytes: Uint8Array, target: Uint8Array): void {
  target.fill(0);
  let at = 0;
  for (let start = 0; start < target.length && at + 2 <= bytes.length; start += CHUNK_BYTES) {
    const header = u16(bytes, at);
    if (header === 0) return;
    at += 2;
    const end = at + (header & 0xfff) + 1;
    if (end > bytes.length) {
      throw damaged("decompressing a file", `a chunk ends at ${end} of ${bytes.length} bytes`);
    }
    const chunk = target.subarray(start, start + CHUNK_BYTES);
    if ((header & COMPRESSED) !== 0) decompressChunk(bytes.subarray(at, end), chunk);
    else if (end - at > chunk.length) throw damaged("decompressing a file", `a chunk of ${end - at} bytes`);
    else chunk.set(bytes.subarray(at, end));
    at = end;
  }
}

function decompressChunk(bytes: Uint8Array, target: Uint8Array): void {
  let filled = 0;
  // Bits of the length in an item; the other bits are the distance, and grow with it.
  let lengthBits = 12;
  for (let at = 0; at < bytes.length;) {
    const flags = u8(bytes, at++);
    for (let item = 0; item < 8 && at < bytes.length; item++) {
      if ((flags >> item & 1) === 0) {
        if (filled === target.length) throw damaged("decompressing a file", "a chunk holds too much");
        target[filled++] = bytes[at++] as number;
        continue;
      }
      const pair = u16(bytes, at);
      at += 2;
      while (lengthBits > 4 && filled > 1 << (16 - lengthBits)) lengthBits--;
      const distance = (pair >> lengthBits) + 1;
      const length = (pair & ((1 << lengthBits) - 1)) + COPY_BYTES_MIN;
      if (distance > filled || filled + length > target.length) {
        throw damaged("decompressing a file", `a copy of ${length} bytes from ${distance} before ${filled}`);
      }
      // Byte by byte: a copy may reach into what it just wrote.
      for (const copied = filled + length; filled < copied; filled++) {
        target[filled] = target[filled - distance] as number;
      }
    }
  }
}

/**
 * Commands that begin or end within a block are widened with what is there, so that every version of a block is whole.
 *
 * @module
 */
import { BLOCK_BYTES } from "../base/block_device.ts";
import { blockOf, ZERO_BLOCK } from "../base/bytes.ts";
import { holeGeometry, RECORD_HEAD, RECORD_TAIL } from "../journal/mod.ts";

/** Gives a whole block as it is now, for the caller to keep. */
export type ReadBlock = (block: number) => Uint8Array;

/** A write as whole blocks, in parts; whole blocks of `data` are parts of it. */
export function wholeBlocks(offset: number, data: Uint8Array, readBlock: ReadBlock): Uint8Array[] {
  if (offset % BLOCK_BYTES === 0 && data.length % BLOCK_BYTES === 0) return [data];
  const end = offset + data.length;
  const payload: Uint8Array[] = [];
  for (let at = offset; at < end;) {
    const block = blockOf(at);
    const whole = at % BLOCK_BYTES === 0 ? Math.floor((end - at) / BLOCK_BYTES) * BLOCK_BYTES : 0;
    if (whole > 0) {
      payload.push(data.subarray(at - offset, at - offset + whole));
      at += whole;
      continue;
    }
    const bytes = readBlock(block);
    const count = Math.min(end, (block + 1) * BLOCK_BYTES) - at;
    bytes.set(data.subarray(at - offset, at - offset + count), at - block * BLOCK_BYTES);
    payload.push(bytes);
    at += count;
  }
  return payload;
}

/** A trim or zero as whole blocks: its `RECORD_*` flags, its first whole block, and the blocks that its ends cut. */
export function holeWithEdges(
  offset: number,
  length: number,
  sizeBytes: number,
  readBlock: ReadBlock,
): { flags: number; firstBlock: number; payload: Uint8Array[] } {
  const { head, tail, firstBlock } = holeGeometry(offset, length, sizeBytes);
  const end = offset + length;
  const payload: Uint8Array[] = [];
  if (head) {
    const block = blockOf(offset);
    const bytes = readBlock(block);
    bytes.fill(0, offset - block * BLOCK_BYTES, Math.min(BLOCK_BYTES, end - block * BLOCK_BYTES));
    payload.push(bytes);
  }
  if (tail) {
    const block = blockOf(end);
    const bytes = readBlock(block);
    bytes.set(ZERO_BLOCK.subarray(0, end - block * BLOCK_BYTES));
    payload.push(bytes);
  }
  return { flags: (head ? RECORD_HEAD : 0) | (tail ? RECORD_TAIL : 0), firstBlock, payload };
}

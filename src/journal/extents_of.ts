/**
 * What a record does to the blocks of a volume: the one place that turns a command into block extents.
 *
 * @module
 */
import { BLOCK_BYTES } from "../base/block_device.ts";
import { blockOf, blocksFor } from "../base/bytes.ts";
import { RECORD_HEAD, RECORD_TAIL, type RecordHeader } from "./format.ts";

/** A run of blocks that a record gives a new version. */
export interface BlockExtent {
  /** First block. */
  readonly firstBlock: number;
  /** Number of blocks. */
  readonly blockCount: number;
  /** Position of the first block in the record's payload, or -1 for a hole. */
  readonly payloadBlock: number;
}

/** The whole blocks of a trim or zero, and whether its ends cut a block. The last block of a volume counts as whole. */
export function holeGeometry(
  offset: number,
  length: number,
  sizeBytes: number,
): { firstBlock: number; blockCount: number; head: boolean; tail: boolean } {
  const end = offset + length;
  const wholeFirst = blocksFor(offset);
  const wholeEnd = end === sizeBytes ? blocksFor(end) : blockOf(end);
  const head = offset % BLOCK_BYTES !== 0;
  const tail = end !== sizeBytes && end % BLOCK_BYTES !== 0;
  // Both ends in one block: a single cut block, carried as the head.
  if (blockOf(offset) === blockOf(Math.max(offset, end - 1)) && head) {
    return { firstBlock: wholeFirst, blockCount: 0, head: true, tail: false };
  }
  return { firstBlock: wholeFirst, blockCount: Math.max(0, wholeEnd - wholeFirst), head, tail };
}

/** The extents of a record, in the order of the volume. Flushes, marks and meta records have none. */
export function extentsOf(
  record: Pick<RecordHeader, "kind" | "flags" | "offset" | "length" | "firstBlock" | "payloadBytes">,
): BlockExtent[] {
  switch (record.kind) {
    case "write":
    case "baseline":
      return record.payloadBytes === 0
        ? []
        : [{ firstBlock: record.firstBlock, blockCount: record.payloadBytes / BLOCK_BYTES, payloadBlock: 0 }];
    case "trim":
    case "zero": {
      const extents: BlockExtent[] = [];
      const end = record.offset + record.length;
      const head = (record.flags & RECORD_HEAD) !== 0;
      const tail = (record.flags & RECORD_TAIL) !== 0;
      // Compaction carries cut blocks as records of their own and leaves the hole without a payload.
      const carriesEdges = record.payloadBytes > 0;
      if (head && carriesEdges) {
        extents.push({ firstBlock: blockOf(record.offset), blockCount: 1, payloadBlock: 0 });
      }
      const wholeEnd = head && blockOf(record.offset) === blockOf(end - 1)
        ? record.firstBlock
        : tail
        ? blockOf(end)
        : blocksFor(end);
      if (wholeEnd > record.firstBlock) {
        extents.push({
          firstBlock: record.firstBlock,
          blockCount: wholeEnd - record.firstBlock,
          payloadBlock: -1,
        });
      }
      if (tail && carriesEdges) {
        extents.push({ firstBlock: blockOf(end), blockCount: 1, payloadBlock: head ? 1 : 0 });
      }
      return extents;
    }
    case "flush":
    case "mark":
    case "meta":
      return [];
  }
}

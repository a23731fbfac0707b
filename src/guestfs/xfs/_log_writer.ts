/** Writes records of its own behind those of a clean log, as a machine would that failed right after. */
import { closeSync, openSync, writeSync } from "node:fs";
import { ImageDevice } from "../_test_support.ts";
import { LogArea, RECORD_MAGIC } from "./log_area.ts";
import { findRange } from "./log_head.ts";
import { recordChecksum, type RecordHeader } from "./log_record.ts";
import { SectorOverlay } from "./sector_overlay.ts";
import { readSuperblock } from "./superblock.ts";
import { blockOffset } from "./volume.ts";

const BLOCK_BYTES = 512;

/** Flags of operations. */
export const OPERATION = { start: 1, commit: 2, continues: 4, wasContinued: 8 } as const;

/** One operation of a record. */
export interface Operation {
  readonly transaction: number;
  readonly flags: number;
  readonly data?: Uint8Array;
}

/** The operations of a transaction with these items, each a list of regions. */
export function transactionOf(id: number, items: readonly Uint8Array[][]): Operation[] {
  const head = new Uint8Array(16);
  const view = new DataView(head.buffer);
  view.setUint32(0, 0x5452414e, true);
  view.setUint32(4, 40, true);
  view.setUint32(12, items.length, true);
  return [
    { transaction: id, flags: OPERATION.start },
    ...[head, ...items.flat()].map((data) => ({ transaction: id, flags: 0, data })),
    { transaction: id, flags: OPERATION.commit },
  ];
}

/** A structure of the log's items: pairs of width in bytes and value, little-endian. */
export function packed(...fields: readonly [bytes: 2 | 4 | 8, value: number | bigint][]): Uint8Array {
  const bytes = new Uint8Array(fields.reduce((sum, [width]) => sum + width, 0));
  const view = new DataView(bytes.buffer);
  let at = 0;
  for (const [width, value] of fields) {
    if (width === 2) view.setUint16(at, Number(value), true);
    else if (width === 4) view.setUint32(at, Number(value), true);
    else view.setBigUint64(at, BigInt(value), true);
    at += width;
  }
  return bytes;
}

/** Where a record was put. */
export interface Written {
  /** Byte of the image. */
  readonly offset: number;
  readonly length: number;
}

/** Appends records to the clean log of an image, each a list of operations; the first is the tail. */
export function appendRecords(image: string, records: readonly Operation[][]): Written[] {
  using device = new ImageDevice(image);
  const superblock = readSuperblock(device, new SectorOverlay());
  const log = new LogArea(device, superblock);
  const { head, tail } = findRange(log, superblock);
  if (head !== tail || head === 0) throw new Error("the log is in use");
  const start = blockOffset(superblock, superblock.logStart, superblock.logBlocks);
  const cycle = log.cycle(head - 1);
  const file = openSync(image, "r+");
  let block = head;
  const written = records.map((operations) => {
    const bytes = recordOf(operations, { cycle, block, tail: head, uuid: superblock.uuid });
    const place = { offset: start + block * BLOCK_BYTES, length: bytes.length };
    writeSync(file, bytes, 0, bytes.length, place.offset);
    block += bytes.length / BLOCK_BYTES;
    return place;
  });
  closeSync(file);
  return written;
}

interface Place {
  readonly cycle: number;
  readonly block: number;
  readonly tail: number;
  readonly uuid: Uint8Array;
}

function recordOf(operations: readonly Operation[], { cycle, block, tail, uuid }: Place): Uint8Array {
  const length = operations.reduce((sum, { data }) => sum + 12 + (data?.length ?? 0), 0);
  const bytes = new Uint8Array(BLOCK_BYTES + Math.ceil(length / BLOCK_BYTES) * BLOCK_BYTES);
  const view = new DataView(bytes.buffer);
  let at = BLOCK_BYTES;
  for (const { transaction, flags, data = new Uint8Array() } of operations) {
    view.setUint32(at, transaction);
    view.setUint32(at + 4, data.length);
    bytes[at + 8] = 0x69;
    bytes[at + 9] = flags;
    bytes.set(data, at + 12);
    at += 12 + data.length;
  }
  const fields = [
    RECORD_MAGIC,
    cycle,
    2,
    length,
    cycle,
    block,
    cycle,
    tail,
    0,
    0xffffffff,
    operations.length,
  ];
  fields.forEach((value, index) => view.setUint32(index * 4, value));
  for (let index = 0; index < bytes.length / BLOCK_BYTES - 1; index++) {
    view.setUint32(44 + index * 4, view.getUint32((index + 1) * BLOCK_BYTES));
    view.setUint32((index + 1) * BLOCK_BYTES, cycle);
  }
  view.setUint32(300, 1);
  bytes.set(uuid, 304);
  view.setUint32(320, 32768);
  const record = {
    block,
    lsn: 0n,
    tailBlock: tail,
    headerBlocks: 1,
    bodyBlocks: 0,
    length,
    operations: operations.length,
    bytes: bytes.subarray(0, BLOCK_BYTES),
  } satisfies RecordHeader;
  view.setUint32(32, recordChecksum(record, bytes.subarray(BLOCK_BYTES), 328), true);
  return bytes;
}

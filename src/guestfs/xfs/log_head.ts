/**
 * Where the part of the log begins and ends that a mount would replay.
 *
 * Each block of the log begins with the number of the cycle in which it was written, so the head, where the next
 * record would be written, is where the number falls by one. Eight records may be under way at a time and reach the
 * disk in any order: behind the first of them that is torn nothing counts. The steps:
 *
 * 1. find where the cycle changes, by halves;
 * 2. look back over the blocks of the records under way for an older cycle: that hole is the head;
 * 3. step back over a record that the head cuts;
 * 4. the last record says where the tail is, and whether it is the mark of a clean unmount;
 * 5. of a log in use, step back over records of the last eight whose checksum does not match.
 *
 * @module
 */
import { VarveError } from "../../base/errors.ts";
import { damaged, u8 } from "../_bytes.ts";
import type { LogArea } from "./log_area.ts";
import { blockBehind, checkOrigin, readBody, readHeader, type RecordHeader } from "./log_record.ts";
import type { Superblock } from "./superblock.ts";

const RECORDS_UNDER_WAY = 8;
const FLAG_UNMOUNT = 0x20;
const OPERATION_FLAGS = 9;

/** The part of the log to be replayed: from `tail` to before `head`; nothing when they are the same. */
export interface LogRange {
  readonly tail: number;
  readonly head: number;
}

/** Finds the range to be replayed. Throws `damaged` when the log makes no sense. */
export function findRange(log: LogArea, superblock: Superblock): LogRange {
  let head = findHead(log, superblock);
  if (head === 0 && log.cycle(0) === 0) return { tail: 0, head: 0 };
  let last = lastRecord(log, head, head);
  checkOrigin(last, superblock.uuid);
  if (isUnmount(log, last, head)) return { tail: head, head };
  const torn = firstTorn(log, superblock, head, last.tailBlock);
  if (torn !== undefined) {
    head = torn;
    last = lastRecord(log, head, last.tailBlock);
    if (isUnmount(log, last, head)) return { tail: head, head };
  }
  if (last.tailBlock >= log.blocks) {
    throw damaged("reading the log", `its tail is at block ${last.tailBlock}`);
  }
  const tail = soundTail(log, superblock, head, last.tailBlock);
  return { tail, head };
}

function recordBlocksMax(superblock: Superblock): number {
  return (superblock.logV2 ? 256 : 32) * 2;
}

function findHead(log: LogArea, superblock: Superblock): number {
  const end = log.blocks;
  const scan = Math.min(end, recordBlocksMax(superblock) * RECORDS_UNDER_WAY);
  const firstCycle = log.cycle(0);
  const lastCycle = log.cycle(end - 1);
  if (firstCycle === 0) return 0;
  if (lastCycle === 0) {
    // Never written to its end.
    let head = cycleStart(log, 0);
    const from = Math.max(0, head - scan);
    head = firstWith(log, from, head, 0) ?? head;
    return cutRecord(log, head, from) ?? giveUp();
  }
  let head = end;
  let stop = lastCycle - 1;
  if (firstCycle !== lastCycle) {
    head = cycleStart(log, lastCycle);
    stop = lastCycle;
  }
  if (head >= scan) {
    head = firstWith(log, head - scan, head, stop) ?? head;
  } else {
    const hole = firstWith(log, end - (scan - head), end, stop - 1);
    head = hole ?? firstWith(log, 0, head, stop) ?? head;
  }
  return log.wrap(validHead(log, head, recordBlocksMax(superblock)));
}

function validHead(log: LogArea, head: number, scan: number): number {
  if (head >= scan) return cutRecord(log, head, head - scan) ?? giveUp();
  const found = cutRecord(log, head, 0);
  if (found !== undefined) return found;
  // The record began before the end of the log.
  const end = log.blocks;
  const back = cutRecord(log, end, Math.max(0, end - (scan - head)), head) ?? giveUp();
  return back === end ? head : back;
}

function giveUp(): never {
  throw damaged("reading the log", "no record begins where its last one should");
}

/** The first block with that cycle, which the last block has and the first has not. */
function cycleStart(log: LogArea, cycle: number): number {
  let before = 0;
  let found = log.blocks - 1;
  while (found - before > 1) {
    const middle = (before + found) >>> 1;
    if (log.cycle(middle) === cycle) found = middle;
    else before = middle;
  }
  return found;
}

function firstWith(log: LogArea, from: number, to: number, cycle: number): number | undefined {
  for (let block = from; block < to; block++) if (log.cycle(block) === cycle) return block;
  return undefined;
}

/**
 * The head, or the start of the record before it when that does not end at it; `wrapped` blocks of it lie at the start
 * of the log. `undefined` when no record begins in the range.
 */
function cutRecord(log: LogArea, head: number, from: number, wrapped = 0): number | undefined {
  for (let block = head - 1; block >= from; block--) {
    if (!log.hasHeader(block)) continue;
    const header = readHeader(log, block);
    return head - block + wrapped === header.headerBlocks + header.bodyBlocks ? head : block;
  }
  return undefined;
}

/** Blocks from `head` back to `tail`, around the end; the whole log when they are the same. */
function* backwards(log: LogArea, head: number, tail: number): Generator<number> {
  const count = (head - tail + log.blocks) % log.blocks || log.blocks;
  for (let step = 1; step <= count; step++) yield (head - step + log.blocks) % log.blocks;
}

function lastRecord(log: LogArea, head: number, tail: number): RecordHeader {
  for (const block of backwards(log, head, tail)) if (log.hasHeader(block)) return readHeader(log, block);
  return giveUp();
}

function isUnmount(log: LogArea, last: RecordHeader, head: number): boolean {
  if (blockBehind(log, last) !== head || last.operations !== 1) return false;
  return (u8(log.read(log.wrap(last.block + last.headerBlocks), 1), OPERATION_FLAGS) & FLAG_UNMOUNT) !== 0;
}

/** The first of the last eight records before the head that is torn. */
function firstTorn(log: LogArea, superblock: Superblock, head: number, tail: number): number | undefined {
  let start = head;
  let count = 0;
  for (const block of backwards(log, head, Math.min(tail, log.blocks - 1))) {
    if (!log.hasHeader(block)) continue;
    start = block;
    if (++count === RECORDS_UNDER_WAY) break;
  }
  return firstBad(log, superblock, start, head);
}

/** Where the first record lies that is not sound, from one block to another. */
function firstBad(log: LogArea, superblock: Superblock, from: number, head: number): number | undefined {
  const distance = (head - from + log.blocks) % log.blocks;
  for (let done = 0; done < distance;) {
    const block = log.wrap(from + done);
    const header = log.hasHeader(block) ? attemptHeader(log, block) : undefined;
    if (header === undefined || header.length === 0) return block;
    const blocks = header.headerBlocks + header.bodyBlocks;
    if (done + blocks > distance || readBody(log, header, superblock.v5) === undefined) return block;
    done += blocks;
  }
  return undefined;
}

function attemptHeader(log: LogArea, block: number): RecordHeader | undefined {
  try {
    return readHeader(log, block);
  } catch (thrown) {
    if (thrown instanceof VarveError && thrown.code === "damaged") return undefined;
    throw thrown;
  }
}

/**
 * The tail, or the first sound record behind it: of a log that was full when the power failed, records under way may
 * have been written over the tail that an earlier one names.
 */
function soundTail(log: LogArea, superblock: Superblock, head: number, tail: number): number {
  const distanceMax = recordBlocksMax(superblock) * RECORDS_UNDER_WAY;
  let start = nextHeader(log, tail, head);
  for (;;) {
    const bad = firstBad(log, superblock, start, head);
    if (bad === undefined) return start;
    if ((bad - head + log.blocks) % log.blocks > distanceMax) {
      throw damaged(`reading the log's record at block ${bad}`, "it is torn, or its checksum does not match");
    }
    start = nextHeader(log, log.wrap(bad + 1), head);
  }
}

function nextHeader(log: LogArea, from: number, head: number): number {
  const count = (head - from + log.blocks) % log.blocks;
  for (let step = 0; step < count; step++) {
    const block = log.wrap(from + step);
    if (log.hasHeader(block)) return block;
  }
  return head;
}

/**
 * Transactions, put together from the operations of the log's records.
 *
 * ```text
 * operation    u32 transaction, u32 bytes, u8 client, u8 flags, u16 0; then the bytes
 * transaction  an operation that starts it; a header of 16 bytes; items; an operation that commits it
 * item         regions, one an operation; the first says in its second u16 how many there are
 * ```
 * A region that a record had no room for goes on in the next. Records and transactions overlap freely.
 *
 * @module
 */
import { damaged, u16, u32, u32be, u8 } from "../_bytes.ts";
import type { LogArea } from "./log_area.ts";
import type { LogRange } from "./log_head.ts";
import { type Lsn, readBody, readHeader, unstamp } from "./log_record.ts";

const OPERATION_BYTES = 12;
const CLIENTS: readonly number[] = [0x69, 0xaa];
const FLAG = {
  start: 0x01,
  commit: 0x02,
  continues: 0x04,
  wasContinued: 0x08,
  end: 0x10,
  unmount: 0x20,
} as const;
/** `TRAN`, in the byte order of the writer. */
const TRANSACTION_MAGIC = 0x5452414e;
const TRANSACTION_HEADER_BYTES = 16;
const REGIONS_MAX = 1 << 16;

/** One logged change: its first region says what it is, the others are its data. */
export interface LogItem {
  readonly type: number;
  readonly regions: readonly Uint8Array[];
}

/** A committed transaction. */
export interface Transaction {
  /** Place of the record in which it started. */
  readonly lsn: Lsn;
  readonly items: readonly LogItem[];
}

interface OpenItem {
  /** Pieces of each region. */
  readonly regions: Uint8Array[][];
  total: number;
}

interface OpenTransaction {
  readonly lsn: Lsn;
  headerBytes: number;
  readonly items: OpenItem[];
}

/** The committed transactions of a range of the log, in the order in which they committed. */
export function* readTransactions(log: LogArea, { tail, head }: LogRange): Generator<Transaction> {
  const open = new Map<number, OpenTransaction>();
  const distance = (head - tail + log.blocks) % log.blocks;
  for (let done = 0; done < distance;) {
    const header = readHeader(log, log.wrap(tail + done));
    done += header.headerBlocks + header.bodyBlocks;
    // The checksums were proved when the range was found.
    const body = readBody(log, header, false);
    if (body === undefined || header.length === 0 || done > distance) {
      throw damaged(`reading the log's record at block ${header.block}`, "it changed");
    }
    const operations = unstamp(header, body);
    let at = 0;
    for (let count = header.operations; count > 0 && at < operations.length; count--) {
      const transaction = u32be(operations, at);
      const length = u32be(operations, at + 4);
      const flags = u8(operations, at + 9);
      at += OPERATION_BYTES;
      if (!CLIENTS.includes(u8(operations, at - 4)) || at + length > operations.length) {
        throw damaged(`reading the log's record at block ${header.block}`, "an operation is damaged");
      }
      const committed = step(open, transaction, {
        flags,
        data: operations.subarray(at, at + length),
        lsn: header.lsn,
      });
      if (committed !== undefined) yield committed;
      at += length;
    }
  }
}

/** Takes one operation; returns the transaction that it commits. */
function step(
  open: Map<number, OpenTransaction>,
  id: number,
  { flags, data, lsn }: { flags: number; data: Uint8Array; lsn: Lsn },
): Transaction | undefined {
  const transaction = open.get(id);
  if (transaction === undefined) {
    // What started before the tail is on disk already.
    if ((flags & FLAG.start) !== 0) open.set(id, { lsn, headerBytes: 0, items: [] });
    return undefined;
  }
  let kind = flags & ~FLAG.end;
  if ((kind & FLAG.wasContinued) !== 0) kind &= ~FLAG.continues;
  switch (kind) {
    case 0:
    case FLAG.continues:
      addRegion(transaction, data);
      return undefined;
    case FLAG.wasContinued:
      continueRegion(transaction, data);
      return undefined;
    case FLAG.commit:
      open.delete(id);
      return { lsn: transaction.lsn, items: transaction.items.map(closeItem) };
    case FLAG.unmount:
      open.delete(id);
      return undefined;
    default:
      throw damaged("reading the log", `an operation with flags ${flags} within transaction ${id}`);
  }
}

function addRegion(transaction: OpenTransaction, data: Uint8Array): void {
  if (data.length === 0) return;
  if (transaction.headerBytes === 0) {
    if (data.length > TRANSACTION_HEADER_BYTES || u32(data, 0) !== TRANSACTION_MAGIC) {
      throw damaged("reading the log", "a transaction does not begin as one");
    }
    transaction.headerBytes = data.length;
    return;
  }
  let item = transaction.items.at(-1);
  if (item === undefined || item.regions.length === item.total) {
    // Linux writes this much of an item's first region together at least.
    item = { regions: [], total: u16(data, 2) };
    if (item.total === 0 || item.total > REGIONS_MAX) {
      throw damaged("reading the log", `${item.total} regions`);
    }
    transaction.items.push(item);
  }
  item.regions.push([data]);
}

function continueRegion(transaction: OpenTransaction, data: Uint8Array): void {
  const region = transaction.items.at(-1)?.regions.at(-1);
  if (region !== undefined) {
    region.push(data);
    return;
  }
  transaction.headerBytes += data.length;
  if (transaction.headerBytes > TRANSACTION_HEADER_BYTES) {
    throw damaged("reading the log", "a transaction does not begin as one");
  }
}

function closeItem({ regions, total }: OpenItem): LogItem {
  if (regions.length !== total) {
    throw damaged("reading the log", `${regions.length} of ${total} regions of an item`);
  }
  const whole = regions.map(joined);
  return { type: whole[0] === undefined ? 0 : u16(whole[0], 0), regions: whole };
}

function joined(pieces: readonly Uint8Array[]): Uint8Array {
  const [first] = pieces;
  if (first !== undefined && pieces.length === 1) return first;
  const whole = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.length;
  }
  return whole;
}

/**
 * The file `map` of a clone: what the clone has of its own, as a log of changes. Numbers are little-endian.
 *
 * ```text
 * header   0  8 bytes  "VARVECLN"
 *          8  u32      version, 1
 *         12  u32      CRC-32 of the other 28 bytes of the header
 *         16  u64      size of the disk in bytes
 *         24  u64      number of records that were durable before the file got its name
 * record   0  u32      CRC-32 of the rest of the record
 *          4  u32      kind
 *          8  u64      number: 1 for the first record, one more for each
 *         16  u64      first block; of a vouch the number of the last record that it vouches for
 *         24  u64      count of blocks; 0 of a vouch
 *         32  u32 …    of a written run the CRC-32 of each block, filled up with zeroes to a multiple of 8 bytes
 * ```
 *
 * A block whose data never reached storage must not be taken for the clone's: it would read as zeroes, which neither the
 * moment nor anybody has ever put there. So a `written` run counts only when its data is known to be there: because a
 * later `vouch` says so, which is written after a sync of the data; or, where a power cut or a kill came before that,
 * because the block has the checksum. A `kept` run needs no proof: it is written to files that get their name when the
 * data is durable. A `hole` needs none either, for it refers to nothing.
 *
 * @module
 */
import { crc32 } from "node:zlib";
import { VarveError } from "../base/errors.ts";

/** What a record may say, by its number. */
export const RECORD_KINDS = { written: 1, hole: 2, kept: 3, vouch: 4 } as const;

/** One of {@linkcode RECORD_KINDS}. */
export type RecordKind = keyof typeof RECORD_KINDS;

/** A record. */
export interface ScratchRecord {
  /** What it says. */
  readonly kind: RecordKind;
  /** Its place in the log, from 1 on. */
  readonly number: number;
  /** First block, or what it vouches for. */
  readonly first: number;
  /** Number of blocks. */
  readonly count: number;
  /** CRC-32 of each block of a written run. */
  readonly sums?: Uint32Array;
}

/** Size of the file's header. */
export const HEADER_BYTES = 32;
/** Size of a record without checksums, and of the smallest. */
export const RECORD_BYTES = 32;
/** Records begin at multiples of this. */
export const ALIGN_BYTES = 8;

const MAGIC = new TextEncoder().encode("VARVECLN");
const VERSION = 1;
const NAMES = new Map(Object.entries(RECORD_KINDS).map(([name, value]) => [value, name as RecordKind]));
/** A disk has at most so many blocks: 2^50 bytes. */
const BLOCKS_MAX = 2 ** 38;

/** What the header says. */
export interface ScratchHeader {
  /** Size of the disk in bytes. */
  readonly sizeBytes: number;
  /** Records that were durable before the file got its name. */
  readonly durableRecords: number;
}

/** A header as it is stored. */
export function encodeHeader({ sizeBytes, durableRecords }: ScratchHeader): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES);
  const view = new DataView(bytes.buffer);
  bytes.set(MAGIC);
  view.setUint32(8, VERSION, true);
  view.setBigUint64(16, BigInt(sizeBytes), true);
  view.setBigUint64(24, BigInt(durableRecords), true);
  view.setUint32(12, headerSum(bytes), true);
  return bytes;
}

/** Reads a header. Throws `damaged` or `unsupported`. */
export function decodeHeader(bytes: Uint8Array, place: string): ScratchHeader {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const isOurs = bytes.length === HEADER_BYTES && MAGIC.every((byte, at) => bytes[at] === byte);
  if (!isOurs || view.getUint32(12, true) !== headerSum(bytes)) {
    throw new VarveError("damaged", `read ${place}: its header cannot be proved right`);
  }
  const version = view.getUint32(8, true);
  if (version !== VERSION) {
    throw new VarveError("unsupported", `read ${place}: it has version ${version}, known is ${VERSION}`);
  }
  return {
    sizeBytes: Number(view.getBigUint64(16, true)),
    durableRecords: Number(view.getBigUint64(24, true)),
  };
}

function headerSum(bytes: Uint8Array): number {
  return crc32(bytes.subarray(16, HEADER_BYTES), crc32(bytes.subarray(0, 12)));
}

function sizeOf(kind: RecordKind, count: number): number {
  const sumsBytes = kind === "written" ? count * 4 : 0;
  return RECORD_BYTES + Math.ceil(sumsBytes / ALIGN_BYTES) * ALIGN_BYTES;
}

/** A record as it is stored. */
export function encodeRecord({ kind, number, first, count, sums }: ScratchRecord): Uint8Array {
  const bytes = new Uint8Array(sizeOf(kind, count));
  const view = new DataView(bytes.buffer);
  view.setUint32(4, RECORD_KINDS[kind], true);
  view.setBigUint64(8, BigInt(number), true);
  view.setBigUint64(16, BigInt(first), true);
  view.setBigUint64(24, BigInt(count), true);
  sums?.forEach((sum, index) => view.setUint32(RECORD_BYTES + index * 4, sum, true));
  view.setUint32(0, crc32(bytes.subarray(4)), true);
  return bytes;
}

/** How many bytes the record has that begins here, by what it says of itself; 0 when it cannot be one. */
export function recordBytes(bytes: Uint8Array): number {
  if (bytes.length < RECORD_BYTES) return 0;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const kind = NAMES.get(view.getUint32(4, true) as typeof RECORD_KINDS[RecordKind]);
  const count = Number(view.getBigUint64(24, true));
  return kind === undefined || count > BLOCKS_MAX ? 0 : sizeOf(kind, count);
}

/** Reads the record that `bytes` hold exactly; `undefined` when it does not prove itself. */
export function decodeRecord(bytes: Uint8Array): ScratchRecord | undefined {
  const size = recordBytes(bytes);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (size === 0 || size !== bytes.length || view.getUint32(0, true) !== crc32(bytes.subarray(4))) {
    return undefined;
  }
  const kind = NAMES.get(view.getUint32(4, true) as typeof RECORD_KINDS[RecordKind]);
  if (kind === undefined) return undefined;
  const count = Number(view.getBigUint64(24, true));
  const record = {
    kind,
    number: Number(view.getBigUint64(8, true)),
    first: Number(view.getBigUint64(16, true)),
    count,
  };
  if (kind !== "written") return record;
  const sums = Uint32Array.from(
    { length: count },
    (_, index) => view.getUint32(RECORD_BYTES + index * 4, true),
  );
  return { ...record, sums };
}

/**
 * Records of the log: their headers, their checksums, and their bytes as they were before they were stamped.
 *
 * ```text
 *   0  magic      4  cycle     8  version   12  u32 bytes of operations
 *  16  u64 place of this record (cycle, block)         24  u64 place of the oldest record that is still needed
 *  32  checksum  36  previous block        40  operations
 *  44  first words of the first 64 blocks of operations: on disk the cycle stands in their place
 * 300  format   304  uuid    320  u32 largest size of a record
 * ```
 * A record of more than 32 KiB has further header blocks, with the first words of the blocks beyond.
 *
 * @module
 */
import { VarveError } from "../../base/errors.ts";
import { damaged, equalBytes, isZero, u32, u32be } from "../_bytes.ts";
import { crc32c } from "../ext/crc32c.ts";
import { SECTOR_BYTES } from "./format.ts";
import { type LogArea, RECORD_MAGIC } from "./log_area.ts";

const CRC = 32;
const CYCLE_DATA = 44;
const FORMAT = 300;
const UUID = 304;
/** A machine that is little-endian wrote it. */
const FORMAT_LITTLE_ENDIAN = 1;
/** Length of the header that its checksum covers, where the compiler aligned it to 8 bytes and to 4. */
const HEADER_CRC_BYTES = [328, 324] as const;
const EXTENDED_CRC_BYTES = 260;
const WORDS_PER_HEADER = 64;
const RECORD_BYTES_MAX = 256 * 1024;

/** A place in the log, as one number that grows: cycle, then block. */
export type Lsn = bigint;

/** The header of a record. */
export interface RecordHeader {
  /** Block where it begins. */
  readonly block: number;
  readonly lsn: Lsn;
  /** Block of the oldest record that is still needed. */
  readonly tailBlock: number;
  readonly headerBlocks: number;
  /** Blocks of operations. */
  readonly bodyBlocks: number;
  /** Bytes of operations. */
  readonly length: number;
  readonly operations: number;
  readonly bytes: Uint8Array;
}

/** Reads the header at a block. Throws `damaged` when there is no sound one. */
export function readHeader(log: LogArea, block: number): RecordHeader {
  const first = log.read(block, 1);
  const fail = (found: string) => damaged(`reading the log's record at block ${block}`, found);
  if (u32be(first, 0) !== RECORD_MAGIC) throw fail("its magic number is wrong");
  const version = u32be(first, 8);
  if (version === 0 || (version & ~3) !== 0) throw fail(`it is of version ${version}`);
  const length = u32be(first, 12);
  if (length > RECORD_BYTES_MAX) throw fail(`${length} bytes`);
  const size = (version & 2) !== 0 ? u32be(first, 320) : 0;
  if (size > RECORD_BYTES_MAX) throw fail(`records of ${size} bytes`);
  const headerBlocks = Math.max(1, Math.ceil(size / (WORDS_PER_HEADER * SECTOR_BYTES)));
  const bodyBlocks = Math.ceil(length / SECTOR_BYTES);
  if (bodyBlocks > headerBlocks * WORDS_PER_HEADER) throw fail(`${length} bytes and ${headerBlocks} headers`);
  return {
    block,
    lsn: (BigInt(u32be(first, 16)) << 32n) + BigInt(u32be(first, 20)),
    tailBlock: u32be(first, 28),
    headerBlocks,
    bodyBlocks,
    length,
    operations: u32be(first, 40),
    bytes: headerBlocks === 1 ? first : log.read(block, headerBlocks),
  };
}

/** The block behind a record. */
export function blockBehind(log: LogArea, header: RecordHeader): number {
  return log.wrap(header.block + header.headerBlocks + header.bodyBlocks);
}

/** Refuses a record of another file system or of a machine with another byte order. */
export function checkOrigin(header: RecordHeader, uuid: Uint8Array): void {
  const written = header.bytes.subarray(UUID, UUID + 16);
  if (!isZero(written) && !equalBytes(written, uuid)) {
    throw damaged("reading the log", "it belongs to another file system");
  }
}

/** The bytes of operations as they lie on disk; `undefined` when the record's checksum does not match them. */
export function readBody(log: LogArea, header: RecordHeader, checksums: boolean): Uint8Array | undefined {
  const body = log.read(log.wrap(header.block + header.headerBlocks), header.bodyBlocks);
  const stored = u32(header.bytes, CRC);
  // Version 4 may leave the checksum out, but one that is there is meant.
  if (stored === 0 && !checksums) return body;
  return HEADER_CRC_BYTES.some((length) => recordChecksum(header, body, length) === stored)
    ? body
    : undefined;
}

/** The checksum of a record over so many bytes of its first header. */
export function recordChecksum(
  { bytes, length, headerBlocks }: RecordHeader,
  body: Uint8Array,
  headerLength: number,
): number {
  let register = crc32c(crc32c(0xffffffff, bytes, 0, CRC), new Uint8Array(4));
  register = crc32c(register, bytes, CRC + 4, headerLength);
  for (let index = 1; index < headerBlocks; index++) {
    const at = index * SECTOR_BYTES;
    register = crc32c(register, bytes, at, at + EXTENDED_CRC_BYTES);
  }
  return ~crc32c(register, body, 0, length) >>> 0;
}

/** Puts the first words of its blocks back into a body, and returns the operations in it. */
export function unstamp(header: RecordHeader, body: Uint8Array): Uint8Array {
  if (u32be(header.bytes, FORMAT) !== FORMAT_LITTLE_ENDIAN) {
    throw new VarveError("unsupported", "replaying the log: a machine with another byte order wrote it");
  }
  for (let block = 0; block < header.bodyBlocks; block++) {
    const index = Math.floor(block / WORDS_PER_HEADER);
    const words = index === 0 ? CYCLE_DATA : index * SECTOR_BYTES + 4;
    const from = words + block % WORDS_PER_HEADER * 4;
    body.set(header.bytes.subarray(from, from + 4), block * SECTOR_BYTES);
  }
  return body.subarray(0, header.length);
}

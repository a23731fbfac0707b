/**
 * The journal (jbd2): finds out which blocks of the file system have newer content in the log.
 *
 * All numbers are big-endian. Source: the kernel's `Documentation/filesystems/ext4/journal.rst`.
 *
 * ```text
 * every block of the log's own   u32 magic, u32 type, u32 sequence
 * superblock (type 3, 4)         u32 block size, length, first block, sequence, start, errno,
 *                                features compat, incompat, ro; u8[16] uuid, …
 * descriptor (type 1)            tags, each for one of the blocks that follow it in the log
 * revoke (type 5)                u32 used bytes, then block numbers: older copies of them are void
 * commit (type 2)                u8 checksum type, u8 size, u16, u32[8] checksums, u64 seconds
 * ```
 *
 * The log is read once, from the oldest transaction to the last one that has a valid commit block. Nothing is
 * copied: the result is a map from block to journal block. A revoke of transaction N voids copies of
 * transactions up to N, so only the newest copy and the newest revoke of each block matter.
 *
 * A transaction that is incomplete, stale, or whose commit block does not match its checksum ends the log, and
 * everything before it counts; for a mismatch the kernel replays as much, and then asks for a repair. Where
 * the log shows damage to what was committed (a descriptor, or a block that is still needed), opening throws
 * `damaged`, as the kernel refuses to mount.
 *
 * @module
 */
import { VarveError } from "../../base/errors.ts";
import { damaged, slice, u16be, u32be, u64be, u8 } from "../_bytes.ts";
import { type BlockOverlay, JOURNAL_MAGIC } from "./block_source.ts";
import { crc32c } from "./crc32c.ts";
import { type FastCommitTag, readFastCommits } from "./fast_commit.ts";
import type { Inode } from "./inode.ts";
import { crc32BigEndian } from "./legacy_crc.ts";
import { LogMemory, type LogRange, type Tag, type Transaction } from "./log_memory.ts";
import type { ExtVolume } from "./volume.ts";

/** What the journal adds to the blocks on disk. */
export interface JournalReplay {
  /** Blocks whose newest content lies in the journal. */
  readonly blocks: BlockOverlay;
  /** What came after the last transaction, in order. */
  readonly fastCommits: readonly FastCommitTag[];
}

const TYPE = { descriptor: 1, commit: 2, superblockV1: 3, superblockV2: 4, revoke: 5 } as const;
const COMPAT_CHECKSUM = 0x1;
const INCOMPAT = { revoke: 0x1, bits64: 0x2, asyncCommit: 0x4, csumV2: 0x8, csumV3: 0x10, fastCommit: 0x20 };
const INCOMPAT_KNOWN = Object.values(INCOMPAT).reduce((all, bit) => all | bit, 0);
const FLAG = { escaped: 0x1, sameUuid: 0x2, last: 0x8 } as const;

const HEADER_BYTES = 12;
const UUID_BYTES = 16;
/** The CRC-32C at the end of descriptor and revoke blocks. */
const TAIL_BYTES = 4;
const COMMIT_HEADER_BYTES = 60;
const COMMIT_CHECKSUM = 16;
const SUPERBLOCK_BYTES = 1024;
const SUPERBLOCK_CHECKSUM = 0xfc;
const FAST_COMMIT_BLOCKS_DEFAULT = 256;
/** Blocks of the log and records in them that one replay takes; only a hostile log has more. */
const RECORDS_MAX = 2_000_000;

/** Pieces that a log may lie in for its transactions to be remembered from moment to moment. */
const LOG_PIECES_MAX = 16;

const NO_CHECKSUM = new Uint8Array(4);

/** The layout of a log and how it is checked. */
interface Log {
  readonly first: number;
  /** The first block after the log itself. */
  readonly end: number;
  readonly sequence: number;
  /** Block of the oldest transaction, 0 when the log is empty. */
  readonly start: number;
  readonly bits64: boolean;
  readonly csumV1: boolean;
  readonly csumV2: boolean;
  readonly csumV3: boolean;
  /** Start of every CRC-32C. */
  readonly seed: number;
  /** First and one past the last block of fast commits; the same when there are none. */
  readonly fastFirst: number;
  readonly fastEnd: number;
}

/** Reads the journal of a volume that was opened without one. The caller has seen that recovery is needed. */
export function readJournal(volume: ExtVolume): JournalReplay {
  const reader = new LogReader(volume);
  const log = openLog(reader);
  if (log.start === 0) return { blocks: new Map(), fastCommits: [] };
  const { newest, revoked, sequence } = scanLog(log, reader);
  const blocks = new Map<number, number>();
  for (const tag of newest.values()) {
    if ((revoked.get(tag.block) ?? -1) >= ordinalOf(log, tag)) continue;
    if (!tag.isProved && !dataChecksumHolds(log, tag, reader)) {
      throw fail(`the checksum of the new content of block ${tag.block} does not match`);
    }
    tag.isProved = true;
    blocks.set(tag.block, reader.physical(tag.position) * 2 + (tag.escaped ? 1 : 0));
  }
  const fastCommits = readFastCommits(
    (position) => reader.read(position).slice(),
    { first: log.fastFirst, end: log.fastEnd, transaction: sequence },
  );
  return { blocks, fastCommits };
}

function fail(found: string): VarveError {
  return damaged("replaying the journal", found);
}

/** Reads blocks of the log by their place in it. */
class LogReader {
  readonly blockBytes: number;
  readonly blockCount: number;
  readonly #volume: ExtVolume;
  readonly #inode: Inode;
  readonly #buffer: Uint8Array;
  #run = { start: 0, end: 0, physical: 0 };

  constructor(volume: ExtVolume) {
    const { blockBytes, journalInode } = volume.superblock;
    this.#volume = volume;
    this.#inode = volume.inodes.getAny(journalInode);
    if (this.#inode.type !== "file") throw fail("its inode is not a file");
    this.#buffer = new Uint8Array(blockBytes);
    this.blockBytes = blockBytes;
    this.blockCount = Math.floor(this.#inode.sizeBytes / blockBytes);
  }

  /** The content of a block, valid until the next call. */
  read(position: number): Uint8Array {
    this.#volume.blocks.read(this.physical(position), 0, this.#buffer);
    return this.#buffer;
  }

  /** Which block of the file system holds a block of the log. */
  physical(position: number): number {
    if (position < this.#run.start || position >= this.#run.end) {
      const run = position < this.blockCount ? this.#volume.findRun(this.#inode, position) : undefined;
      if (run?.physical === undefined) throw fail(`block ${position} of the log does not exist`);
      this.#run = { start: position, end: position + run.count, physical: run.physical };
    }
    return this.#run.physical + position - this.#run.start;
  }

  /** What is remembered of transactions, when the device shows one moment of many and the log lies in few pieces. */
  memory(
    log: Log,
  ): {
    find(position: number, sequence: number): Transaction | undefined;
    add(transaction: Transaction): void;
  } | undefined {
    const moment = this.#volume.moment;
    if (moment === undefined) return undefined;
    const pieces = this.#pieces(0, log.end);
    if (pieces.length > LOG_PIECES_MAX) return undefined;
    const { first, end, bits64, csumV2, csumV3, seed } = log;
    const memory = LogMemory.of(moment, JSON.stringify([pieces, first, end, bits64, csumV2, csumV3, seed]));
    return {
      find: (position, sequence) => memory.find(moment, position, sequence),
      add: (transaction) => {
        const { position, blockCount } = transaction;
        const beforeEnd = Math.min(blockCount, end - position);
        const ranges = [
          ...this.#pieces(position, position + beforeEnd),
          ...this.#pieces(first, first + blockCount - beforeEnd),
        ];
        memory.add(moment, transaction, ranges);
      },
    };
  }

  /** Where blocks of the log lie on the device; more than `LOG_PIECES_MAX` are not told. */
  #pieces(from: number, end: number): LogRange[] {
    const pieces: LogRange[] = [];
    for (let position = from; position < end && pieces.length <= LOG_PIECES_MAX;) {
      const offset = this.physical(position) * this.blockBytes;
      const count = Math.min(end, this.#run.end) - position;
      pieces.push({ offset, length: count * this.blockBytes });
      position += count;
    }
    return pieces;
  }
}

function openLog(reader: LogReader): Log {
  const bytes = slice(reader.read(0), 0, SUPERBLOCK_BYTES);
  const type = u32be(bytes, 4);
  if (u32be(bytes, 0) !== JOURNAL_MAGIC || (type !== TYPE.superblockV1 && type !== TYPE.superblockV2)) {
    throw fail("its superblock is missing");
  }
  const features = type === TYPE.superblockV2;
  const compat = features ? u32be(bytes, 0x24) : 0;
  const incompat = features ? u32be(bytes, 0x28) : 0;
  if ((incompat & ~INCOMPAT_KNOWN) !== 0) {
    throw new VarveError(
      "unsupported",
      `replaying the journal: it uses unknown features (0x${incompat.toString(16)})`,
    );
  }
  const csumV2 = (incompat & INCOMPAT.csumV2) !== 0;
  const csumV3 = (incompat & INCOMPAT.csumV3) !== 0;
  if (csumV2 || csumV3) {
    const sum = crc32c(0xffffffff, bytes, 0, SUPERBLOCK_CHECKSUM);
    const whole = crc32c(crc32c(sum, NO_CHECKSUM), bytes, SUPERBLOCK_CHECKSUM + 4);
    if (whole !== u32be(bytes, SUPERBLOCK_CHECKSUM)) {
      throw fail("the checksum of its superblock does not match");
    }
  }
  const length = u32be(bytes, 0x10);
  const first = u32be(bytes, 0x14);
  const start = u32be(bytes, 0x1c);
  const fast = (incompat & INCOMPAT.fastCommit) !== 0;
  const end = length - (fast ? u32be(bytes, 0x54) || FAST_COMMIT_BLOCKS_DEFAULT : 0);
  if (
    u32be(bytes, 0xc) !== reader.blockBytes || length > reader.blockCount || first < 1 || first >= end ||
    (start !== 0 && (start < first || start >= end))
  ) {
    throw fail(`a log of ${length} blocks that starts at ${start} of ${first} to ${end}`);
  }
  return {
    first,
    end,
    sequence: u32be(bytes, 0x18),
    start,
    bits64: (incompat & INCOMPAT.bits64) !== 0,
    csumV1: (compat & COMPAT_CHECKSUM) !== 0,
    csumV2,
    csumV3,
    seed: crc32c(0xffffffff, slice(bytes, 0x30, 0x40)),
    fastFirst: fast ? end + 1 : length,
    fastEnd: length,
  };
}

/** From a block to its newest copy, to its newest revoke, and the sequence that the next transaction would have. */
interface ScannedLog {
  readonly newest: ReadonlyMap<number, Tag>;
  readonly revoked: ReadonlyMap<number, number>;
  readonly sequence: number;
}

/** Place of a transaction among those that are read: their sequences follow one another. */
function ordinalOf(log: Log, { sequence }: Pick<Transaction, "sequence">): number {
  return (sequence - log.sequence) >>> 0;
}

function scanLog(log: Log, reader: LogReader): ScannedLog {
  const newest = new Map<number, Tag>();
  const revoked = new Map<number, number>();
  const memory = log.csumV1 ? undefined : reader.memory(log);
  let sequence = log.sequence;
  let position = log.start;
  let lastCommitTime = 0n;
  let records = 0;
  // A log holds each of its blocks once: going on for longer means going in circles.
  for (let left = log.end - log.first; left > 0;) {
    const place = { position, sequence, left, lastCommitTime, recordsLeft: RECORDS_MAX - records };
    const known = memory?.find(position, sequence);
    const transaction = known !== undefined && known.blockCount <= left
      ? known
      : readTransaction(log, reader, place);
    if (transaction === undefined) break;
    if (transaction !== known) memory?.add(transaction);
    for (const tag of transaction.tags) newest.set(tag.block, tag);
    for (const revoke of transaction.revokes) revoked.set(revoke, ordinalOf(log, transaction));
    records += transaction.blockCount + transaction.revokes.length;
    if (records > RECORDS_MAX) throw tooMuch();
    left -= transaction.blockCount;
    position = log.first + (position - log.first + transaction.blockCount) % (log.end - log.first);
    sequence = (sequence + 1) >>> 0;
    lastCommitTime = transaction.commitTime;
  }
  return { newest, revoked, sequence };
}

function tooMuch(): VarveError {
  return new VarveError("unsupported", "replaying the journal: it holds more blocks than Varve can keep");
}

/** Where a transaction is to begin, and what of the log and of the limits is left. */
interface LogPlace {
  readonly position: number;
  readonly sequence: number;
  readonly left: number;
  readonly lastCommitTime: bigint;
  readonly recordsLeft: number;
}

/** Reads one transaction; it counts only once its commit block is seen, else it is `undefined` and ends the log. */
function readTransaction(log: Log, reader: LogReader, place: LogPlace): Transaction | undefined {
  const { sequence, left } = place;
  const tags: Tag[] = [];
  const revokes: number[] = [];
  /** A descriptor or revoke block did not match its checksum: stale, or damaged. */
  let suspicious = false;
  /** CRC-32 of descriptors and data, for the first kind of checksum. */
  let sum = 0xffffffff;
  let blockCount = 0;
  const advance = () => log.first + (place.position - log.first + blockCount++) % (log.end - log.first);
  while (blockCount < left) {
    const block = reader.read(advance());
    if (u32be(block, 0) !== JOURNAL_MAGIC || u32be(block, 8) !== sequence) return undefined;
    const type = u32be(block, 4);
    if (type === TYPE.descriptor) {
      if (!tailChecksumHolds(log, block)) suspicious = true;
      if (log.csumV1) sum = crc32BigEndian(sum, block);
      for (const tag of tagsOf(log, block)) {
        const position = advance();
        tags.push({ ...tag, position, sequence, isProved: false });
        if (log.csumV1) sum = crc32BigEndian(sum, reader.read(position));
      }
    } else if (type === TYPE.revoke) {
      if (!tailChecksumHolds(log, block)) suspicious = true;
      for (const revoke of suspicious ? [] : revokesOf(log, block)) revokes.push(revoke);
    } else if (type === TYPE.commit) {
      const commitTime = BigInt(u32be(block, 48)) << 32n | BigInt(u32be(block, 52));
      if (suspicious) {
        if (commitTime >= place.lastCommitTime) throw fail(`transaction ${sequence} is damaged`);
        return undefined;
      }
      if (!commitChecksumHolds(log, block, sum)) return undefined;
      return { sequence, position: place.position, blockCount, tags, revokes, commitTime };
    } else {
      return undefined;
    }
    if (blockCount + revokes.length > place.recordsLeft) throw tooMuch();
  }
  return undefined;
}

/**
 * ```text
 * v3      u32 block, u32 flags, u32 block high, u32 checksum
 * others  u32 block, u16 checksum, u16 flags, [u32 block high with 64 bits], [u16 unused with v2]
 * ```
 * each followed by a UUID unless flagged as the same.
 */
function tagsOf(log: Log, block: Uint8Array): Pick<Tag, "block" | "escaped" | "checksum">[] {
  const tagBytes = log.csumV3 ? 16 : 8 + (log.bits64 ? 4 : 0) + (log.csumV2 ? 2 : 0);
  const end = block.length - (log.csumV2 || log.csumV3 ? TAIL_BYTES : 0);
  const tags: Pick<Tag, "block" | "escaped" | "checksum">[] = [];
  for (let at = HEADER_BYTES; at + tagBytes <= end;) {
    const flags = u16be(block, at + 6);
    tags.push({
      block: u32be(block, at) + (log.bits64 ? u32be(block, at + 8) * 2 ** 32 : 0),
      escaped: (flags & FLAG.escaped) !== 0,
      checksum: log.csumV3 ? u32be(block, at + 12) : u16be(block, at + 4),
    });
    at += tagBytes + ((flags & FLAG.sameUuid) === 0 ? UUID_BYTES : 0);
    if ((flags & FLAG.last) !== 0) break;
  }
  return tags;
}

function revokesOf(log: Log, block: Uint8Array): number[] {
  const used = u32be(block, HEADER_BYTES);
  const max = block.length - (log.csumV2 || log.csumV3 ? TAIL_BYTES : 0);
  if (used > max) throw fail(`a revoke block of ${used} bytes`);
  const width = log.bits64 ? 8 : 4;
  const revokes: number[] = [];
  for (let at = HEADER_BYTES + 4; at + width <= used; at += width) {
    revokes.push(log.bits64 ? u64be(block, at) : u32be(block, at));
  }
  return revokes;
}

function tailChecksumHolds(log: Log, block: Uint8Array): boolean {
  if (!log.csumV2 && !log.csumV3) return true;
  const tail = block.length - TAIL_BYTES;
  return crc32c(crc32c(log.seed, block, 0, tail), NO_CHECKSUM) === u32be(block, tail);
}

function commitChecksumHolds(log: Log, block: Uint8Array, sum: number): boolean {
  const stored = u32be(block, COMMIT_CHECKSUM);
  if (log.csumV1) {
    const [type, size] = [u8(block, 12), u8(block, 13)];
    return (stored === sum && type === 1 && size === 4) || (stored === 0 && type === 0 && size === 0);
  }
  if (!log.csumV2 && !log.csumV3) return true;
  const head = crc32c(crc32c(log.seed, block, 0, COMMIT_CHECKSUM), NO_CHECKSUM);
  if (crc32c(head, block, COMMIT_CHECKSUM + 4) === stored) return true;
  // A commit block of which only the first sector arrived counts if the rest is taken for the zeroes it was.
  const rest = new Uint8Array(block.length - COMMIT_HEADER_BYTES);
  return crc32c(crc32c(head, block, COMMIT_CHECKSUM + 4, COMMIT_HEADER_BYTES), rest) === stored;
}

function dataChecksumHolds(log: Log, tag: Tag, reader: LogReader): boolean {
  if (!log.csumV2 && !log.csumV3) return true;
  const { sequence } = tag;
  const number = Uint8Array.of(sequence >>> 24, sequence >>> 16, sequence >>> 8, sequence);
  const sum = crc32c(crc32c(log.seed, number), reader.read(tag.position));
  return (log.csumV3 ? sum : sum & 0xffff) === tag.checksum;
}

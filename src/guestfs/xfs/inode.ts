/**
 * Inodes: where they lie, what they say, and their forks.
 *
 * @module
 */
import { VarveError } from "../../base/errors.ts";
import { damaged, equalBytes, slice, u16be, u32be, u64be, u8 } from "../_bytes.ts";
import type { GuestFileType, GuestStat } from "../guest.ts";
import { ByteLru } from "../_lru.ts";
import { checksumMatches } from "./checksum.ts";
import { DI, DIFLAG2, FORK_FORMAT, INODE_CORE_BYTES, INODE_MAGIC } from "./format.ts";
import type { Superblock } from "./superblock.ts";
import type { XfsVolume } from "./volume.ts";

const CACHE_BYTES = 8 * 1024 * 1024;
/** What a parsed inode takes beside its bytes. */
const PARSED_BYTES = 1024;
const NANOSECONDS = 1_000_000_000n;
/** Bigtime counts from the first second that 32 bits can tell. */
const BIGTIME_EPOCH_NS = -(2n ** 31n) * NANOSECONDS;
const SIZE_MAX = 2 ** 53 - 1;

const TYPES: ReadonlyMap<number, GuestFileType> = new Map([
  [0x1000, "fifo"],
  [0x2000, "character"],
  [0x4000, "directory"],
  [0x6000, "block"],
  [0x8000, "file"],
  [0xa000, "symlink"],
  [0xc000, "socket"],
]);

/** One of the two forks of an inode: its content, or its attributes. */
export interface Fork {
  /** Number of the inode, as blocks of the fork name their owner. */
  readonly owner: number;
  readonly attributes: boolean;
  /** As in `FORK_FORMAT`. */
  readonly format: number;
  /** The part of the inode that is the fork. */
  readonly bytes: Uint8Array;
  /** Number of extents. */
  readonly extents: number;
}

/** A parsed inode. */
export interface Inode {
  readonly number: number;
  readonly stat: GuestStat;
  readonly flags: number;
  readonly data: Fork;
  readonly attributes: Fork | undefined;
}

/** Byte of the device where an inode lies, wherever its number comes from; `damaged` when there is no such place. */
export function inodeOffset(superblock: Superblock, number: number): number {
  const { inodesPerBlockLog, groupBlocksLog, groups, groupBlocks, blocks, blockBytes, inodeBytes } =
    superblock;
  const block = Math.floor(number / 2 ** inodesPerBlockLog);
  const group = Math.floor(block / 2 ** groupBlocksLog);
  const within = block % 2 ** groupBlocksLog;
  const linear = group * groupBlocks + within;
  if (
    !(Number.isSafeInteger(number) && number > 0 && group < groups && within < groupBlocks && linear < blocks)
  ) {
    throw damaged(`looking for inode ${number}`, "there is no such place");
  }
  return linear * blockBytes + number % 2 ** inodesPerBlockLog * inodeBytes;
}

/** The inodes of a file system, parsed once and kept while there is room. */
export class InodeTable {
  readonly #volume: XfsVolume;
  readonly #cache = new ByteLru<Inode>(CACHE_BYTES);

  constructor(volume: XfsVolume) {
    this.#volume = volume;
  }

  /** An inode in use. Throws `not-found` when it is free, `damaged` when it is not what it should be. */
  get(number: number): Inode {
    const cached = this.#cache.get(number);
    if (cached !== undefined) return cached;
    if (!(Number.isSafeInteger(number) && number > 0)) {
      throw new VarveError("not-found", `reading inode ${number}: there is none of that number`);
    }
    const inode = this.#read(number);
    this.#cache.set(number, inode, this.#volume.superblock.inodeBytes + PARSED_BYTES);
    return inode;
  }

  #read(number: number): Inode {
    const { superblock, metadata, pending } = this.#volume;
    const fail = (found: string) => damaged(`reading inode ${number}`, found);
    const offset = inodeOffset(superblock, number);
    const { blockBytes, inodeBytes } = superblock;
    const start = offset - offset % blockBytes;
    const block = metadata.block(start, blockBytes);
    const bytes = slice(block, offset - start, offset - start + inodeBytes);
    if (u16be(bytes, DI.magic) !== INODE_MAGIC) throw fail("its magic number is wrong");
    const version = u8(bytes, DI.version);
    if (superblock.v5 ? version !== 3 : version !== 1 && version !== 2) {
      throw fail(`it is of version ${version}`);
    }
    if (superblock.v5) {
      if (!metadata.replayed(offset, inodeBytes) && !checksumMatches(bytes, DI.crc)) {
        throw fail("its checksum does not match");
      }
      if (u64be(bytes, DI.number) !== number) throw fail("it has another number");
      if (!equalBytes(bytes.subarray(DI.uuid, DI.uuid + 16), superblock.metaUuid)) {
        throw fail("it belongs to another file system");
      }
    }
    if (u16be(bytes, DI.mode) === 0) throw new VarveError("not-found", `reading inode ${number}: it is free`);
    const blocksChange = pending.blocksChange(number);
    return parseInode(bytes, number, { superblock, version, blocksChange });
  }
}

function parseInode(
  bytes: Uint8Array,
  number: number,
  { superblock, version, blocksChange }: { superblock: Superblock; version: number; blocksChange: number },
): Inode {
  const fail = (found: string) => damaged(`reading inode ${number}`, found);
  const mode = u16be(bytes, DI.mode);
  const type = TYPES.get(mode & 0xf000);
  if (type === undefined) throw fail(`mode 0${mode.toString(8)}`);
  const flags2Low = version === 3 ? u32be(bytes, DI.flags2 + 4) : 0;
  const many = (flags2Low & DIFLAG2.manyExtents) !== 0;
  if (many && !superblock.manyExtents) {
    throw fail("its count of extents has a form that the file system lacks");
  }
  const core = version === 3 ? INODE_CORE_BYTES.v3 : INODE_CORE_BYTES.v2;
  const forkOffset = u8(bytes, DI.forkOffset) * 8;
  if (forkOffset > bytes.length - core) throw fail(`its second fork begins at ${forkOffset}`);
  const dataEnd = forkOffset === 0 ? bytes.length : core + forkOffset;
  const sizeBytes = u64be(bytes, DI.size);
  if (sizeBytes > SIZE_MAX) throw fail(`its size is ${sizeBytes}`);
  const data: Fork = {
    owner: number,
    attributes: false,
    format: u8(bytes, DI.format),
    bytes: bytes.subarray(core, dataEnd),
    extents: many ? u64be(bytes, DI.manyExtents) : u32be(bytes, DI.extents),
  };
  const attributes: Fork | undefined = forkOffset === 0 ? undefined : {
    owner: number,
    attributes: true,
    format: u8(bytes, DI.attrFormat),
    bytes: bytes.subarray(dataEnd),
    extents: many ? u32be(bytes, DI.extents) : u16be(bytes, DI.attrExtents),
  };
  const special = type === "block" || type === "character";
  if (
    special !== (data.format === FORK_FORMAT.device) && (special || type === "file" || type === "directory")
  ) {
    throw fail(`a ${type} whose content has format ${data.format}`);
  }
  const time = (at: number) => timeOf(bytes, at, (flags2Low & DIFLAG2.bigTime) !== 0);
  const blocks = u64be(bytes, DI.blocks) + blocksChange;
  return {
    number,
    flags: u16be(bytes, DI.flags),
    data,
    attributes,
    stat: {
      inode: number,
      type,
      mode: mode & 0xfff,
      uid: u32be(bytes, DI.uid),
      gid: u32be(bytes, DI.gid),
      links: version === 1 ? u16be(bytes, DI.oldLinks) : u32be(bytes, DI.links),
      sizeBytes,
      blocks512: blocks * (superblock.blockBytes / 512),
      rdev: special ? deviceNumber(u32be(data.bytes, 0)) : 0,
      accessedNs: time(DI.accessed),
      modifiedNs: time(DI.modified),
      changedNs: time(DI.changed),
      ...(version === 3 ? { bornNs: time(DI.born) } : {}),
    },
  };
}

function timeOf(bytes: Uint8Array, at: number, big: boolean): bigint {
  const high = u32be(bytes, at);
  const low = u32be(bytes, at + 4);
  if (big) return (BigInt(high) << 32n) + BigInt(low) + BIGTIME_EPOCH_NS;
  return BigInt(high | 0) * NANOSECONDS + BigInt(low);
}

/** From the encoding of System V, 14 and 18 bits, to that of Linux. */
function deviceNumber(encoded: number): number {
  const major = encoded >>> 18;
  const minor = encoded & 0x3ffff;
  return (minor & 0xff) + major * 256 + (minor >>> 8) * 2 ** 20;
}

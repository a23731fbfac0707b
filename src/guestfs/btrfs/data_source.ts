/**
 * The data of files, proved by the checksums that the file system keeps of every sector.
 *
 * What was synced after the last commit has its checksums in the log, which therefore is asked first: no sector that a
 * log tells of can have been used again before the commit that drops the log.
 *
 * @module
 */
import { damaged } from "../_bytes.ts";
import type { BlockSource } from "./block_source.ts";
import { OBJECT, TYPE } from "./format.ts";
import type { Superblock } from "./superblock.ts";
import type { Tree } from "./tree.ts";

/** Bytes that are read and proved at a time. */
const STEP_BYTES = 256 * 1024;

/** Checksums of neighbouring sectors. */
interface ChecksumRun {
  /** Logical address of the first. */
  readonly start: number;
  readonly end: number;
  readonly bytes: Uint8Array;
}

/** Reads data by logical address. */
export class DataSource {
  readonly #blocks: BlockSource;
  readonly #superblock: Superblock;
  readonly #trees: readonly Tree[];

  /** Reads through `blocks`; `trees` have the checksums, the one to believe first. */
  constructor(blocks: BlockSource, superblock: Superblock, trees: readonly Tree[]) {
    this.#blocks = blocks;
    this.#superblock = superblock;
    this.#trees = trees;
  }

  /** Reads whole sectors without proof, as files without checksums have none. */
  readUnproved(logical: number, target: Uint8Array): void {
    this.#blocks.readCopy(0, logical, target);
  }

  /**
   * Reads a range whose sectors must have checksums. Throws `damaged` when no copy of a sector has the right one, or the
   * file system keeps none of it.
   */
  readProved(logical: number, target: Uint8Array): void {
    const { sectorBytes } = this.#superblock;
    for (let done = 0; done < target.length;) {
      const at = logical + done;
      const start = at - at % sectorBytes;
      const length = Math.min(STEP_BYTES - (at - start), target.length - done);
      const end = Math.ceil((at + length) / sectorBytes) * sectorBytes;
      const part = target.subarray(done, done + length);
      if (start === at && end === at + length) {
        this.#readSectors(start, part);
      } else {
        const sectors = new Uint8Array(end - start);
        this.#readSectors(start, sectors);
        part.set(sectors.subarray(at - start, at - start + length));
      }
      done += length;
    }
  }

  #readSectors(logical: number, target: Uint8Array): void {
    const { sectorBytes, checksum } = this.#superblock;
    this.#blocks.readCopy(0, logical, target);
    let run: ChecksumRun | undefined;
    for (let at = 0; at < target.length; at += sectorBytes) {
      if (run === undefined || logical + at >= run.end) run = this.#findChecksums(logical + at);
      const place = (logical + at - run.start) / sectorBytes * checksum.bytes;
      const expected = run.bytes.subarray(place, place + checksum.bytes);
      const sector = target.subarray(at, at + sectorBytes);
      if (!checksum.matches(sector, expected)) this.#readOtherCopy(logical + at, sector, expected);
    }
  }

  #readOtherCopy(logical: number, sector: Uint8Array, expected: Uint8Array): void {
    const { copies } = this.#blocks.chunks.find(logical, sector.length);
    for (let copy = 1; copy < copies.length; copy++) {
      this.#blocks.readCopy(copy, logical, sector);
      if (this.#superblock.checksum.matches(sector, expected)) return;
    }
    throw damaged("reading a file", `the checksum of its sector at ${logical} does not match`);
  }

  #findChecksums(logical: number): ChecksumRun {
    const { sectorBytes, checksum } = this.#superblock;
    let limit = Number.MAX_SAFE_INTEGER;
    for (const tree of this.#trees) {
      const key = { objectid: OBJECT.extentChecksums, type: TYPE.extentChecksum, offset: logical };
      const found = tree.floor(key);
      if (found !== undefined && found[0].objectid === key.objectid && found[0].type === key.type) {
        const [{ offset: start }, bytes] = found;
        const end = start + Math.floor(bytes.length / checksum.bytes) * sectorBytes;
        if ((logical - start) % sectorBytes !== 0) {
          throw damaged("reading the checksums of data", `those at ${start} are not of sectors`);
        }
        // Where a tree that is to be believed first goes on, this one's do not count.
        if (logical < end) return { start, end: Math.min(end, limit), bytes };
      }
      for (const [next] of tree.items({ ...key, offset: logical + 1 }, { ...key, offset: limit - 1 })) {
        limit = next.offset;
        break;
      }
    }
    throw damaged("reading a file", `there is no checksum of its sector at ${logical}`);
  }
}

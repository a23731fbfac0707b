/**
 * Reads by logical address: tree blocks, which are checked and of which another copy is tried when one is bad, and data.
 *
 * @module
 */
import type { BlockDevice } from "../../base/block_device.ts";
import { VarveError } from "../../base/errors.ts";
import { damaged, equalBytes, slice } from "../_bytes.ts";
import { ByteLru } from "../_lru.ts";
import { ChunkMap } from "./chunk_map.ts";
import { CHECKSUM_BYTES, HEADER } from "./format.ts";
import { amount } from "./key.ts";
import type { RootPointer, Superblock } from "./superblock.ts";
import { TreeBlock } from "./tree_block.ts";

const CACHE_BYTES = 16 * 1024 * 1024;
/** Small tree blocks are read together with their neighbours. */
const WINDOW_BYTES = 64 * 1024;
const WINDOWS_BYTES = 2 * 1024 * 1024;

/** The blocks of one file system. */
export class BlockSource {
  /** Where logical addresses lie. */
  readonly chunks: ChunkMap;
  readonly #device: BlockDevice;
  readonly #superblock: Superblock;
  readonly #blocks = new ByteLru<TreeBlock>(CACHE_BYTES);
  readonly #windows = new ByteLru<Uint8Array>(WINDOWS_BYTES);

  /** Reads a device by the chunks that its superblock lists. */
  constructor(device: BlockDevice, superblock: Superblock) {
    this.#device = device;
    this.#superblock = superblock;
    this.chunks = ChunkMap.ofSystem(superblock.systemChunks, superblock.deviceId, device.sizeBytes);
  }

  /**
   * A tree block that has the level and generation that its parent tells. Throws `damaged` when no copy can be proved to
   * be that block.
   */
  block({ bytenr, level, generation }: RootPointer): TreeBlock {
    const cached = this.#blocks.get(bytenr);
    if (cached !== undefined && cached.level === level && cached.generation === generation) return cached;
    const { nodeBytes } = this.#superblock;
    const chunk = this.chunks.find(bytenr, nodeBytes);
    let failure: VarveError | undefined;
    for (const copy of chunk.copies) {
      try {
        const bytes = new Uint8Array(nodeBytes);
        this.#readNear(copy + bytenr - chunk.logical, bytes);
        const block = this.#check(bytes, bytenr);
        if (block.level !== level || block.generation !== generation) {
          throw damaged(
            `reading the tree block at ${bytenr}`,
            `level ${block.level} of generation ${block.generation} instead of level ${level} of ${generation}`,
          );
        }
        this.#blocks.set(bytenr, block, nodeBytes);
        return block;
      } catch (thrown) {
        if (!(thrown instanceof VarveError)) throw thrown;
        failure = thrown;
      }
    }
    throw failure ?? damaged(`reading the tree block at ${bytenr}`, "it has no copy");
  }

  /** Reads data from one of the copies of what lies at a logical address. */
  readCopy(copy: number, logical: number, target: Uint8Array): void {
    const chunk = this.chunks.find(logical, target.length);
    this.#device.read((chunk.copies[copy] ?? 0) + logical - chunk.logical, target);
  }

  #check(bytes: Uint8Array, bytenr: number): TreeBlock {
    const { checksum, metadataId } = this.#superblock;
    const fail = (found: string) => damaged(`reading the tree block at ${bytenr}`, found);
    if (amount(bytes, HEADER.bytenr) !== bytenr) throw fail("it belongs to another place");
    if (!equalBytes(slice(bytes, HEADER.fsid, HEADER.fsid + 16), metadataId)) {
      throw fail("it belongs to another file system");
    }
    if (!checksum.matches(bytes.subarray(CHECKSUM_BYTES), bytes)) throw fail("its checksum does not match");
    return new TreeBlock(bytes);
  }

  #readNear(at: number, target: Uint8Array): void {
    const start = Math.floor(at / WINDOW_BYTES) * WINDOW_BYTES;
    const end = Math.min(start + WINDOW_BYTES, this.#device.sizeBytes);
    if (target.length >= WINDOW_BYTES / 2 || at + target.length > end) {
      this.#device.read(at, target);
      return;
    }
    let window = this.#windows.get(start);
    if (window === undefined) {
      window = new Uint8Array(end - start);
      this.#device.read(start, window);
      this.#windows.set(start, window, window.length);
    }
    target.set(window.subarray(at - start, at - start + target.length));
  }
}

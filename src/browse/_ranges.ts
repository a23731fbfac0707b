/**
 * Runs of bytes of a device, and a device that notes which of them were read.
 *
 * @module
 */
import { BLOCK_BYTES, type BlockDevice, type Extent } from "../base/block_device.ts";

/** A run of bytes of a volume. */
export interface ByteRange {
  /** First byte. */
  readonly offset: number;
  /** Number of bytes. */
  readonly length: number;
}

/** A set of blocks of a volume. */
export class BlockSet {
  readonly #blocks = new Set<number>();

  /** Number of blocks in it. */
  get size(): number {
    return this.#blocks.size;
  }

  /** Adds every block that has bytes of the range. */
  add(offset: number, length: number): void {
    const end = offset + length;
    for (let block = Math.floor(offset / BLOCK_BYTES); block * BLOCK_BYTES < end; block++) {
      this.#blocks.add(block);
    }
  }

  /** Forgets everything. */
  clear(): void {
    this.#blocks.clear();
  }

  /** The blocks as sorted ranges with space between them. */
  ranges(): ByteRange[] {
    return joined(
      Array.from(this.#blocks, (block) => ({ offset: block * BLOCK_BYTES, length: BLOCK_BYTES })),
    );
  }
}

/** Ranges sorted, and joined where they meet. */
export function joined(ranges: readonly ByteRange[]): ByteRange[] {
  const result: { offset: number; length: number }[] = [];
  for (const { offset, length } of ranges.toSorted((a, b) => a.offset - b.offset)) {
    const last = result.at(-1);
    if (last !== undefined && offset <= last.offset + last.length) {
      last.length = Math.max(last.length, offset + length - last.offset);
    } else result.push({ offset, length });
  }
  return result;
}

/** A device that notes in `noted` every block that is read from another. */
export class NotingDevice implements BlockDevice {
  readonly sizeBytes: number;
  readonly readOnly = true;
  /** Blocks that were read. */
  readonly noted: BlockSet = new BlockSet();
  readonly #device: BlockDevice;

  /** Reads from `device`. */
  constructor(device: BlockDevice) {
    this.#device = device;
    this.sizeBytes = device.sizeBytes;
  }

  read(offset: number, target: Uint8Array): void {
    this.noted.add(offset, target.length);
    this.#device.read(offset, target);
  }

  extents(offset: number, length: number, max?: number): Extent[] {
    return this.#device.extents(offset, length, max);
  }

  write(offset: number, data: Uint8Array): void {
    this.#device.write(offset, data);
  }

  trim(offset: number, length: number): void {
    this.#device.trim(offset, length);
  }

  zero(offset: number, length: number): void {
    this.#device.zero(offset, length);
  }

  commit(): void {}

  flush(): Promise<void> {
    return Promise.resolve();
  }

  sync(): Promise<void> {
    return Promise.resolve();
  }
}

/**
 * A block device in memory, of any size and sparse: for tests, and for scratch space that may be lost.
 *
 * @module
 */
import { BLOCK_BYTES, type BlockDevice, type Extent } from "./block_device.ts";
import { VarveError } from "./errors.ts";
import { ExtentList } from "./extent_list.ts";

/** How a {@linkcode MemoryDevice} is made. */
export interface MemoryDeviceOptions {
  /** Every changing call throws `read-only`. Default `false`. */
  readonly readOnly?: boolean;
  /** The first bytes of the device; the rest reads as zeroes. Default: none. */
  readonly content?: Uint8Array;
}

/**
 * Keeps one buffer per written block of {@linkcode BLOCK_BYTES}; what was never written, or trimmed, or zeroed
 * as a whole block, is a hole and takes no memory. `flush` and `sync` resolve at once: there is nothing to wait for.
 */
export class MemoryDevice implements BlockDevice {
  readonly sizeBytes: number;
  readonly readOnly: boolean;
  readonly #blocks = new Map<number, Uint8Array>();

  /** Makes a device of `sizeBytes` bytes; throws `invalid` when that is not a whole number from 0 to 2^53 - 1. */
  constructor(sizeBytes: number, options: MemoryDeviceOptions = {}) {
    if (!Number.isSafeInteger(sizeBytes) || sizeBytes < 0) {
      throw new VarveError("invalid", `make a memory device: ${sizeBytes} is not a size in bytes`);
    }
    this.sizeBytes = sizeBytes;
    this.readOnly = options.readOnly ?? false;
    if (options.content !== undefined) {
      this.#checkRange("fill", 0, options.content.length);
      this.#store(0, options.content);
    }
  }

  /** Fills `target` from `offset`. */
  read(offset: number, target: Uint8Array): void {
    this.#checkRange("read", offset, target.length);
    for (let done = 0; done < target.length;) {
      const at = offset + done;
      const within = at % BLOCK_BYTES;
      const length = Math.min(BLOCK_BYTES - within, target.length - done);
      const block = this.#blocks.get((at - within) / BLOCK_BYTES);
      if (block === undefined) target.fill(0, done, done + length);
      else target.set(block.subarray(within, within + length), done);
      done += length;
    }
  }

  /** Copies `data` to `offset`. */
  write(offset: number, data: Uint8Array): void {
    this.#checkWritable("write", offset, data.length);
    this.#store(offset, data);
  }

  /** As {@linkcode zero}. */
  trim(offset: number, length: number): void {
    this.#checkWritable("trim", offset, length);
    this.#clear(offset, length);
  }

  /** Makes the range read as zeroes; whole blocks become holes. */
  zero(offset: number, length: number): void {
    this.#checkWritable("zero", offset, length);
    this.#clear(offset, length);
  }

  /** Does nothing: memory does not survive the process. */
  commit(): void {}

  /** Resolves at once. */
  flush(): Promise<void> {
    return Promise.resolve();
  }

  /** Resolves at once. */
  sync(): Promise<void> {
    return Promise.resolve();
  }

  /** Data and holes, in units of blocks cut to the range. */
  extents(offset: number, length: number, max?: number): Extent[] {
    this.#checkRange("extents", offset, length);
    const list = new ExtentList<Extent["kind"]>(offset, length, max);
    for (const index of this.#blocksWithin(offset, offset + length).sort((a, b) => a - b)) {
      list.add(index * BLOCK_BYTES, "hole");
      list.add((index + 1) * BLOCK_BYTES, "data");
      if (list.isDone) break;
    }
    list.add(offset + length, "hole");
    return list.extents;
  }

  #store(offset: number, data: Uint8Array): void {
    for (let done = 0; done < data.length;) {
      const at = offset + done;
      const within = at % BLOCK_BYTES;
      const length = Math.min(BLOCK_BYTES - within, data.length - done);
      const index = (at - within) / BLOCK_BYTES;
      let block = this.#blocks.get(index);
      if (block === undefined) this.#blocks.set(index, block = new Uint8Array(BLOCK_BYTES));
      block.set(data.subarray(done, done + length), within);
      done += length;
    }
  }

  #clear(offset: number, length: number): void {
    const end = offset + length;
    for (const index of this.#blocksWithin(offset, end)) {
      const start = index * BLOCK_BYTES;
      if (offset <= start && start + BLOCK_BYTES <= end) this.#blocks.delete(index);
      else this.#blocks.get(index)?.fill(0, Math.max(0, offset - start), Math.min(BLOCK_BYTES, end - start));
    }
  }

  /** Stored blocks that touch the range, in no order; never walks holes block by block when that is longer. */
  #blocksWithin(offset: number, end: number): number[] {
    if (offset === end) return [];
    const first = Math.floor(offset / BLOCK_BYTES);
    const last = Math.floor((end - 1) / BLOCK_BYTES);
    const found: number[] = [];
    if (last - first < this.#blocks.size) {
      for (let index = first; index <= last; index++) if (this.#blocks.has(index)) found.push(index);
    } else {
      for (const index of this.#blocks.keys()) if (first <= index && index <= last) found.push(index);
    }
    return found;
  }

  #checkWritable(tried: string, offset: number, length: number): void {
    if (this.readOnly) throw new VarveError("read-only", `${tried} a memory device: it is read-only`);
    this.#checkRange(tried, offset, length);
  }

  #checkRange(tried: string, offset: number, length: number): void {
    if (offset >= 0 && length >= 0 && length <= this.sizeBytes - offset) return;
    throw new VarveError(
      "out-of-range",
      `${tried} a memory device: ${length} bytes at ${offset} leave its ${this.sizeBytes} bytes`,
    );
  }
}

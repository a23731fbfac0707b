/**
 * Runs of bytes of a device, and a device that notes which of them were read.
 *
 * @module
 */
import { BLOCK_BYTES, type BlockDevice, type Extent } from "../base/block_device.ts";
import type { DeviceMoment, MomentDevice } from "../guestfs/moment_device.ts";

/** A run of bytes of a volume. */
export interface ByteRange {
  /** First byte. */
  readonly offset: number;
  /** Number of bytes. */
  readonly length: number;
}

/** Ranges noted before they are joined. */
const LOOSE_MAX = 8192;

/** A set of blocks of a volume, for many additions and few questions. */
export class BlockSet {
  #ranges: { offset: number; length: number }[] = [];
  #looseMax = LOOSE_MAX;

  /** Adds every block that has bytes of the range. */
  add(offset: number, length: number): void {
    const first = Math.floor(offset / BLOCK_BYTES) * BLOCK_BYTES;
    const end = Math.ceil((offset + length) / BLOCK_BYTES) * BLOCK_BYTES;
    const last = this.#ranges.at(-1);
    if (last !== undefined && first >= last.offset && first <= last.offset + last.length) {
      last.length = Math.max(last.length, end - last.offset);
      return;
    }
    if (this.#ranges.length >= this.#looseMax) {
      this.#ranges = joined(this.#ranges);
      this.#looseMax = LOOSE_MAX + 2 * this.#ranges.length;
    }
    this.#ranges.push({ offset: first, length: end - first });
  }

  /** Forgets everything. */
  clear(): void {
    this.#ranges = [];
    this.#looseMax = LOOSE_MAX;
  }

  /** The blocks as sorted ranges with space between them. */
  ranges(): ByteRange[] {
    return joined(this.#ranges);
  }
}

/** Ranges sorted, and joined where they meet. */
export function joined(ranges: readonly ByteRange[]): { offset: number; length: number }[] {
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
export class NotingDevice implements MomentDevice {
  readonly sizeBytes: number;
  readonly readOnly = true;
  /** Blocks that were read. */
  readonly noted: BlockSet = new BlockSet();
  readonly moment: DeviceMoment | undefined;
  readonly #device: BlockDevice;

  /** Reads from `device`, which shows a `moment` when that is known. */
  constructor(device: BlockDevice, moment?: Omit<DeviceMoment, "relyOn" | "scope">) {
    this.#device = device;
    if (moment !== undefined) {
      const relyOn = (offset: number, length: number) => this.noted.add(offset, length);
      this.moment = {
        seq: moment.seq,
        notes: moment.notes,
        scope: "",
        newestChange: (offset, length) => moment.newestChange(offset, length),
        relyOn,
      };
    }
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

/**
 * A partition as a block device: a read-only window on another device.
 *
 * @module
 */
import type { BlockDevice, Extent } from "../base/block_device.ts";
import { VarveError } from "../base/errors.ts";
import { type DeviceMoment, type MomentDevice, momentOf } from "./moment_device.ts";

/** A read-only window of a device: offset 0 is `offset` of the parent. Every changing call throws `read-only`. */
export class SubDevice implements MomentDevice {
  /** Length of the window in bytes. */
  readonly sizeBytes: number;
  /** Always true. */
  readonly readOnly = true;
  readonly #parent: BlockDevice;
  readonly #offset: number;

  /** Opens a window; throws `out-of-range` when it does not lie within the parent. */
  constructor(parent: BlockDevice, offset: number, length: number) {
    if (!(offset >= 0 && length >= 0 && offset + length <= parent.sizeBytes)) {
      throw new VarveError(
        "out-of-range",
        `opening ${length} bytes at ${offset}: the device has ${parent.sizeBytes} bytes`,
      );
    }
    this.#parent = parent;
    this.#offset = offset;
    this.sizeBytes = length;
  }

  /** The parent's moment, with offsets of the window. */
  get moment(): DeviceMoment | undefined {
    const moment = momentOf(this.#parent);
    if (moment === undefined) return undefined;
    return {
      seq: moment.seq,
      notes: moment.notes,
      scope: `${moment.scope}${this.#offset}+${this.sizeBytes} `,
      newestChange: (offset, length) => moment.newestChange(this.#offset + offset, length),
      relyOn: (offset, length) => moment.relyOn(this.#offset + offset, length),
    };
  }

  /** Fills `target` from `offset` of the window. */
  read(offset: number, target: Uint8Array): void {
    this.#check(offset, target.length);
    this.#parent.read(this.#offset + offset, target);
  }

  /** Throws `read-only`. */
  write(): void {
    throw readOnlyError();
  }

  /** Throws `read-only`. */
  trim(): void {
    throw readOnlyError();
  }

  /** Throws `read-only`. */
  zero(): void {
    throw readOnlyError();
  }

  /** Does nothing: there is nothing to commit. */
  commit(): void {}

  /** Resolves at once: there is nothing to flush. */
  flush(): Promise<void> {
    return Promise.resolve();
  }

  /** Resolves at once: there is nothing to sync. */
  sync(): Promise<void> {
    return Promise.resolve();
  }

  /** The parent's data and holes within the window, with offsets of the window. */
  extents(offset: number, length: number, max?: number): Extent[] {
    this.#check(offset, length);
    return this.#parent.extents(this.#offset + offset, length, max)
      .map((extent) => ({ ...extent, offset: extent.offset - this.#offset }));
  }

  #check(offset: number, length: number): void {
    if (!(offset >= 0 && length >= 0 && offset + length <= this.sizeBytes)) {
      throw new VarveError(
        "out-of-range",
        `reading ${length} bytes at ${offset}: the partition has ${this.sizeBytes} bytes`,
      );
    }
  }
}

function readOnlyError(): VarveError {
  return new VarveError("read-only", "changing a partition of a view: partitions are only read");
}

/**
 * Devices that show one moment of many, and what readers may remember from one moment to another.
 *
 * Whoever looks for the versions of a file opens the same file system at hundreds of moments that differ little. A reader that knows
 * which bytes are as they were need not read and prove them again.
 *
 * @module
 */
import type { BlockDevice } from "../base/block_device.ts";

/** The moment that a device shows. */
export interface DeviceMoment {
  /** Its number; later moments of the device have larger ones. */
  readonly seq: number;
  /** Keys of `notes` are to begin with this: it tells apart the parts of one disk. */
  readonly scope: string;
  /** What readers remember for all moments of the device; each bounds what it keeps. */
  readonly notes: Map<string, unknown>;
  /** The moment, not later than this, at which any byte of a range was changed last; 0 when none ever was. */
  newestChange(offset: number, length: number): number;
  /** To be told of every range that was not read because it was remembered. */
  relyOn(offset: number, length: number): void;
}

/** A device that knows which moment it shows. */
export interface MomentDevice extends BlockDevice {
  /** The moment; `undefined` when it lies on a device that does not know it. */
  readonly moment: DeviceMoment | undefined;
}

/** The moment that a device shows, when it knows it. */
export function momentOf(device: BlockDevice): DeviceMoment | undefined {
  return "moment" in device ? (device as MomentDevice).moment : undefined;
}

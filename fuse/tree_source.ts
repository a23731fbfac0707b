/**
 * Where the mounted tree gets history from. In the serving thread it asks the engine's thread; tests give it
 * doubles.
 *
 * @module
 */
import type { BlockDevice } from "../src/base/block_device.ts";
import type { Moment, PointInfo, VolumeInfo } from "../src/engine.ts";

/** What is listed at the top of the tree. */
export interface TreeVolume {
  /** Name, unique within the appliance at any one time. */
  name: string;
  /** Size in bytes. */
  sizeBytes: number;
  /** RFC 3339; together with the name it tells a volume from an earlier one of that name. */
  createdAt: string;
}

/** A view of the past that is open. */
export interface OpenView {
  /** The disk as it was. */
  readonly device: BlockDevice;
  /** Gives back what the view holds; the device is not used afterwards. */
  close(): void;
}

/** History, as the tree shows it. Every method rejects with `VarveError`. */
export interface TreeSource {
  /** Every volume. */
  listVolumes(): Promise<TreeVolume[]>;
  /** What `points/` lists (marks, tiers and the start of history), oldest first. */
  listPoints(volume: string): Promise<PointInfo[]>;
  /** Finds the moment that an expression of the time grammar names. */
  resolve(volume: string, expression: string): Promise<Moment>;
  /** What is known of a volume, for its `README`. */
  describe(volume: string): Promise<VolumeInfo>;
  /** Opens the past at a sequence, in this thread. */
  open(volume: string, seq: number): Promise<OpenView>;
}

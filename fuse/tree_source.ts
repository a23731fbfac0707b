/**
 * Where the mounted tree gets history from. In the serving thread it asks the engine's thread; tests give it
 * doubles.
 *
 * @module
 */
import type { Awaitable } from "../src/base/awaitable.ts";
import type { BlockDevice } from "../src/base/block_device.ts";
import type { PastDisk } from "../src/browse/past_file_system.ts";
import type { DeletedFiles, FileVersionList, Moment, PointInfo, VolumeInfo } from "../src/engine.ts";

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
  /**
   * What the disk holds. One that can't be understood is one partition with the reason; rejects when storage fails, or when the
   * disk keeps its reader busy for too long.
   */
  disk(): Awaitable<PastDisk>;
  /** Gives back what the view holds; the device is not used afterwards. */
  close(): void;
}

/** History, as the tree shows it. Every method rejects with `VarveError`. */
export interface TreeSource {
  /** Every volume. */
  listVolumes(): Promise<TreeVolume[]>;
  /** What `points/` lists (marks, tiers and the start of history), oldest first. Goes over all moments. */
  listPoints(volume: string): Promise<PointInfo[]>;
  /** Marks, and the start of history, within a millisecond that is given in RFC 3339; oldest first. Takes a look-up. */
  listMarksOf(volume: string, millisecond: string): Promise<PointInfo[]>;
  /** Finds the moment that an expression of the time grammar names. */
  resolve(volume: string, expression: string): Promise<Moment>;
  /** What is known of a volume, for its `README`. */
  describe(volume: string): Promise<VolumeInfo>;
  /** Every version of a file, by its path. */
  versions(volume: string, path: string): Promise<FileVersionList>;
  /** What a folder held before a moment and does not hold at it. */
  deleted(volume: string, seq: number, path: string): Promise<DeletedFiles>;
  /** Opens the past at a sequence. */
  open(volume: string, seq: number): Promise<OpenView>;
}

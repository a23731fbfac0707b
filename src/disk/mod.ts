/**
 * How bytes reach storage.
 *
 * @module
 */
export { makeDurableDirectory } from "./directories.ts";
export type { Disk, DiskFile, DiskLock, DiskOpenOptions, DiskSpace, DiskStat } from "./disk.ts";
export { FileDisk } from "./file_disk.ts";
export { lowerPriority } from "./libc.ts";
export { MemoryDisk } from "./memory_disk.ts";
export { SimulatedDisk, type SimulatedDiskOptions, type SyncTruth } from "./simulated_disk.ts";
export {
  SPACE_STATES,
  type SpaceGuard,
  SpaceKeeper,
  type SpaceKeeperOptions,
  type SpaceLimits,
  spaceLimits,
  type SpaceState,
  type SpaceStatus,
} from "./space_keeper.ts";

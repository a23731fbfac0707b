/**
 * How bytes reach storage.
 *
 * @module
 */
export type { Disk, DiskFile, DiskOpenOptions, DiskStat } from "./disk.ts";
export { FileDisk } from "./file_disk.ts";
export { MemoryDisk } from "./memory_disk.ts";

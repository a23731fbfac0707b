/**
 * Varve: block-level continuous data protection. Hosts write to volumes over NBD, every write is kept, and a volume at
 * any retained moment can be read as a block device, browsed as files, or recovered to a new disk.
 *
 * This module is the engine without its command line, HTTP API and mounted tree: {@linkcode openAppliance} opens a data
 * folder, {@linkcode NbdServer} serves its volumes and their past, {@linkcode openGuestDisk} reads the files on any
 * {@linkcode BlockDevice}. Failures are {@linkcode VarveError}s. It needs Linux and all of Deno's permissions.
 *
 * ```ts ignore
 * import { NbdServer, openAppliance } from "@varve/varve";
 *
 * const appliance = await openAppliance({ dataPath: await Deno.makeTempDir() });
 * const server = new NbdServer({ exports: appliance.nbdExports });
 * await server.listen("127.0.0.1:0");
 *
 * const operator = { name: "example" };
 * await appliance.createVolume({ name: "db", sizeBytes: 2 ** 30 }, operator);
 * await appliance.createMark("db", { name: "empty", pinned: true }, operator);
 * const moment = await appliance.resolve("db", "mark:empty");
 * console.assert(moment.seq === 1); // The export db@mark:empty shows this moment.
 *
 * await server.close();
 * await appliance.close();
 * ```
 *
 * - The appliance: {@linkcode openAppliance}, {@linkcode Appliance}, and {@linkcode Engine} with its types.
 * - Block devices: {@linkcode BlockDevice}, {@linkcode SubDevice}.
 * - NBD: {@linkcode NbdServer}, {@linkcode ExportProvider}.
 * - Guest file systems: {@linkcode openGuestDisk}, {@linkcode GuestFileSystem}.
 * - Errors, sizes, durations, times: {@linkcode VarveError}, {@linkcode parseSize}, {@linkcode parseDuration},
 *   {@linkcode parseRfc3339}.
 *
 * @module
 */
export {
  type Appliance,
  type ApplianceOptions,
  openAppliance,
  type Surroundings,
  VERSION,
} from "./src/appliance.ts";
export type * from "./src/engine.ts";
export type { CompressionSettings } from "./src/background.ts";
export type { Pace } from "./src/volume/pacer.ts";
export type { ScrubSchedule } from "./src/scrubs.ts";
export type {
  Disk,
  DiskFile,
  DiskLock,
  DiskOpenOptions,
  DiskSpace,
  DiskStat,
  SpaceLimits,
} from "./src/disk/mod.ts";
export type { RandomSource } from "./src/base/random.ts";
export type { Scheduler, Timer } from "./src/base/turns.ts";
export type { PastPlace } from "./src/timeline/past.ts";
export { BLOCK_BYTES, type BlockDevice, type CommandOptions, type Extent } from "./src/base/block_device.ts";
export { type Clock, systemClock } from "./src/base/clock.ts";
export {
  ERROR_CODES,
  type ErrorCode,
  VarveError,
  type VarveErrorMessage,
  type VarveErrorOptions,
} from "./src/base/errors.ts";
export { formatTime, parseRfc3339 } from "./src/base/time.ts";
export { formatDuration, formatSize, parseDuration, parseSize } from "./src/base/units.ts";
export * from "./src/nbd/mod.ts";
export * from "./src/guestfs/mod.ts";

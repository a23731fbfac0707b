/**
 * Varve: block-level continuous data protection. Hosts write to volumes over NBD, every write is kept, and the volume
 * at any retained moment can be read as a block device, browsed as files, or recovered to a new disk.
 *
 * This module is the engine without its command line, HTTP API and mounted tree: {@linkcode openAppliance} opens a
 * data folder, {@linkcode NbdServer} serves its volumes and their past, {@linkcode openGuestDisk} reads the files on
 * any block device. It runs as root or as the owner of the data folder, on Linux, with all permissions.
 *
 * ```ts no-eval
 * import { NbdServer, openAppliance } from "@varve/varve";
 *
 * const appliance = await openAppliance({ dataPath: "/srv/varve" });
 * const server = new NbdServer({ exports: appliance.nbdExports });
 * await server.listen("unix:/run/varve/nbd.sock");
 *
 * const operator = { name: "example" };
 * await appliance.createVolume({ name: "db", sizeBytes: 2 ** 30 }, operator);
 * await appliance.createMark("db", { name: "empty", pinned: true }, operator);
 * console.log(await appliance.resolve("db", "mark:empty"));
 *
 * await server.close();
 * await appliance.close();
 * ```
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
export {
  ERROR_CODES,
  type ErrorCode,
  VarveError,
  type VarveErrorMessage,
  type VarveErrorOptions,
} from "./src/base/errors.ts";
export { BLOCK_BYTES, type BlockDevice, type CommandOptions, type Extent } from "./src/base/block_device.ts";
export { MemoryDevice } from "./src/base/memory_device.ts";
export { type Clock, systemClock } from "./src/base/clock.ts";
export { formatTime, parseRfc3339 } from "./src/base/time.ts";
export { formatDuration, formatSize, parseDuration, parseSize } from "./src/base/units.ts";
export * from "./src/nbd/mod.ts";
export * from "./src/guestfs/mod.ts";
export type { PastPlace } from "./src/timeline/past.ts";
export { openPastView } from "./src/timeline/past.ts";

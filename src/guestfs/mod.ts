/**
 * Reads what guests keep on their disks: partition tables, and ext2, ext3 and ext4 file systems, over any
 * {@linkcode BlockDevice}, without a kernel's help and without writing a byte.
 *
 * ```ts ignore
 * const disk = openGuestDisk(view);
 * for (const { name, fileSystem, reason } of disk.partitions) {
 *   if (fileSystem === undefined) report(name, reason);
 *   else list(fileSystem, fileSystem.root);
 * }
 * ```
 *
 * @module
 */
export { readRuns, seekContent } from "./content.ts";
export * from "./guest.ts";
export { openGuestDisk } from "./guest_disk.ts";
export { SubDevice } from "./sub_device.ts";

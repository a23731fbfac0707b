/**
 * Reads what guests keep on their disks: MBR and GPT, logical volumes of LVM2, mirrors of md; ext2, ext3 and ext4, XFS and btrfs with
 * their logs replayed, NTFS, FAT, exFAT, ISO 9660 and SquashFS. Over any {@linkcode BlockDevice}, without a kernel's help and without
 * writing a byte.
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
export type { DeviceMoment, MomentDevice } from "./moment_device.ts";
export { SubDevice } from "./sub_device.ts";

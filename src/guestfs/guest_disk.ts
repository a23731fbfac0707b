/**
 * Puts partition tables and file-system readers together.
 *
 * @module
 */
import type { BlockDevice } from "../base/block_device.ts";
import { VarveError } from "../base/errors.ts";
import { BTRFS_READER } from "./btrfs/btrfs_reader.ts";
import { describeContent, findSignature } from "./detect.ts";
import { EXT_READER } from "./ext/ext_reader.ts";
import type { GuestDisk, GuestFileSystem, GuestPartition, GuestReader, OpenGuestDisk } from "./guest.ts";
import { NTFS_READER } from "./ntfs/ntfs_reader.ts";
import { type PartitionEntry, readPartitionTable } from "./partition_table.ts";
import { SubDevice } from "./sub_device.ts";
import { XFS_READER } from "./xfs/xfs_reader.ts";

/** Asked in this order. */
const READERS: readonly GuestReader[] = [
  EXT_READER,
  NTFS_READER,
  XFS_READER,
  BTRFS_READER,
];

/**
 * Finds out what a device holds. A file system that cannot be opened becomes the `reason` of its partition, so
 * that one damaged partition does not hide the others; where
 * the partition table itself is damaged or unreadable, the whole device is one partition with that reason.
 */
export const openGuestDisk: OpenGuestDisk = (device: BlockDevice): GuestDisk => {
  const whole: PartitionEntry = { name: "", offset: 0, length: device.sizeBytes };
  const found = attempt(() => readPartitionTable(device));
  if (typeof found === "string") {
    const partition = openPartition(device, whole);
    const reason = partition.fileSystem === undefined ? { reason: found } : {};
    return { table: "none", partitions: [{ ...partition, ...reason }] };
  }
  if (found !== undefined && (found.table === "gpt" || found.entries.length > 0)) {
    const { table, entries } = found;
    return { table, partitions: entries.map((entry) => openPartition(device, entry)) };
  }
  const partition = openPartition(device, whole);
  const empty = found !== undefined && partition.fileSystem === undefined &&
    !READERS.some((reader) => reader.looksLike(device)) && findSignature(device) === undefined;
  return empty ? { table: found.table, partitions: [] } : { table: "none", partitions: [partition] };
};

function openPartition(device: BlockDevice, { name, offset, length }: PartitionEntry): GuestPartition {
  const where = { name, pieces: [{ offset, length }] };
  if (offset + length > device.sizeBytes) {
    return { ...where, fileSystem: undefined, reason: "the partition reaches beyond the end of the disk" };
  }
  const opened = attempt(() => openFileSystem(new SubDevice(device, offset, length)));
  return typeof opened === "string"
    ? { ...where, fileSystem: undefined, reason: opened }
    : { ...where, fileSystem: opened, reason: undefined };
}

/** The file system on a device, or why there is none. */
function openFileSystem(device: SubDevice): GuestFileSystem | string {
  const reader = READERS.find((each) => each.looksLike(device));
  if (reader === undefined) return describeContent(device);
  const opened = attempt(() => reader.open(device));
  return typeof opened === "string" ? `it holds ${reader.what}, which cannot be opened: ${opened}` : opened;
}

/** The result, or the message of the damage, the missing feature or the failed read that prevented it. */
function attempt<Result>(work: () => Result): Result | string {
  try {
    return work();
  } catch (thrown) {
    if (thrown instanceof VarveError) return thrown.message;
    throw thrown;
  }
}

/**
 * Puts partition tables and file-system readers together.
 *
 * @module
 */
import type { BlockDevice } from "../base/block_device.ts";
import { type ErrorCode, VarveError } from "../base/errors.ts";
import { BTRFS_READER } from "./btrfs/btrfs_reader.ts";
import { describeContent, describeMember, findSignature } from "./detect.ts";
import { EXFAT_READER } from "./exfat/exfat_reader.ts";
import { EXT_READER } from "./ext/ext_reader.ts";
import { FAT_READER } from "./fat/fat_reader.ts";
import type { GuestDisk, GuestFileSystem, GuestPartition, GuestReader, OpenGuestDisk } from "./guest.ts";
import { ISO_READER } from "./iso9660/iso_reader.ts";
import { findLogicalVolumes } from "./lvm/logical_volumes.ts";
import { findRaidMember } from "./md_raid.ts";
import { NTFS_READER } from "./ntfs/ntfs_reader.ts";
import { type PartitionEntry, readPartitionTable } from "./partition_table.ts";
import { openPieces } from "./piece_device.ts";
import { SQUASHFS_READER } from "./squashfs/squashfs_reader.ts";
import { XFS_READER } from "./xfs/xfs_reader.ts";

/** Asked in this order. */
const READERS: readonly GuestReader[] = [
  EXT_READER,
  NTFS_READER,
  XFS_READER,
  BTRFS_READER,
  SQUASHFS_READER,
  ISO_READER,
  EXFAT_READER,
  FAT_READER,
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
    const partitions = openPartition(device, whole);
    const [first, ...others] = partitions;
    const told = first !== undefined && others.length === 0 && first.fileSystem === undefined;
    return { table: "none", partitions: told ? [{ ...first, reason: found }] : partitions };
  }
  if (found !== undefined && (found.table === "gpt" || found.entries.length > 0)) {
    const { table, entries } = found;
    return { table, partitions: entries.flatMap((entry) => openPartition(device, entry)) };
  }
  const partitions = openPartition(device, whole);
  const empty = found !== undefined &&
    partitions.every(({ name, fileSystem }) => name === "" && fileSystem === undefined) &&
    !READERS.some((reader) => reader.looksLike(device)) && findSignature(device) === undefined;
  return empty ? { table: found.table, partitions: [] } : { table: "none", partitions };
};

/** A place on the disk that has a name. */
type Place = Pick<GuestPartition, "name" | "pieces">;

function openPartition(disk: BlockDevice, { name, offset, length }: PartitionEntry): GuestPartition[] {
  const place = { name, pieces: [{ offset, length }] };
  if (offset + length > disk.sizeBytes) {
    return [without(place, "the partition reaches beyond the end of the disk")];
  }
  const member = attempt(() => findRaidMember(openPieces(disk, place.pieces)));
  if (typeof member !== "object") return openVolumes(disk, name, offset, length);
  if (member.data === undefined) return [without(place, describeMember(member.what))];
  return openVolumes(disk, name, offset + member.data.offset, member.data.length);
}

/** The logical volumes in a place, or its file system: what lies in a logical volume is not looked into any further. */
function openVolumes(disk: BlockDevice, name: string, offset: number, length: number): GuestPartition[] {
  const place = { name, pieces: [{ offset, length }] };
  const volumes = attempt(() => findLogicalVolumes(openPieces(disk, place.pieces)));
  if (volumes === undefined) return [openPlace(disk, place)];
  if (typeof volumes === "string") {
    return [without(place, `it holds an LVM2 physical volume, which cannot be opened: ${volumes}`)];
  }
  return volumes.map((volume) => {
    const names = [name, volume.name].filter((each) => each !== "");
    const pieces = volume.pieces.map((piece) => ({ offset: offset + piece.offset, length: piece.length }));
    const inside = { name: names.join("/"), pieces };
    return volume.reason === undefined ? openPlace(disk, inside) : without(inside, volume.reason);
  });
}

function openPlace(disk: BlockDevice, place: Place): GuestPartition {
  const refused: Refused = {};
  const opened = attempt(() => openFileSystem(openPieces(disk, place.pieces), refused), refused);
  return typeof opened === "string"
    ? { ...without(place, opened), ...refused }
    : { ...place, fileSystem: opened, reason: undefined };
}

function without(place: Place, reason: string): GuestPartition {
  return { ...place, fileSystem: undefined, reason };
}

/** Where {@linkcode attempt} puts the code of the error that it caught. */
interface Refused {
  refusal?: ErrorCode;
}

/** The file system on a device, or why there is none. */
function openFileSystem(device: BlockDevice, refused: Refused): GuestFileSystem | string {
  const reader = READERS.find((each) => each.looksLike(device));
  if (reader === undefined) return describeContent(device);
  const opened = attempt(() => reader.open(device), refused);
  return typeof opened === "string" ? `it holds ${reader.what}, which cannot be opened: ${opened}` : opened;
}

/** The result, or the message of the damage, the missing feature or the failed read that prevented it. */
function attempt<Result>(work: () => Result, refused: Refused = {}): Result | string {
  try {
    return work();
  } catch (thrown) {
    if (!(thrown instanceof VarveError)) throw thrown;
    refused.refusal = thrown.code;
    return thrown.message;
  }
}

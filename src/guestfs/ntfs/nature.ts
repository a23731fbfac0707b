/**
 * What a file of NTFS is in the eyes of Linux: reparse points and special files.
 *
 * Source of the knowledge: Microsoft's [MS-FSCC] 2.1.2 for reparse points; what ntfs-3g and the Windows Subsystem for Linux write.
 *
 * @module
 */
import { VarveError } from "../../base/errors.ts";
import { damaged, latin1, slice, u16, u32, u8 } from "../_bytes.ts";
import type { GuestFileType } from "../guest.ts";
import { ATTRIBUTE, FILE_FLAG } from "./format.ts";
import type { NtfsInode } from "./inode.ts";
import { translateTarget } from "./link_target.ts";
import { encodeName, readUtf16 } from "./names.ts";
import type { NtfsVolume } from "./volume.ts";

/** Reparse points hold at most 16 KiB behind their header. */
const REPARSE_BYTES_MAX = 16 * 1024 + 24;
const EA_BYTES_MAX = 65_536;
/** Interix writes links and devices as small files: a magic, and a path of at most 4096 characters. */
const INTERIX_BYTES_MAX = 8 + 2 * 4096;
const INTERIX_DEVICE_BYTES = 24;

const TAG = {
  mountPoint: 0xa0000003,
  symlink: 0xa000000c,
  lxSymlink: 0xa000001d,
  socket: 0x80000023,
  fifo: 0x80000024,
  character: 0x80000025,
  block: 0x80000026,
  compressed: 0x80000017,
  deduplicated: 0x80000013,
} as const;

/** OneDrive and its like take 16 numbers, which differ in these bits alone. */
const CLOUD_TAG = 0x9000001a;
const CLOUD_VARIANT_BITS = 0xf000;

/** What a file is. */
export interface Nature {
  readonly type: GuestFileType;
  /** Target of a symbolic link. */
  readonly target?: Uint8Array;
  /** Device number of a device, else 0. */
  readonly rdev: number;
  /** Why the content of the file is not what its data are, or absent. */
  readonly refusal?: string;
}

/** Finds out what a file is. Throws `damaged` when that cannot be told. */
export function natureOf(volume: NtfsVolume, inode: NtfsInode): Nature {
  if ((inode.flags & FILE_FLAG.reparsePoint) !== 0) return reparseNature(volume, inode);
  if (inode.record.directory) return { type: "directory", rdev: 0 };
  return (inode.flags & FILE_FLAG.system) === 0 ? { type: "file", rdev: 0 } : interixNature(volume, inode);
}

function reparseNature(volume: NtfsVolume, inode: NtfsInode): Nature {
  const bytes = inode.needStream(ATTRIBUTE.reparsePoint).readAll(volume.metadata, REPARSE_BYTES_MAX);
  const tag = u32(bytes, 0);
  switch (tag) {
    case TAG.mountPoint:
      return link(inode, encodeName(translateTarget(volume, inode, substituteName(bytes, 0x10))));
    case TAG.symlink:
      return link(inode, encodeName(translateTarget(volume, inode, substituteName(bytes, 0x14))));
    case TAG.lxSymlink:
      return link(inode, slice(bytes, 12, 8 + u16(bytes, 4)).slice());
    case TAG.socket:
      return { type: "socket", rdev: 0 };
    case TAG.fifo:
      return { type: "fifo", rdev: 0 };
    case TAG.character:
      return { type: "character", rdev: wslDevice(volume, inode) };
    case TAG.block:
      return { type: "block", rdev: wslDevice(volume, inode) };
  }
  const type = inode.record.directory ? "directory" : "file";
  const refusal = refusalOf(tag, inode.flags);
  return refusal === undefined ? { type, rdev: 0 } : { type, rdev: 0, refusal };
}

/** Why the content of a file with another reparse point cannot be told. */
function refusalOf(tag: number, flags: number): string | undefined {
  if (tag === TAG.compressed) return "Windows compressed it with CompactOS (WOF)";
  if (tag === TAG.deduplicated) return "Windows keeps its content in the store of data deduplication";
  const cloud = (tag & ~CLOUD_VARIANT_BITS) >>> 0 === CLOUD_TAG;
  if (cloud && (flags & (FILE_FLAG.offline | FILE_FLAG.recallOnDataAccess)) === 0) return undefined;
  if (cloud) return "its content was in the cloud, not on this disk";
  return `another program keeps its content (reparse tag 0x${tag.toString(16)})`;
}

/** The name that Windows follows; the offsets count from `path` on. */
function substituteName(bytes: Uint8Array, path: number): string {
  return readUtf16(bytes, path + u16(bytes, 8), u16(bytes, 10) >> 1);
}

function link(inode: NtfsInode, target: Uint8Array): Nature {
  if (target.length === 0 || target.includes(0)) {
    throw damaged(`reading the target of file ${inode.number}`, "it is no path");
  }
  return { type: "symlink", target, rdev: 0 };
}

/** `makedev` of Linux. */
function makeDevice(major: number, minor: number): number {
  return (minor & 0xff) + (major & 0xfff) * 2 ** 8 + (minor >>> 8 & 0xfff) * 2 ** 20;
}

/** WSL keeps the number of a device in an extended attribute: entries of next u32, flags u8, name length u8, value length u16. */
function wslDevice(volume: NtfsVolume, inode: NtfsInode): number {
  const bytes = inode.needStream(ATTRIBUTE.extendedAttributes).readAll(volume.metadata, EA_BYTES_MAX);
  for (let at = 0;;) {
    const next = u32(bytes, at);
    const nameBytes = u8(bytes, at + 5);
    if (latin1(slice(bytes, at + 8, at + 8 + nameBytes)) === "$LXDEV" && u16(bytes, at + 6) >= 8) {
      const value = at + 8 + nameBytes + 1;
      return makeDevice(u32(bytes, value), u32(bytes, value + 4));
    }
    if (next === 0) throw damaged(`reading file ${inode.number}`, "it is a device without a number");
    at += next;
  }
}

/** Special files of Interix have the flag of system files: a pipe is empty, a socket has one byte, the others begin with a magic. */
function interixNature(volume: NtfsVolume, inode: NtfsInode): Nature {
  const stream = inode.stream(ATTRIBUTE.data);
  const sizeBytes = stream?.sizeBytes ?? 0;
  if ((inode.flags & FILE_FLAG.hidden) === 0) {
    if (sizeBytes === 0) return { type: "fifo", rdev: 0 };
    if (sizeBytes === 1) return { type: "socket", rdev: 0 };
  }
  const plain: Nature = { type: "file", rdev: 0 };
  if (stream === undefined || sizeBytes <= 8 || sizeBytes > INTERIX_BYTES_MAX) return plain;
  const bytes = readOrNothing(() => stream.readAll(volume.metadata, INTERIX_BYTES_MAX));
  const magic = latin1(bytes.subarray(0, 8));
  if (magic === "IntxLNK\x01") return link(inode, encodeName(readUtf16(bytes, 8, (sizeBytes - 8) >> 1)));
  if (sizeBytes !== INTERIX_DEVICE_BYTES || (magic !== "IntxCHR\0" && magic !== "IntxBLK\0")) return plain;
  return {
    type: magic === "IntxCHR\0" ? "character" : "block",
    rdev: makeDevice(u32(bytes, 8), u32(bytes, 16)),
  };
}

/** Content that cannot be read, as of an encrypted file, makes no special file. */
function readOrNothing(read: () => Uint8Array): Uint8Array {
  try {
    return read();
  } catch (thrown) {
    if (thrown instanceof VarveError && thrown.code === "unsupported") return new Uint8Array();
    throw thrown;
  }
}

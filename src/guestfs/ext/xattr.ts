/**
 * Extended attributes: those in the inode, then those in its block; large values lie in inodes of their own.
 *
 * @module
 */
import { VarveError } from "../../base/errors.ts";
import { damaged, u32 } from "../_bytes.ts";
import type { GuestXattr } from "../guest.ts";
import { aclToLinux } from "./acl.ts";
import { crc32c, crc32cNumber } from "./crc32c.ts";
import { readContent } from "./file_content.ts";
import { INODE, INODE_FLAG, XATTR_BLOCK_CHECKSUM, XATTR_BLOCK_HEADER_BYTES, XATTR_MAGIC } from "./format.ts";
import type { Inode } from "./inode.ts";
import type { ExtVolume } from "./volume.ts";
import { inodeXattrEntries, parseXattrEntries, type XattrEntry } from "./xattr_entries.ts";

/** Bytes that all attributes of one inode may take together. */
const TOTAL_BYTES_MAX = 16 * 1024 * 1024;

const NO_CHECKSUM = new Uint8Array(4);

const PREFIX_ACL_ACCESS = 2;
const PREFIX_ACL_DEFAULT = 3;
/** What Linux shows; other prefixes (inline data, encryption contexts) are the file system's own business. */
const PREFIXES: ReadonlyMap<number, string> = new Map([
  [1, "user."],
  [PREFIX_ACL_ACCESS, "system.posix_acl_access"],
  [PREFIX_ACL_DEFAULT, "system.posix_acl_default"],
  [4, "trusted."],
  [6, "security."],
]);

/** All attributes of an inode that Linux would show to root. */
export function readXattrs(volume: ExtVolume, inode: Inode): GuestXattr[] {
  const entries = [...inodeXattrEntries(inode), ...blockEntries(volume, inode)];
  const shown: GuestXattr[] = [];
  let total = 0;
  for (const entry of entries) {
    const prefix = PREFIXES.get(entry.prefix);
    if (prefix === undefined) continue;
    total += entry.valueBytes;
    if (total > TOTAL_BYTES_MAX) {
      throw new VarveError("unsupported", `reading the attributes of inode ${inode.number}: over 16 MiB`);
    }
    const value = entry.value?.slice() ?? valueOfInode(volume, inode, entry);
    const acl = entry.prefix === PREFIX_ACL_ACCESS || entry.prefix === PREFIX_ACL_DEFAULT;
    shown.push({ name: fullName(prefix, entry.name), value: acl ? aclToLinux(value) : value });
  }
  return shown;
}

function fullName(prefix: string, rest: Uint8Array): Uint8Array {
  const name = new Uint8Array(prefix.length + rest.length);
  new TextEncoder().encodeInto(prefix, name);
  name.set(rest, prefix.length);
  return name;
}

function blockEntries(volume: ExtVolume, inode: Inode): XattrEntry[] {
  const { xattrBlock } = inode;
  if (xattrBlock === 0) return [];
  const fail = (found: string) => damaged(`reading the attribute block of inode ${inode.number}`, found);
  const bytes = volume.blocks.block(xattrBlock);
  if (u32(bytes, 0) !== XATTR_MAGIC || u32(bytes, 8) !== 1) throw fail("its header is wrong");
  const { checksums, checksumSeed } = volume.superblock;
  if (checksums) {
    const place = crc32cNumber(crc32cNumber(checksumSeed, xattrBlock), Math.floor(xattrBlock / 2 ** 32));
    const sum = crc32c(crc32c(place, bytes, 0, XATTR_BLOCK_CHECKSUM), NO_CHECKSUM);
    if (crc32c(sum, bytes, XATTR_BLOCK_CHECKSUM + 4) !== u32(bytes, XATTR_BLOCK_CHECKSUM)) {
      throw fail("its checksum does not match");
    }
  }
  return parseXattrEntries(bytes, XATTR_BLOCK_HEADER_BYTES, inode.number);
}

/** Reads a large value and proves it by the hash that its inode keeps in place of the access time. */
function valueOfInode(volume: ExtVolume, owner: Inode, entry: XattrEntry): Uint8Array {
  const holder = volume.inodes.getAny(entry.valueInode);
  if ((holder.flags & INODE_FLAG.eaInode) === 0 || holder.sizeBytes !== entry.valueBytes) {
    throw damaged(
      `reading an attribute of inode ${owner.number}`,
      `inode ${entry.valueInode} does not hold its value`,
    );
  }
  const value = new Uint8Array(entry.valueBytes);
  readContent(volume, holder, 0, value);
  // An older form of these inodes has a time there, and names its one owner by time of change and generation.
  const older = u32(holder.raw, INODE.modified) === owner.number &&
    u32(holder.raw, INODE.generation) === u32(owner.raw, INODE.generation);
  if (!older && crc32c(volume.superblock.checksumSeed, value) !== u32(holder.raw, INODE.accessed)) {
    throw damaged(`reading an attribute of inode ${owner.number}`, "the hash of its value does not match");
  }
  return value;
}

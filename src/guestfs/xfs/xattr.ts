/**
 * Extended attributes: in the inode, in one leaf, or in leaves below nodes; large values in blocks of their own.
 *
 * ```text
 * in the inode  u16 bytes, u8 count, u8 0; an attribute: u8 name length, u8 value length, u8 flags, name, value
 * leaf          header, then u32 hash, u16 place, u8 flags, u8 0 for each; at its place:
 *   local       u16 value length, u8 name length, name, value
 *   remote      u32 block of the value, u32 value length, u8 name length, name
 * ```
 *
 * @module
 */
import { VarveError } from "../../base/errors.ts";
import { damaged, latin1, slice, u16be, u32be, u8 } from "../_bytes.ts";
import type { GuestXattr } from "../guest.ts";
import { ACL_NAMES, aclToLinux } from "./acl.ts";
import { type DirectoryBlock, readDaBlock } from "./directory_block.ts";
import { findRun } from "./extents.ts";
import { ATTR_REMOTE_MAGIC, FORK_FORMAT, REMOTE_HEADER, REMOTE_HEADER_BYTES } from "./format.ts";
import type { Inode } from "./inode.ts";
import type { XfsVolume } from "./volume.ts";

const FLAG = { local: 0x1, root: 0x2, secure: 0x4, parent: 0x8, incomplete: 0x80 } as const;
const VALUE_BYTES_MAX = 65536;
/** Bytes that all attributes of one inode may take together. */
const TOTAL_BYTES_MAX = 16 * 1024 * 1024;
const LEVELS_MAX = 8;

interface StoredXattr {
  readonly flags: number;
  readonly name: Uint8Array;
  readonly value: Uint8Array;
}

/**
 * All attributes of an inode that Linux would show to root. ACLs are shown once: Linux shows them as `trusted.SGI_ACL_FILE` too.
 */
export function readXattrs(volume: XfsVolume, inode: Inode): GuestXattr[] {
  volume.pending.checkAttributes(inode.number);
  const shown: GuestXattr[] = [];
  let total = 0;
  for (const { flags, name, value } of storedXattrs(volume, inode)) {
    total += name.length + value.length;
    if (total > TOTAL_BYTES_MAX) {
      throw new VarveError("unsupported", `reading the attributes of inode ${inode.number}: over 16 MiB`);
    }
    const acl = (flags & FLAG.root) === 0 ? undefined : ACL_NAMES.get(latin1(name));
    if (acl !== undefined) shown.push({ name: new TextEncoder().encode(acl), value: aclToLinux(value) });
    else shown.push({ name: fullName(flags, name), value: value.slice() });
  }
  return shown;
}

function fullName(flags: number, rest: Uint8Array): Uint8Array {
  const prefix = (flags & FLAG.root) !== 0 ? "trusted." : (flags & FLAG.secure) !== 0 ? "security." : "user.";
  const name = new Uint8Array(prefix.length + rest.length);
  new TextEncoder().encodeInto(prefix, name);
  name.set(rest, prefix.length);
  return name;
}

/** Parent pointers, and what a crash left incomplete, are nobody's attributes. */
function isShown(flags: number): boolean {
  return (flags & (FLAG.parent | FLAG.incomplete)) === 0;
}

function* storedXattrs(volume: XfsVolume, inode: Inode): Generator<StoredXattr> {
  const { attributes } = inode;
  if (attributes === undefined) return;
  if (attributes.format === FORK_FORMAT.local) {
    yield* inlineXattrs(attributes.bytes, inode.number);
    return;
  }
  if (attributes.format === FORK_FORMAT.extents && attributes.extents === 0) return;
  for (const leaf of leaves(volume, inode)) yield* leafXattrs(volume, inode, leaf);
}

function* inlineXattrs(bytes: Uint8Array, inode: number): Generator<StoredXattr> {
  const end = u16be(bytes, 0);
  const count = u8(bytes, 2);
  let at = 4;
  for (let index = 0; index < count; index++) {
    const flags = u8(bytes, at + 2);
    const value = at + 3 + u8(bytes, at);
    const next = value + u8(bytes, at + 1);
    if (next > end) throw damaged(`reading the attributes of inode ${inode}`, "one has no room");
    if (isShown(flags)) yield { flags, name: slice(bytes, at + 3, value), value: slice(bytes, value, next) };
    at = next;
  }
}

function* leaves(volume: XfsVolume, inode: Inode): Generator<Uint8Array> {
  const { v5 } = volume.superblock;
  const fail = (found: string) => damaged(`reading the attributes of inode ${inode.number}`, found);
  const read = (logical: number, kinds: DirectoryBlock["kind"][]) => {
    const block = readDaBlock(
      volume,
      inode,
      { logical, length: volume.superblock.blockBytes, attributes: true },
      kinds,
    );
    if (block === undefined) throw fail("a block is a hole");
    return block;
  };
  let block = read(0, ["node", "attrLeaf"]);
  for (let depth = 0; block.kind === "node"; depth++) {
    if (depth === LEVELS_MAX || u16be(block.bytes, v5 ? 56 : 12) === 0) throw fail("its index is damaged");
    block = read(u32be(block.bytes, (v5 ? 64 : 16) + 4), ["node", "attrLeaf"]);
  }
  const seen = new Set<number>();
  for (;;) {
    yield block.bytes;
    const next = u32be(block.bytes, 0);
    if (next === 0) return;
    if (seen.has(next)) throw fail("its leaves form a ring");
    seen.add(next);
    block = read(next, ["attrLeaf"]);
  }
}

function* leafXattrs(volume: XfsVolume, inode: Inode, bytes: Uint8Array): Generator<StoredXattr> {
  const { v5 } = volume.superblock;
  const count = u16be(bytes, v5 ? 56 : 12);
  const entries = v5 ? 80 : 32;
  for (let index = 0; index < count; index++) {
    const at = u16be(bytes, entries + index * 8 + 4);
    const flags = u8(bytes, entries + index * 8 + 6);
    if (!isShown(flags)) continue;
    if ((flags & FLAG.local) !== 0) {
      const name = at + 3;
      const value = name + u8(bytes, at + 2);
      yield { flags, name: slice(bytes, name, value), value: slice(bytes, value, value + u16be(bytes, at)) };
    } else {
      const name = slice(bytes, at + 9, at + 9 + u8(bytes, at + 8));
      yield { flags, name, value: remoteValue(volume, inode, u32be(bytes, at), u32be(bytes, at + 4)) };
    }
  }
}

/** A value in blocks of its own, each with a header on version 5. */
function remoteValue(volume: XfsVolume, inode: Inode, first: number, length: number): Uint8Array {
  const fail = (found: string) => damaged(`reading an attribute of inode ${inode.number}`, found);
  const { metadata, superblock: { v5, blockBytes } } = volume;
  const { attributes } = inode;
  if (attributes === undefined || first === 0 || length > VALUE_BYTES_MAX) {
    throw fail(`a value of ${length} bytes`);
  }
  const header = v5 ? REMOTE_HEADER_BYTES : 0;
  const value = new Uint8Array(length);
  let logical = first;
  for (let done = 0; done < length; logical++) {
    const { offset } = findRun(volume, attributes, logical);
    if (offset === undefined) throw fail("its value has a hole");
    const bytes = metadata.block(offset, blockBytes);
    const part = Math.min(blockBytes - header, length - done);
    if (v5) {
      if (u32be(bytes, 0) !== ATTR_REMOTE_MAGIC || u32be(bytes, 4) !== done || u32be(bytes, 8) !== part) {
        throw fail("the header of its value is wrong");
      }
      const place = { offset, owner: inode.number, what: "an attribute value" };
      metadata.checkOnce(bytes, inode.number, () => volume.proveBlock(bytes, REMOTE_HEADER, place));
    }
    value.set(bytes.subarray(header, header + part), done);
    done += part;
  }
  return value;
}

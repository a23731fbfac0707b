/**
 * Inode items.
 *
 * @module
 */
import { damaged, slice, u32 } from "../_bytes.ts";
import type { GuestFileType, GuestStat } from "../guest.ts";
import type { FileTree } from "./file_tree.ts";
import { INODE, TYPE } from "./format.ts";
import { amount } from "./key.ts";

const TYPES: ReadonlyMap<number, GuestFileType> = new Map([
  [0x1000, "fifo"],
  [0x2000, "character"],
  [0x4000, "directory"],
  [0x6000, "block"],
  [0x8000, "file"],
  [0xa000, "symlink"],
  [0xc000, "socket"],
]);

/** The item of an inode, checked for its length; `undefined` when there is none. */
export function inodeItem(tree: FileTree, inode: number): Uint8Array | undefined {
  const item = tree.get(inode, TYPE.inodeItem, 0);
  return item === undefined ? undefined : slice(item, 0, INODE.bytes);
}

/** The type of file that an inode item tells; throws `damaged` for one that does not exist. */
export function typeOf(item: Uint8Array): GuestFileType {
  const mode = u32(item, INODE.mode);
  const type = TYPES.get(mode & 0xf000);
  if (type === undefined) throw damaged("reading an inode", `mode 0${mode.toString(8)}`);
  return type;
}

/** What an inode item tells of the inode that is known as `inode`; `sectorBytes` is what its space is counted in. */
export function statOf(item: Uint8Array, inode: number, sectorBytes: number): GuestStat {
  const type = typeOf(item);
  const taken = amount(item, INODE.takenBytes);
  return {
    inode,
    type,
    mode: u32(item, INODE.mode) & 0xfff,
    uid: u32(item, INODE.uid),
    gid: u32(item, INODE.gid),
    links: u32(item, INODE.links),
    sizeBytes: amount(item, INODE.size),
    blocks512: Math.ceil(taken / sectorBytes) * (sectorBytes / 512),
    rdev: type === "block" || type === "character" ? deviceOf(item) : 0,
    accessedNs: timeAt(item, INODE.accessed),
    modifiedNs: timeAt(item, INODE.modified),
    changedNs: timeAt(item, INODE.changed),
    bornNs: timeAt(item, INODE.born),
  };
}

/** From the kernel's own form, twelve bits of major over twenty of minor, to that of `makedev`. */
function deviceOf(item: Uint8Array): number {
  const device = u32(item, INODE.device);
  const [major, minor] = [device >>> 20, device & 0xfffff];
  return (minor & 0xff) + major * 256 + (minor >>> 8) * 2 ** 20;
}

function timeAt(item: Uint8Array, at: number): bigint {
  const seconds = BigInt.asIntN(64, BigInt(u32(item, at + 4)) << 32n | BigInt(u32(item, at)));
  return seconds * 1_000_000_000n + BigInt(u32(item, at + 8));
}

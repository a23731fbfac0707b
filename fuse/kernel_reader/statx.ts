/**
 * `struct statx` of Linux `include/uapi/linux/stat.h`.
 *
 * @module
 */
import type { GuestFileType, GuestStat } from "../../src/guestfs/guest.ts";
import { MODE_TYPE } from "../abi.ts";

/** Size of the struct. */
export const STATX_BYTES = 256;
/** STATX_BASIC_STATS and STATX_BTIME */
export const STATX_MASK = 0xfff;
const STATX_BTIME = 0x800;

const FIELD = {
  mask: 0,
  links: 16,
  uid: 20,
  gid: 24,
  mode: 28,
  inode: 32,
  size: 40,
  blocks: 48,
  accessed: 64,
  born: 80,
  changed: 96,
  modified: 112,
  rdevMajor: 128,
  rdevMinor: 132,
} as const;

const TYPES: ReadonlyMap<number, GuestFileType> = new Map(
  (Object.entries(MODE_TYPE) as [GuestFileType, number][]).map(([type, bits]) => [bits, type]),
);

/** What the kernel says about a file, in our words. */
export function statOf(bytes: Uint8Array): GuestStat {
  const view = new DataView(bytes.buffer, bytes.byteOffset, STATX_BYTES);
  const time = (at: number) =>
    view.getBigInt64(at, true) * 1_000_000_000n + BigInt(view.getUint32(at + 8, true));
  const mode = view.getUint16(FIELD.mode, true);
  const [major, minor] = [view.getUint32(FIELD.rdevMajor, true), view.getUint32(FIELD.rdevMinor, true)];
  return {
    inode: Number(view.getBigUint64(FIELD.inode, true)),
    type: TYPES.get(mode & 0o170000) ?? "file",
    mode: mode & 0o7777,
    uid: view.getUint32(FIELD.uid, true),
    gid: view.getUint32(FIELD.gid, true),
    links: view.getUint32(FIELD.links, true),
    sizeBytes: Number(view.getBigUint64(FIELD.size, true)),
    blocks512: Number(view.getBigUint64(FIELD.blocks, true)),
    rdev: (minor & 0xff) + major * 2 ** 8 + (minor >>> 8) * 2 ** 20,
    accessedNs: time(FIELD.accessed),
    changedNs: time(FIELD.changed),
    modifiedNs: time(FIELD.modified),
    ...((view.getUint32(FIELD.mask, true) & STATX_BTIME) === 0 ? {} : { bornNs: time(FIELD.born) }),
  };
}

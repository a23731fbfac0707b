/**
 * Says what a partition holds when Varve cannot read it as a file system.
 *
 * @module
 */
import type { BlockDevice } from "../base/block_device.ts";
import { isZero, latin1, u16be, u32 } from "./_bytes.ts";
import { describeRaid } from "./md_raid.ts";

/** Bytes that are looked at to find out whether a partition holds nothing but zeroes. */
const ZERO_SCAN_BYTES = 16 * 1024 * 1024;
const CHUNK_BYTES = 256 * 1024;
/** Range whose extents are asked for at once. */
const WINDOW_BYTES = 1024 * 1024 * 1024;
/** Magic numbers are read in chunks of this size. */
const PEEK_BYTES = 64 * 1024;

interface Signature {
  readonly what: string;
  /** Byte offsets where the magic may stand. */
  readonly offsets: readonly number[];
  /** Each character is one byte. */
  readonly magic: string;
  /** What stands behind "the partition holds …" and what is held; {@linkcode NOT_YET} when absent. */
  readonly note?: string;
  /** Says more exactly what it is, when that is cheap to find out. */
  readonly name?: (device: BlockDevice, offset: number) => string;
}

const NOT_YET = ", which Varve cannot browse yet; its image is still available under images/";
const LOCKED = ", whose key is the guest's and not kept here; " +
  "attach its image under images/ and open it with";
const POOL =
  ", whose content is spread by rules of its own, often over several disks, so that Varve cannot browse it; " +
  "attach the images of all its disks under images/ and";
const RAID = ", of which the content needs its other members too; " +
  "attach the images of all members under images/ and assemble them with mdadm";
const NO_FILES = ", which holds no files; its image is available under images/";

function signatures(sizeBytes: number): readonly Signature[] {
  const at = (...offsets: number[]) => offsets;
  // The older forms of an md superblock lie at the end, aligned to 4 KiB and to 64 KiB.
  const mdEnd = Math.floor(sizeBytes / 4096) * 4096 - 8192;
  const mdOldest = Math.floor(sizeBytes / 65536) * 65536 - 65536;
  // Of a page of swap space, whatever its size, the last ten bytes.
  const pageEnds = at(4086, 8182, 16374, 32758, 65526);
  return [
    {
      what: "a LUKS encrypted volume",
      offsets: at(0),
      magic: "LUKS\xba\xbe",
      note: `${LOCKED} cryptsetup`,
      name: luksName,
    },
    {
      what: "a LUKS2 encrypted volume whose first header is damaged",
      offsets: at(0x4000, 0x8000, 0x10000, 0x20000, 0x40000),
      magic: "SKUL\xba\xbe",
      note: `${LOCKED} cryptsetup (cryptsetup repair mends the header)`,
    },
    {
      what: "a BitLocker encrypted volume",
      offsets: at(3),
      magic: "-FVE-FS-",
      note: `${LOCKED} Windows, cryptsetup (bitlkOpen) or dislocker`,
    },
    {
      what: "a BitLocker To Go encrypted volume",
      offsets: at(424),
      magic: "\x3b\xd6\x67\x49\x29\x2e\xd8\x4a\x83\x99\xf6\xa3\x39\xe3\xd0\x01",
      note: `${LOCKED} Windows, cryptsetup (bitlkOpen) or dislocker`,
    },
    {
      what: "an LVM2 physical volume whose label is damaged",
      offsets: at(24, 536, 1048, 1560),
      magic: "LVM2 001",
      note: "; its image is available under images/, and pvck can repair such a label there",
    },
    { what: "an EROFS file system", offsets: at(1024), magic: "\xe2\xe1\xf5\xe0" },
    { what: "an F2FS file system", offsets: at(1024), magic: "\x10\x20\xf5\xf2" },
    { what: "a ReFS file system", offsets: at(3), magic: "ReFS\0\0\0\0" },
    { what: "a ReiserFS file system", offsets: at(0x10034, 0x2034), magic: "ReIsEr" },
    { what: "a Reiser4 file system", offsets: at(0x10000), magic: "ReIsEr4" },
    { what: "a JFS file system", offsets: at(0x8000), magic: "JFS1" },
    { what: "an HFS+ file system", offsets: at(1024), magic: "H+\0\x04" },
    { what: "an HFSX file system", offsets: at(1024), magic: "HX\0\x05" },
    {
      what: "an APFS container",
      offsets: at(32),
      magic: "NXSB",
      note:
        ", which Varve cannot browse yet; its image under images/ can be attached to macOS or read with apfs-fuse",
    },
    { what: "a UFS1 file system", offsets: at(0x2000 + 0x55c, 0x10000 + 0x55c), magic: "\x54\x19\x01\0" },
    { what: "a UFS2 file system", offsets: at(0x2000 + 0x55c, 0x10000 + 0x55c), magic: "\x19\x01\x54\x19" },
    { what: "a UDF file system", offsets: at(0x8001, 0x8801, 0x9001), magic: "BEA01" },
    { what: "an OCFS2 file system", offsets: at(1024, 2048, 4096, 8192), magic: "OCFSV2" },
    { what: "a GFS2 file system", offsets: at(0x10000), magic: "\x01\x16\x19\x70" },
    {
      what: "a VMFS volume",
      offsets: at(0x100000),
      magic: "\x0d\xd0\x01\xc0",
      note: `${POOL} mount it on an ESXi host`,
    },
    {
      what: "a member of a ZFS pool",
      offsets: at(0x4014, 0x44014),
      magic: "\0\0\0\x07version",
      note: `${POOL} import the pool with zpool import -o readonly=on`,
    },
    {
      what: "a Ceph BlueStore device",
      offsets: at(0),
      magic: "bluestore block device",
      note: `${POOL} start its OSD or use ceph-objectstore-tool`,
    },
    {
      what: "a bcache device",
      offsets: at(4120),
      magic: "\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81",
      note: `${POOL} register them with the bcache module, since newer data may lie on the cache`,
      name: bcacheName,
    },
    {
      what: "a bcachefs file system",
      offsets: at(4120),
      magic: "\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef",
    },
    {
      what: "a Stratis pool's device",
      offsets: at(516),
      magic: "!Stra0tis",
      note: `${POOL} start the pool with stratis`,
    },
    { what: "a VDO volume", offsets: at(0), magic: "dmvdo001", note: `${POOL} start it with the vdo module` },
    {
      what: "an Oracle ASM disk",
      offsets: at(32),
      magic: "ORCLDISK",
      note: `${POOL} mount the disk group with Oracle ASM`,
    },
    {
      what: "a hibernated system's memory in its swap space",
      offsets: pageEnds,
      magic: "S1SUSPEND",
      note: NO_FILES,
    },
    { what: "swap space", offsets: pageEnds, magic: "SWAPSPACE2", note: NO_FILES },
    { what: "swap space of the old form", offsets: pageEnds, magic: "SWAP-SPACE", note: NO_FILES },
    {
      what: "a member of an md RAID",
      offsets: at(0, 4096, mdEnd, mdOldest),
      magic: "\xfc\x4e\x2b\xa9",
      note: RAID,
      name: describeRaid,
    },
  ];
}

/** What a device that holds no readable file system is known by, such as `an XFS file system`. */
export function findSignature(device: BlockDevice): string | undefined {
  return find(device)?.what;
}

/** Why a device cannot be browsed, as a sentence for people. */
export function describeContent(device: BlockDevice): string {
  const found = find(device);
  if (found !== undefined) return `the partition holds ${found.what}${found.note}`;
  return holdsOnlyZeroes(device) ? "nothing has been written here yet" : "no known file system";
}

/** Why a member of a RAID cannot be browsed, as a sentence for people. */
export function describeMember(what: string): string {
  return `the partition holds ${what}${RAID}`;
}

function find(device: BlockDevice): { readonly what: string; readonly note: string } | undefined {
  const start = new Start(device);
  for (const { what, offsets, magic, note = NOT_YET, name } of signatures(device.sizeBytes)) {
    const offset = offsets.find((each) => start.carries(each, magic));
    if (offset !== undefined) return { what: name?.(device, offset) ?? what, note };
  }
  return undefined;
}

/** The bytes at which magic numbers are looked for, read once a chunk. */
class Start {
  readonly #device: BlockDevice;
  readonly #chunks = new Map<number, Uint8Array>();

  constructor(device: BlockDevice) {
    this.#device = device;
  }

  carries(offset: number, magic: string): boolean {
    const end = offset + magic.length;
    if (offset < 0 || end > this.#device.sizeBytes) return false;
    const from = Math.floor(offset / PEEK_BYTES) * PEEK_BYTES;
    const within = this.#chunk(from).subarray(offset - from, end - from);
    return latin1(within) === magic;
  }

  #chunk(from: number): Uint8Array {
    const known = this.#chunks.get(from);
    if (known !== undefined) return known;
    const bytes = new Uint8Array(Math.min(PEEK_BYTES, this.#device.sizeBytes - from));
    this.#device.read(from, bytes);
    this.#chunks.set(from, bytes);
    return bytes;
  }
}

function luksName(device: BlockDevice): string {
  const bytes = new Uint8Array(Math.min(8, device.sizeBytes));
  device.read(0, bytes);
  const version = bytes.length < 8 ? 0 : u16be(bytes, 6);
  return version === 1 || version === 2 ? `a LUKS${version} encrypted volume` : "a LUKS encrypted volume";
}

function bcacheName(device: BlockDevice): string {
  const bytes = new Uint8Array(8);
  device.read(4112, bytes);
  const version = u32(bytes, 0);
  return [1, 4, 6].includes(version)
    ? "a bcache backing device"
    : [0, 3, 5].includes(version)
    ? "a bcache cache"
    : "a bcache device";
}

function holdsOnlyZeroes(device: BlockDevice): boolean {
  let budget = ZERO_SCAN_BYTES;
  for (let start = 0; start < device.sizeBytes; start += WINDOW_BYTES) {
    const window = Math.min(WINDOW_BYTES, device.sizeBytes - start);
    for (const { offset, length, kind } of device.extents(start, window)) {
      if (kind === "hole") continue;
      for (let at = offset; at < offset + length; at += CHUNK_BYTES) {
        const chunk = new Uint8Array(Math.min(CHUNK_BYTES, offset + length - at));
        budget -= chunk.length;
        if (budget < 0) return false;
        device.read(at, chunk);
        if (!isZero(chunk)) return false;
      }
    }
  }
  return true;
}

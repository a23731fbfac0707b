/**
 * Items of the log that change an inode, or make new ones.
 *
 * ```text
 * inode   u16 type, u16 regions, u32 fields, u16 bytes of attributes, u16 bytes of content, (u32 0), u64 inode,
 *         16 bytes with the device number, u64 sector, u32 sectors, u32 place in them; machines of 32 bits leave out the 0
 *         then the core with the same fields as on disk in the writer's byte order, then the forks that changed
 * create  u16 type, u16 regions, then big-endian u32 group, block, inodes, bytes of each, blocks, generation
 * ```
 *
 * @module
 */
import { damaged, slice, u16, u16be, u32, u32be, u64, u8 } from "../_bytes.ts";
import { DI, DIFLAG2, INODE_CORE_BYTES, INODE_MAGIC } from "./format.ts";
import type { Lsn } from "./log_record.ts";
import type { LogItem } from "./log_transactions.ts";

/** Bits of `fields`. */
export const INODE_FIELD = {
  inlineContent: 0x2,
  extents: 0x4,
  tree: 0x8,
  device: 0x10,
  inlineAttributes: 0x40,
  attributeExtents: 0x80,
  attributeTree: 0x100,
  owner: 0x200,
  attributeOwner: 0x400,
} as const;

const CONTENT_FIELDS = INODE_FIELD.inlineContent | INODE_FIELD.extents | INODE_FIELD.tree;
const ATTRIBUTE_FIELDS = INODE_FIELD.inlineAttributes | INODE_FIELD.attributeExtents |
  INODE_FIELD.attributeTree;
const FORMAT_BYTES = 56;
const FORMAT_BYTES_32 = 52;
/** Greatest count of flushes before it starts again. */
const FLUSHES_MAX = 0xffff;
const TREE_HEADER_BYTES = { v4: 24, v5: 72 } as const;

/** What an item says of the inode that it changes. */
export interface InodeItem {
  readonly fields: number;
  readonly inode: number;
  readonly rdev: number;
  readonly sector: number;
  readonly sectors: number;
  /** Place in those sectors. */
  readonly at: number;
  readonly core: Uint8Array;
  readonly forks: readonly Uint8Array[];
}

/** Parses the first region. */
export function parseInodeItem({ regions }: LogItem): InodeItem {
  const [head = new Uint8Array(), core = new Uint8Array(), ...forks] = regions;
  if (head.length !== FORMAT_BYTES && head.length !== FORMAT_BYTES_32) {
    throw damaged("replaying the log", `an inode item of ${head.length} bytes`);
  }
  const shift = head.length === FORMAT_BYTES ? 0 : -4;
  return {
    fields: u32(head, 4),
    inode: u64(head, 16 + shift),
    rdev: u32(head, 24 + shift),
    sector: u64(head, 40 + shift),
    sectors: u32(head, 48 + shift),
    at: u32(head, 52 + shift),
    core,
    forks,
  };
}

/** Whether what is on disk is newer than the logged inode. */
export function isNewer(
  disk: Uint8Array,
  item: InodeItem,
  lsn: Lsn,
  diskLsn: Lsn | undefined,
  v5: boolean,
): boolean {
  if (v5) return diskLsn !== undefined && diskLsn > lsn;
  const logged = u16(item.core, DI.flushIteration);
  const stored = u16be(disk, DI.flushIteration);
  return logged < stored && !(stored === FLUSHES_MAX && logged < FLUSHES_MAX >>> 1);
}

/** Changes an inode as it is on disk to what the item says. */
export function applyInodeItem(item: InodeItem, disk: Uint8Array, v5: boolean): void {
  const { core, fields, forks } = item;
  const fail = (found: string) => damaged(`replaying the log for inode ${item.inode}`, found);
  if (u16(core, DI.magic) !== INODE_MAGIC || u8(core, DI.version) >= 3 !== v5) throw fail("it is none");
  putCore(core, disk, v5);
  const start = v5 ? INODE_CORE_BYTES.v3 : INODE_CORE_BYTES.v2;
  const second = u8(disk, DI.forkOffset) * 8;
  if (start + second > disk.length) throw fail(`its second fork begins at ${second}`);
  const content = disk.subarray(start, second === 0 ? disk.length : start + second);
  const attributes = disk.subarray(start + second);
  if ((fields & INODE_FIELD.device) !== 0) {
    new DataView(disk.buffer, disk.byteOffset).setUint32(start, item.rdev);
  }
  let next = 0;
  if ((fields & CONTENT_FIELDS) !== 0) {
    putFork(forks[next++], content, { tree: (fields & INODE_FIELD.tree) !== 0, v5, fail });
  }
  if ((fields & ATTRIBUTE_FIELDS) !== 0) {
    if (second === 0) throw fail("attributes without a place");
    putFork(forks[next++], attributes, { tree: (fields & INODE_FIELD.attributeTree) !== 0, v5, fail });
  }
}

function putFork(
  logged: Uint8Array | undefined,
  fork: Uint8Array,
  { tree, v5, fail }: { tree: boolean; v5: boolean; fail: (found: string) => Error },
): void {
  if (logged === undefined) throw fail("a fork is missing");
  if (tree) {
    putRoot(logged, fork, v5 ? TREE_HEADER_BYTES.v5 : TREE_HEADER_BYTES.v4, fail);
    return;
  }
  // The log pads to four bytes, which the fork need not have room for.
  if (logged.length > fork.length + 3) throw fail(`${logged.length} bytes for a fork of ${fork.length}`);
  fork.set(logged.subarray(0, fork.length));
}

/** The root of a tree is logged as a whole block, with room for as many records as it has bytes for. */
function putRoot(logged: Uint8Array, fork: Uint8Array, header: number, fail: (found: string) => Error): void {
  const records = u16be(logged, 6);
  const from = Math.floor((logged.length - header) / 16);
  const to = Math.floor((fork.length - 4) / 16);
  if (records > from || records > to) throw fail(`a root of ${records} records`);
  fork.set(slice(logged, 4, 8));
  fork.set(slice(logged, header, header + records * 8), 4);
  fork.set(slice(logged, header + from * 8, header + (from + records) * 8), 4 + to * 8);
}

/** Fields of the core that are numbers: their place and width. The others are single bytes. */
const CORE_FIELDS: readonly [at: number, bytes: 2 | 4 | 8][] = [
  [DI.magic, 2],
  [DI.mode, 2],
  [DI.uid, 4],
  [DI.gid, 4],
  [DI.links, 4],
  [DI.projectLow, 2],
  [DI.projectHigh, 2],
  [DI.size, 8],
  [DI.blocks, 8],
  [DI.extentSize, 4],
  [DI.dmEventMask, 4],
  [DI.dmState, 2],
  [DI.flags, 2],
  [DI.generation, 4],
];

const CORE_FIELDS_V3: readonly [at: number, bytes: 2 | 4 | 8][] = [
  [DI.changeCount, 8],
  [DI.flags2, 8],
  [DI.cowExtentSize, 4],
  [DI.number, 8],
];

/** Copies the core from the byte order of the log to that of the disk. */
function putCore(core: Uint8Array, disk: Uint8Array, v5: boolean): void {
  slice(core, 0, v5 ? INODE_CORE_BYTES.v3 : DI.nextUnlinked);
  const copy = (at: number, bytes: number) => {
    for (let byte = 0; byte < bytes; byte++) disk[at + byte] = core[at + bytes - 1 - byte] as number;
  };
  for (const [at, bytes] of CORE_FIELDS) copy(at, bytes);
  for (const at of [DI.version, DI.format, DI.forkOffset, DI.attrFormat]) disk[at] = u8(core, at);
  disk.fill(0, DI.oldLinks, DI.oldLinks + 2);
  const flags2 = v5 ? u32(core, DI.flags2) : 0;
  const times = v5 ? [DI.accessed, DI.modified, DI.changed, DI.born] : [DI.accessed, DI.modified, DI.changed];
  for (const at of times) {
    if ((flags2 & DIFLAG2.bigTime) !== 0) {
      copy(at, 8);
    } else {
      copy(at, 4);
      copy(at + 4, 4);
    }
  }
  disk.fill(0, DI.manyExtents, DI.manyExtents + 8);
  if ((flags2 & DIFLAG2.manyExtents) !== 0) {
    copy(DI.manyExtents, 8);
    copy(DI.extents, 4);
    copy(DI.attrExtents, 2);
  } else {
    copy(DI.extents, 4);
    copy(DI.attrExtents, 2);
  }
  if (!v5) return;
  for (const [at, bytes] of CORE_FIELDS_V3) copy(at, bytes);
  disk.set(slice(core, DI.uuid, DI.uuid + 16), DI.uuid);
}

/** New inodes of a chunk. */
export interface InodeCreation {
  readonly group: number;
  /** First block in the group. */
  readonly block: number;
  readonly inodes: number;
  readonly inodeBytes: number;
  readonly blocks: number;
  readonly generation: Uint8Array;
}

/** Parses an item that makes inodes. */
export function parseInodeCreation({ regions }: LogItem): InodeCreation {
  const head = regions[0] ?? new Uint8Array();
  const field = (index: number) => u32be(head, 4 + index * 4);
  return {
    group: field(0),
    block: field(1),
    inodes: field(2),
    inodeBytes: field(3),
    blocks: field(4),
    generation: slice(head, 24, 28),
  };
}

/** What a new, free inode looks like. */
export function newInode(
  number: number,
  { inodeBytes, generation }: InodeCreation,
  uuid: Uint8Array,
): Uint8Array {
  const bytes = new Uint8Array(inodeBytes);
  const view = new DataView(bytes.buffer);
  view.setUint16(DI.magic, INODE_MAGIC);
  bytes[DI.version] = 3;
  bytes.set(generation, DI.generation);
  view.setUint32(DI.nextUnlinked, 0xffffffff);
  view.setBigUint64(DI.number, BigInt(number));
  bytes.set(uuid, DI.uuid);
  return bytes;
}

/**
 * Replay of the log in memory: what is on the disk plus what is returned here is what a mount would show.
 *
 * The order that matters:
 *
 * 1. One pass over all transactions notes which buffers were given up (cancelled): nothing that was logged of a buffer before its
 *    last cancellation may be replayed, for its blocks may hold a file's content by then.
 * 2. A second pass replays transactions in the order of their commits. Within one, blocks come before the inodes
 *    in them, and cancellations last.
 * 3. On version 5 what is on the disk may be newer than the log's oldest part: it is skipped then.
 * 4. What was announced and not done is handed to those whom it concerns.
 *
 * Left out, because no name leads there: lists of unlinked inodes, quotas, trees of free space as such.
 *
 * @module
 */
import type { BlockDevice } from "../../base/block_device.ts";
import { VarveError } from "../../base/errors.ts";
import { damaged, u16be, u32, u64, u8 } from "../_bytes.ts";
import { DI, INODE_MAGIC, SECTOR_BYTES } from "./format.ts";
import { inodeOffset } from "./inode.ts";
import { PendingChanges } from "./intents.ts";
import { LogArea } from "./log_area.ts";
import {
  applyBufferItem,
  BUFFER_FLAG,
  bufferLsn,
  checkBuffer,
  lsnAt,
  parseBufferItem,
} from "./log_buffer_item.ts";
import { findRange } from "./log_head.ts";
import {
  applyInodeItem,
  INODE_FIELD,
  isNewer,
  newInode,
  parseInodeCreation,
  parseInodeItem,
} from "./log_inode_item.ts";
import type { Lsn } from "./log_record.ts";
import { type LogItem, readTransactions, type Transaction } from "./log_transactions.ts";
import { MetadataSource } from "./metadata_source.ts";
import { SectorOverlay } from "./sector_overlay.ts";
import { readSuperblock, type Superblock } from "./superblock.ts";
import { blockOffset } from "./volume.ts";

const ITEM = {
  efi: 0x1236,
  efd: 0x1237,
  inode: 0x123b,
  buffer: 0x123c,
  quota: 0x123d,
  quotaOff: 0x123e,
  create: 0x123f,
  rui: 0x1240,
  rud: 0x1241,
  cui: 0x1242,
  cud: 0x1243,
  bui: 0x1244,
  bud: 0x1245,
  attri: 0x1246,
  attrd: 0x1247,
  xmi: 0x1248,
  xmd: 0x1249,
} as const;

/** Items that change nothing a reader sees: quotas, and what keeps account of free, owned and shared blocks. */
const INVISIBLE: ReadonlySet<number> = new Set([
  ITEM.efi,
  ITEM.efd,
  ITEM.quota,
  ITEM.quotaOff,
  ITEM.rui,
  ITEM.rud,
  ITEM.cui,
  ITEM.cud,
]);

const INTENTS: ReadonlySet<number> = new Set([ITEM.bui, ITEM.attri, ITEM.xmi]);
const DONE: ReadonlySet<number> = new Set([ITEM.bud, ITEM.attrd, ITEM.xmd]);

const MAPPING_BYTES = 32;
const MAPPING = { typeMask: 0xff, map: 1, unmap: 2, realtime: 0x20000000, unwritten: 0x40000000 } as const;
/** Operations of attribute intents from here on concern parent pointers. */
const ATTRIBUTE_OPERATION_PARENT = 4;
const NEW_INODES_BYTES_MAX = 512 * 1024;
const CLUSTER_BYTES = 8192;
const CLUSTER_INODE_BYTES = 256;

/** What the log adds to the disk. */
export interface Replayed {
  readonly overlay: SectorOverlay;
  readonly pending: PendingChanges;
}

/** Replays the log of a file system. Throws `damaged`, and `unsupported` for what Varve does not know. */
export function replayLog(device: BlockDevice, superblock: Superblock): Replayed {
  const log = new LogArea(device, superblock);
  const range = findRange(log, superblock);
  const replay = new Replay(device, superblock);
  if (range.head !== range.tail) {
    if (superblock.unknownForReplay !== 0) {
      const bits = superblock.unknownForReplay.toString(16);
      throw new VarveError("unsupported", `replaying the log: features that Varve does not know (0x${bits})`);
    }
    for (const transaction of readTransactions(log, range)) replay.noteCancelled(transaction);
    for (const transaction of readTransactions(log, range)) replay.apply(transaction);
  }
  return { overlay: replay.overlay, pending: replay.pending() };
}

class Replay {
  readonly overlay = new SectorOverlay();
  readonly #device: BlockDevice;
  readonly #metadata: MetadataSource;
  #superblock: Superblock;
  /** Cancellations that the second pass has not come to, by place and length. */
  readonly #cancelled = new Map<number, number>();
  readonly #intents = new Map<string, LogItem>();
  readonly #ownersChanged = new Set<number>();

  constructor(device: BlockDevice, superblock: Superblock) {
    this.#device = device;
    this.#superblock = superblock;
    this.#metadata = new MetadataSource(device, this.overlay);
  }

  /** First pass. */
  noteCancelled({ items }: Transaction): void {
    for (const item of items) {
      if (item.type !== ITEM.buffer) continue;
      const { flags, sector, sectors } = parseBufferItem(item);
      if ((flags & BUFFER_FLAG.cancel) === 0) continue;
      const key = bufferKey(sector, sectors);
      this.#cancelled.set(key, (this.#cancelled.get(key) ?? 0) + 1);
    }
  }

  /** Second pass. */
  apply({ lsn, items }: Transaction): void {
    for (const item of items) {
      if (item.type === ITEM.buffer) this.#buffer(item, lsn);
      else if (item.type === ITEM.create) this.#create(item);
    }
    for (const item of items) if (item.type === ITEM.inode) this.#inode(item, lsn);
    for (const item of items) this.#other(item);
  }

  #isCancelled(sector: number, sectors: number): boolean {
    return this.#cancelled.has(bufferKey(sector, sectors));
  }

  #buffer(item: LogItem, lsn: Lsn): void {
    const buffer = parseBufferItem(item);
    const { flags, sector, sectors } = buffer;
    if ((flags & (BUFFER_FLAG.cancel | BUFFER_FLAG.inodes | BUFFER_FLAG.quotas)) !== 0) return;
    if (this.#isCancelled(sector, sectors)) return;
    checkBuffer(buffer, this.#device.sizeBytes);
    const offset = sector * SECTOR_BYTES;
    const bytes = this.#metadata.copy(offset, sectors * SECTOR_BYTES);
    if (this.#superblock.v5) {
      const stored = bufferLsn(bytes, this.#superblock.metaUuid);
      if (stored !== undefined && stored >= lsn) return;
    }
    applyBufferItem(buffer, bytes, (from, to) => this.overlay.put(offset, bytes, from, to));
    if (sector === 0) this.#superblock = readSuperblock(this.#device, this.overlay);
  }

  #create(item: LogItem): void {
    const creation = parseInodeCreation(item);
    const { blockBytes, inodeBytes, groupBlocksLog, inodesPerBlockLog, metaUuid, v5 } = this.#superblock;
    const { group, block, blocks, inodes } = creation;
    const bytes = blocks * blockBytes;
    if (
      !v5 || creation.inodeBytes !== inodeBytes || bytes > NEW_INODES_BYTES_MAX || inodes * inodeBytes > bytes
    ) {
      throw damaged("replaying the log", `${inodes} new inodes in ${blocks} blocks`);
    }
    const address = group * 2 ** groupBlocksLog + block;
    const offset = blockOffset(this.#superblock, address, blocks);
    const cluster = this.#clusterBlocks() * blockBytes;
    for (let at = 0; at + cluster <= bytes; at += cluster) {
      // Given up again: what is there now is newer.
      if (this.#isCancelled((offset + at) / SECTOR_BYTES, cluster / SECTOR_BYTES)) return;
    }
    const chunk = new Uint8Array(bytes);
    const first = address * 2 ** inodesPerBlockLog;
    const count = blocks * 2 ** inodesPerBlockLog;
    for (let index = 0; index < count; index++) {
      chunk.set(newInode(first + index, creation, metaUuid), index * inodeBytes);
    }
    this.overlay.put(offset, chunk, 0, bytes);
  }

  /** Blocks of the buffers in which inodes are read and written. */
  #clusterBlocks(): number {
    const { blockBytes, inodeBytes, inodeAlignBlocks } = this.#superblock;
    const grown = CLUSTER_BYTES * (inodeBytes / CLUSTER_INODE_BYTES);
    const bytes = inodeAlignBlocks >= Math.ceil(grown / blockBytes) ? grown : CLUSTER_BYTES;
    return Math.max(1, bytes / blockBytes);
  }

  #inode(logItem: LogItem, lsn: Lsn): void {
    const item = parseInodeItem(logItem);
    const { inode, sector, sectors } = item;
    if (this.#isCancelled(sector, sectors)) return;
    const { inodeBytes, v5 } = this.#superblock;
    const offset = inodeOffset(this.#superblock, inode);
    if (offset !== sector * SECTOR_BYTES + item.at || item.at >= sectors * SECTOR_BYTES) {
      throw damaged(`replaying the log for inode ${inode}`, "it is said to lie elsewhere");
    }
    const start = offset - offset % SECTOR_BYTES;
    const bytes = this.#metadata.copy(start, Math.max(SECTOR_BYTES, inodeBytes));
    const disk = bytes.subarray(offset - start, offset - start + inodeBytes);
    if (u16be(disk, DI.magic) !== INODE_MAGIC) {
      throw damaged(`replaying the log for inode ${inode}`, "it is none");
    }
    if ((item.fields & (INODE_FIELD.owner | INODE_FIELD.attributeOwner)) !== 0) {
      this.#ownersChanged.add(inode);
    }
    const diskLsn = v5 && u8(disk, DI.version) >= 3 ? lsnAt(disk, DI.lsn) : undefined;
    if (isNewer(disk, item, lsn, diskLsn, v5)) return;
    applyInodeItem(item, disk, v5);
    this.overlay.put(start, bytes, offset - start, offset - start + inodeBytes);
  }

  #other(item: LogItem): void {
    const { type, regions } = item;
    const head = regions[0] ?? new Uint8Array();
    if (type === ITEM.buffer) {
      const { flags, sector, sectors } = parseBufferItem(item);
      if ((flags & BUFFER_FLAG.cancel) === 0) return;
      const key = bufferKey(sector, sectors);
      const left = (this.#cancelled.get(key) ?? 1) - 1;
      if (left === 0) this.#cancelled.delete(key);
      else this.#cancelled.set(key, left);
    } else if (INTENTS.has(type)) {
      this.#intents.set(`${type} ${u32(head, 8)} ${u32(head, 12)}`, item);
    } else if (DONE.has(type)) {
      // Each kind of intent has the number before that of its completion.
      this.#intents.delete(`${type - 1} ${u32(head, 8)} ${u32(head, 12)}`);
    } else if (type !== ITEM.inode && type !== ITEM.create && !INVISIBLE.has(type)) {
      throw new VarveError("unsupported", `replaying the log: an item of type 0x${type.toString(16)}`);
    }
  }

  /** What was announced and not done. */
  pending(): PendingChanges {
    const pending = new PendingChanges();
    for (const inode of this.#ownersChanged) pending.ownersChanged.add(inode);
    for (const { type, regions } of this.#intents.values()) {
      const head = regions[0] ?? new Uint8Array();
      if (type === ITEM.bui) addMappings(pending, head);
      else if (type === ITEM.xmi) [16, 24].forEach((at) => pending.refuseContent(u64(head, at)));
      else if ((u32(head, 24) & 0xff) < ATTRIBUTE_OPERATION_PARENT) pending.refuseAttributes(u64(head, 16));
    }
    return pending;
  }
}

function bufferKey(sector: number, sectors: number): number {
  return sector * 65536 + sectors;
}

/** Mappings of blocks to a file: u32 count at 4, then each u64 inode, u64 address, u64 first block, u32 blocks, u32 flags. */
function addMappings(pending: PendingChanges, head: Uint8Array): void {
  const total = u32(head, 4);
  if (16 + total * MAPPING_BYTES > head.length) {
    throw damaged("replaying the log", `${total} mappings in an intent`);
  }
  for (let at = 16; at < 16 + total * MAPPING_BYTES; at += MAPPING_BYTES) {
    const inode = u64(head, at);
    const flags = u32(head, at + 28);
    const kind = flags & MAPPING.typeMask;
    // What remains are the flags of attributes and of the realtime section.
    const other = (flags & ~(MAPPING.typeMask | MAPPING.unwritten)) !== 0;
    if (other || (kind !== MAPPING.map && kind !== MAPPING.unmap)) {
      pending.refuseContent(inode);
      continue;
    }
    pending.addMapping(inode, {
      map: kind === MAPPING.map,
      address: u64(head, at + 8),
      start: u64(head, at + 16),
      count: u32(head, at + 24),
      unwritten: (flags & MAPPING.unwritten) !== 0,
    });
  }
}

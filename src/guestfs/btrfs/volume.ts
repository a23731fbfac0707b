/**
 * The pieces that every part of the reader of one file system shares.
 *
 * @module
 */
import type { BlockDevice } from "../../base/block_device.ts";
import { VarveError } from "../../base/errors.ts";
import { damaged, equalBytes, slice, u16, u32, u8 } from "../_bytes.ts";
import { BlockSource } from "./block_source.ts";
import { parseChunk } from "./chunk_map.ts";
import { DataSource } from "./data_source.ts";
import { findEntry, nameHash } from "./entries.ts";
import { FileTree } from "./file_tree.ts";
import { FOLDED_MAX, LEVELS_MAX, OBJECT, ROOT, TYPE } from "./format.ts";
import { amount } from "./key.ts";
import { LogReplay } from "./log_replay.ts";
import { readSuperblock, type RootPointer, type Superblock } from "./superblock.ts";
import { Tree } from "./tree.ts";

/** One subvolume or snapshot. */
export interface Subvolume {
  /** Number of its tree. */
  readonly id: number;
  /** Inode of its root directory. */
  readonly root: number;
  readonly tree: FileTree;
}

/** A root item: where a tree lies, and the inode of its root directory. */
interface TreeRoot {
  readonly pointer: RootPointer;
  readonly directory: number;
  readonly references: number;
}

/** One file system with its log replayed over it. */
export class BtrfsVolume {
  readonly superblock: Superblock;
  readonly blocks: BlockSource;
  readonly data: DataSource;
  /** Number of the subvolume that a mount without options shows. */
  readonly defaultSubvolume: number;
  readonly #rootTree: Tree;
  readonly #subvolumes = new Map<number, Subvolume>();

  /** Opens the file system on a device. Throws `damaged` and `unsupported`. */
  constructor(device: BlockDevice) {
    this.superblock = readSuperblock(device);
    this.blocks = new BlockSource(device, this.superblock);
    this.#readChunks(device.sizeBytes);
    this.#rootTree = new Tree(this.blocks, this.superblock.rootTree, OBJECT.rootTree);
    const logs = this.#replayLogs();
    this.data = new DataSource(this.blocks, this.superblock, [...logs, this.#tree(OBJECT.checksumTree)]);
    this.defaultSubvolume = this.#findDefault();
  }

  /** A subvolume; `undefined` when there is none of that number, or it is being deleted. */
  subvolume(id: number): Subvolume | undefined {
    const known = this.#subvolumes.get(id);
    if (known !== undefined) return known;
    if (id !== OBJECT.topSubvolume && !(id >= OBJECT.firstFree && id < OBJECT.lastFree)) return undefined;
    const found = this.#findRoot(id);
    if (found === undefined || found.references === 0) return undefined;
    const subvolume = {
      id,
      root: found.directory,
      tree: new FileTree(new Tree(this.blocks, found.pointer, id)),
    };
    this.#subvolumes.set(id, subvolume);
    return subvolume;
  }

  /** Whether a name in a directory is where a subvolume belongs; in a snapshot it is only what was there once. */
  isHomeOf(subvolume: number, parent: number, directory: number, name: Uint8Array): boolean {
    const item = this.#rootTree.get({ objectid: parent, type: TYPE.rootRef, offset: subvolume });
    return item !== undefined && amount(item, 0) === directory &&
      equalBytes(slice(item, 18, 18 + u16(item, 16)), name);
  }

  #readChunks(deviceBytes: number): void {
    const { chunkTree, deviceId } = this.superblock;
    const tree = new Tree(this.blocks, chunkTree, OBJECT.chunkTree);
    const from = { objectid: OBJECT.chunks, type: TYPE.chunk, offset: 0 };
    const found = Array.from(
      tree.items(from, { ...from, offset: FOLDED_MAX }),
      ([key, item]) => parseChunk(item, key.offset, deviceId, deviceBytes),
    );
    this.blocks.chunks.replace(found);
  }

  /** Replays the log of every subvolume that has one; returns their trees. */
  #replayLogs(): Tree[] {
    const { logTree } = this.superblock;
    if (logTree === undefined) return [];
    const logs: Tree[] = [];
    const roots = new Tree(this.blocks, logTree, OBJECT.treeLog);
    const from = { objectid: OBJECT.treeLog, type: TYPE.rootItem, offset: 0 };
    for (const [key, item] of roots.items(from, { ...from, offset: FOLDED_MAX })) {
      const log = new Tree(this.blocks, parseRoot(item).pointer, OBJECT.treeLog);
      const subvolume = this.subvolume(key.offset);
      // The subvolume was deleted since: a mount skips its log.
      if (subvolume === undefined) continue;
      new LogReplay(subvolume.tree, log, this.superblock).run();
      logs.push(log);
    }
    return logs;
  }

  #findDefault(): number {
    const name = new TextEncoder().encode("default");
    const { rootDirectory } = this.superblock;
    const key = { objectid: rootDirectory, type: TYPE.directoryItem, offset: nameHash(name) };
    return findEntry(this.#rootTree.get(key), name)?.location.objectid ?? OBJECT.topSubvolume;
  }

  #tree(id: number): Tree {
    const found = this.#findRoot(id);
    if (found === undefined) throw damaged("opening a btrfs file system", `tree ${id} is missing`);
    return new Tree(this.blocks, found.pointer, id);
  }

  #findRoot(id: number): TreeRoot | undefined {
    const found = this.#rootTree.floor({ objectid: id, type: TYPE.rootItem, offset: FOLDED_MAX });
    if (found === undefined || found[0].objectid !== id || found[0].type !== TYPE.rootItem) return undefined;
    return parseRoot(found[1]);
  }
}

function parseRoot(item: Uint8Array): TreeRoot {
  const level = u8(item, ROOT.level);
  if (level >= LEVELS_MAX) throw new VarveError("damaged", `reading the root of a tree: level ${level}`);
  return {
    pointer: { bytenr: amount(item, ROOT.bytenr), level, generation: amount(item, ROOT.generation) },
    directory: amount(item, ROOT.directory),
    references: u32(item, ROOT.references),
  };
}

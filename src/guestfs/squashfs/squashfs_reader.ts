/**
 * The reader of SquashFS 4.0, with every compressor that mksquashfs knows.
 *
 * @module
 */
import type { BlockDevice } from "../../base/block_device.ts";
import { VarveError } from "../../base/errors.ts";
import { u32 } from "../_bytes.ts";
import { ChunkReader } from "../_chunks.ts";
import type {
  ContentRun,
  GuestEntry,
  GuestFileSystem,
  GuestFileType,
  GuestReader,
  GuestStat,
  GuestXattr,
} from "../guest.ts";
import { type DirectorySource, findInDirectory, listDirectory } from "./directory.ts";
import { FileContents } from "./file_content.ts";
import { SQUASHFS_MAGIC, SUPERBLOCK_BYTES } from "./format.ts";
import { type DirectoryPlace, type Inode, InodeTable } from "./inode.ts";
import { MetadataBlocks } from "./metadata.ts";
import { parseSuperblock, type Superblock } from "./superblock.ts";
import { readXattrs, type XattrSource } from "./xattr.ts";

/** The reader of SquashFS. */
export const SQUASHFS_READER: GuestReader = {
  what: "a SquashFS file system",
  looksLike: looksLikeSquashfs,
  open: openSquashfs,
};

/** Whether a device starts like SquashFS: its magic number. */
export function looksLikeSquashfs(device: BlockDevice): boolean {
  if (device.sizeBytes < SUPERBLOCK_BYTES) return false;
  const bytes = new Uint8Array(4);
  device.read(0, bytes);
  return u32(bytes, 0) === SQUASHFS_MAGIC;
}

/** Opens a SquashFS file system. Throws `damaged` when it is, `unsupported` for versions and compressors that are not known. */
export function openSquashfs(device: BlockDevice): GuestFileSystem {
  const chunks = new ChunkReader(device);
  const superblock = parseSuperblock(chunks.bytes(0, SUPERBLOCK_BYTES), device.sizeBytes);
  return new SquashfsReader(chunks, superblock);
}

class SquashfsReader implements GuestFileSystem {
  readonly kind = "squashfs";
  readonly label = "";
  readonly root: number;
  readonly keepsChangeTimes = false;
  readonly space: GuestFileSystem["space"];
  readonly #metadata: MetadataBlocks;
  readonly #xattrs: XattrSource | undefined;
  readonly #inodes: InodeTable;
  readonly #contents: FileContents;
  readonly #directories: DirectorySource;

  constructor(chunks: ChunkReader, superblock: Superblock) {
    const { blockBytes, bytesUsed, inodes, directoryTable, xattrTable } = superblock;
    this.#metadata = new MetadataBlocks(chunks, superblock.decompress);
    this.#xattrs = xattrTable === undefined
      ? undefined
      : { chunks, metadata: this.#metadata, table: xattrTable };
    this.#inodes = new InodeTable(superblock, this.#metadata, this.#xattrs);
    this.#contents = new FileContents(chunks.device, superblock, this.#metadata);
    this.#directories = { metadata: this.#metadata, table: directoryTable, inodes };
    this.root = this.#inodes.root;
    this.space = {
      blockBytes,
      blocks: Math.ceil(bytesUsed / blockBytes),
      freeBlocks: 0,
      inodes,
      freeInodes: 0,
    };
  }

  stat(inode: number): GuestStat {
    return this.#inodes.get(inode).stat;
  }

  lookup(directory: number, name: Uint8Array): number | undefined {
    return findInDirectory(this.#directories, this.#directory(directory), name);
  }

  readDirectory(directory: number): GuestEntry[] {
    return listDirectory(this.#directories, this.#directory(directory));
  }

  read(inode: number, offset: number, target: Uint8Array): number {
    return this.#contents.read(this.#file(inode, offset), offset, target);
  }

  map(inode: number, offset: number, length: number): ContentRun[] {
    return this.#contents.map(this.#file(inode, offset), offset, length);
  }

  readLink(number: number): Uint8Array {
    const { target, stat } = this.#typed(number, "symlink");
    return target === undefined
      ? new Uint8Array()
      : this.#metadata.cursor(target).read(stat.sizeBytes).slice();
  }

  xattrs(inode: number): GuestXattr[] {
    const { xattrs } = this.#inodes.get(inode);
    return xattrs === undefined || this.#xattrs === undefined ? [] : readXattrs(this.#xattrs, xattrs);
  }

  #directory(number: number): DirectoryPlace {
    const { directory } = this.#typed(number, "directory");
    if (directory === undefined) throw new VarveError("invalid", `reading directory ${number}: it is none`);
    return directory;
  }

  #file(number: number, offset: number): Inode {
    if (!(Number.isSafeInteger(offset) && offset >= 0)) {
      throw new VarveError("invalid", `reading inode ${number}: offset ${offset}`);
    }
    return this.#typed(number, "file");
  }

  #typed(number: number, type: GuestFileType): Inode {
    const inode = this.#inodes.get(number);
    if (inode.type === type) return inode;
    throw new VarveError("invalid", `reading inode ${number} as a ${type}: it is a ${inode.type}`);
  }
}

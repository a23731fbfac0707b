/**
 * Inodes: found by their number, parsed and kept in a bounded cache.
 *
 * ```text
 * all        u16 type, u16 mode, u16 owner, u16 group (both numbers in the id table), u32 time, u32 number
 * directory  u32 block, u32 links, u16 size, u16 offset, u32 parent
 *   extended u32 links, u32 size, u32 block, u32 parent, u16 index entries, u16 offset, u32 attributes, index
 * file       u32 first block, u32 fragment, u32 offset in it, u32 size, u32 length of each block
 *   extended u64 first block, u64 size, u64 bytes of holes, u32 links, u32 fragment, u32 offset, u32 attributes, lengths
 * symlink    u32 links, u32 length, target[, u32 attributes]
 * device     u32 links, u32 number[, u32 attributes]        fifo, socket   u32 links[, u32 attributes]
 * ```
 *
 * @module
 */
import { VarveError } from "../../base/errors.ts";
import { damaged, u16, u32, u64 } from "../_bytes.ts";
import { ByteLru } from "../_lru.ts";
import type { GuestFileType, GuestStat } from "../guest.ts";
import { EXTENDED, NONE, TYPES } from "./format.ts";
import type { MetadataBlocks, MetadataCursor, MetadataPosition } from "./metadata.ts";
import type { Superblock } from "./superblock.ts";
import { xattrBytes, type XattrSource } from "./xattr.ts";

/** Where a directory's entries lie. */
export interface DirectoryPlace {
  readonly position: MetadataPosition;
  /** Bytes, with the three that stand for `.` and `..`. */
  readonly sizeBytes: number;
  readonly indexEntries: number;
  readonly index: MetadataPosition;
}

/** Where a file's content lies. */
export interface FilePlace {
  /** Place of the first data block. */
  readonly firstBlock: number;
  /** Number of blocks that have a length in the list. */
  readonly blocks: number;
  /** Where that list lies. */
  readonly lengths: MetadataPosition;
  /** Number of the fragment that holds the end, or `undefined`. */
  readonly fragment: number | undefined;
  readonly fragmentOffset: number;
}

/** An inode as the readers use it. */
export interface Inode {
  readonly number: number;
  readonly type: GuestFileType;
  readonly stat: GuestStat;
  readonly directory: DirectoryPlace | undefined;
  readonly file: FilePlace | undefined;
  /** Where the target of a symlink lies. */
  readonly target: MetadataPosition | undefined;
  /** Number of its attributes, or `undefined`. */
  readonly xattrs: number | undefined;
}

const CACHE_BYTES = 4 * 1024 * 1024;
const INODE_CACHE_WEIGHT = 500;
const EXPORT_ENTRY_BYTES = 8;
/** Blocks of one file: 8 TiB at 128 KiB. */
const FILE_BLOCKS_MAX = 2 ** 26;
const TARGET_BYTES_MAX = 65536;
const FILE_SIZE_MAX = 2 ** 53;

/** The body of an inode, by its type. */
interface Body {
  readonly links: number;
  readonly sizeBytes: number;
  readonly blocks512?: number;
  readonly rdev?: number;
  readonly directory?: DirectoryPlace;
  readonly file?: FilePlace;
  readonly target?: MetadataPosition;
  readonly xattrs?: number | undefined;
}

/** Finds inodes by their numbers. */
export class InodeTable {
  readonly #superblock: Superblock;
  readonly #metadata: MetadataBlocks;
  readonly #xattrs: XattrSource | undefined;
  readonly #cache = new ByteLru<Inode>(CACHE_BYTES);
  /** From numbers to positions, where the image has no table of them. */
  #positions: Map<number, MetadataPosition> | undefined;
  /** Number of the root directory. */
  readonly root: number;

  /** Reads the root's inode to learn its number. */
  constructor(superblock: Superblock, metadata: MetadataBlocks, xattrs: XattrSource | undefined) {
    this.#superblock = superblock;
    this.#metadata = metadata;
    this.#xattrs = xattrs;
    const root = this.#parse(metadata.cursor(this.#positionOf(superblock.root)));
    if (root.directory === undefined) throw damaged("reading the root's inode", `it is a ${root.type}`);
    this.root = root.number;
    this.#cache.set(root.number, root, INODE_CACHE_WEIGHT);
  }

  /** The inode of a number. Throws `not-found`, `invalid` and `damaged`. */
  get(number: number): Inode {
    if (!Number.isSafeInteger(number)) throw new VarveError("invalid", `reading inode ${number}`);
    const cached = this.#cache.get(number);
    if (cached !== undefined) return cached;
    if (number < 1 || number > this.#superblock.inodes) {
      throw new VarveError("not-found", `reading inode ${number}: there are ${this.#superblock.inodes}`);
    }
    const inode = this.#parse(this.#metadata.cursor(this.#find(number)));
    if (inode.number !== number) {
      throw damaged(`reading inode ${number}`, `its place holds inode ${inode.number}`);
    }
    this.#cache.set(number, inode, INODE_CACHE_WEIGHT);
    return inode;
  }

  #find(number: number): MetadataPosition {
    const { exportTable } = this.#superblock;
    if (exportTable !== undefined) {
      return this.#positionOf(u64(this.#metadata.entry(exportTable, number - 1, EXPORT_ENTRY_BYTES), 0));
    }
    this.#positions ??= this.#scan();
    const position = this.#positions.get(number);
    if (position === undefined) {
      throw new VarveError("not-found", `reading inode ${number}: it is not in the table`);
    }
    return position;
  }

  /** Goes over all inodes, which lie one behind the other. */
  #scan(): Map<number, MetadataPosition> {
    const positions = new Map<number, MetadataPosition>();
    const cursor = this.#metadata.cursor({ block: this.#superblock.inodeTable, offset: 0 });
    for (let count = 0; count < this.#superblock.inodes; count++) {
      const { position } = cursor;
      const inode = this.#parse(cursor);
      const { file, directory } = inode;
      if (file !== undefined) cursor.skip(file.blocks * 4);
      for (let entries = directory?.indexEntries ?? 0; entries > 0; entries--) {
        cursor.skip(u32(cursor.read(12), 8) + 1);
      }
      positions.set(inode.number, position);
    }
    return positions;
  }

  #positionOf(reference: number): MetadataPosition {
    const block = this.#superblock.inodeTable + Math.floor(reference / 65536);
    return { block, offset: reference % 65536 };
  }

  /** Parses one inode; the cursor then stands behind it, but for the lists that files and directories end in. */
  #parse(cursor: MetadataCursor): Inode {
    const header = cursor.read(16);
    const stored = u16(header, 0);
    const extended = stored > EXTENDED;
    const type = TYPES.get(extended ? stored - EXTENDED : stored);
    if (type === undefined) throw damaged("reading an inode", `a file of type ${stored}`);
    const number = u32(header, 12);
    if (number < 1 || number > this.#superblock.inodes) {
      throw damaged("reading an inode", `number ${number} of ${this.#superblock.inodes}`);
    }
    const body = this.#body(cursor, type, extended);
    const time = BigInt(u32(header, 8)) * 1_000_000_000n;
    const { links, sizeBytes, blocks512 = 0, rdev = 0 } = body;
    const xattrs = body.xattrs === NONE || this.#xattrs === undefined ? undefined : body.xattrs;
    const xattrBlocks512 = xattrs === undefined || this.#xattrs === undefined
      ? 0
      : Math.ceil(xattrBytes(this.#xattrs, xattrs) / 512);
    return {
      number,
      type,
      stat: {
        inode: number,
        type,
        mode: u16(header, 2) & 0xfff,
        uid: this.#id(u16(header, 4)),
        gid: this.#id(u16(header, 6)),
        links,
        sizeBytes,
        blocks512: blocks512 + xattrBlocks512,
        rdev,
        accessedNs: time,
        modifiedNs: time,
        changedNs: time,
      },
      directory: body.directory,
      file: body.file,
      target: body.target,
      xattrs,
    };
  }

  #id(index: number): number {
    if (index >= this.#superblock.ids) {
      throw damaged("reading an inode", `owner ${index} of ${this.#superblock.ids}`);
    }
    return u32(this.#metadata.entry(this.#superblock.idTable, index, 4), 0);
  }

  #body(cursor: MetadataCursor, type: GuestFileType, extended: boolean): Body {
    switch (type) {
      case "directory":
        return extended ? this.#extendedDirectory(cursor) : this.#directory(cursor);
      case "file":
        return extended ? this.#extendedFile(cursor) : this.#file(cursor);
      case "symlink": {
        const head = cursor.read(8);
        const sizeBytes = u32(head, 4);
        if (sizeBytes === 0 || sizeBytes > TARGET_BYTES_MAX) {
          throw damaged("reading a symlink", `${sizeBytes} bytes`);
        }
        const target = cursor.position;
        cursor.skip(sizeBytes);
        return { links: u32(head, 0), sizeBytes, target, xattrs: trailer(cursor, extended) };
      }
      case "block":
      case "character": {
        const head = cursor.read(8);
        return { links: u32(head, 0), sizeBytes: 0, rdev: u32(head, 4), xattrs: trailer(cursor, extended) };
      }
      default:
        return { links: u32(cursor.read(4), 0), sizeBytes: 0, xattrs: trailer(cursor, extended) };
    }
  }

  #directory(cursor: MetadataCursor): Body {
    const bytes = cursor.read(16);
    const position = this.#directoryPosition(u32(bytes, 0), u16(bytes, 10));
    const sizeBytes = u16(bytes, 8);
    return {
      links: u32(bytes, 4),
      sizeBytes,
      directory: { position, sizeBytes, indexEntries: 0, index: cursor.position },
    };
  }

  #extendedDirectory(cursor: MetadataCursor): Body {
    const bytes = cursor.read(24);
    const position = this.#directoryPosition(u32(bytes, 8), u16(bytes, 18));
    const sizeBytes = u32(bytes, 4);
    return {
      links: u32(bytes, 0),
      sizeBytes,
      directory: { position, sizeBytes, indexEntries: u16(bytes, 16), index: cursor.position },
      xattrs: u32(bytes, 20),
    };
  }

  #directoryPosition(block: number, offset: number): MetadataPosition {
    return { block: this.#superblock.directoryTable + block, offset };
  }

  #file(cursor: MetadataCursor): Body {
    const bytes = cursor.read(16);
    const sizeBytes = u32(bytes, 12);
    const [fragment, fragmentOffset] = [u32(bytes, 4), u32(bytes, 8)];
    return {
      links: 1,
      sizeBytes,
      blocks512: Math.ceil(sizeBytes / 512),
      file: this.#filePlace(cursor, u32(bytes, 0), sizeBytes, fragment, fragmentOffset),
    };
  }

  #extendedFile(cursor: MetadataCursor): Body {
    const bytes = cursor.read(40);
    const sizeBytes = u64(bytes, 8);
    const [fragment, fragmentOffset] = [u32(bytes, 28), u32(bytes, 32)];
    return {
      links: u32(bytes, 24),
      sizeBytes,
      blocks512: Math.max(0, Math.ceil((sizeBytes - u64(bytes, 16)) / 512)),
      file: this.#filePlace(cursor, u64(bytes, 0), sizeBytes, fragment, fragmentOffset),
      xattrs: u32(bytes, 36),
    };
  }

  #filePlace(
    cursor: MetadataCursor,
    firstBlock: number,
    sizeBytes: number,
    fragment: number,
    fragmentOffset: number,
  ): FilePlace {
    const { blockBytes, fragments } = this.#superblock;
    const whole = fragment === NONE;
    const blocks = whole ? Math.ceil(sizeBytes / blockBytes) : Math.floor(sizeBytes / blockBytes);
    if (sizeBytes >= FILE_SIZE_MAX || blocks > FILE_BLOCKS_MAX) {
      throw new VarveError("unsupported", `reading an inode: a file of ${sizeBytes} bytes`);
    }
    if (!whole && (fragment >= fragments || fragmentOffset + sizeBytes % blockBytes > blockBytes)) {
      throw damaged("reading an inode", `fragment ${fragment} of ${fragments}, from ${fragmentOffset} on`);
    }
    return {
      firstBlock,
      blocks,
      lengths: cursor.position,
      fragment: whole ? undefined : fragment,
      fragmentOffset,
    };
  }
}

/** The number of the attributes, that extended forms end in. */
function trailer(cursor: MetadataCursor, extended: boolean): number | undefined {
  return extended ? u32(cursor.read(4), 0) : undefined;
}

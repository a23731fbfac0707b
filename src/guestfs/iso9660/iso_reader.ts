/**
 * The reader of ISO 9660 with Rock Ridge, Joliet and zisofs.
 *
 * Not read: interleaved files, sparse files of Rock Ridge, zisofs of version 2, attributes of AAIP; of a disc of several
 * sessions the first is shown.
 *
 * @module
 */
import type { BlockDevice } from "../../base/block_device.ts";
import { VarveError } from "../../base/errors.ts";
import { damaged, equalBytes, latin1 } from "../_bytes.ts";
import { ChunkReader } from "../_chunks.ts";
import { readRuns } from "../content.ts";
import { ByteLru } from "../_lru.ts";
import type {
  ContentRun,
  GuestEntry,
  GuestFileSystem,
  GuestFileType,
  GuestReader,
  GuestStat,
  GuestXattr,
} from "../guest.ts";
import { jolietName, plainName, safe } from "./names.ts";
import { checkInode, type IsoRecord, ownRecord, recordAt, recordsFrom } from "./record.ts";
import { readRockRidge, type RockRidge, symlinkTarget } from "./rock_ridge.ts";
import { DESCRIPTORS_OFFSET, type IsoVolume, readVolume } from "./volume.ts";
import { ZisofsFile } from "./zisofs.ts";

/** The reader of ISO 9660. */
export const ISO_READER: GuestReader = {
  what: "an ISO 9660 file system",
  looksLike: looksLikeIso,
  open: openIso,
};

/** Whether a device has a volume descriptor of ISO 9660. */
export function looksLikeIso(device: BlockDevice): boolean {
  if (device.sizeBytes < DESCRIPTORS_OFFSET + 2048) return false;
  const bytes = new Uint8Array(5);
  device.read(DESCRIPTORS_OFFSET + 1, bytes);
  return latin1(bytes) === "CD001";
}

/** Opens an ISO 9660 file system. Throws `damaged` and `unsupported`. */
export function openIso(device: BlockDevice): GuestFileSystem {
  return new IsoReader(readVolume(new ChunkReader(device)));
}

/** Extents of one file, entries of one directory: each is kept in memory. */
const EXTENTS_MAX = 65_536;
const ENTRIES_MAX = 4_000_000;
const NODE_CACHE_BYTES = 4 * 1024 * 1024;
const NODE_WEIGHT = 500;
const DIRECTORY_CACHE_BYTES = 16 * 1024 * 1024;
const ENTRY_WEIGHT = 250;
/** Where records of one file's further extents are looked for behind its first. */
const FOLLOWING_BYTES = 64 * 1024 * 1024;

const TYPES: ReadonlyMap<number, GuestFileType> = new Map([
  [0x1000, "fifo"],
  [0x2000, "character"],
  [0x4000, "directory"],
  [0x6000, "block"],
  [0x8000, "file"],
  [0xa000, "symlink"],
  [0xc000, "socket"],
]);

interface Extent {
  readonly offset: number;
  readonly length: number;
}

interface Node {
  readonly stat: GuestStat;
  /** Where the content lies as it is stored. */
  readonly extents: readonly Extent[];
  readonly rock: RockRidge;
  /** Target of a symlink, else empty. */
  readonly target: Uint8Array;
  readonly interleaved: boolean;
  zisofs: ZisofsFile | undefined;
}

interface Listing {
  readonly entries: readonly GuestEntry[];
  readonly byName: ReadonlyMap<string, number>;
}

class IsoReader implements GuestFileSystem {
  readonly kind = "iso9660";
  readonly label: string;
  readonly root: number;
  readonly keepsChangeTimes = false;
  readonly space: GuestFileSystem["space"];
  readonly #volume: IsoVolume;
  readonly #nodes = new ByteLru<Node>(NODE_CACHE_BYTES);
  readonly #listings = new ByteLru<Listing>(DIRECTORY_CACHE_BYTES);

  constructor(volume: IsoVolume) {
    this.#volume = volume;
    this.label = volume.label;
    this.root = volume.root;
    const { blockBytes, blocks } = volume;
    this.space = { blockBytes, blocks, freeBlocks: 0, inodes: 0, freeInodes: 0 };
    ownRecord(volume, volume.root);
  }

  stat(inode: number): GuestStat {
    return this.#node(inode).stat;
  }

  lookup(directory: number, name: Uint8Array): number | undefined {
    return this.#listing(directory).byName.get(latin1(name));
  }

  readDirectory(directory: number): GuestEntry[] {
    return [...this.#listing(directory).entries];
  }

  read(inode: number, offset: number, target: Uint8Array): number {
    const node = this.#file(inode, offset);
    const length = Math.min(target.length, Math.max(0, node.stat.sizeBytes - offset));
    const wanted = target.subarray(0, length);
    if (length === 0) return 0;
    if (node.rock.zisofs === undefined) {
      readRuns(this.#volume.chunks.device, runsOf(node, offset, length), wanted, noMade);
    } else this.#zisofs(node, node.rock.zisofs.sizeBytes).read(offset, wanted);
    return length;
  }

  map(inode: number, offset: number, length: number): ContentRun[] {
    const node = this.#file(inode, offset);
    const wanted = Math.min(length, node.stat.sizeBytes - offset);
    if (wanted <= 0) return [];
    return node.rock.zisofs === undefined ? runsOf(node, offset, wanted) : [{ kind: "made", length: wanted }];
  }

  readLink(number: number): Uint8Array {
    return this.#typed(number, "symlink").target.slice();
  }

  xattrs(inode: number): GuestXattr[] {
    this.#node(inode);
    return [];
  }

  #zisofs(node: Node, sizeBytes: number): ZisofsFile {
    const stored = node.extents.reduce((sum, { length }) => sum + length, 0);
    node.zisofs ??= new ZisofsFile((offset, length) => {
      if (offset + length > stored) {
        throw damaged("reading a compressed file", `${length} bytes at ${offset} of ${stored}`);
      }
      const bytes = new Uint8Array(length);
      readRuns(this.#volume.chunks.device, runsOf(node, offset, length), bytes, noMade);
      return bytes;
    }, sizeBytes);
    return node.zisofs;
  }

  #file(number: number, offset: number): Node {
    if (!(Number.isSafeInteger(offset) && offset >= 0)) {
      throw new VarveError("invalid", `reading inode ${number}: offset ${offset}`);
    }
    const node = this.#typed(number, "file");
    const unread = node.interleaved ? "interleaved content" : node.rock.unread;
    if (unread !== undefined) throw new VarveError("unsupported", `reading inode ${number}: ${unread}`);
    return node;
  }

  #typed(number: number, type: GuestFileType): Node {
    const node = this.#node(number);
    if (node.stat.type === type) return node;
    throw new VarveError("invalid", `reading inode ${number} as a ${type}: it is a ${node.stat.type}`);
  }

  #node(number: number): Node {
    checkInode(this.#volume, number);
    const cached = this.#nodes.get(number);
    if (cached !== undefined) return cached;
    const record = recordAt(this.#volume, number);
    const rock = this.#rock(record);
    const extents = record.directory ? [] : this.#extentsOf(record);
    const target = symlinkTarget(rock);
    const stat = statOf(record, rock, { extents, target });
    const node = { stat, extents, rock, target, interleaved: record.interleaved, zisofs: undefined };
    this.#nodes.set(number, node, NODE_WEIGHT + extents.length * 50 + target.length * 3);
    return node;
  }

  #rock(record: IsoRecord): RockRidge {
    return this.#volume.names === "rock-ridge" ? readRockRidge(this.#volume, record) : {};
  }

  /** The places of a file's content: as long as a record says that it goes on, the next one of the directory does. */
  #extentsOf(record: IsoRecord): Extent[] {
    const { sizeBytes } = this.#volume.chunks.device;
    const extents: Extent[] = [];
    const end = record.continued ? Math.min(sizeBytes, record.offset + FOLLOWING_BYTES) : Infinity;
    for (const part of record.continued ? recordsFrom(this.#volume, record.offset, end) : [record]) {
      if (!equalBytes(part.name, record.name) || extents.length === EXTENTS_MAX) break;
      if (part.content + part.sizeBytes > sizeBytes) {
        throw damaged(
          `reading inode ${record.offset}`,
          `${part.sizeBytes} bytes at ${part.content} of ${sizeBytes}`,
        );
      }
      if (part.sizeBytes > 0) extents.push({ offset: part.content, length: part.sizeBytes });
      if (!part.continued) return extents;
    }
    throw damaged(`reading inode ${record.offset}`, "its last extent is missing");
  }

  #listing(number: number): Listing {
    this.#typed(number, "directory");
    const cached = this.#listings.get(number);
    if (cached !== undefined) return cached;
    const own = ownRecord(this.#volume, number);
    const entries: GuestEntry[] = [];
    const byName = new Map<string, number>();
    const end = number + own.sizeBytes;
    if (end > this.#volume.chunks.device.sizeBytes) {
      throw damaged(`reading directory ${number}`, `${own.sizeBytes} bytes`);
    }
    let within = false;
    for (const record of recordsFrom(this.#volume, number, end)) {
      const first = !within;
      within = record.continued;
      const entry = first && !record.associated && !isDots(record) ? this.#entryOf(record) : undefined;
      if (entry === undefined) continue;
      const key = latin1(entry.name);
      if (byName.has(key)) continue;
      if (entries.length === ENTRIES_MAX) {
        throw new VarveError(
          "unsupported",
          `reading directory ${number}: it has more than ${ENTRIES_MAX} entries`,
        );
      }
      byName.set(key, entry.inode);
      entries.push(entry);
    }
    const listing = { entries, byName };
    this.#listings.set(number, listing, entries.length * ENTRY_WEIGHT + ENTRY_WEIGHT);
    return listing;
  }

  /** What a record shows; nothing for a directory that is shown where it belongs. */
  #entryOf(record: IsoRecord): GuestEntry | undefined {
    const { names } = this.#volume;
    const rock = this.#rock(record);
    if (rock.relocated === true) return undefined;
    const name = rock.name !== undefined
      ? safe(rock.name)
      : names === "joliet"
      ? jolietName(record.name)
      : plainName(record.name);
    if (rock.child !== undefined) return { name, inode: rock.child, type: "directory" };
    if (record.directory) return { name, inode: record.content, type: "directory" };
    return { name, inode: record.offset, type: typeOf(record, rock) };
  }
}

function isDots({ name }: IsoRecord): boolean {
  return name.length === 1 && (name[0] as number) <= 1;
}

function typeOf(record: IsoRecord, rock: RockRidge): GuestFileType {
  if (record.directory) return "directory";
  const type = TYPES.get((rock.posix?.mode ?? 0) & 0xf000) ?? "file";
  return type === "directory" ? "file" : type;
}

/** Without Rock Ridge everybody may read everything, as Linux shows it. */
function statOf(
  record: IsoRecord,
  rock: RockRidge,
  { extents, target }: Pick<Node, "extents" | "target">,
): GuestStat {
  const type = typeOf(record, rock);
  const stored = extents.reduce((sum, { length }) => sum + length, 0);
  const sizeBytes = type === "directory"
    ? record.sizeBytes
    : type === "symlink"
    ? target.length
    : type === "file"
    ? rock.zisofs?.sizeBytes ?? stored
    : 0;
  const { mode, links, uid, gid } = rock.posix ?? { mode: 0o555, links: 1, uid: 0, gid: 0 };
  const modifiedNs = rock.modifiedNs ?? record.timeNs;
  return {
    inode: record.offset,
    type,
    mode: mode & 0xfff,
    uid,
    gid,
    links,
    sizeBytes,
    blocks512: Math.ceil((type === "file" ? stored : sizeBytes) / 512),
    rdev: type === "block" || type === "character" ? rock.rdev ?? 0 : 0,
    accessedNs: rock.accessedNs ?? modifiedNs,
    modifiedNs,
    changedNs: rock.changedNs ?? rock.bornNs ?? modifiedNs,
    ...(rock.bornNs === undefined ? {} : { bornNs: rock.bornNs }),
  };
}

function runsOf({ extents }: Node, offset: number, length: number): ContentRun[] {
  const runs: ContentRun[] = [];
  let start = 0;
  for (const extent of extents) {
    const from = Math.max(offset, start);
    const to = Math.min(offset + length, start + extent.length);
    if (from < to) {
      runs.push({ kind: "stored", length: to - from, deviceOffset: extent.offset + from - start });
    }
    start += extent.length;
  }
  return runs;
}

function noMade(): void {
  throw damaged("reading a file", "a run that does not lie on the device");
}

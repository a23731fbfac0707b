/**
 * The reader of FAT12, FAT16 and FAT32 file systems.
 *
 * There is no journal: what is shown is what lies on the disk. The number of an inode is the place of its entry on the device in
 * units of 32 bytes, so it leads back to the entry without anything else; the root directory, which has no entry, is 1.
 *
 * @module
 */
import type { BlockDevice } from "../../base/block_device.ts";
import { VarveError } from "../../base/errors.ts";
import { damaged, u32 } from "../_bytes.ts";
import { readRuns } from "../content.ts";
import type {
  ContentRun,
  GuestEntry,
  GuestFileSystem,
  GuestReader,
  GuestStat,
  GuestXattr,
} from "../guest.ts";
import { noSuchInode, requireOffset, requireType, statOf } from "./attributes.ts";
import { BOOT_BYTES, couldBeFat, ENTRY_BYTES, type FatGeometry, namesFat } from "./boot_sector.ts";
import { parseBootSector, widthOf } from "./boot_sector.ts";
import { type Allocation, ClusterHeap, type DirectoryPiece, mapPieces, piecesOf } from "./cluster_heap.ts";
import { type FatEntry, labelIn, namesIn, parseEntry } from "./directory.ts";
import { FatTable } from "./fat_table.ts";
import { MetadataSource } from "./metadata_source.ts";
import { CaseFolding, decodeName, encodeName } from "./name.ts";
import { NameIndex } from "./name_index.ts";

/** The reader of FAT12, FAT16 and FAT32. */
export const FAT_READER: GuestReader = { what: "a FAT file system", looksLike: looksLikeFat, open: openFat };

/** The root directory has no entry; no entry has this number, for it would lie in the boot sector. */
const ROOT = 1;
/** A directory has at most 65,536 entries. */
const DIRECTORY_BYTES_MAX = 65_536 * ENTRY_BYTES;
/** A FAT up to this size is counted to know how much is free; for a larger one the guest's own note is taken. */
const COUNTED_BYTES_MAX = 64 * 1024 * 1024;
const INFO_SIGNATURE = 0x61417272;

/** Whether a device begins with a boot sector that names FAT, or whose every number makes sense as that of FAT. */
export function looksLikeFat(device: BlockDevice): boolean {
  if (device.sizeBytes < BOOT_BYTES) return false;
  const boot = new Uint8Array(BOOT_BYTES);
  device.read(0, boot);
  return namesFat(boot) || couldBeFat(boot, device);
}

/** Opens a FAT file system. Throws `damaged` and `unsupported` for a boot sector that cannot be right. */
export function openFat(device: BlockDevice): GuestFileSystem {
  const boot = new Uint8Array(BOOT_BYTES);
  if (device.sizeBytes < BOOT_BYTES) {
    throw damaged("opening a FAT file system", `the device has ${device.sizeBytes} bytes`);
  }
  device.read(0, boot);
  return new FatReader(device, parseBootSector(boot, device));
}

class FatReader implements GuestFileSystem {
  readonly kind: string;
  readonly label: string;
  readonly root = ROOT;
  readonly keepsChangeTimes = false;
  readonly #device: BlockDevice;
  readonly #geometry: FatGeometry;
  readonly #source: MetadataSource;
  readonly #table: FatTable;
  readonly #heap: ClusterHeap;
  readonly #index = new NameIndex(CaseFolding.common);
  #space: GuestFileSystem["space"] | undefined;

  constructor(device: BlockDevice, geometry: FatGeometry) {
    const { kind, fatOffset, heapOffset, clusterBytes, clusterCount } = geometry;
    this.#device = device;
    this.#geometry = geometry;
    this.#source = new MetadataSource(device);
    this.#table = new FatTable(this.#source, { offset: fatOffset, width: widthOf(kind), clusterCount });
    this.#heap = new ClusterHeap(
      this.#source,
      { offset: heapOffset, clusterBytes, clusterCount },
      this.#table,
    );
    this.kind = kind;
    this.label = this.#rootLabel() ?? geometry.label;
  }

  get space(): GuestFileSystem["space"] {
    this.#space ??= this.#measure();
    return this.#space;
  }

  stat(inode: number): GuestStat {
    const { clusterBytes } = this.#geometry;
    if (inode === ROOT) {
      const facts = {
        directory: true,
        readOnly: false,
        accessedNs: 0n,
        modifiedNs: 0n,
        bornNs: undefined,
      };
      return statOf(facts, { inode, sizeBytes: this.#directoryBytes(inode), clusterBytes });
    }
    const entry = this.#entry(inode);
    const sizeBytes = entry.directory ? this.#directoryBytes(inode) : entry.sizeBytes;
    return statOf(entry, { inode, sizeBytes, clusterBytes });
  }

  lookup(directory: number, name: Uint8Array): number | undefined {
    this.#requireDirectory(directory);
    const wanted = decodeName(name);
    if (wanted === undefined) return undefined;
    return this.#index.find(directory, wanted, () => this.#names(directory));
  }

  readDirectory(directory: number): GuestEntry[] {
    this.#requireDirectory(directory);
    return Array.from(this.#names(directory), (found): GuestEntry => ({
      name: encodeName(found.name),
      inode: found.inode,
      type: found.directory ? "directory" : "file",
    }));
  }

  read(inode: number, offset: number, target: Uint8Array): number {
    const file = this.#file(inode, offset);
    const length = Math.min(target.length, Math.max(0, file.sizeBytes - offset));
    if (length === 0) return 0;
    const runs = this.#heap.stored(this.#allocation(inode, file), offset, length);
    readRuns(this.#device, runs, target.subarray(0, length), () => {});
    return length;
  }

  map(inode: number, offset: number, length: number): ContentRun[] {
    const file = this.#file(inode, offset);
    const wanted = Math.min(length, file.sizeBytes - offset);
    if (wanted <= 0) return [];
    return mapPieces(this.#heap.stored(this.#allocation(inode, file), offset, wanted));
  }

  readLink(inode: number): Uint8Array {
    throw new VarveError("invalid", `reading the target of inode ${inode}: FAT has no symbolic links`);
  }

  xattrs(inode: number): GuestXattr[] {
    if (inode !== ROOT) this.#entry(inode);
    return [];
  }

  #entry(inode: number): FatEntry {
    const offset = inode * ENTRY_BYTES;
    const { root, kind } = this.#geometry;
    const inRoot = "offset" in root && offset >= root.offset && offset < root.offset + root.length;
    if (!Number.isSafeInteger(inode) || !(inRoot || this.#heap.clusterAt(offset) !== undefined)) {
      throw noSuchInode(inode);
    }
    const entry = parseEntry(this.#source.bytes(offset, ENTRY_BYTES), kind === "fat32");
    if (entry === undefined) throw noSuchInode(inode);
    return entry;
  }

  #file(inode: number, offset: number): FatEntry {
    requireOffset(inode, offset);
    requireType(inode, inode === ROOT, "file");
    const entry = this.#entry(inode);
    requireType(inode, entry.directory, "file");
    return entry;
  }

  #requireDirectory(inode: number): void {
    if (inode !== ROOT) requireType(inode, this.#entry(inode).directory, "directory");
  }

  #allocation(inode: number, file: FatEntry): Allocation {
    if (file.cluster === 0) {
      throw damaged(`reading inode ${inode}`, `${file.sizeBytes} bytes without a cluster`);
    }
    const clusters = Math.ceil(file.sizeBytes / this.#geometry.clusterBytes);
    return { first: file.cluster, clusters, contiguous: false };
  }

  /** The first cluster of a directory, or `undefined` for a root directory with an area of its own. */
  #directoryStart(inode: number): number | undefined {
    const { root } = this.#geometry;
    if (inode === ROOT) return "cluster" in root ? root.cluster : undefined;
    const { cluster } = this.#entry(inode);
    if (cluster === 0) throw damaged(`reading directory ${inode}`, "it has no cluster");
    return cluster;
  }

  get #directoryClustersMax(): number {
    return Math.ceil(DIRECTORY_BYTES_MAX / this.#geometry.clusterBytes);
  }

  #directoryBytes(inode: number): number {
    const { root, clusterBytes } = this.#geometry;
    const first = this.#directoryStart(inode);
    if (first !== undefined) return this.#heap.chainLength(first, this.#directoryClustersMax) * clusterBytes;
    return "length" in root ? root.length : 0;
  }

  #pieces(directory: number): Generator<DirectoryPiece> {
    const { root } = this.#geometry;
    const first = this.#directoryStart(directory);
    if (first !== undefined) return this.#heap.chainedDirectory(first, this.#directoryClustersMax);
    const area = "offset" in root ? root : { offset: 0, length: 0 };
    return piecesOf(this.#source, area.offset, area.length);
  }

  *#names(directory: number) {
    for (const { name, alias, offset, directory: type } of namesIn(this.#pieces(directory))) {
      yield { name, alias, inode: offset / ENTRY_BYTES, directory: type };
    }
  }

  /** The label that counts; a damaged root directory has none, for listing it says what is wrong. */
  #rootLabel(): string | undefined {
    try {
      return labelIn(this.#pieces(ROOT));
    } catch (thrown) {
      if (thrown instanceof VarveError && thrown.code === "damaged") return undefined;
      throw thrown;
    }
  }

  #measure(): GuestFileSystem["space"] {
    const { clusterBytes, clusterCount } = this.#geometry;
    return {
      blockBytes: clusterBytes,
      blocks: clusterCount,
      freeBlocks: this.#notedFree() ?? this.#table.countFree(),
      inodes: 0,
      freeInodes: 0,
    };
  }

  /** Free clusters as the guest noted them, when counting them would take long and the note can be right. */
  #notedFree(): number | undefined {
    const { kind, clusterCount, infoOffset } = this.#geometry;
    const bytes = FatTable.bytesOf({ width: widthOf(kind), clusterCount });
    if (bytes <= COUNTED_BYTES_MAX || infoOffset === undefined) return undefined;
    const info = this.#source.bytes(infoOffset, 512);
    const free = u32(info, 488);
    return u32(info, 484) === INFO_SIGNATURE && free <= clusterCount ? free : undefined;
  }
}

/**
 * The reader of exFAT file systems.
 *
 * There is no journal: what is shown is what lies on the disk. The number of an inode is twice the place of its first entry on the
 * device in units of 32 bytes, plus 1 when its directory's clusters lie one behind the other: with that the rest of a set of entries is
 * found also where it goes on in another cluster. The root directory, which has no entry, is 1.
 *
 * @module
 */
import type { BlockDevice } from "../../base/block_device.ts";
import { VarveError } from "../../base/errors.ts";
import { damaged, u8 } from "../_bytes.ts";
import { readRuns } from "../content.ts";
import { noSuchInode, requireOffset, requireType, statOf } from "../fat/attributes.ts";
import { type Allocation, ClusterHeap, type DirectoryPiece, mapPieces } from "../fat/cluster_heap.ts";
import { FatTable } from "../fat/fat_table.ts";
import { MetadataSource } from "../fat/metadata_source.ts";
import { CaseFolding, decodeName, encodeName } from "../fat/name.ts";
import { NameIndex } from "../fat/name_index.ts";
import type {
  ContentRun,
  GuestEntry,
  GuestFileSystem,
  GuestReader,
  GuestStat,
  GuestXattr,
} from "../guest.ts";
import { BOOT_BYTES, type ExfatGeometry, namesExfat, readBootRegion } from "./boot_region.ts";
import { ENTRY_BYTES, ENTRY_TYPE, type FileSet, nameOf, parseSet, setsIn } from "./entry_set.ts";
import { readRootFacts, type RootFacts, type TablePlace } from "./root_directory.ts";
import { parseUpCase, UP_CASE_BYTES_MAX } from "./up_case.ts";

/** The reader of exFAT. */
export const EXFAT_READER: GuestReader = {
  what: "an exFAT file system",
  looksLike: looksLikeExfat,
  open: openExfat,
};

/** The root directory has no entry; no entry has this number, for it would lie in the boot sector. */
const ROOT = 1;
const DIRECTORY_BYTES_MAX = 256 * 1024 * 1024;
/** Names in a directory that are listed: a third of what the format allows, and more than a browser can show. */
const LISTED_MAX = 1_000_000;
/** A bitmap up to this size is counted to know how much is free; for a larger one the guest's own note is taken. */
const COUNTED_BYTES_MAX = 64 * 1024 * 1024;
const COUNT_BYTES = 256 * 1024;
const ROOT_FACTS = {
  name: "",
  directory: true,
  readOnly: false,
  accessedNs: 0n,
  modifiedNs: 0n,
  bornNs: undefined,
};

/** Whether a device begins with the name of exFAT. */
export function looksLikeExfat(device: BlockDevice): boolean {
  if (device.sizeBytes < BOOT_BYTES) return false;
  const boot = new Uint8Array(BOOT_BYTES);
  device.read(0, boot);
  return namesExfat(boot);
}

/** Opens an exFAT file system. Throws `damaged` and `unsupported` for a boot region that cannot be right. */
export function openExfat(device: BlockDevice): GuestFileSystem {
  return new ExfatReader(device, readBootRegion(device));
}

class ExfatReader implements GuestFileSystem {
  readonly kind = "exfat";
  readonly label: string;
  readonly root = ROOT;
  readonly keepsChangeTimes = false;
  readonly #device: BlockDevice;
  readonly #geometry: ExfatGeometry;
  readonly #source: MetadataSource;
  readonly #heap: ClusterHeap;
  readonly #facts: RootFacts;
  #names: NameIndex | undefined;
  #space: GuestFileSystem["space"] | undefined;

  constructor(device: BlockDevice, geometry: ExfatGeometry) {
    const { fatOffset, heapOffset, clusterBytes, clusterCount } = geometry;
    this.#device = device;
    this.#geometry = geometry;
    this.#source = new MetadataSource(device);
    const table = new FatTable(this.#source, { offset: fatOffset, width: 32, clusterCount });
    this.#heap = new ClusterHeap(this.#source, { offset: heapOffset, clusterBytes, clusterCount }, table);
    // A damaged root directory can still be listed up to the damage, and files in it that were known can be read.
    this.#facts = unlessDamaged(() => readRootFacts(this.#pieces(ROOT))) ??
      { label: "", bitmaps: [undefined, undefined], upCase: undefined };
    this.label = this.#facts.label;
  }

  get space(): GuestFileSystem["space"] {
    this.#space ??= this.#measure();
    return this.#space;
  }

  stat(inode: number): GuestStat {
    const { clusterBytes } = this.#geometry;
    if (inode === ROOT) {
      return statOf(ROOT_FACTS, { inode, sizeBytes: this.#rootClusters() * clusterBytes, clusterBytes });
    }
    const set = this.#set(inode);
    return statOf(set, { inode, sizeBytes: set.sizeBytes, clusterBytes });
  }

  lookup(directory: number, name: Uint8Array): number | undefined {
    const place = this.#directory(directory);
    const wanted = decodeName(name);
    if (wanted === undefined) return undefined;
    this.#names ??= new NameIndex(this.#folding());
    return this.#names.find(directory, wanted, () => {
      let failure: VarveError | undefined;
      return withFailure(this.#entries(directory, place, (damage) => failure ??= damage), () => failure);
    });
  }

  readDirectory(directory: number): GuestEntry[] {
    const place = this.#directory(directory);
    const entries: GuestEntry[] = [];
    const refuse = (damage: VarveError) => {
      throw damage;
    };
    for (const { name, inode, directory: type } of this.#entries(directory, place, refuse)) {
      if (entries.length >= LISTED_MAX) {
        throw new VarveError("unsupported", `reading directory ${directory}: over ${LISTED_MAX} names`);
      }
      entries.push({ name: encodeName(name), inode, type: type ? "directory" : "file" });
    }
    return entries;
  }

  read(inode: number, offset: number, target: Uint8Array): number {
    const file = this.#file(inode, offset);
    const length = Math.min(target.length, Math.max(0, file.sizeBytes - offset));
    if (length === 0) return 0;
    readRuns(this.#device, this.#content(file, offset, length), target.subarray(0, length), () => {});
    return length;
  }

  map(inode: number, offset: number, length: number): ContentRun[] {
    const file = this.#file(inode, offset);
    const wanted = Math.min(length, file.sizeBytes - offset);
    return wanted <= 0 ? [] : mapPieces(this.#content(file, offset, wanted));
  }

  readLink(inode: number): Uint8Array {
    throw new VarveError("invalid", `reading the target of inode ${inode}: exFAT has no symbolic links`);
  }

  xattrs(inode: number): GuestXattr[] {
    if (inode !== ROOT) this.#set(inode);
    return [];
  }

  *#content(file: FileSet, offset: number, length: number): Generator<ContentRun> {
    const valid = Math.min(length, Math.max(0, file.validBytes - offset));
    if (valid > 0) yield* this.#heap.stored(this.#allocation(file), offset, valid);
    if (valid < length) yield { kind: "hole", length: length - valid };
  }

  #allocation({ cluster, sizeBytes, contiguous }: FileSet): Allocation {
    return { first: cluster, clusters: Math.ceil(sizeBytes / this.#geometry.clusterBytes), contiguous };
  }

  /** The set of entries that a number leads to. */
  #set(inode: number): FileSet {
    const offset = Math.floor(inode / 2) * ENTRY_BYTES;
    const contiguous = inode % 2 === 1;
    let cluster = Number.isSafeInteger(offset) ? this.#heap.clusterAt(offset) : undefined;
    if (cluster === undefined || !Number.isSafeInteger(inode)) throw noSuchInode(inode);
    const first = this.#source.bytes(offset, ENTRY_BYTES);
    if (u8(first, 0) !== ENTRY_TYPE.file) throw noSuchInode(inode);

    const bytes = new Uint8Array((1 + u8(first, 1)) * ENTRY_BYTES);
    const { clusterBytes, clusterCount } = this.#geometry;
    let at = offset;
    for (let done = 0; done < bytes.length;) {
      const end = this.#heap.offsetOf(cluster) + clusterBytes;
      const part = Math.min(bytes.length - done, end - at);
      bytes.set(this.#source.bytes(at, part), done);
      done += part;
      if (done === bytes.length) break;
      cluster = this.#heap.following(cluster, contiguous);
      at = this.#heap.offsetOf(cluster);
    }
    if (bytes.length < 3 * ENTRY_BYTES) {
      throw damaged(`reading inode ${inode}`, "its entries are not complete");
    }
    const set = parseSet({ offset, bytes });
    if (set.sizeBytes > clusterCount * clusterBytes) {
      throw damaged(`reading inode ${inode}`, `${set.sizeBytes} bytes in ${clusterCount} clusters`);
    }
    return set;
  }

  #file(inode: number, offset: number): FileSet {
    requireOffset(inode, offset);
    requireType(inode, inode === ROOT, "file");
    const set = this.#set(inode);
    requireType(inode, set.directory, "file");
    return set;
  }

  /** The entries of a directory, or `undefined` for the root directory, which has none of its own. */
  #directory(inode: number): FileSet | undefined {
    if (inode === ROOT) return undefined;
    const set = this.#set(inode);
    requireType(inode, set.directory, "directory");
    if (set.sizeBytes > DIRECTORY_BYTES_MAX) {
      throw damaged(`reading directory ${inode}`, `it has ${set.sizeBytes} bytes`);
    }
    return set;
  }

  /** Names that lead to entries whose checksum does not match are told too: what they lead to then says so. */
  *#entries(inode: number, set: FileSet | undefined, onDamage: (damage: VarveError) => void) {
    const contiguous = set?.contiguous === true ? 1 : 0;
    for (const raw of setsIn(this.#pieces(inode, set), onDamage)) {
      const found = unlessDamaged(() => nameOf(raw), onDamage);
      if (found !== undefined) {
        yield { ...found, alias: undefined, inode: raw.offset / ENTRY_BYTES * 2 + contiguous };
      }
    }
  }

  #pieces(inode: number, set?: FileSet): Generator<DirectoryPiece> {
    if (set !== undefined) return this.#heap.directory(this.#allocation(set));
    if (inode !== ROOT) throw noSuchInode(inode);
    return this.#heap.chainedDirectory(this.#geometry.rootCluster, this.#directoryClustersMax);
  }

  get #directoryClustersMax(): number {
    return Math.ceil(DIRECTORY_BYTES_MAX / this.#geometry.clusterBytes);
  }

  #rootClusters(): number {
    return this.#heap.chainLength(this.#geometry.rootCluster, this.#directoryClustersMax);
  }

  /** The guest's own folding. Where its table is damaged the common one does: only names in another case depend on it. */
  #folding(): CaseFolding {
    const { upCase } = this.#facts;
    if (upCase === undefined || upCase.length > UP_CASE_BYTES_MAX) return CaseFolding.common;
    const read = () => parseUpCase(this.#readTable(upCase, 0, upCase.length), upCase.checksum);
    return unlessDamaged(read) ?? CaseFolding.common;
  }

  #readTable({ cluster, length }: TablePlace, offset: number, wanted: number): Uint8Array {
    const clusters = Math.ceil(length / this.#geometry.clusterBytes);
    const bytes = new Uint8Array(wanted);
    const runs = this.#heap.stored({ first: cluster, clusters, contiguous: false }, offset, wanted);
    readRuns(this.#device, runs, bytes, () => {});
    return bytes;
  }

  #measure(): GuestFileSystem["space"] {
    const { clusterBytes, clusterCount, percentInUse = 100 } = this.#geometry;
    const noted = Math.floor(clusterCount * (100 - percentInUse) / 100);
    return {
      blockBytes: clusterBytes,
      blocks: clusterCount,
      freeBlocks: unlessDamaged(() => this.#countFree()) ?? noted,
      inodes: 0,
      freeInodes: 0,
    };
  }

  /** Bits of the bitmap that are 0, or `undefined` when it is not there or counting would take long. */
  #countFree(): number | undefined {
    const { bitmap, clusterCount } = this.#geometry;
    const place = this.#facts.bitmaps[bitmap];
    const length = Math.ceil(clusterCount / 8);
    if (place === undefined || place.length < length || length > COUNTED_BYTES_MAX) return undefined;
    let used = 0;
    for (let at = 0; at < length; at += COUNT_BYTES) {
      const bytes = this.#readTable(place, at, Math.min(COUNT_BYTES, length - at));
      const spare = at + bytes.length === length ? length * 8 - clusterCount : 0;
      const last = bytes.length - 1;
      bytes[last] = (bytes[last] ?? 0) & (0xff >>> spare);
      for (const byte of bytes) used += ONES[byte] ?? 0;
    }
    return clusterCount - used;
  }
}

/** How many bits of a byte are 1. */
const ONES = Uint8Array.from({ length: 256 }, (_, byte) => {
  let ones = 0;
  for (let rest = byte; rest > 0; rest >>>= 1) ones += rest & 1;
  return ones;
});

/** The result, or `undefined` when something is damaged, which `onDamage` is told. */
function unlessDamaged<Result>(
  work: () => Result,
  onDamage?: (damage: VarveError) => void,
): Result | undefined {
  try {
    return work();
  } catch (thrown) {
    if (!(thrown instanceof VarveError && thrown.code === "damaged")) throw thrown;
    onDamage?.(thrown);
    return undefined;
  }
}

/** The same items, and at their end the failure that was noted on the way. */
function* withFailure<Item>(items: Iterable<Item>, failure: () => VarveError | undefined): Generator<Item> {
  yield* items;
  const noted = failure();
  if (noted !== undefined) throw noted;
}

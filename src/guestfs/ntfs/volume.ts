/**
 * What all of one NTFS volume shares: geometry, sources, tables and caches.
 *
 * @module
 */
import type { BlockDevice } from "../../base/block_device.ts";
import { VarveError } from "../../base/errors.ts";
import { damaged, u8 } from "../_bytes.ts";
import { ByteLru } from "../_lru.ts";
import { BOOT_SECTOR_BYTES, type Geometry, parseBootSector } from "./boot_sector.ts";
import { ATTRIBUTE, type FileReference, RECORD } from "./format.ts";
import { NtfsInode } from "./inode.ts";
import type { IndexNode } from "./index_node.ts";
import { MasterFileTable } from "./master_file_table.ts";
import { MetadataSource } from "./metadata_source.ts";
import { readUtf16, Upcase } from "./names.ts";
import { isCurrent } from "./record.ts";
import { StreamContext } from "./stream.ts";

const INODE_CACHE_BYTES = 2 * 1024 * 1024;
const NODE_CACHE_BYTES = 8 * 1024 * 1024;
const UPCASE_BYTES_MAX = 2 * 65_536;

/** An NTFS volume. */
export class NtfsVolume {
  /** The device that it lies on. */
  readonly device: BlockDevice;
  /** Its sizes and places. */
  readonly geometry: Geometry;
  /** Where metadata is read from. */
  readonly metadata: MetadataSource;
  /** What its streams share. */
  readonly streams: StreamContext;
  /** Its records. */
  readonly mft: MasterFileTable;
  /** Its label. */
  readonly label: string;
  /** Blocks of directories, by where they lie. */
  readonly nodes: ByteLru<IndexNode> = new ByteLru(NODE_CACHE_BYTES);
  readonly #inodes = new ByteLru<NtfsInode>(INODE_CACHE_BYTES);
  #upcase: Upcase | undefined;

  /** Opens a volume. Throws `damaged`, and `unsupported` for versions of NTFS that nobody knows. */
  constructor(device: BlockDevice) {
    const boot = new Uint8Array(BOOT_SECTOR_BYTES);
    if (device.sizeBytes < boot.length) throw damaged("opening an NTFS volume", `${device.sizeBytes} bytes`);
    device.read(0, boot);
    this.device = device;
    this.geometry = parseBootSector(boot, device.sizeBytes);
    this.streams = new StreamContext(this.geometry);
    this.metadata = new MetadataSource(device);
    this.mft = new MasterFileTable(this.streams, this.metadata);
    const own = this.inode(RECORD.volume);
    const version = own.needStream(ATTRIBUTE.volumeInformation).readAll(this.metadata, 4096);
    if (u8(version, 8) < 1 || u8(version, 8) > 3) {
      throw new VarveError(
        "unsupported",
        `opening an NTFS volume: version ${u8(version, 8)}.${u8(version, 9)}`,
      );
    }
    const name = own.stream(ATTRIBUTE.volumeName)?.readAll(this.metadata, 4096) ?? new Uint8Array();
    this.label = readUtf16(name, 0, Math.floor(name.length / 2)).toWellFormed();
  }

  /** Its table of upper and lower case. */
  get upcase(): Upcase {
    this.#upcase ??= new Upcase(
      this.inode(RECORD.upcase).needStream(ATTRIBUTE.data).readAll(this.metadata, UPCASE_BYTES_MAX),
    );
    return this.#upcase;
  }

  /** The file of a number. Throws `not-found` and `damaged` as {@linkcode NtfsInode}. */
  inode(number: number): NtfsInode {
    const cached = this.#inodes.get(number);
    if (cached !== undefined) return cached;
    const inode = new NtfsInode(this, number);
    this.#inodes.set(number, inode, inode.weightBytes);
    return inode;
  }

  /** Whether the file that a reference means is still there. */
  holds(reference: FileReference): boolean {
    const record = this.mft.find(reference.record);
    return record?.inUse === true && isCurrent(record, reference);
  }
}

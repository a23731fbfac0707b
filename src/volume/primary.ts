/**
 * The live bytes of a volume: a file or a block device that hosts' writes end up in.
 *
 * @module
 */
import { BLOCK_BYTES } from "../base/block_device.ts";
import { VarveError } from "../base/errors.ts";
import type { MapExtent } from "../catalog/recovery_map.ts";
import type { DiskFile } from "../disk/mod.ts";
import type { SegmentReader } from "../journal/mod.ts";

/** Most bytes moved between two looks at other work: read, proved and written while they are in the processor's cache. */
const SLICE_BYTES = 256 << 10;

/**
 * Most bytes of one write. Linux keeps what one write brings in one piece of its cache, up to 2 MiB of it, and each later
 * write of a single block then looks at every block of that piece, which takes longer than the write.
 */
const WRITE_BYTES = 64 * 1024;
/** A run of so many blocks goes on to storage at once. */
const LONG_RUN_BLOCKS = 64;

/** What a primary is kept on. */
export interface PrimaryOptions {
  /** Whether it is a block device, whose size nobody here can change. Default false. */
  readonly isDevice?: boolean;
  /** Whether it is a file of Varve's own: then nothing that counts lies beyond the volume's end. Default false. */
  readonly isManaged?: boolean;
}

/** A primary. The file or device may be larger than the volume: what lies beyond its end is never touched. */
export class Primary {
  readonly #file: DiskFile;
  readonly #isDevice: boolean;
  readonly #isManaged: boolean;
  #sizeBytes: number;
  readonly #scratch = new Uint8Array(SLICE_BYTES);

  /** Takes over `file`, which is closed with the primary. */
  constructor(
    file: DiskFile,
    sizeBytes: number,
    { isDevice = false, isManaged = false }: PrimaryOptions = {},
  ) {
    this.#file = file;
    this.#sizeBytes = sizeBytes;
    this.#isDevice = isDevice;
    this.#isManaged = isManaged;
  }

  /** Up to here commands are brought to the primary, in bytes; the file is at least as long. */
  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  /** What there is of the file or device, in bytes. */
  get storedBytes(): number {
    return this.#file.sizeBytes();
  }

  /** From now on commands are brought to the primary up to here, as far as there is something of it. */
  setSize(sizeBytes: number): void {
    this.#sizeBytes = Math.min(sizeBytes, this.storedBytes);
  }

  /**
   * Makes room for a volume that grows from `endBytes` to `sizeBytes`, durably. What a file of Varve's own has left
   * beyond the end is zeroed; of any other it stays. Throws `invalid` when a block device is too small.
   */
  async extend(endBytes: number, sizeBytes: number): Promise<void> {
    if (this.#isManaged && this.storedBytes > endBytes) this.#file.truncate(endBytes);
    const found = this.storedBytes;
    if (found < sizeBytes && this.#isDevice) {
      throw new VarveError(
        "invalid",
        `extend the primary ${this.#file.path}: the device has ${found} bytes, not ${sizeBytes}`,
        { field: "sizeBytes", hint: "Enlarge the device first, for example with lvextend." },
      );
    }
    if (found < sizeBytes) this.#file.truncate(sizeBytes);
    await this.#file.sync();
  }

  /** Gives back what a file of Varve's own has beyond the volume's end, durably. */
  async cut(): Promise<void> {
    if (!this.#isManaged || this.storedBytes <= this.#sizeBytes) return;
    this.#file.truncate(this.#sizeBytes);
    await this.#file.sync();
  }

  /** See `DiskFile.threadPath`. */
  get threadPath(): string | undefined {
    return this.#file.threadPath;
  }

  /** Fills `target` from `offset`. A primary that has become too short is an error, never zeroes. */
  read(offset: number, target: Uint8Array): void {
    const got = this.#file.read(offset, target);
    if (got !== target.length) {
      throw new VarveError(
        "io",
        `read ${target.length} bytes at ${offset} of the primary ${this.#file.path}: it ends after ${got} of them`,
        { hint: "Something else has shortened the primary; recover the volume from its history." },
      );
    }
  }

  /**
   * Brings one extent from the journal to the primary. The bytes are proved right first.
   * Yields after each slice. What lies beyond the end is left out: the volume was larger when it was captured, or is
   * about to be.
   */
  *apply(extent: MapExtent, segments: SegmentReader): Generator<void> {
    const start = extent.firstBlock * BLOCK_BYTES;
    if (start >= this.sizeBytes) return;
    if (extent.segment === 0) {
      this.#file.discard(start, Math.min(extent.blockCount * BLOCK_BYTES, this.sizeBytes - start));
      return;
    }
    const sliceBlocks = SLICE_BYTES / BLOCK_BYTES;
    for (let done = 0; done < extent.blockCount; done += sliceBlocks) {
      const blockCount = Math.min(sliceBlocks, extent.blockCount - done);
      const bytes = this.#scratch.subarray(0, blockCount * BLOCK_BYTES);
      segments.readBlocks({
        segment: extent.segment,
        recordOffset: extent.recordOffset,
        payloadBlock: extent.payloadBlock + done,
        blockCount,
        seq: extent.seq,
        firstBlock: extent.firstBlock + done,
      }, bytes);
      const at = start + done * BLOCK_BYTES;
      if (at >= this.sizeBytes) return;
      this.#write(at, bytes.subarray(0, Math.min(bytes.length, this.sizeBytes - at)));
      yield;
    }
    // What is scattered may be written again before it is due; of a long run nothing is gained by waiting.
    if (extent.blockCount >= LONG_RUN_BLOCKS) {
      this.#file.beginWriting?.(start, extent.blockCount * BLOCK_BYTES);
    }
  }

  /** Writes past the journal: in a gap of the history alone. */
  write(offset: number, data: Uint8Array): void {
    this.#write(offset, data);
  }

  #write(offset: number, data: Uint8Array): void {
    for (let done = 0; done < data.length; done += WRITE_BYTES) {
      this.#file.write(offset + done, data.subarray(done, done + WRITE_BYTES));
    }
  }

  /** Makes a range read as zeroes, past the journal: in a gap of the history alone. */
  zero(offset: number, length: number): void {
    this.#file.discard(offset, length);
  }

  /** The first byte at or after `offset` that is of that kind, as the storage tells it. */
  seek(offset: number, kind: "data" | "hole"): number | undefined {
    return this.#file.seek(offset, kind);
  }

  /** Resolves when everything applied before the call survives power loss. */
  sync(): Promise<void> {
    return this.#file.sync();
  }

  /** Makes reads show what storage has, and nothing that memory alone holds. */
  forgetCached(): void {
    this.#file.forgetCached();
  }

  /** Closes the file. */
  close(): void {
    this.#file.close();
  }
}

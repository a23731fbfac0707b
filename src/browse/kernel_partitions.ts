/**
 * Partitions that Varve does not read itself: read by the host's kernel where that is allowed, and what else a text says about them.
 *
 * @module
 */
import type { BlockDevice } from "../base/block_device.ts";
import { VarveError } from "../base/errors.ts";
import { kernelFormatOf } from "./kernel_format.ts";
import type { KernelRead, KernelReading } from "./kernel_reading.ts";
import type { PastDisk, PastPartition } from "./past_file_system.ts";
import { readPieces } from "./pieces.ts";
import type { SandboxMoment } from "./sandbox.ts";

/** Partitions of one disk that the kernel is asked about at most. */
const PARTITIONS_MAX = 16;

/** Reads partitions of one moment through the kernel, until it is closed. */
export class KernelPartitions {
  readonly #moment: SandboxMoment;
  readonly #device: BlockDevice;
  readonly #kernel: KernelReading | undefined;
  #reads: Exclude<KernelRead, { refused: string }>[] = [];
  #closed = false;

  /** Without `kernel` it only tells that there is that way. */
  constructor(moment: SandboxMoment, device: BlockDevice, kernel: KernelReading | undefined) {
    this.#moment = moment;
    this.#device = device;
    this.#kernel = kernel;
  }

  /** The same disk, with what the kernel reads of it. Rejects when storage fails or the kernel took too long. */
  async add(disk: PastDisk): Promise<PastDisk> {
    const partitions: PastPartition[] = [];
    let left = PARTITIONS_MAX;
    for (const partition of disk.partitions) {
      const type = isForKernel(partition) ? this.#formatOf(partition) : undefined;
      partitions.push(type === undefined || left-- <= 0 ? partition : await this.#read(partition, type));
    }
    return { ...disk, partitions };
  }

  #formatOf({ pieces }: PastPartition): string | undefined {
    const sizeBytes = pieces.reduce((sum, { length }) => sum + length, 0);
    if (pieces.some(({ offset, length }) => offset + length > this.#device.sizeBytes)) return undefined;
    try {
      return kernelFormatOf(
        sizeBytes,
        (offset, target) => readPieces(this.#device, pieces, offset, target),
      );
    } catch (thrown) {
      if (thrown instanceof VarveError && thrown.code === "damaged") return undefined;
      throw thrown;
    }
  }

  async #read(partition: PastPartition, type: string): Promise<PastPartition> {
    if (this.#kernel === undefined) return { ...partition, hint: hintOf(type) };
    const { name, pieces, reason } = partition;
    const read = await this.#kernel.open({ ...this.#moment, name, pieces, type });
    if ("refused" in read) {
      return {
        ...partition,
        reason: `${reason}; the host's kernel does not read it either: ${read.refused}`,
      };
    }
    if (this.#closed) read.close();
    else this.#reads.push(read);
    return { name, pieces, fileSystem: read.fileSystem, reason: undefined };
  }

  /** Gives back what it holds. */
  close(): void {
    this.#closed = true;
    for (const read of this.#reads) read.close();
    this.#reads = [];
  }
}

/** What is damaged is left alone: the kernel's drivers are not made for disks that were damaged on purpose. */
function isForKernel({ fileSystem, refusal }: PastPartition): boolean {
  return fileSystem === undefined && (refusal === undefined || refusal === "unsupported");
}

function hintOf(type: string): string {
  return `The host's kernel may be able to read it, by its driver ${type}: start the appliance with --kernel-readers.\n` +
    "That is off unless it is asked for: whoever writes to this volume would reach the host's kernel with a disk that\n" +
    "may have been damaged on purpose, and a fault in that driver would be a fault of the whole host.";
}

/**
 * The host's kernel as a reader of what Varve does not read itself.
 *
 * It is asked only about formats for which it has a driver by name, and never to do more than to mount read-only. What it sees is
 * a disk that it may write to, but whose changes go to an overlay and are forgotten: history is never touched.
 *
 * A hostile disk reaches the kernel here, which is why somebody must have asked for it.
 *
 * @module
 */
import { VarveError } from "../../src/base/errors.ts";
import type { KernelPartition, KernelRead, KernelReading } from "../../src/browse/kernel_reading.ts";
import { FileHandles } from "./file_handles.ts";
import { KernelFileSystem } from "./kernel_file_system.ts";
import { MountedDisks, type MountedDisksOptions } from "./mounted_disks.ts";

/** What {@linkcode KernelReaders} may be told. */
export interface KernelReadersOptions extends MountedDisksOptions {
  /** Handles of files that are kept at most. Default 400,000. */
  readonly handlesMax?: number;
}

/** Has the host's kernel read partitions. Needs root. */
export class KernelReaders implements KernelReading {
  readonly #disks: MountedDisks;
  readonly #handles: FileHandles;

  /** Starts nothing yet. */
  constructor({ handlesMax, ...options }: KernelReadersOptions = {}) {
    this.#disks = new MountedDisks(options);
    this.#handles = new FileHandles(handlesMax);
  }

  /** Mounts a partition, or says why the kernel does not. */
  async open(partition: KernelPartition): Promise<KernelRead> {
    if (Deno.uid() !== 0) return { refused: "mounting it needs root" };
    const disks = this.#disks;
    try {
      const summary = await disks.use(partition, ({ summary }) => Promise.resolve(summary));
      return {
        fileSystem: new KernelFileSystem({ partition, summary, disks, handles: this.#handles }),
        close: () => disks.leave(partition),
      };
    } catch (thrown) {
      const error = VarveError.from(thrown, "have the kernel read a partition");
      if (error.code === "unsupported" || error.code === "damaged") return { refused: error.message };
      throw error;
    }
  }

  /** Unmounts everything. */
  close(): Promise<void> {
    return this.#disks.close();
  }
}

/** What a Worker that reads files of the past is told to use. */
export function makeKernelReading(): KernelReading {
  return new KernelReaders();
}

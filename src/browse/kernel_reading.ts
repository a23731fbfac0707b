/**
 * What lets the host's kernel read partitions that Varve does not read itself; whoever can do that offers it to a `PastBrowser`.
 *
 * @module
 */
import type { DiskPiece } from "../guestfs/guest.ts";
import type { PastFileSystem } from "./past_file_system.ts";
import type { SandboxMoment } from "./sandbox.ts";

/** A partition of a moment, and what to read it as. */
export interface KernelPartition extends SandboxMoment {
  /** Its name on the disk. */
  readonly name: string;
  /** Where it lies there. */
  readonly pieces: readonly DiskPiece[];
  /** Name of the kernel's driver. */
  readonly type: string;
}

/** What came of asking the kernel. */
export type KernelRead =
  /** It reads it. `close` says that the moment is closed; the file system is not used afterwards. */
  | { readonly fileSystem: PastFileSystem; close(): void }
  /** It does not; a part of a sentence that says why. */
  | { readonly refused: string };

/** The host's kernel as a reader. */
export interface KernelReading {
  /** Has the kernel read a partition. Rejects when storage fails or when it took too long. */
  open(partition: KernelPartition): Promise<KernelRead>;
  /** Ends all of it. */
  close(): Promise<void>;
}

/**
 * The one interface that everything block-shaped speaks: the live volume, a view of the past, a partition
 * inside either, and the doubles that tests wrap around them.
 *
 * @module
 */

/** The unit in which history keeps versions. A host may use any offset and length all the same. */
export const BLOCK_BYTES = 4096;

/** A run of bytes that is either stored data or a hole that reads as zeroes. */
export interface Extent {
  /** First byte. */
  readonly offset: number;
  /** Number of bytes. */
  readonly length: number;
  /** A hole reads as zeroes and takes no space. */
  readonly kind: "data" | "hole";
}

/** Who sent a command; the journal keeps it with the record. */
export interface CommandOptions {
  /** Number of the connection that sent the command; 0 is Varve itself. */
  readonly client?: number;
  /** The host asked for this command to be durable before its answer (FUA). */
  readonly fua?: boolean;
}

/**
 * A random-access array of bytes.
 *
 * Reads and writes are synchronous: positional system calls cost a few microseconds, while each `await` costs
 * a hop between threads. Durability is asynchronous, because it waits for storage.
 *
 * A caller that acknowledges commands to a host calls, in this order: the commands, `commit()` once for the
 * batch, then the acknowledgements; for FLUSH it awaits `flush()`, for FUA `sync()`, before acknowledging.
 *
 * Every method throws {@linkcode VarveError}: `out-of-range` when offset and length leave the device,
 * `read-only` when it cannot be written, `no-space`, `io`, or `damaged` when bytes cannot be proved right.
 * A device that threw from `read` may still be read elsewhere.
 */
export interface BlockDevice {
  /** Size in bytes; need not be a multiple of {@linkcode BLOCK_BYTES}. */
  readonly sizeBytes: number;
  /** Whether every changing call throws `read-only`. */
  readonly readOnly: boolean;
  /** Fills `target` completely from `offset`. The caller owns `target`; a zero length is allowed. */
  read(offset: number, target: Uint8Array): void;
  /** Writes all of `data` at `offset`. The callee has copied or stored `data` when this returns. */
  write(offset: number, data: Uint8Array, options?: CommandOptions): void;
  /** Tells that the range is no longer needed; it reads as zeroes from then on. */
  trim(offset: number, length: number, options?: CommandOptions): void;
  /** Makes the range read as zeroes. */
  zero(offset: number, length: number, options?: CommandOptions): void;
  /** Puts every command so far out of the process's hands, so that they survive its death. */
  commit(): void;
  /**
   * When commands are not out of the process's hands by `commit`, because something else has to be durable first:
   * resolves when they are, rejects when they are refused. To be asked after `commit`, and waited for before they are
   * acknowledged. A device that never holds commands leaves it out.
   */
  held?(): Promise<void> | undefined;
  /**
   * When more has been written than storage keeps up with: resolves once the device takes more without its memory
   * growing beyond its budget. Asked after each batch; never rejects. A device without a budget leaves it out.
   */
  pressure?(): Promise<void> | undefined;
  /**
   * When the device has much to do before it can take a change of a range, such as keeping what an adopted disk held
   * there: resolves once the change itself is quick. Rejects with what the change would throw. Asked before a change;
   * one that comes unasked is right too, but may take long.
   */
  prepare?(offset: number, length: number): Promise<void> | undefined;
  /** A boundary the host asked for: resolves when every command before the call survives power loss. */
  flush(options?: CommandOptions): Promise<void>;
  /** As `flush`, but records no boundary: the promise behind FUA. */
  sync(): Promise<void>;
  /**
   * The data and holes of a range, in order, without overlaps; neighbours differ in kind. They cover it completely, or with
   * `max`, when there are more than so many, from its start on as far as `max` of them go.
   */
  extents(offset: number, length: number, max?: number): Extent[];
}

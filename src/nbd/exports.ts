/**
 * What the NBD server needs from whoever owns the devices.
 *
 * @module
 */
import type { BlockDevice } from "../base/block_device.ts";

/** Who opens an export. */
export interface ClientInfo {
  /** Address of the other end: `HOST:PORT`, or `unix`. */
  readonly peer: string;
}

/** One line of the list of exports. */
export interface ExportEntry {
  /** The name a client asks for; at most 4096 bytes of UTF-8. */
  readonly name: string;
  /** For people. */
  readonly description: string;
}

/** An export opened for one connection. */
export interface OpenExport {
  /** The device behind it. Its size and whether it is read-only are told to the client once, at the start. */
  readonly device: BlockDevice;
  /** For people. */
  readonly description: string;
  /** Number of the connection, passed with every command as `CommandOptions.client`. */
  readonly client: number;
  /** Called exactly once, when the connection has ended and no command of it is under way. */
  close(): Promise<void> | void;
}

/** Finds exports by name. */
export interface ExportProvider {
  /** The exports to list; others may be opened as well. */
  list(): ExportEntry[] | Promise<ExportEntry[]>;
  /**
   * Opens an export. Names are UTF-8 and may hold spaces and colons; the empty name asks for a default.
   * `undefined` means that there is none of that name. The message of a thrown `VarveError` goes to the client,
   * with the option error that fits its code.
   */
  open(name: string, client: ClientInfo): Promise<OpenExport | undefined>;
}

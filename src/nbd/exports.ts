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
  /** The process and user at the other end of a Unix socket, as the kernel tells them. */
  readonly credentials?: { readonly pid: number; readonly uid: number; readonly gid: number };
  /** Whether the connection is encrypted. */
  readonly tls?: boolean;
  /** Subject of the certificate that the client has proved to own. */
  readonly certificate?: string;
}

/** A run of a map, which begins where the one before ended. */
export interface MapRun {
  /** Number of bytes, above 0. */
  readonly length: number;
  /** What the map says of them, in the bits of its context. */
  readonly flags: number;
}

/** A map of an export that a client has asked for by its name: a metadata context. */
export interface ExportMap {
  /**
   * At most `max` runs that cover a range from its start on as far as they go, at least one, none beyond the range; two
   * neighbours differ in their flags.
   */
  runs(offset: number, length: number, max: number): MapRun[] | Promise<MapRun[]>;
}

/** Maps of an export beside `base:allocation`, which the server makes of `BlockDevice.extents`. */
export interface ExportMaps {
  /** Names of maps to list; others may be opened as well. */
  list(): string[] | Promise<string[]>;
  /** Opens a map by its exact name, of an open export; `undefined` when there is none. Throws as `ExportProvider.open`. */
  open(name: string): Promise<ExportMap | undefined>;
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
  /** More maps of it. Default: none. */
  readonly maps?: ExportMaps;
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

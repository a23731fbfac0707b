/**
 * How bytes reach storage. Journal, catalogue and primary write through this interface alone, so that a faulty
 * double can stand in for the machine's disk.
 *
 * @module
 */
import type { DatabaseSync } from "node:sqlite";

/** What `stat` tells. */
export interface DiskStat {
  /** `other` is anything Varve does not store to: directories, pipes, terminals. */
  readonly kind: "file" | "block" | "other";
  /** Size in bytes; for a block device that of the device. */
  readonly sizeBytes: number;
  /** Bytes of storage taken; 0 for a block device. */
  readonly allocatedBytes: number;
  /** Identity of the file, the same through every name and link that leads to it. */
  readonly identity: string;
}

/** Options of {@linkcode Disk.open}. */
export interface DiskOpenOptions {
  /** `read`: must exist. `write`: must exist. `create`: made when missing. `create-new`: must not exist. Default `read`. */
  readonly mode?: "read" | "write" | "create" | "create-new";
}

/**
 * An open file or block device. Positional and synchronous, apart from `sync`.
 * Every method throws `VarveError` with the path and the operating system's own words.
 */
export interface DiskFile {
  /** The path it was opened by. */
  readonly path: string;
  /**
   * A path by which another thread opens this very file while it is open here, whatever its name leads to by then.
   * Left out where other threads cannot.
   */
  readonly threadPath?: string;
  /** Reads up to `target.length` bytes; returns how many, fewer only at the end. */
  read(offset: number, target: Uint8Array): number;
  /** Writes all of the parts one after the other from `offset` on; nothing is durable before `sync`. */
  write(offset: number, ...parts: Uint8Array[]): void;
  /** Makes a range read as zeroes, giving its space back where the storage can. */
  discard(offset: number, length: number): void;
  /**
   * Reserves space so that writes into the range cannot fail for want of it; keeps the size. Throws `no-space` when
   * there is not enough, and then nothing that counts has changed. Best effort where unsupported.
   */
  reserve(offset: number, length: number): void;
  /** Sets the size, and gives back space reserved beyond it. */
  truncate(sizeBytes: number): void;
  /** As `truncate`, while other work goes on. Left out where that never takes long. */
  cut?(sizeBytes: number): Promise<void>;
  /** Size in bytes. */
  sizeBytes(): number;
  /** The first byte at or after `offset` that is of that kind, or `undefined` when there is none before the end. */
  seek(offset: number, kind: "data" | "hole"): number | undefined;
  /** Has storage begin to write a range, and does not wait for it. Best effort; promises nothing. */
  beginWriting?(offset: number, length: number): void;
  /** Resolves when every write that had returned before the call survives power loss. */
  sync(): Promise<void>;
  /**
   * Lets go of what memory holds of a range beside storage, so that reads show what storage has; without a length of all
   * from `offset` on. They could show more
   * after a sync that has failed, even one of an earlier process. What waits for a sync stays. Best effort.
   */
  forgetCached(offset?: number, length?: number): void;
  /** Closes it; using it afterwards is a mistake. */
  close(): void;
}

/** Space of a file system. */
export interface DiskSpace {
  /** Its size in bytes. */
  readonly totalBytes: number;
  /** Bytes that Varve may still take. */
  readonly freeBytes: number;
  /** Which file system it is; left out where there is only one. */
  readonly fileSystem?: string;
}

/** A lock that is held. */
export interface DiskLock {
  /** Gives it back. */
  release(): void;
}

/** Somewhere files are kept. */
export interface Disk {
  /** Opens a file or block device. */
  open(path: string, options?: DiskOpenOptions): DiskFile;
  /** What is at a path, symbolic links followed, or `undefined`. */
  stat(path: string): DiskStat | undefined;
  /** Names in a directory, sorted; empty when it does not exist. */
  list(directory: string): string[];
  /** Makes a directory and those above it, with mode 0700. */
  makeDirectory(path: string): void;
  /** Takes a file away; no error when there is none. */
  remove(path: string): void;
  /** Takes a directory and all in it away; no error when there is none. */
  removeTree(path: string): void;
  /** Renames a file over whatever is at `target`. */
  rename(source: string, target: string): void;
  /** Resolves when the names in a directory survive power loss. */
  syncDirectory(path: string): Promise<void>;
  /** Space of the file system that holds an existing path. */
  space(path: string): DiskSpace;
  /** Takes a lock on a file, made when missing; `undefined` when somebody else holds it. Ends with the process. */
  lock(path: string): DiskLock | undefined;
  /** Opens an SQLite database, made when missing unless `readOnly`. SQLite does its own reading, writing and syncing. */
  openDatabase(path: string, options?: { readonly readOnly?: boolean }): DatabaseSync;
  /** Takes a closed database away with the files that belong to it; no error when there is none. */
  removeDatabase(path: string): void;
  /**
   * Makes a closed database durable and gives it another name, with the files that belong to it, over whatever has that
   * name; durable when it resolves. No error when there is none.
   */
  renameDatabase(source: string, target: string): Promise<void>;
}

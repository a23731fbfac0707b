/**
 * The byte stream under one NBD connection.
 *
 * @module
 */
import type { ClientInfo } from "./exports.ts";

/**
 * A two-way byte stream. One reader and one writer use it at the same time; neither calls itself twice at once.
 *
 * A transport that has bytes at hand may answer `read` without a promise, which saves a hop; one that does so
 * again and again lets other connections run in between.
 */
export interface Transport {
  /** Who is at the other end, for people and logs. */
  readonly peer: string;
  /** The process and user at the other end, where the kernel tells them. */
  readonly credentials?: NonNullable<ClientInfo["credentials"]>;
  /** Puts what has arrived, at least one byte, into `target` and tells how many; `null` at the end. Throws when closed. */
  read(target: Uint8Array): number | null | Promise<number | null>;
  /**
   * Fills the whole of `target` while this thread does other work; `false` when the stream ends before. It takes the
   * place of `read` for bytes that are known to come, many of them; `target` belongs to it until it resolves. Throws
   * when closed. A transport without it has nothing better than `read`.
   */
  readAll?(target: Uint8Array): Promise<boolean>;
  /** Sends all bytes of all buffers, in order; the buffers are free again when it resolves. Throws when closed. */
  write(buffers: readonly Uint8Array[]): void | Promise<void>;
  /** Ends both directions at once; pending and later calls fail. May be called again. */
  close(): void;
}

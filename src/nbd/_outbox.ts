/** Replies on their way to a client. */
import type { Transport } from "./transport.ts";

const CHUNK_BYTES = 64 * 1024;
/** Chunks kept for reuse, together. */
const KEEP_BYTES = 8 * 1024 * 1024;

/** Memory for replies. */
export interface Chunk {
  /** All of it. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** The same. */
  readonly view: DataView;
  /** Where the next byte goes. */
  used: number;
}

/**
 * Replies are encoded straight into chunks, data included, and `publish` hands over all of them in one write. While
 * a write is under way, what is published gathers for the next one. After a failed write or `close` nothing is
 * sent any more.
 */
export class Outbox {
  readonly #transport: Transport;
  #chunks: Chunk[] = [];
  #spare: Chunk[] = [];
  #spareBytes = 0;
  #pendingBytes = 0;
  #writing = false;
  #closed = false;
  #waiting: { limitBytes: number; resolve: () => void }[] = [];

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** Bytes of replies that have not been handed to the transport completely. */
  get pendingBytes(): number {
    return this.#pendingBytes;
  }

  /** Whether nothing is sent any more. */
  get closed(): boolean {
    return this.#closed;
  }

  /** Appends bytes as they are. */
  append(bytes: Uint8Array): void {
    const chunk = this.reserve(bytes.length);
    chunk.bytes.set(bytes, chunk.used);
    this.advance(bytes.length);
  }

  /** Makes room for `bytes` bytes from the chunk's `used` on; they are not part of the replies before `advance`. */
  reserve(bytes: number): Chunk {
    const last = this.#chunks.at(-1);
    if (last !== undefined && last.bytes.length - last.used >= bytes) return last;
    const chunk = this.#takeSpare(bytes) ?? makeChunk(bytes);
    this.#chunks.push(chunk);
    return chunk;
  }

  /** Appends what was put into the room that was reserved last. */
  advance(bytes: number): void {
    const chunk = this.#chunks.at(-1);
    if (chunk === undefined) return;
    chunk.used += bytes;
    this.#pendingBytes += bytes;
  }

  /** Sends what was appended. */
  publish(): void {
    if (!this.#writing && !this.#closed && this.#chunks.length > 0) void this.#write();
  }

  /** Resolves when at most `limitBytes` are pending, or nothing is sent any more. */
  drained(limitBytes: number): Promise<void> {
    if (this.#pendingBytes <= limitBytes || this.#closed) return Promise.resolve();
    return new Promise((resolve) => this.#waiting.push({ limitBytes, resolve }));
  }

  /** Drops what is pending and closes the transport. */
  close(): void {
    this.#closed = true;
    this.#chunks = [];
    this.#transport.close();
    this.#wake();
  }

  async #write(): Promise<void> {
    this.#writing = true;
    try {
      while (this.#chunks.length > 0) {
        const chunks = this.#chunks;
        this.#chunks = [];
        await this.#transport.write(chunks.map((chunk) => chunk.bytes.subarray(0, chunk.used)));
        for (const chunk of chunks) this.#recycle(chunk);
        this.#wake();
      }
    } catch {
      this.close();
    } finally {
      this.#writing = false;
    }
  }

  /** The smallest spare chunk that is large enough. */
  #takeSpare(bytes: number): Chunk | undefined {
    let best: Chunk | undefined;
    for (const chunk of this.#spare) {
      if (chunk.bytes.length >= bytes && chunk.bytes.length < (best?.bytes.length ?? Infinity)) best = chunk;
    }
    if (best === undefined) return undefined;
    this.#spare.splice(this.#spare.indexOf(best), 1);
    this.#spareBytes -= best.bytes.length;
    return best;
  }

  #recycle(chunk: Chunk): void {
    this.#pendingBytes -= chunk.used;
    chunk.used = 0;
    if (this.#spareBytes + chunk.bytes.length > KEEP_BYTES) return;
    this.#spareBytes += chunk.bytes.length;
    this.#spare.push(chunk);
  }

  #wake(): void {
    const ready = (waiter: { limitBytes: number }) => this.#closed || this.#pendingBytes <= waiter.limitBytes;
    const woken = this.#waiting.filter(ready);
    this.#waiting = this.#waiting.filter((waiter) => !ready(waiter));
    for (const waiter of woken) waiter.resolve();
  }
}

function makeChunk(bytes: number): Chunk {
  const buffer = new Uint8Array(Math.ceil(bytes / CHUNK_BYTES) * CHUNK_BYTES);
  return { bytes: buffer, view: new DataView(buffer.buffer), used: 0 };
}

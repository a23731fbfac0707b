/** A cache bounded by the bytes it holds; the entry that was used longest ago leaves first. */
export class ByteLru<Value> {
  readonly #maxBytes: number;
  readonly #entries = new Map<number, { value: Value; bytes: number }>();
  #bytes = 0;

  /** Makes an empty cache that keeps at most `maxBytes`. */
  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** The value kept under a key, which becomes the youngest. */
  get(key: number): Value | undefined {
    const entry = this.#entries.get(key);
    if (entry === undefined) return undefined;
    this.#entries.delete(key);
    this.#entries.set(key, entry);
    return entry.value;
  }

  /** Keeps a value that weighs `bytes`, and drops the oldest until the bound holds. */
  set(key: number, value: Value, bytes: number): void {
    this.delete(key);
    this.#entries.set(key, { value, bytes });
    this.#bytes += bytes;
    for (const [oldest, entry] of this.#entries) {
      if (this.#bytes <= this.#maxBytes) break;
      this.#entries.delete(oldest);
      this.#bytes -= entry.bytes;
    }
  }

  /** Forgets a key. */
  delete(key: number): void {
    const entry = this.#entries.get(key);
    if (entry === undefined) return;
    this.#entries.delete(key);
    this.#bytes -= entry.bytes;
  }
}

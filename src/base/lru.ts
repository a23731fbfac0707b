/**
 * A map that keeps what was used last.
 *
 * @module
 */

/** Holds at most `limit` values; the one not used for longest goes first. */
export class Lru<V> {
  readonly #limit: number;
  readonly #onEvict: (value: V) => void;
  readonly #values = new Map<string, V>();

  /** `onEvict` is called for each value that leaves, also by `set` on its key and by `clear`. */
  constructor(limit: number, onEvict: (value: V) => void = () => {}) {
    this.#limit = limit;
    this.#onEvict = onEvict;
  }

  /** Number of values held. */
  get size(): number {
    return this.#values.size;
  }

  /** The value, which thereby counts as just used. */
  get(key: string): V | undefined {
    const value = this.#values.get(key);
    if (value === undefined) return undefined;
    this.#values.delete(key);
    this.#values.set(key, value);
    return value;
  }

  /** Puts a value in. */
  set(key: string, value: V): void {
    this.#drop(key);
    this.#values.set(key, value);
    for (const oldest of this.#values.keys()) {
      if (this.#values.size <= this.#limit) break;
      this.#drop(oldest);
    }
  }

  /** Takes a value out. */
  delete(key: string): void {
    this.#drop(key);
  }

  /** Lets every value go. */
  clear(): void {
    for (const key of [...this.#values.keys()]) this.#drop(key);
  }

  #drop(key: string): void {
    const value = this.#values.get(key);
    if (value === undefined) return;
    this.#values.delete(key);
    this.#onEvict(value);
  }
}

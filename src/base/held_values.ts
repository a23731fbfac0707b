/**
 * Things that are open, those used last, each closed only when nobody uses it.
 *
 * @module
 */
import type { Awaitable } from "./awaitable.ts";
import { Lru } from "./lru.ts";

/** Something that is to be closed. */
export interface Closable {
  /** Gives back what it holds. */
  close(): void;
}

class Held<V extends Closable> {
  readonly #value: V;
  #users = 1;

  constructor(value: V) {
    this.#value = value;
  }

  use<T>(work: (value: V) => Awaitable<T>): Awaitable<T> {
    const result = work(this.#value);
    if (!(result instanceof Promise)) return result;
    this.#users++;
    return result.finally(() => this.release());
  }

  release(): void {
    if (--this.#users === 0) this.#value.close();
  }
}

/** Holds at most `limit` values; the one not used for longest is closed first, once its users are done. */
export class HeldValues<V extends Closable> {
  readonly #values: Lru<Held<V>>;

  /** Holds nothing yet. */
  constructor(limit: number) {
    this.#values = new Lru(limit, (held) => held.release());
  }

  /** Puts a value in; one that was there under its key leaves. */
  add(key: string, value: V): void {
    this.#values.set(key, new Held(value));
  }

  /**
   * What `work` answers about the value, which stays open until that is there; `undefined` when there is no such value. What `work` is
   * given must not be kept beyond that.
   */
  use<T>(key: string, work: (value: V) => Awaitable<T>): { readonly result: Awaitable<T> } | undefined {
    const held = this.#values.get(key);
    return held && { result: held.use(work) };
  }

  /** Lets every value go. */
  clear(): void {
    this.#values.clear();
  }
}

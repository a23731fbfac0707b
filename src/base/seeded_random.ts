/**
 * Random numbers that repeat themselves: for simulations and tests, never for secrets.
 *
 * @module
 */

/** A random source that its seed determines: SplitMix32 to seed, xoshiro128** by Blackman and Vigna to go on. */
export class SeededRandom {
  readonly #state = new Uint32Array(4);
  readonly #result = new Uint32Array(1);

  /** Begins at `seed`; equal seeds give equal numbers. */
  constructor(seed: number) {
    let mixed = seed >>> 0;
    for (let index = 0; index < 4; index++) {
      mixed = (mixed + 0x9e3779b9) >>> 0;
      let word = mixed;
      word = Math.imul(word ^ (word >>> 16), 0x21f0aaad);
      word = Math.imul(word ^ (word >>> 15), 0x735a2d97);
      this.#state[index] = (word ^ (word >>> 15)) >>> 0;
    }
  }

  /** 32 random bits as a whole number from 0 on. */
  bits(): number {
    const state = this.#state;
    const [a = 0, b = 0, c = 0, d = 0] = state;
    const product = Math.imul(b, 5);
    this.#result[0] = Math.imul((product << 7) | (product >>> 25), 9);
    const mixed = c ^ a;
    const other = d ^ b;
    state[1] = b ^ mixed;
    state[0] = a ^ other;
    state[2] = mixed ^ (b << 9);
    state[3] = (other << 11) | (other >>> 21);
    return this.#result[0] ?? 0;
  }

  /** A whole number from 0 up to, not including, `limit`, which is at least 1. */
  below(limit: number): number {
    return Math.floor((this.bits() / 2 ** 32) * limit);
  }

  /** A whole number from `first` to `last`, both included. */
  between(first: number, last: number): number {
    return first + this.below(last - first + 1);
  }

  /** True once in `times` on average. */
  oneIn(times: number): boolean {
    return this.below(times) === 0;
  }

  /** One of the items, which must not be empty. */
  pick<T>(items: readonly [T, ...T[]]): T {
    return items[this.below(items.length)] ?? items[0];
  }

  /** Random bytes. */
  bytes(length: number): Uint8Array<ArrayBuffer> {
    const bytes = new Uint8Array(length);
    for (let at = 0; at < length; at++) bytes[at] = this.bits();
    return bytes;
  }

  /** Another source that this one's present state determines. */
  fork(): SeededRandom {
    return new SeededRandom(this.bits());
  }
}

/**
 * The hashes by which an indexed directory sorts its names. Which one a directory uses stands in its root
 * block; whether bytes count as signed stands in the superblock.
 *
 * @module
 */

/** Numbers of the hash functions as the root block of a directory names them; 3 to 5 are the unsigned twins. */
export const HASH_LEGACY = 0;
/** Half of MD4. */
export const HASH_HALF_MD4 = 1;
/** Tiny Encryption Algorithm. */
export const HASH_TEA = 2;

/** The distance from a signed variant to its unsigned twin. */
export const HASH_UNSIGNED = 3;

/** The start values of MD4, used when the superblock holds no seed. */
const DEFAULT_SEED: readonly number[] = [0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476];

/** The hash that marks the end of a directory, which no name may have. */
const END_OF_DIRECTORY = 0xfffffffe;

/**
 * The hash of a name, with its lowest bit clear (the index uses that bit as a mark), or `undefined` for a
 * hash function that is not known. `seed` is the four words of the superblock, all zero for none.
 */
export function directoryHash(
  name: Uint8Array,
  version: number,
  seed: readonly number[],
): number | undefined {
  const signed = version < HASH_UNSIGNED;
  const state = Int32Array.from(seed.some((word) => word !== 0) ? seed : DEFAULT_SEED);
  let hash: number;
  switch (signed ? version : version - HASH_UNSIGNED) {
    case HASH_LEGACY:
      hash = legacyHash(name, signed);
      break;
    case HASH_HALF_MD4:
      for (let at = 0; at < name.length; at += 32) halfMd4(state, words(name, at, 8, signed));
      hash = state[1] as number;
      break;
    case HASH_TEA:
      for (let at = 0; at < name.length; at += 16) tea(state, words(name, at, 4, signed));
      hash = state[0] as number;
      break;
    default:
      return undefined;
  }
  const even = (hash & ~1) >>> 0;
  return even === END_OF_DIRECTORY ? END_OF_DIRECTORY - 2 : even;
}

function byteAt(name: Uint8Array, at: number, signed: boolean): number {
  const byte = name[at] as number;
  return signed ? (byte << 24) >> 24 : byte;
}

function legacyHash(name: Uint8Array, signed: boolean): number {
  let current = 0x12a3fe2d;
  let previous = 0x37abe8f9;
  for (let at = 0; at < name.length; at++) {
    let next = (previous + (current ^ Math.imul(byteAt(name, at, signed), 7152373))) | 0;
    if (next < 0) next = (next - 0x7fffffff) | 0;
    previous = current;
    current = next;
  }
  return current << 1;
}

/** Packs the next `count` words of a name, four characters each; what is missing is made of the name's length. */
function words(name: Uint8Array, from: number, count: number, signed: boolean): Int32Array {
  const left = name.length - from;
  const padding = Math.imul(left, 0x01010101);
  const result = new Int32Array(count).fill(padding);
  const end = Math.min(left, count * 4);
  let value = padding;
  for (let at = 0; at < end; at++) {
    value = (byteAt(name, from + at, signed) + (value << 8)) | 0;
    result[at >> 2] = value;
    if ((at & 3) === 3) value = padding;
  }
  return result;
}

const MD4_ROUNDS: readonly {
  readonly add: number;
  readonly order: readonly number[];
  readonly shifts: readonly number[];
}[] = [
  { add: 0, order: [0, 1, 2, 3, 4, 5, 6, 7], shifts: [3, 7, 11, 19] },
  { add: 0x5a827999, order: [1, 3, 5, 7, 0, 2, 4, 6], shifts: [3, 5, 9, 13] },
  { add: 0x6ed9eba1, order: [3, 7, 2, 6, 1, 5, 0, 4], shifts: [3, 9, 11, 15] },
];

function md4Mix(round: number, x: number, y: number, z: number): number {
  if (round === 0) return z ^ (x & (y ^ z));
  if (round === 1) return (x & y) + ((x ^ y) & z);
  return x ^ y ^ z;
}

function halfMd4(state: Int32Array, input: Int32Array): void {
  let [a, b, c, d] = state as unknown as [number, number, number, number];
  for (const [round, { add, order, shifts }] of MD4_ROUNDS.entries()) {
    for (const [step, word] of order.entries()) {
      const shift = shifts[step & 3] as number;
      const sum = (a + md4Mix(round, b, c, d) + (input[word] as number) + add) | 0;
      [a, d, c, b] = [d, c, b, (sum << shift) | (sum >>> (32 - shift))];
    }
  }
  add(state, [a, b, c, d]);
}

function tea(state: Int32Array, input: Int32Array): void {
  let [x, y] = state as unknown as [number, number];
  const [a, b, c, d] = input as unknown as [number, number, number, number];
  let sum = 0;
  for (let round = 0; round < 16; round++) {
    sum = (sum + 0x9e3779b9) | 0;
    x = (x + (((y << 4) + a) ^ (y + sum) ^ ((y >>> 5) + b))) | 0;
    y = (y + (((x << 4) + c) ^ (x + sum) ^ ((x >>> 5) + d))) | 0;
  }
  add(state, [x, y]);
}

function add(state: Int32Array, values: readonly number[]): void {
  for (const [at, value] of values.entries()) state[at] = (state[at] as number) + value;
}

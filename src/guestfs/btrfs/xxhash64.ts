/**
 * XXH64 with seed 0, after the xxHash fast digest algorithm's specification.
 *
 * @module
 */

const PRIME1 = 0x9e3779b185ebca87n;
const PRIME2 = 0xc2b2ae3d27d4eb4fn;
const PRIME3 = 0x165667b19e3779f9n;
const PRIME4 = 0x85ebca77c2b2ae63n;
const PRIME5 = 0x27d4eb2f165667c5n;

const wrap = (value: bigint) => BigInt.asUintN(64, value);
const rotate = (value: bigint, bits: bigint) => wrap(value << bits) | (value >> (64n - bits));
const round = (lane: bigint, input: bigint) => wrap(rotate(wrap(lane + input * PRIME2), 31n) * PRIME1);
const merge = (hash: bigint, lane: bigint) => wrap((hash ^ round(0n, lane)) * PRIME1 + PRIME4);

/** The hash of bytes, as its eight bytes in little-endian order. */
export function xxhash64(data: Uint8Array): Uint8Array {
  const view = new DataView(data.buffer, data.byteOffset, data.length);
  let at = 0;
  let hash = PRIME5;
  if (data.length >= 32) {
    let [a, b, c, d] = [wrap(PRIME1 + PRIME2), PRIME2, 0n, wrap(-PRIME1)];
    for (; at + 32 <= data.length; at += 32) {
      a = round(a, view.getBigUint64(at, true));
      b = round(b, view.getBigUint64(at + 8, true));
      c = round(c, view.getBigUint64(at + 16, true));
      d = round(d, view.getBigUint64(at + 24, true));
    }
    hash = wrap(rotate(a, 1n) + rotate(b, 7n) + rotate(c, 12n) + rotate(d, 18n));
    for (const lane of [a, b, c, d]) hash = merge(hash, lane);
  }
  hash = wrap(hash + BigInt(data.length));
  for (; at + 8 <= data.length; at += 8) {
    hash = wrap(rotate(hash ^ round(0n, view.getBigUint64(at, true)), 27n) * PRIME1 + PRIME4);
  }
  if (at + 4 <= data.length) {
    hash = wrap(rotate(hash ^ wrap(BigInt(view.getUint32(at, true)) * PRIME1), 23n) * PRIME2 + PRIME3);
    at += 4;
  }
  for (; at < data.length; at++) {
    hash = wrap(rotate(hash ^ wrap(BigInt(view.getUint8(at)) * PRIME5), 11n) * PRIME1);
  }
  hash = wrap((hash ^ (hash >> 33n)) * PRIME2);
  hash = wrap((hash ^ (hash >> 29n)) * PRIME3);
  const result = new Uint8Array(8);
  new DataView(result.buffer).setBigUint64(0, hash ^ (hash >> 32n), true);
  return result;
}

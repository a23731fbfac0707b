/**
 * BLAKE2b with a digest of 256 bits and no key, after RFC 7693. A 64-bit word is a pair of 32-bit numbers, low half first.
 *
 * @module
 */

// deno-fmt-ignore
const IV = Uint32Array.of(
  0xf3bcc908, 0x6a09e667, 0x84caa73b, 0xbb67ae85, 0xfe94f82b, 0x3c6ef372, 0x5f1d36f1, 0xa54ff53a,
  0xade682d1, 0x510e527f, 0x2b3e6c1f, 0x9b05688c, 0xfb41bd6b, 0x1f83d9ab, 0x137e2179, 0x5be0cd19,
);

/** The order of message words in each round; each digit is the place of one. */
const SIGMA = [
  "0123456789abcdef",
  "ea489fd61c02b753",
  "b8c052fdae367194",
  "7931dcbe265a40f8",
  "905724afe1bc683d",
  "2c6a0b834d75fe19",
  "c51fed4a0763928b",
  "db7ec13950f4862a",
  "6fe9b308c2d714a5",
  "a2847615fb9e3cd0",
  "0123456789abcdef",
  "ea489fd61c02b753",
].map((round) => Uint8Array.from(round, (digit) => parseInt(digit, 16) * 2));

/** The words that the eight mixings of a round work on, as places of their low halves. */
const MIXINGS: readonly (readonly [number, number, number, number])[] = [
  [0, 8, 16, 24],
  [2, 10, 18, 26],
  [4, 12, 20, 28],
  [6, 14, 22, 30],
  [0, 10, 20, 30],
  [2, 12, 22, 24],
  [4, 14, 16, 26],
  [6, 8, 18, 28],
];

const BLOCK_BYTES = 128;
/** The parameter block's first word: 32 bytes of digest, no key, fanout and depth 1. */
const PARAMETERS = 0x01010020;

const work = new Uint32Array(32);
const message = new Uint32Array(32);
const messageBytes = new DataView(message.buffer);

/** `work[to] += work[from] + words[at]`, where each is a pair. */
function add(to: number, from: number, words: Uint32Array, at: number): void {
  const low = (work[to] as number) + (work[from] as number) + (words[at] as number);
  work[to + 1] = (work[to + 1] as number) + (work[from + 1] as number) + (words[at + 1] as number) +
    Math.floor(low / 2 ** 32);
  work[to] = low;
}

/** `work[to] = (work[to] ^ work[from])` turned right by `bits`, of 16, 24, 32 and 63. */
function mixIn(to: number, from: number, bits: number): void {
  const low = (work[to] as number) ^ (work[from] as number);
  const high = (work[to + 1] as number) ^ (work[from + 1] as number);
  if (bits === 32) {
    work[to] = high;
    work[to + 1] = low;
  } else if (bits === 63) {
    work[to] = low << 1 | high >>> 31;
    work[to + 1] = high << 1 | low >>> 31;
  } else {
    work[to] = low >>> bits | high << (32 - bits);
    work[to + 1] = high >>> bits | low << (32 - bits);
  }
}

const NOTHING = new Uint32Array(2);

function compress(state: Uint32Array, countBytes: number, last: boolean): void {
  work.set(state);
  work.set(IV, 16);
  work[24] = (work[24] as number) ^ countBytes;
  if (last) {
    work[28] = ~(work[28] as number);
    work[29] = ~(work[29] as number);
  }
  for (const order of SIGMA) {
    let step = 0;
    for (const [a, b, c, d] of MIXINGS) {
      add(a, b, message, order[step++] as number);
      mixIn(d, a, 32);
      add(c, d, NOTHING, 0);
      mixIn(b, c, 24);
      add(a, b, message, order[step++] as number);
      mixIn(d, a, 16);
      add(c, d, NOTHING, 0);
      mixIn(b, c, 63);
    }
  }
  for (let at = 0; at < 16; at++) {
    state[at] = (state[at] as number) ^ (work[at] as number) ^ (work[at + 16] as number);
  }
}

/** The digest of less than 4 GiB of bytes. */
export function blake2b256(data: Uint8Array): Uint8Array {
  const state = IV.slice();
  state[0] = (state[0] as number) ^ PARAMETERS;
  const view = new DataView(data.buffer, data.byteOffset, data.length);
  const lastStart = Math.max(0, Math.ceil(data.length / BLOCK_BYTES) - 1) * BLOCK_BYTES;
  for (let start = 0; start < lastStart; start += BLOCK_BYTES) {
    for (let at = 0; at < 32; at++) message[at] = view.getUint32(start + at * 4, true);
    compress(state, start + BLOCK_BYTES, false);
  }
  message.fill(0);
  for (let at = lastStart; at < data.length; at++) messageBytes.setUint8(at - lastStart, data[at] as number);
  // The words of the message are little-endian, as those of every machine that Deno runs on.
  compress(state, data.length, true);
  const digest = new Uint8Array(32);
  const out = new DataView(digest.buffer);
  for (let at = 0; at < 8; at++) out.setUint32(at * 4, state[at] as number, true);
  return digest;
}

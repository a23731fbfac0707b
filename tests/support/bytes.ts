/**
 * Bytes: a seeded source of random ones, and comparisons that name the first difference instead of printing megabytes.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";

/** Bytes in a KiB. */
export const KIB = 1024;
/** Bytes in a MiB. */
export const MIB = 1024 * KIB;

/** Reads a part of something; never short. */
export type ReadPart = (offset: number, length: number) => Promise<Uint8Array>;

/** Random numbers that are the same for the same seed (xorshift128, Marsaglia 2003). */
export class Random {
  readonly #state: Uint32Array<ArrayBuffer>;

  /** Any 32-bit seed is good. */
  constructor(seed: number) {
    // Four different words of which one is not zero; the first rounds mix the seed into all of them.
    this.#state = Uint32Array.of(seed, seed ^ 0x9e3779b9, seed ^ 0x7f4a7c15, 1);
    for (let round = 0; round < 20; round++) this.#next();
  }

  #next(): number {
    const [x = 0, y = 0, z = 0, w = 0] = this.#state;
    const t = x ^ (x << 11);
    const next = (w ^ (w >>> 19) ^ t ^ (t >>> 8)) >>> 0;
    this.#state.set([y, z, w, next]);
    return next;
  }

  /** A whole number from `low` to `high`, both included. */
  integer(low: number, high: number): number {
    return low + Math.floor(this.#next() / 2 ** 32 * (high - low + 1));
  }

  /** A whole number from `low` to `high`, small ones as likely as large ones by order of magnitude. */
  magnitude(low: number, high: number): number {
    return Math.round(low * (high / low) ** (this.#next() / 2 ** 32));
  }

  /** `length` bytes. */
  bytes(length: number): Uint8Array<ArrayBuffer> {
    const words = new Uint32Array(Math.ceil(length / 4));
    let [x = 0, y = 0, z = 0, w = 0] = this.#state;
    for (let index = 0; index < words.length; index++) {
      const t = x ^ (x << 11);
      [x, y, z] = [y, z, w];
      w = w ^ (w >>> 19) ^ t ^ (t >>> 8);
      words[index] = w;
    }
    this.#state.set([x, y, z, w]);
    return new Uint8Array(words.buffer, 0, length);
  }
}

/** Throws an `Error` that names the first difference and how many bytes differ, unless both are the same. */
export function assertSameBytes(actual: Uint8Array, expected: Uint8Array, what: string, base = 0): void {
  if (Buffer.compare(actual, expected) === 0) return;
  if (actual.length !== expected.length) {
    throw new Error(`${what}: it has ${actual.length} bytes, not ${expected.length}`);
  }
  let first = -1;
  let count = 0;
  for (let at = 0; at < actual.length; at++) {
    if (actual[at] === expected[at]) continue;
    if (first < 0) first = at;
    count++;
  }
  const hex = (bytes: Uint8Array) => Buffer.from(bytes.subarray(first, first + 16)).toString("hex");
  throw new Error(
    `${what}: at byte ${base + first} found ${hex(actual)}, not ${hex(expected)}; ` +
      `${count} bytes differ from ${base} to ${base + actual.length}`,
  );
}

/** Reads all of something in parts and compares it with bytes. */
export async function assertContent(read: ReadPart, expected: Uint8Array, what: string): Promise<void> {
  for (let offset = 0; offset < expected.length; offset += MIB) {
    const part = expected.subarray(offset, offset + MIB);
    assertSameBytes(await read(offset, part.length), part, what, offset);
  }
}

/** Compares a file, which must have exactly as many bytes, with what is expected of it. */
export async function assertFile(path: string, expected: Uint8Array, what = path): Promise<void> {
  using file = await Deno.open(path);
  const found = (await file.stat()).size;
  if (found !== expected.length) throw new Error(`${what}: it has ${found} bytes, not ${expected.length}`);
  await assertContent((_offset, length) => readFully(file, length), expected, what);
}

/** Reads the next `length` bytes of a file; throws an `Error` when there are fewer. */
export async function readFully(file: Deno.FsFile, length: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(length);
  for (let filled = 0; filled < length;) {
    const count = await file.read(bytes.subarray(filled));
    if (count === null) throw new Error(`Reading a file: it ended ${length - filled} bytes too early`);
    filled += count;
  }
  return bytes;
}

/** SHA-256 in hexadecimal. */
export function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

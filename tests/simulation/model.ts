/**
 * What a volume must hold: for each block a list of versions. Content is shared, so a version costs a few words.
 */
import { Buffer } from "node:buffer";
import { BLOCK_BYTES } from "../../src/base/block_device.ts";
import { ZERO_BLOCK } from "../../src/base/bytes.ts";
import { sizeAt, type VolumeSize, withSize } from "../../src/catalog/sizes.ts";

/** A change as a host sent it. */
export type Change =
  | { readonly kind: "write"; readonly offset: number; readonly data: Uint8Array }
  | { readonly kind: "trim" | "zero"; readonly offset: number; readonly length: number }
  | { readonly kind: "flush" | "mark" };

/** Stands for the present in place of a sequence, whether the history holds it or not. */
export const NOW = Number.MAX_VALUE;

interface BlockVersion {
  /** The sequence that made it; half a sequence more when it was made past the journal, after that sequence. */
  readonly seq: number;
  /** Grows with each change that was executed. */
  readonly order: number;
  /** `undefined`: zeroes. */
  readonly bytes: Uint8Array | undefined;
  /** Some of it is what a refused change has left: nobody promised that it stays. */
  readonly isLeftover: boolean;
}

/** The contents of a volume at every sequence. */
export class VolumeModel {
  #sizes: VolumeSize[];
  /** Time of each sequence in microseconds, the sequence being the index. */
  readonly timesUs: number[];
  /** Changes executed so far. */
  order = 0;
  readonly #blocks = new Map<number, BlockVersion[]>();
  /** Longest list of versions aside, blocks in use, ascending; made when asked for. */
  #sorted: number[] | undefined;

  constructor(sizeBytes: number, createdUs: number) {
    this.#sizes = [{ fromSeq: 0, sizeBytes }];
    this.timesUs = [createdUs];
  }

  /** Newest sequence. */
  get lastSeq(): number {
    return this.timesUs.length - 1;
  }

  /** The size that the volume had at a sequence, in bytes. */
  sizeAt(seq: number): number {
    return sizeAt(this.#sizes, seq);
  }

  /** A resize has captured commands of its own at these times; from a sequence on the volume has another size, or not. */
  resize(size: VolumeSize, timesUs: readonly number[]): void {
    const before = this.sizeAt(NOW);
    this.timesUs.push(...timesUs);
    if (size.sizeBytes === before) return;
    this.#sizes = withSize(this.#sizes, size);
    this.order++;
    if (size.sizeBytes > before) this.#zero(this.lastSeq, before, size.sizeBytes - before);
    else this.#zero(size.fromSeq, size.sizeBytes, before - size.sizeBytes);
  }

  /** Blocks that were ever written, ascending. */
  get usedBlocks(): readonly number[] {
    return this.#sorted ??= [...this.#blocks.keys()].sort((a, b) => a - b);
  }

  /** Puts content that was there before the first command. */
  begin(offset: number, data: Uint8Array): void {
    this.#write(0, offset, data);
  }

  /** Takes the next command. */
  apply(change: Change, timeUs: number): void {
    this.timesUs.push(timeUs);
    this.#change(change, this.lastSeq);
  }

  /** Takes a change that went past the journal. */
  pass(change: Change): void {
    this.#change(change, this.lastSeq + 0.5);
  }

  /** The engine has captured commands of its own up to `seq`, which change nothing that hosts see. */
  skipTo(seq: number): void {
    while (this.lastSeq < seq) this.timesUs.push(NaN);
  }

  #change(change: Change, seq: number): void {
    this.order++;
    if (change.kind === "write") this.#write(seq, change.offset, change.data);
    else if (change.kind === "trim" || change.kind === "zero") this.#zero(seq, change.offset, change.length);
  }

  #write(seq: number, offset: number, data: Uint8Array): void {
    const end = offset + data.length;
    for (let at = offset; at < end;) {
      const block = Math.floor(at / BLOCK_BYTES);
      const until = Math.min(end, (block + 1) * BLOCK_BYTES);
      const part = data.subarray(at - offset, until - offset);
      if (part.length === BLOCK_BYTES) this.#push(seq, block, part);
      else {
        const bytes = this.#copyOf(block);
        bytes.set(part, at - block * BLOCK_BYTES);
        this.#push(seq, block, bytes, this.#isLeftover(block));
      }
      at = until;
    }
  }

  #zero(seq: number, offset: number, length: number): void {
    const end = offset + length;
    const first = Math.floor(offset / BLOCK_BYTES);
    const last = Math.floor((end - 1) / BLOCK_BYTES);
    for (const [block, versions] of this.#blocks) {
      if (block < first || block > last || versions.at(-1)?.bytes === undefined) continue;
      const from = Math.max(0, offset - block * BLOCK_BYTES);
      const until = Math.min(BLOCK_BYTES, end - block * BLOCK_BYTES);
      if (from === 0 && until === BLOCK_BYTES) this.#push(seq, block, undefined);
      else this.#push(seq, block, this.#copyOf(block).fill(0, from, until), this.#isLeftover(block));
    }
  }

  #isLeftover(block: number): boolean {
    return this.#blocks.get(block)?.at(-1)?.isLeftover ?? false;
  }

  #copyOf(block: number): Uint8Array {
    return this.#blocks.get(block)?.at(-1)?.bytes?.slice() ?? new Uint8Array(BLOCK_BYTES);
  }

  #push(seq: number, block: number, bytes: Uint8Array | undefined, isLeftover = false): void {
    const versions = this.#blocks.get(block);
    const version = { seq, order: this.order, bytes, isLeftover };
    if (versions !== undefined) versions.push(version);
    else {
      this.#blocks.set(block, [version]);
      this.#sorted = undefined;
    }
  }

  /** Forgets every command after `seq`: a crash has taken them. */
  truncate(seq: number): void {
    this.timesUs.length = seq + 1;
    for (const versions of this.#blocks.values()) {
      while ((versions.at(-1)?.seq ?? 0) > seq + 0.5) versions.pop();
    }
  }

  /** Takes away what went past the journal since the newest command; returns the oldest order of it, or 0. */
  dropPassed(): number {
    let oldest = 0;
    for (const versions of this.#blocks.values()) {
      for (
        let last = versions.at(-1);
        last !== undefined && last.seq > this.lastSeq;
        last = versions.at(-1)
      ) {
        oldest = oldest === 0 ? last.order : Math.min(oldest, last.order);
        versions.pop();
      }
    }
    return oldest;
  }

  /**
   * Finds out what has become of changes that may have been lost, wholly or in part, and takes that over. `isCertain`
   * tells of a version that it was not lost, and so nothing before it counts any more; a block that cannot be read is
   * passed by. `areLeftovers` tells that what is found may still be lost. Says where bytes are that the block has not held since then.
   */
  settle(
    isCertain: (version: Readonly<Omit<BlockVersion, "bytes">>) => boolean,
    read: (block: number) => Uint8Array | undefined,
    { areLeftovers = false } = {},
  ): string | undefined {
    for (const [block, versions] of this.#blocks) {
      const certain = versions.findLastIndex(isCertain);
      if (certain === versions.length - 1) continue;
      const bytes = read(block);
      if (bytes === undefined) continue;
      const possible = versions.slice(Math.max(0, certain)).map(({ bytes }) => bytes ?? ZERO_BLOCK);
      if (certain < 0) possible.push(ZERO_BLOCK);
      const found = new Uint8Array(BLOCK_BYTES);
      found.set(bytes);
      const at = found.findIndex((byte, index) => possible.every((other) => other[index] !== byte));
      if (at >= 0) {
        const known = versions.slice(-12).map(({ seq, order, bytes }) =>
          `${bytes?.[at] ?? 0} (${seq}, ${order})`
        );
        return `byte ${block * BLOCK_BYTES + at} (block ${block}) is ${found[at]}; ` +
          `it was ${known.join(", ")}, the last certain one is ${certain} of ${versions.length}`;
      }
      if (sameBytes(found, versions[certain]?.bytes ?? ZERO_BLOCK)) versions.length = certain + 1;
      else if (areLeftovers || !sameBytes(found, versions.at(-1)?.bytes ?? ZERO_BLOCK)) {
        if (areLeftovers) versions.length = certain + 1;
        this.#push(this.lastSeq + 0.5, block, found, areLeftovers);
      }
    }
    return undefined;
  }

  /** A block as of a sequence; `undefined` stands for zeroes. */
  block(block: number, seq: number): Uint8Array | undefined {
    const versions = this.#blocks.get(block);
    if (versions === undefined) return undefined;
    let low = 0;
    let high = versions.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((versions[middle]?.seq ?? 0) <= seq) low = middle + 1;
      else high = middle;
    }
    return versions[low - 1]?.bytes;
  }

  /** Says where bytes of the volume differ from those of a sequence, or nothing. */
  difference(actual: Uint8Array, offset: number, seq: number): string | undefined {
    const end = offset + actual.length;
    for (let at = offset; at < end;) {
      const block = Math.floor(at / BLOCK_BYTES);
      const until = Math.min(end, (block + 1) * BLOCK_BYTES);
      const expected = this.block(block, seq) ?? ZERO_BLOCK;
      const found = actual.subarray(at - offset, until - offset);
      const wanted = expected.subarray(at - block * BLOCK_BYTES, until - block * BLOCK_BYTES);
      if (!sameBytes(found, wanted)) return this.#describe(block, at, found, wanted, seq);
      at = until;
    }
    return undefined;
  }

  #describe(block: number, at: number, found: Uint8Array, wanted: Uint8Array, seq: number): string {
    const first = found.findIndex((byte, index) => byte !== wanted[index]);
    const versions = this.#blocks.get(block) ?? [];
    const from = at - block * BLOCK_BYTES;
    const matching = versions.filter(({ bytes }) =>
      sameBytes(found, (bytes ?? ZERO_BLOCK).subarray(from, from + found.length))
    ).map((version) => version.seq);
    const zeroes = sameBytes(found, ZERO_BLOCK.subarray(0, found.length));
    const looksLike = matching.length > 0
      ? `as of sequence ${matching.join(", ")}`
      : zeroes
      ? "zeroes"
      : "unknown bytes";
    return `byte ${at + first} (block ${block}) at ${seq === NOW ? "present" : `sequence ${seq}`} is ${
      found[first]
    }, not ${wanted[first]}; ` +
      `the block is ${looksLike}; its versions are ${
        versions.map((version) => version.seq).slice(-12).join(", ")
      }`;
  }
}

/** Whether both are the same bytes. */
export function sameBytes(one: Uint8Array, other: Uint8Array): boolean {
  return Buffer.from(one.buffer, one.byteOffset, one.length).equals(other);
}

/** Whether all bytes are zero. */
export function isZeroes(bytes: Uint8Array): boolean {
  return sameBytes(bytes, ZERO_BLOCK.subarray(0, bytes.length));
}

const NOISE_BYTES = 16 << 20;
const LINE_BYTES = 64;
let noise: Uint8Array | undefined;
let text: Uint8Array | undefined;

/** Bytes that are hardly ever the same twice; `choice` is any whole number from 0 on. They must never be changed. */
export function noiseAt(choice: number, length: number): Uint8Array {
  noise ??= makeNoise();
  const from = (choice * 8) % (NOISE_BYTES - length);
  return noise.subarray(from, from + length);
}

/** As {@linkcode noiseAt}, but bytes that compress well. */
export function textAt(choice: number, length: number): Uint8Array {
  text ??= makeText();
  const from = (choice * LINE_BYTES) % (NOISE_BYTES - length);
  return text.subarray(from, from + length);
}

function makeNoise(): Uint8Array {
  const words = new Uint32Array(NOISE_BYTES / 4);
  let state = 0x2545f491;
  for (let at = 0; at < words.length; at++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    words[at] = state;
  }
  return new Uint8Array(words.buffer);
}

/** Lines that begin with four bytes of noise and go on with the same letters. */
function makeText(): Uint8Array {
  const bytes = new Uint8Array(NOISE_BYTES).fill(0x76);
  for (let at = 0; at < NOISE_BYTES; at += LINE_BYTES) bytes.set(noiseAt(at / 8, 4), at);
  return bytes;
}

/**
 * LZMA: a range coder over adaptive bits, that codes literals, matches and repeats of the last four distances.
 * Source: the LZMA specification of the LZMA SDK (`lzma-specification.txt`).
 *
 * The window is the output itself, which is given whole: nothing here allocates by what the input says.
 *
 * @module
 */
import { VarveError } from "../../base/errors.ts";
import { damaged, u32, u64, u8 } from "../_bytes.ts";
import { copyMatch } from "./lz4.ts";

const STATES = 12;
const POSITION_STATES_MAX = 16;
const LENGTH_STATES = 4;
const HALF = 1024;
const TOP = 2 ** 24;
/** Literal context and position bits together, as LZMA2 allows; each more doubles the tables. */
const LITERAL_BITS_MAX = 4;
const LITERAL_PROBABILITIES = 0x300;
const MATCH_MIN = 2;
const END_MARK = 0xffffffff;
const ALONE_HEADER_BYTES = 13;

function fail(found: string): VarveError {
  return damaged("decompressing LZMA", found);
}

/** Adaptive bits of a length: which of three ranges, then a tree in it. */
class LengthBits {
  readonly choice = new Uint16Array(2);
  readonly low = new Uint16Array(POSITION_STATES_MAX * 8);
  readonly middle = new Uint16Array(POSITION_STATES_MAX * 8);
  readonly high = new Uint16Array(256);

  reset(): void {
    for (const bits of [this.choice, this.low, this.middle, this.high]) bits.fill(HALF);
  }
}

/** Decodes LZMA chunks, one behind the other, into `target`. */
export class LzmaDecoder {
  /** Bytes of the target that have been written. */
  done = 0;
  /** The first byte of the target that a match may reach back to. */
  windowStart = 0;
  readonly #target: Uint8Array;
  #source = new Uint8Array();
  #at = 0;
  #end = 0;
  #range = 0;
  #code = 0;
  #literalContextBits = 0;
  #literalPositionMask = 0;
  #positionMask = 0;
  #state = 0;
  /** The last four distances, less one each, the last first. */
  readonly #distances = new Float64Array(4);
  #literal = new Uint16Array();
  readonly #isMatch = new Uint16Array(STATES * POSITION_STATES_MAX);
  readonly #isRepeat = new Uint16Array(STATES);
  readonly #isRepeat0 = new Uint16Array(STATES);
  readonly #isRepeat1 = new Uint16Array(STATES);
  readonly #isRepeat2 = new Uint16Array(STATES);
  readonly #isLong0 = new Uint16Array(STATES * POSITION_STATES_MAX);
  readonly #slot = new Uint16Array(LENGTH_STATES * 64);
  readonly #special = new Uint16Array(128);
  readonly #align = new Uint16Array(16);
  readonly #matchLength = new LengthBits();
  readonly #repeatLength = new LengthBits();

  /** Decodes into `target` from its start on. */
  constructor(target: Uint8Array) {
    this.#target = target;
  }

  /** Sets the properties byte: how the context of literals and positions is formed. Throws `damaged`, `unsupported`. */
  setProperties(byte: number): void {
    if (byte >= 9 * 5 * 5) throw fail(`properties ${byte}`);
    const contextBits = byte % 9;
    const positionBits = Math.floor(byte / 9) % 5;
    if (contextBits + positionBits > LITERAL_BITS_MAX) {
      throw new VarveError(
        "unsupported",
        `decompressing LZMA: ${contextBits + positionBits} bits of context`,
      );
    }
    this.#literalContextBits = contextBits;
    this.#literalPositionMask = (1 << positionBits) - 1;
    this.#positionMask = (1 << Math.floor(byte / 45)) - 1;
    this.#literal = new Uint16Array(LITERAL_PROBABILITIES << (contextBits + positionBits));
  }

  /** Forgets everything learned. */
  resetState(): void {
    this.#state = 0;
    this.#distances.fill(0);
    for (
      const bits of [
        this.#literal,
        this.#isMatch,
        this.#isRepeat,
        this.#isRepeat0,
        this.#isRepeat1,
        this.#isRepeat2,
        this.#isLong0,
        this.#slot,
        this.#special,
        this.#align,
      ]
    ) bits.fill(HALF);
    this.#matchLength.reset();
    this.#repeatLength.reset();
  }

  /**
   * Decodes `source` until `target` holds `end` bytes or, where `markAllowed`, the mark of the end comes. Throws `damaged` when
   * the source then has not come to its own end.
   */
  decode(source: Uint8Array, end: number, markAllowed: boolean): void {
    if (end > this.#target.length) throw fail("more content than there should be");
    this.#source = source as Uint8Array<ArrayBuffer>;
    this.#at = 5;
    this.#end = source.length;
    if (u8(source, 0) !== 0) throw fail("a first byte that is not zero");
    this.#code = (u8(source, 1) * 2 ** 24) + (u8(source, 2) << 16) + (u8(source, 3) << 8) + u8(source, 4);
    this.#range = END_MARK;
    let marked = false;
    while (this.done < end && !marked) marked = !this.#step(end, markAllowed);
    if (this.#range < TOP) this.#normalize();
    // A known length does not forbid the mark behind it.
    if (markAllowed && !marked && this.#code !== 0) {
      this.#step(end, true);
      if (this.#range < TOP) this.#normalize();
    }
    if (this.#code !== 0 || (!markAllowed && this.#at !== this.#end)) throw fail("its end does not fit");
  }

  /** One literal or match; `false` at the mark of the end. */
  #step(end: number, markAllowed: boolean): boolean {
    const target = this.#target;
    const position = (this.done - this.windowStart) & this.#positionMask;
    const state = this.#state;
    if (this.#bit(this.#isMatch, state * POSITION_STATES_MAX + position) === 0) {
      if (this.done >= end) throw fail("more content than there should be");
      target[this.done] = this.#nextLiteral();
      this.done++;
      this.#state = state < 4 ? 0 : state < 10 ? state - 3 : state - 6;
      return true;
    }
    const distances = this.#distances;
    let length: number;
    if (this.#bit(this.#isRepeat, state) === 0) {
      length = this.#nextLength(this.#matchLength, position);
      const distance = this.#nextDistance(length);
      distances.copyWithin(1, 0, 3);
      distances[0] = distance;
      this.#state = state < 7 ? 7 : 10;
      if (distance === END_MARK) {
        if (!markAllowed) throw fail("a mark of the end within");
        return false;
      }
    } else {
      const which = this.#nextRepeat(state, position);
      if (which > 0) {
        const repeated = distances[which] as number;
        distances.copyWithin(1, 0, which);
        distances[0] = repeated;
      }
      if (which < 0) length = 1 - MATCH_MIN;
      else length = this.#nextLength(this.#repeatLength, position);
      this.#state = which < 0 ? (state < 7 ? 9 : 11) : state < 7 ? 8 : 11;
    }
    const distance = (distances[0] as number) + 1;
    const bytes = length + MATCH_MIN;
    if (distance > this.done - this.windowStart || this.done + bytes > end) {
      throw fail("a match outside its content");
    }
    copyMatch(target, this.done, distance, bytes);
    this.done += bytes;
    return true;
  }

  /** Which of the last distances is repeated: 0 to 3, or -1 for one byte of the last. */
  #nextRepeat(state: number, position: number): number {
    if (this.#bit(this.#isRepeat0, state) === 0) {
      return this.#bit(this.#isLong0, state * POSITION_STATES_MAX + position) === 0 ? -1 : 0;
    }
    if (this.#bit(this.#isRepeat1, state) === 0) return 1;
    return this.#bit(this.#isRepeat2, state) === 0 ? 2 : 3;
  }

  #nextLiteral(): number {
    const target = this.#target;
    const previous = this.done > this.windowStart ? target[this.done - 1] as number : 0;
    const context =
      (((this.done - this.windowStart) & this.#literalPositionMask) << this.#literalContextBits) +
      (previous >> (8 - this.#literalContextBits));
    const base = LITERAL_PROBABILITIES * context;
    let symbol = 1;
    if (this.#state >= 7) {
      const distance = (this.#distances[0] as number) + 1;
      if (distance > this.done - this.windowStart) throw fail("a literal behind a match outside its content");
      let match = target[this.done - distance] as number;
      while (symbol < 0x100) {
        const expected = (match >> 7) & 1;
        match <<= 1;
        const bit = this.#bit(this.#literal, base + ((1 + expected) << 8) + symbol);
        symbol = (symbol << 1) | bit;
        if (bit !== expected) break;
      }
    }
    while (symbol < 0x100) symbol = (symbol << 1) | this.#bit(this.#literal, base + symbol);
    return symbol & 0xff;
  }

  #nextLength(bits: LengthBits, position: number): number {
    if (this.#bit(bits.choice, 0) === 0) return this.#tree(bits.low, position * 8, 3);
    if (this.#bit(bits.choice, 1) === 0) return 8 + this.#tree(bits.middle, position * 8, 3);
    return 16 + this.#tree(bits.high, 0, 8);
  }

  #nextDistance(length: number): number {
    const slot = this.#tree(this.#slot, Math.min(length, LENGTH_STATES - 1) * 64, 6);
    if (slot < 4) return slot;
    const directBits = (slot >> 1) - 1;
    const distance = (2 | (slot & 1)) * 2 ** directBits;
    if (slot < 14) return distance + this.#reverseTree(this.#special, distance - slot, directBits);
    let high = 0;
    for (let count = directBits - 4; count > 0; count--) high = high * 2 + this.#direct();
    return distance + high * 16 + this.#reverseTree(this.#align, 0, 4);
  }

  #tree(bits: Uint16Array, base: number, count: number): number {
    let symbol = 1;
    for (let index = 0; index < count; index++) symbol = (symbol << 1) | this.#bit(bits, base + symbol);
    return symbol - (1 << count);
  }

  #reverseTree(bits: Uint16Array, base: number, count: number): number {
    let symbol = 1;
    let value = 0;
    for (let index = 0; index < count; index++) {
      const bit = this.#bit(bits, base + symbol);
      symbol = (symbol << 1) | bit;
      value |= bit << index;
    }
    return value;
  }

  #bit(bits: Uint16Array, index: number): number {
    if (this.#range < TOP) this.#normalize();
    const probability = bits[index] as number;
    const bound = (this.#range >>> 11) * probability;
    if (this.#code < bound) {
      this.#range = bound;
      bits[index] = probability + ((2048 - probability) >> 5);
      return 0;
    }
    this.#range -= bound;
    this.#code -= bound;
    bits[index] = probability - (probability >> 5);
    return 1;
  }

  #direct(): number {
    if (this.#range < TOP) this.#normalize();
    this.#range = Math.floor(this.#range / 2);
    if (this.#code < this.#range) return 0;
    this.#code -= this.#range;
    return 1;
  }

  #normalize(): void {
    if (this.#at >= this.#end) throw fail("it ends too early");
    this.#range = (this.#range << 8) >>> 0;
    this.#code = ((this.#code << 8) | (this.#source[this.#at++] as number)) >>> 0;
  }
}

/**
 * Decompresses the form of `.lzma` files: u8 properties, u32 bytes of the window, u64 bytes of content (or all ones for
 * "up to the mark"). Fills `target` from its start and returns how many bytes that were.
 */
export function decompressLzmaAlone(source: Uint8Array, target: Uint8Array): number {
  const decoder = new LzmaDecoder(target);
  decoder.setProperties(u8(source, 0));
  decoder.resetState();
  const marked = u32(source, 5) === END_MARK && u32(source, 9) === END_MARK;
  const end = marked ? target.length : u64(source, 5);
  decoder.decode(source.subarray(ALONE_HEADER_BYTES), end, true);
  return decoder.done;
}

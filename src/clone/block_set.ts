/**
 * A set of blocks that costs little where it is empty and where it is full, however large the disk: for marking what a
 * clone has of its own, block by block, and 2 TiB at a time.
 *
 * It is a tree. A part of it is nothing, `true` for all of it, a page of bits, or a branch of smaller parts; pages and
 * branches are made when a range begins or ends within them.
 *
 * @module
 */

/** Blocks of a page: 4 KiB of bits, for 128 MiB of a disk. */
const PAGE_BLOCKS = 2 ** 15;
/** Parts of a branch. */
const FAN_OUT = 2 ** 12;

type Page = Uint32Array<ArrayBuffer>;
type Part = true | Page | Branch | undefined;

/** Parts by their position; those that are nothing are left out. */
type Branch = Map<number, true | Page | Branch>;

/** A set of block numbers from 0 on. */
export class BlockSet {
  #root: Part;
  /** Blocks that the root spans. */
  #span = PAGE_BLOCKS;
  #size = 0;

  /** Number of blocks in it. */
  get size(): number {
    return this.#size;
  }

  /** Whether a block is in it. */
  has(block: number): boolean {
    let part = block < this.#span ? this.#root : undefined;
    let span = this.#span;
    let at = block;
    while (part instanceof Map) {
      span /= FAN_OUT;
      part = part.get(Math.floor(at / span));
      at %= span;
    }
    return part instanceof Uint32Array ? hasBit(part, at) : part === true;
  }

  /** Adds the blocks from `from` up to, not including, `until`. */
  add(from: number, until: number): void {
    while (this.#span < until) {
      if (this.#root !== undefined) this.#root = new Map([[0, this.#root]]);
      this.#span *= FAN_OUT;
    }
    this.#set(from, until, true);
  }

  /** Takes the blocks from `from` up to, not including, `until` out. */
  remove(from: number, until: number): void {
    this.#set(from, Math.min(until, this.#span), false);
  }

  #set(from: number, until: number, value: boolean): void {
    if (from >= until) return;
    const before = this.count(from, until);
    this.#size += (value ? until - from : 0) - before;
    this.#root = setRange(this.#root, this.#span, from, until, value);
  }

  /** How many of the blocks from `from` up to, not including, `until` are in it. */
  count(from: number, until: number): number {
    return countRange(this.#root, this.#span, from, Math.min(until, this.#span));
  }

  /** The first block from `from` on that is in it, or with `isIn` false is not; `until` when there is none before. */
  next(from: number, until: number, isIn = true): number {
    if (from >= until) return until;
    const end = Math.min(until, this.#span);
    const found = from < end ? findFirst(this.#root, this.#span, from, end, isIn) : -1;
    if (found >= 0) return found;
    return isIn ? until : Math.max(from, end);
  }
}

function hasBit(page: Page, at: number): boolean {
  return (wordOf(page, at >>> 5) >>> (at & 31) & 1) === 1;
}

/** The bits of a word from `from` up to, not including, `until`, at most 32. */
function maskOf(from: number, until: number): number {
  const upper = until >= 32 ? -1 : (1 << until) - 1;
  return (upper & (-1 << from)) >>> 0;
}

function setRange(part: Part, span: number, from: number, until: number, value: boolean): Part {
  if (from >= until) return part;
  const whole = value ? true : undefined;
  if (part === whole || (from <= 0 && until >= span)) return whole;
  if (span === PAGE_BLOCKS) {
    const page = part instanceof Uint32Array
      ? part
      : new Uint32Array(PAGE_BLOCKS / 32).fill(part === true ? 0xffffffff : 0);
    setBits(page, from, until, value);
    return page;
  }
  const step = span / FAN_OUT;
  const branch: Branch = part instanceof Map ? part : new Map();
  if (part === true) { for (let index = 0; index < FAN_OUT; index++) branch.set(index, true); }
  for (let index = Math.floor(from / step); index * step < until; index++) {
    const start = index * step;
    const changed = setRange(
      branch.get(index),
      step,
      Math.max(0, from - start),
      Math.min(step, until - start),
      value,
    );
    if (changed === undefined) branch.delete(index);
    else branch.set(index, changed);
  }
  return branch;
}

function setBits(page: Page, from: number, until: number, value: boolean): void {
  for (let word = from >>> 5; word * 32 < until; word++) {
    const mask = maskOf(Math.max(0, from - word * 32), until - word * 32);
    const bits = wordOf(page, word);
    page[word] = value ? bits | mask : bits & ~mask;
  }
}

function countRange(part: Part, span: number, from: number, until: number): number {
  if (part === undefined || from >= until) return 0;
  if (part === true) return until - from;
  let count = 0;
  if (part instanceof Uint32Array) {
    for (let word = from >>> 5; word * 32 < until; word++) {
      const mask = maskOf(Math.max(0, from - word * 32), until - word * 32);
      count += bitsIn(wordOf(part, word) & mask);
    }
    return count;
  }
  const step = span / FAN_OUT;
  for (let index = Math.floor(from / step); index * step < until; index++) {
    const start = index * step;
    count += countRange(part.get(index), step, Math.max(0, from - start), Math.min(step, until - start));
  }
  return count;
}

function wordOf(page: Page, word: number): number {
  return page[word] ?? 0;
}

/** Ones in a word. */
function bitsIn(word: number): number {
  let pairs = word - (word >>> 1 & 0x55555555);
  pairs = (pairs & 0x33333333) + (pairs >>> 2 & 0x33333333);
  return Math.imul((pairs + (pairs >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24;
}

/** The first block of a range that is in the part, or is not; -1 when there is none. */
function findFirst(part: Part, span: number, from: number, until: number, isIn: boolean): number {
  if (from >= until) return -1;
  if (part === undefined || part === true) return (part === true) === isIn ? from : -1;
  if (part instanceof Uint32Array) {
    for (let word = from >>> 5; word * 32 < until; word++) {
      const mask = maskOf(Math.max(0, from - word * 32), until - word * 32);
      const bits = wordOf(part, word);
      const wanted = ((isIn ? bits : ~bits) & mask) >>> 0;
      if (wanted !== 0) return word * 32 + 31 - Math.clz32(wanted & -wanted);
    }
    return -1;
  }
  const step = span / FAN_OUT;
  for (let index = Math.floor(from / step); index * step < until; index++) {
    const start = index * step;
    const found = findFirst(
      part.get(index),
      step,
      Math.max(0, from - start),
      Math.min(step, until - start),
      isIn,
    );
    if (found >= 0) return start + found;
  }
  return -1;
}

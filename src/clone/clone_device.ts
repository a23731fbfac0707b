/**
 * A moment of the past that can be written to: a block device over an immutable view and a scratch.
 *
 * @module
 */
import { BLOCK_BYTES, type BlockDevice, type Extent } from "../base/block_device.ts";
import { blockOf, blocksFor, checkRange, ZERO_BLOCK } from "../base/bytes.ts";
import { wholeBlocks } from "../volume/widening.ts";
import type { Scratch } from "./scratch.ts";

/**
 * Reads what the scratch has, and from the moment what it has not. Changes go to the scratch alone, as whole blocks: what
 * begins or ends within one is widened with what is there. Several devices may share one scratch: each sees at once what
 * another writes, and a flush of one covers all.
 */
export class CloneDevice implements BlockDevice {
  readonly sizeBytes: number;
  readonly readOnly = false;
  readonly #base: BlockDevice;
  readonly #scratch: Scratch;
  readonly #readBlock = (block: number) => {
    const bytes = new Uint8Array(BLOCK_BYTES);
    const offset = block * BLOCK_BYTES;
    this.read(offset, bytes.subarray(0, Math.min(BLOCK_BYTES, this.sizeBytes - offset)));
    return bytes;
  };

  /** A device of the size of `base`, which is the same for every device of the scratch. */
  constructor(base: BlockDevice, scratch: Scratch) {
    this.sizeBytes = base.sizeBytes;
    this.#base = base;
    this.#scratch = scratch;
  }

  read(offset: number, target: Uint8Array): void {
    checkRange("read", offset, target.length, this.sizeBytes);
    const end = offset + target.length;
    for (let at = offset; at < end;) {
      const { state, until } = this.#runAt(at, end);
      const part = target.subarray(at - offset, until - offset);
      if (state === "hole") part.fill(0);
      else if (state === "data") this.#scratch.read(at, part);
      else this.#base.read(at, part);
      at = until;
    }
  }

  /** Whose a byte is, and up to where, at most `end`, the following are the same. */
  #runAt(at: number, end: number) {
    const { state, until } = this.#scratch.stateAt(blockOf(at), blocksFor(end));
    return { state, until: Math.min(end, until * BLOCK_BYTES) };
  }

  write(offset: number, data: Uint8Array): void {
    checkRange("write", offset, data.length, this.sizeBytes);
    if (data.length === 0) return;
    this.#scratch.write(blockOf(offset), wholeBlocks(offset, data, this.#readBlock));
  }

  trim(offset: number, length: number): void {
    this.#clear("trim", offset, length);
  }

  zero(offset: number, length: number): void {
    this.#clear("zero", offset, length);
  }

  /** A block that the range cuts keeps the rest of what it holds, so it is written, if need be for the first time. */
  #clear(kind: "trim" | "zero", offset: number, length: number): void {
    checkRange(kind, offset, length, this.sizeBytes);
    const end = offset + length;
    const wholeFrom = blocksFor(offset);
    const wholeUntil = end === this.sizeBytes ? blocksFor(end) : blockOf(end);
    const cuts = [
      { from: offset, until: Math.min(end, wholeFrom * BLOCK_BYTES) },
      { from: Math.max(offset, wholeUntil * BLOCK_BYTES), until: wholeUntil < wholeFrom ? 0 : end },
    ].filter(({ from, until }) => from < until && this.#runAt(from, until).state !== "hole");
    // Before anything changes.
    this.#scratch.checkRoom(
      cuts.filter(({ from, until }) => this.#runAt(from, until).state === "base").length,
    );
    for (const { from, until } of cuts) this.write(from, ZERO_BLOCK.subarray(0, until - from));
    if (wholeFrom < wholeUntil) this.#scratch.clear(wholeFrom, wholeUntil);
  }

  commit(): void {}

  pressure(): Promise<void> | undefined {
    return this.#scratch.pressure();
  }

  flush(): Promise<void> {
    return this.#scratch.sync();
  }

  sync(): Promise<void> {
    return this.#scratch.sync();
  }

  extents(offset: number, length: number, max = Infinity): Extent[] {
    checkRange("map", offset, length, this.sizeBytes);
    const extents: Extent[] = [];
    const end = offset + length;
    let at = offset;
    /** Adds a run; false when there are more than so many. */
    const add = (kind: Extent["kind"], until: number): boolean => {
      const last = extents.at(-1);
      if (last?.kind === kind) extents[extents.length - 1] = { ...last, length: until - last.offset };
      else if (extents.length === max) return false;
      else extents.push({ offset: at, length: until - at, kind });
      at = until;
      return true;
    };
    while (at < end) {
      const { state, until } = this.#runAt(at, end);
      const runs = state === "base"
        // One more than there is room for: the first may belong to the last there is.
        ? this.#base.extents(at, until - at, max - extents.length + 1)
        : [{ offset: at, length: until - at, kind: state }];
      for (const run of runs) if (!add(run.kind, run.offset + run.length)) return extents;
    }
    return extents;
  }
}

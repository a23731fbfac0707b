/**
 * Pieces of a disk, one behind the other, as one block device: a logical volume of several segments.
 *
 * @module
 */
import type { BlockDevice, Extent } from "../base/block_device.ts";
import { VarveError } from "../base/errors.ts";
import type { DiskPiece } from "./guest.ts";
import { SubDevice } from "./sub_device.ts";

/** A read-only device over pieces of another one. Every changing call throws `read-only`. */
export class PieceDevice implements BlockDevice {
  /** Sum of the lengths of the pieces in bytes. */
  readonly sizeBytes: number;
  /** Always true. */
  readonly readOnly = true;
  readonly #parent: BlockDevice;
  readonly #pieces: readonly DiskPiece[];
  /** Where each piece begins in this device. */
  readonly #starts: readonly number[];

  /** Opens the pieces in their order; throws `out-of-range` when one does not lie within the parent. */
  constructor(parent: BlockDevice, pieces: readonly DiskPiece[]) {
    const starts: number[] = [];
    let size = 0;
    for (const { offset, length } of pieces) {
      if (!(offset >= 0 && length > 0 && offset + length <= parent.sizeBytes)) {
        throw new VarveError(
          "out-of-range",
          `opening ${length} bytes at ${offset}: the device has ${parent.sizeBytes} bytes`,
        );
      }
      starts.push(size);
      size += length;
    }
    this.#parent = parent;
    this.#pieces = pieces;
    this.#starts = starts;
    this.sizeBytes = size;
  }

  /** Fills `target` from `offset`, from as many pieces as that takes. */
  read(offset: number, target: Uint8Array): void {
    this.#check(offset, target.length);
    let done = 0;
    for (const part of this.#parts(offset, target.length)) {
      this.#parent.read(part.offset, target.subarray(done, done + part.length));
      done += part.length;
    }
  }

  /** Throws `read-only`. */
  write(): void {
    throw readOnlyError();
  }

  /** Throws `read-only`. */
  trim(): void {
    throw readOnlyError();
  }

  /** Throws `read-only`. */
  zero(): void {
    throw readOnlyError();
  }

  /** Does nothing: there is nothing to commit. */
  commit(): void {}

  /** Resolves at once: there is nothing to flush. */
  flush(): Promise<void> {
    return Promise.resolve();
  }

  /** Resolves at once: there is nothing to sync. */
  sync(): Promise<void> {
    return Promise.resolve();
  }

  /** The parent's data and holes within the pieces, with offsets of this device. */
  extents(offset: number, length: number, max?: number): Extent[] {
    this.#check(offset, length);
    const extents: Extent[] = [];
    let at = offset;
    for (const part of this.#parts(offset, length)) {
      const found = this.#parent.extents(part.offset, part.length, max);
      let covered = 0;
      for (const extent of found) {
        const last = extents.at(-1);
        if (last?.kind === extent.kind) {
          extents[extents.length - 1] = { ...last, length: last.length + extent.length };
        } else if (extents.length === max) {
          return extents;
        } else {
          extents.push({ offset: at + covered, length: extent.length, kind: extent.kind });
        }
        covered += extent.length;
      }
      // The parent stopped at `max`: what lies behind must not be added without what it left out.
      if (covered < part.length) return extents;
      at += part.length;
    }
    return extents;
  }

  /** The pieces of the parent that a range lies on. */
  *#parts(offset: number, length: number): Generator<DiskPiece> {
    for (let index = this.#indexAt(offset), at = offset; at < offset + length; index++) {
      const piece = this.#pieces[index];
      if (piece === undefined) return;
      const within = at - (this.#starts[index] ?? 0);
      const part = Math.min(piece.length - within, offset + length - at);
      yield { offset: piece.offset + within, length: part };
      at += part;
    }
  }

  /** The last piece that begins at or before an offset. */
  #indexAt(offset: number): number {
    let low = 0;
    let high = this.#starts.length;
    while (low + 1 < high) {
      const middle = (low + high) >>> 1;
      if ((this.#starts[middle] ?? 0) <= offset) low = middle;
      else high = middle;
    }
    return low;
  }

  #check(offset: number, length: number): void {
    if (!(offset >= 0 && length >= 0 && offset + length <= this.sizeBytes)) {
      throw new VarveError(
        "out-of-range",
        `reading ${length} bytes at ${offset}: the volume has ${this.sizeBytes} bytes`,
      );
    }
  }
}

/** A part of a device: a window when it is one piece, else its pieces. Throws `out-of-range` as both do. */
export function openPieces(parent: BlockDevice, pieces: readonly DiskPiece[]): BlockDevice {
  const [first] = pieces;
  return first !== undefined && pieces.length === 1
    ? new SubDevice(parent, first.offset, first.length)
    : new PieceDevice(parent, pieces);
}

function readOnlyError(): VarveError {
  return new VarveError("read-only", "changing a volume of a view: volumes are only read");
}

/**
 * What the log says that the disk does not hold yet: sectors in memory that lie over those of the device.
 *
 * @module
 */
import { VarveError } from "../../base/errors.ts";
import { SECTOR_BYTES } from "./format.ts";

/** Sectors that one replay may change: 512 MiB. Guests' logs are at most 2 GiB and seldom above 64 MiB. */
const SECTORS_MAX = 2 ** 20;

/** Sectors by their number on the device. */
export class SectorOverlay {
  readonly #sectors = new Map<number, Uint8Array>();

  /** Whether nothing lies over the device. */
  get isEmpty(): boolean {
    return this.#sectors.size === 0;
  }

  /** Number of sectors. */
  get size(): number {
    return this.#sectors.size;
  }

  /** Puts what is newer over `target`, which was read from byte `offset`, a multiple of a sector; returns whether anything was. */
  patch(offset: number, target: Uint8Array): boolean {
    if (this.#sectors.size === 0) return false;
    let found = false;
    for (let at = 0; at < target.length; at += SECTOR_BYTES) {
      const sector = this.#sectors.get((offset + at) / SECTOR_BYTES);
      if (sector === undefined) continue;
      found = true;
      target.set(at + SECTOR_BYTES <= target.length ? sector : sector.subarray(0, target.length - at), at);
    }
    return found;
  }

  /** Whether any sector of a range of bytes is newer than the device. */
  covers(offset: number, length: number): boolean {
    if (this.#sectors.size === 0) return false;
    for (let at = Math.floor(offset / SECTOR_BYTES); at * SECTOR_BYTES < offset + length; at++) {
      if (this.#sectors.has(at)) return true;
    }
    return false;
  }

  /** Keeps the sectors of `bytes`, which lie from byte `offset` on, that the bytes from `from` to `to` belong to. */
  put(offset: number, bytes: Uint8Array, from: number, to: number): void {
    const first = Math.floor(from / SECTOR_BYTES) * SECTOR_BYTES;
    for (let at = first; at < to; at += SECTOR_BYTES) {
      const number = (offset + at) / SECTOR_BYTES;
      const known = this.#sectors.get(number);
      if (known === undefined && this.#sectors.size >= SECTORS_MAX) {
        throw new VarveError("unsupported", "replaying the log: it changes more than 512 MiB of metadata");
      }
      const part = bytes.subarray(at, at + SECTOR_BYTES);
      if (known !== undefined && part.length === SECTOR_BYTES) known.set(part);
      else this.#sectors.set(number, part.slice());
    }
  }
}

/** Images of FAT that tests write entry by entry, and the numbers to do so. */
import { readFileSync } from "node:fs";
import { makeFat } from "./_mtools.ts";

/** An entry of a file. */
export interface WrittenEntry {
  /** Eleven characters, each one byte. */
  readonly short: string;
  readonly attributes?: number;
  readonly lower?: number;
  readonly cluster?: number;
  readonly sizeBytes?: number;
  /** The long name that stands before it. */
  readonly long?: string;
  /** Added to the sum that ties the long name to the short one. */
  readonly wrongSum?: number;
}

/** An image in memory, and where its parts lie. */
export class FatImage {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly sectorBytes: number;
  readonly clusterBytes: number;
  readonly fatOffset: number;
  readonly fatBytes: number;
  readonly rootOffset: number;
  readonly heapOffset: number;
  readonly bits: 12 | 16 | 32;

  private constructor(bytes: Uint8Array, bits: 12 | 16 | 32) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer);
    this.bits = bits;
    this.sectorBytes = this.view.getUint16(11, true);
    this.clusterBytes = this.sectorBytes * (bytes[13] ?? 0);
    this.fatOffset = this.view.getUint16(14, true) * this.sectorBytes;
    this.fatBytes = (this.view.getUint16(22, true) || this.view.getUint32(36, true)) * this.sectorBytes;
    const fats = this.fatOffset + (bytes[16] ?? 0) * this.fatBytes;
    this.heapOffset = fats + this.view.getUint16(17, true) * 32;
    this.rootOffset = bits === 32 ? this.offsetOf(this.view.getUint32(44, true)) : fats;
  }

  /** Makes an empty file system in a folder, and reads it. */
  static async make(
    folder: string,
    bits: 12 | 16 | 32,
    size: string,
    ...options: string[]
  ): Promise<FatImage> {
    const path = `${folder}/image-${bits}-${size}`;
    await makeFat(path, size, ["-F", `${bits}`, ...options]);
    return new FatImage(new Uint8Array(readFileSync(path)), bits);
  }

  /** First byte of a cluster. */
  offsetOf(cluster: number): number {
    return this.heapOffset + (cluster - 2) * this.clusterBytes;
  }

  /** Writes what follows a cluster into one FAT. */
  link(cluster: number, next: number, fat = 0): void {
    const at = this.fatOffset + fat * this.fatBytes;
    if (this.bits === 32) this.view.setUint32(at + 4 * cluster, next, true);
    else if (this.bits === 16) this.view.setUint16(at + 2 * cluster, next, true);
    else {
      const place = at + Math.floor(cluster * 1.5);
      const old = this.view.getUint16(place, true);
      const [kept, shift] = cluster % 2 === 0 ? [0xf000, 0] : [0x000f, 4];
      this.view.setUint16(place, (old & kept) | ((next & 0xfff) << shift), true);
    }
  }

  /** Writes entries one behind the other; returns where the last one of each lies, in units of 32 bytes. */
  writeEntries(offset: number, ...entries: WrittenEntry[]): number[] {
    let at = offset;
    return entries.map((entry) => {
      const parts = entry.long === undefined
        ? []
        : longParts(entry.long, sumOf(entry.short) + (entry.wrongSum ?? 0));
      for (const part of [...parts, shortEntry(entry)]) {
        this.bytes.set(part, at);
        at += 32;
      }
      return at / 32 - 1;
    });
  }
}

function shortEntry({ short, attributes, lower, cluster = 0, sizeBytes = 0 }: WrittenEntry): Uint8Array {
  const bytes = new Uint8Array(32);
  const view = new DataView(bytes.buffer);
  for (let at = 0; at < 11; at++) bytes[at] = short.charCodeAt(at);
  bytes[11] = attributes ?? 0x20;
  bytes[12] = lower ?? 0;
  view.setUint16(20, Math.floor(cluster / 65_536), true);
  view.setUint16(26, cluster % 65_536, true);
  view.setUint32(28, sizeBytes, true);
  return bytes;
}

function longParts(name: string, sum: number): Uint8Array[] {
  const units = [...Array(name.length).keys()].map((at) => name.charCodeAt(at));
  if (units.length % 13 !== 0) units.push(0);
  while (units.length % 13 !== 0) units.push(0xffff);
  const count = units.length / 13;
  return Array.from({ length: count }, (_, index) => {
    const number = count - index;
    const bytes = new Uint8Array(32);
    const view = new DataView(bytes.buffer);
    bytes[0] = number | (index === 0 ? 0x40 : 0);
    bytes[11] = 15;
    bytes[13] = sum;
    const places = [1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30];
    for (const [at, place] of places.entries()) {
      view.setUint16(place, units[(number - 1) * 13 + at] ?? 0, true);
    }
    return bytes;
  });
}

function sumOf(short: string): number {
  let sum = 0;
  for (let at = 0; at < 11; at++) sum = ((sum % 2) * 128 + Math.floor(sum / 2) + short.charCodeAt(at)) % 256;
  return sum;
}

/** Images of exFAT that tests write entry by entry, in sectors and clusters of 512 bytes. */
import { readFileSync } from "node:fs";
import { Patch } from "../fat/testing.ts";
import { makeExfat } from "./_exfat_mount.ts";
import { sealBoot, sealSet } from "./_sums.ts";

/** A file's entries. */
export interface WrittenSet {
  readonly name: string;
  readonly attributes?: number;
  readonly cluster?: number;
  readonly sizeBytes?: number;
  /** The size when absent. */
  readonly validBytes?: number;
  readonly contiguous?: boolean;
}

const SECTOR_BYTES = 512;

/** An image in memory, and where its parts lie. */
export class ExfatImage {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly fatOffset: number;
  readonly heapOffset: number;
  readonly rootCluster: number;
  /** First byte behind what mkfs.exfat wrote into the root directory: label, bitmap and up-case table. */
  readonly freeOffset: number;

  private constructor(bytes: Uint8Array) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer);
    this.fatOffset = this.view.getUint32(80, true) * SECTOR_BYTES;
    this.heapOffset = this.view.getUint32(88, true) * SECTOR_BYTES;
    this.rootCluster = this.view.getUint32(96, true);
    this.freeOffset = this.offsetOf(this.rootCluster) + 3 * 32;
  }

  /** Makes an empty file system in a folder, and reads it. */
  static async make(folder: string): Promise<ExfatImage> {
    const path = `${folder}/image`;
    await makeExfat(path, "4M", ["-c", `${SECTOR_BYTES}`]);
    return new ExfatImage(new Uint8Array(readFileSync(path)));
  }

  /** First byte of a cluster. */
  offsetOf(cluster: number): number {
    return this.heapOffset + (cluster - 2) * SECTOR_BYTES;
  }

  /** Writes what follows a cluster. */
  link(cluster: number, next: number): void {
    this.view.setUint32(this.fatOffset + 4 * cluster, next, true);
  }

  /** Writes sets one behind the other; returns where each begins. */
  writeSets(offset: number, ...sets: WrittenSet[]): number[] {
    let at = offset;
    return sets.map((set) => {
      const start = at;
      const bytes = bytesOf(set);
      this.bytes.set(bytes, start);
      at += bytes.length;
      this.seal(start);
      return start;
    });
  }

  /** Makes the checksum of a set match again. */
  seal(offset: number): void {
    sealSet(this.bytes, new Patch(this.bytes), offset);
  }

  /** Makes the checksum of the boot region match again. */
  sealBoot(): void {
    sealBoot(this.bytes, new Patch(this.bytes));
  }
}

function bytesOf(set: WrittenSet): Uint8Array {
  const names = Math.ceil(set.name.length / 15);
  const bytes = new Uint8Array(32 * (2 + names));
  const view = new DataView(bytes.buffer);
  const sizeBytes = set.sizeBytes ?? 0;
  bytes[0] = 0x85;
  bytes[1] = 1 + names;
  view.setUint16(4, set.attributes ?? 0x20, true);
  bytes[32] = 0xc0;
  bytes[33] = 1 + (set.contiguous === true ? 2 : 0);
  bytes[35] = set.name.length;
  view.setBigUint64(40, BigInt(set.validBytes ?? sizeBytes), true);
  view.setUint32(52, set.cluster ?? 0, true);
  view.setBigUint64(56, BigInt(sizeBytes), true);
  for (let part = 0; part < names; part++) bytes[64 + 32 * part] = 0xc1;
  for (let at = 0; at < set.name.length; at++) {
    view.setUint16(64 + 32 * Math.floor(at / 15) + 2 + 2 * (at % 15), set.name.charCodeAt(at), true);
  }
  return bytes;
}

/** What the tests of FAT and exFAT with damaged images share. */
import { VarveError } from "../../base/errors.ts";
import { MemoryDevice } from "../_test_support.ts";
import { seekContent } from "../content.ts";
import type { GuestFileSystem, GuestReader } from "../guest.ts";

const VISITS_MAX = 300;
const READS_MAX = 100_000;

/** Numbers from 0 to below another, the same for the same seed. */
export type Random = (below: number) => number;

/** A small generator of numbers. */
export function random(seed: number): Random {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor(state / 2 ** 32 * below);
  };
}

/** A device in memory that counts what is read, and gives up on a reader that does not stop. */
export class CountingDevice extends MemoryDevice {
  reads = 0;

  override read(offset: number, target: Uint8Array): void {
    if (++this.reads > READS_MAX) throw new Error(`more than ${READS_MAX} reads of the device`);
    super.read(offset, target);
  }
}

/** Runs one call; its failure is fine if it is ours and of a kind that readers may have. */
function attempt<Result>(work: () => Result): Result | undefined {
  try {
    return work();
  } catch (thrown) {
    const codes: readonly string[] = ["damaged", "unsupported", "not-found", "invalid"];
    if (thrown instanceof VarveError && codes.includes(thrown.code)) return undefined;
    throw thrown;
  }
}

/** Calls everything on everything that can be reached; returns how many inodes that was. */
export function exercise(fileSystem: GuestFileSystem): number {
  attempt(() => fileSystem.space);
  const waiting = [fileSystem.root];
  const seen = new Set(waiting);
  const buffer = new Uint8Array(100_000);
  let visits = 0;
  for (let inode = waiting.pop(); inode !== undefined && visits < VISITS_MAX; inode = waiting.pop()) {
    visits++;
    const number = inode;
    const stat = attempt(() => fileSystem.stat(number));
    attempt(() => fileSystem.xattrs(number));
    attempt(() => fileSystem.readLink(number));
    attempt(() => fileSystem.read(number, 0, buffer));
    attempt(() => fileSystem.map(number, 0, 2 ** 50));
    if (stat !== undefined) {
      attempt(() => fileSystem.read(number, Math.floor(stat.sizeBytes / 2), buffer));
      attempt(() => seekContent(fileSystem, stat, { offset: 0, kind: "hole" }));
    }
    const entries = attempt(() => fileSystem.readDirectory(number)) ?? [];
    for (const [index, entry] of entries.entries()) {
      if (index % 20 === 0) attempt(() => fileSystem.lookup(number, entry.name));
      if (!seen.has(entry.inode)) waiting.push(entry.inode);
      seen.add(entry.inode);
    }
    attempt(() => fileSystem.lookup(number, new TextEncoder().encode("a name that is not there")));
  }
  // Numbers that nobody was told.
  for (const forged of [0, 2, -1, 17, 0.5, 1 / 3, 4095, 2 ** 31, 2 ** 52, 2 ** 53, NaN, Infinity]) {
    attempt(() => fileSystem.stat(forged));
    attempt(() => fileSystem.read(forged, 0, buffer));
    attempt(() => fileSystem.readDirectory(forged));
  }
  return visits;
}

/** Bytes of an image that can be changed and put back. */
export class Patch {
  readonly #bytes: Uint8Array;
  readonly #undo: [at: number, byte: number][] = [];

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  /** Changes some bytes; what would lie beyond the end is left out. */
  write(at: number, ...values: number[]): void {
    for (const [index, value] of values.entries()) {
      if (at + index >= this.#bytes.length) return;
      this.#undo.push([at + index, this.#bytes[at + index] ?? 0]);
      this.#bytes[at + index] = value;
    }
  }

  /** Changes four bytes to a little-endian number, or fewer. */
  writeNumber(at: number, value: number, width = 4): void {
    for (let byte = 0; byte < width; byte++) this.write(at + byte, Math.floor(value / 2 ** (8 * byte)) % 256);
  }

  /** Puts everything back. */
  revert(): void {
    for (const [at, byte] of this.#undo.reverse()) this.#bytes[at] = byte;
    this.#undo.length = 0;
  }
}

/** Offsets of sectors that hold something; elsewhere a change does nothing. */
export function usedSectors(image: Uint8Array): number[] {
  const used: number[] = [];
  for (let at = 0; at < image.length; at += 512) {
    if (image.subarray(at, at + 512).some((byte) => byte !== 0)) used.push(at);
  }
  return used;
}

/** Numbers at which readers go wrong. */
export function oddNumber(next: Random): number {
  const odd = [0, 1, 2, 3, 0x7f, 0x80, 0xff, 0x100, 0xff7, 0xfff, 0xfff7, 0xffff, 0x10000, 0x0ffffff7];
  const larger = [0x0fffffff, 0x7fffffff, 0x80000000, 0xfffffff7, 0xffffffff];
  const all = [...odd, ...larger];
  return next(3) === 0 ? next(70_000) : all[next(all.length)] ?? 0;
}

/**
 * Opens an image and calls everything on it, `images` times, each time changed in another way, which the seed decides. Returns how
 * many of them could be opened.
 */
export function attack(
  reader: GuestReader,
  bytes: Uint8Array,
  { images, mutate }: { readonly images: number; readonly mutate: (patch: Patch, next: Random) => void },
): number {
  let opened = 0;
  for (let seed = 1; seed <= images; seed++) {
    const patch = new Patch(bytes);
    try {
      mutate(patch, random(seed));
      const device = new CountingDevice(bytes);
      reader.looksLike(device);
      const fileSystem = attempt(() => reader.open(device));
      if (fileSystem !== undefined) opened++;
      if (fileSystem !== undefined) exercise(fileSystem);
    } catch (thrown) {
      throw new Error(`seed ${seed}: ${thrown instanceof Error ? thrown.stack : thrown}`, { cause: thrown });
    } finally {
      patch.revert();
    }
  }
  return opened;
}

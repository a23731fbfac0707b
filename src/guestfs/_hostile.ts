/** What the tests of hostile images share: numbers from a seed, a walk that calls everything, and mutations that are undone. */
import { type ErrorCode, VarveError } from "../base/errors.ts";
import { seekContent } from "./content.ts";
import type { GuestFileSystem } from "./guest.ts";
import type { MemoryDevice } from "./_test_support.ts";

const VISITS_MAX = 1500;

/** A small generator of the same numbers for the same seed. */
export function random(seed: number): (below: number) => number {
  let state = Math.imul(seed, 2654435761) >>> 0;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor(state / 2 ** 32 * below);
  };
}

/** What a reader may say of an image. */
const CODES: readonly ErrorCode[] = ["damaged", "unsupported", "invalid", "not-found", "io"];

/** Runs one call; its failure is fine if it is ours and one that a reader may have. */
export function attempt<Result>(work: () => Result): Result | undefined {
  try {
    return work();
  } catch (thrown) {
    if (thrown instanceof VarveError && CODES.includes(thrown.code)) return undefined;
    throw thrown;
  }
}

/** Calls everything on everything that can be reached; returns how many inodes that was. */
export function exercise(fileSystem: GuestFileSystem, visitsMax: number = VISITS_MAX): number {
  attempt(() => fileSystem.space);
  const waiting = [fileSystem.root];
  const seen = new Set(waiting);
  const buffer = new Uint8Array(100_000);
  let visits = 0;
  for (let inode = waiting.pop(); inode !== undefined && visits < visitsMax; inode = waiting.pop()) {
    visits++;
    const number = inode;
    const stat = attempt(() => fileSystem.stat(number));
    if (stat === undefined) continue;
    attempt(() => fileSystem.xattrs(number));
    attempt(() => fileSystem.readLink(number));
    attempt(() => fileSystem.read(number, 0, buffer));
    attempt(() => fileSystem.read(number, Math.floor(stat.sizeBytes / 2), buffer));
    attempt(() => fileSystem.map(number, 0, 2 ** 50));
    attempt(() => seekContent(fileSystem, stat, { offset: 0, kind: "hole" }));
    const entries = attempt(() => fileSystem.readDirectory(number)) ?? [];
    for (const [index, entry] of entries.entries()) {
      if (index % 20 === 0) attempt(() => fileSystem.lookup(number, entry.name));
      if (!seen.has(entry.inode)) waiting.push(entry.inode);
      seen.add(entry.inode);
    }
    attempt(() => fileSystem.lookup(number, new TextEncoder().encode("a name that is not there")));
  }
  return visits;
}

/** Bytes of a device that are put back as they were when this is disposed. */
export class Mutation implements Disposable {
  readonly #bytes: Uint8Array;
  readonly #undo: [at: number, byte: number][] = [];

  constructor(device: MemoryDevice) {
    this.#bytes = device.bytes;
  }

  /** Sets one byte; outside the device nothing happens. */
  set(at: number, byte: number): void {
    const old = this.#bytes[at];
    if (old === undefined) return;
    this.#undo.push([at, old]);
    this.#bytes[at] = byte;
  }

  /** Sets bytes from an offset on. */
  write(at: number, bytes: Iterable<number>): void {
    for (const byte of bytes) this.set(at++, byte);
  }

  /** Changes a field of up to eight bytes to one of the values that break parsers. */
  field(at: number, next: (below: number) => number): void {
    const width = [1, 2, 4, 8][next(4)] ?? 1;
    const kind = next(5);
    for (let index = 0; index < width; index++) {
      const old = this.#bytes[at + index] ?? 0;
      if (kind === 0) this.set(at + index, 0xff);
      else if (kind === 1) this.set(at + index, index === 0 ? 1 : 0);
      else if (kind === 2) this.set(at + index, next(256));
      else if (kind === 3) this.set(at + index, index === 0 ? old + (next(2) === 0 ? 1 : -1) & 0xff : old);
      else this.set(at + index, index === width - 1 ? 0x80 : 0);
    }
  }

  [Symbol.dispose](): void {
    for (const [at, byte] of this.#undo.reverse()) this.#bytes[at] = byte;
  }
}

/** Offsets of the pieces of `bytes` that hold something. */
export function usedPieces(image: Uint8Array, pieceBytes: number): number[] {
  const used: number[] = [];
  for (let at = 0; at < image.length; at += pieceBytes) {
    if (image.subarray(at, at + pieceBytes).some((byte) => byte !== 0)) used.push(at);
  }
  return used;
}

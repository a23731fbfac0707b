/**
 * One block of LZ4, as its block format description tells it: literals and matches in turn, the lengths in the two
 * halves of a token and in bytes of 255 behind it.
 *
 * @module
 */
import { damaged } from "../_bytes.ts";

const MATCH_MIN = 4;

/** Fills `target` from its start and returns how many bytes that were. Throws `damaged`. */
export function decompressLz4(source: Uint8Array, target: Uint8Array): number {
  const fail = (found: string) => damaged("decompressing LZ4", found);
  let at = 0;
  let done = 0;
  const byte = () => {
    const value = source[at++];
    if (value === undefined) throw fail("it ends too early");
    return value;
  };
  const lengthOf = (half: number) => {
    let length = half;
    for (let more = half === 15 ? 255 : 0; more === 255; length += more) more = byte();
    return length;
  };
  while (true) {
    const token = byte();
    const literals = lengthOf(token >> 4);
    if (at + literals > source.length || done + literals > target.length) {
      throw fail("literals beyond its end");
    }
    target.set(source.subarray(at, at + literals), done);
    at += literals;
    done += literals;
    if (at === source.length) return done;
    const distance = byte() + byte() * 256;
    const length = lengthOf(token & 15) + MATCH_MIN;
    if (distance === 0 || distance > done || done + length > target.length) {
      throw fail("a match outside its content");
    }
    copyMatch(target, done, distance, length);
    done += length;
  }
}

/** Repeats what lies `distance` back; source and target may overlap, then the content goes on repeating. */
export function copyMatch(target: Uint8Array, at: number, distance: number, length: number): void {
  if (distance >= length) target.copyWithin(at, at - distance, at - distance + length);
  else for (let index = at; index < at + length; index++) target[index] = target[index - distance] as number;
}

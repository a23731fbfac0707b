import { deepEqual, throws } from "node:assert/strict";
import { VarveError } from "../../base/errors.ts";
import { noise } from "../_busy_tree.ts";
import { decompressLznt1 } from "./lznt1.ts";

function decompress(packed: Uint8Array, bytes = 4096): Uint8Array {
  const target = new Uint8Array(bytes).fill(0xee);
  decompressLznt1(packed, target);
  return target;
}

function padded(content: Uint8Array, bytes: number): Uint8Array {
  const target = new Uint8Array(bytes);
  target.set(content);
  return target;
}

/** A chunk with the header of its kind. */
function chunk(compressed: boolean, ...content: number[]): number[] {
  const header = 0x3000 | (compressed ? 0x8000 : 0) | (content.length - 1);
  return [header & 0xff, header >> 8, ...content];
}

/** Compresses in the plainest way: the longest copy from the nearest place, found by trying all. */
function compress(content: Uint8Array): Uint8Array {
  const packed: number[] = [];
  for (let start = 0; start < content.length; start += 4096) {
    const part = content.subarray(start, start + 4096);
    const items: number[] = [];
    for (let at = 0; at < part.length;) {
      const flagsAt = items.push(0) - 1;
      for (let item = 0; item < 8 && at < part.length; item++) {
        let lengthBits = 12;
        for (let filled = at - 1; filled >= 16; filled >>= 1) lengthBits--;
        let [best, from] = [0, 0];
        for (let back = 1; back <= Math.min(at, 1 << (16 - lengthBits)); back++) {
          let length = 0;
          while (at + length < part.length && part[at + length] === part[at + length - back]) length++;
          if (length > best) [best, from] = [length, back];
        }
        const length = Math.min(best, (1 << lengthBits) + 2);
        if (length < 3) items.push(part[at++] ?? 0);
        else {
          const pair = (from - 1) << lengthBits | (length - 3);
          items.push(pair & 0xff, pair >> 8);
          items[flagsAt] = (items[flagsAt] ?? 0) | 1 << item;
          at += length;
        }
      }
    }
    packed.push(...(items.length < 4096 ? chunk(true, ...items) : chunk(false, ...part)));
  }
  return Uint8Array.from(packed);
}

Deno.test("lznt1: what a plain compressor packs comes back", () => {
  const text = new TextEncoder().encode("F# F# G A A G F# E D D E F# F# E E ".repeat(200));
  const zeroes = new Uint8Array(5000);
  const mixed = padded(noise(3, 2000), 6000);
  for (const content of [text.subarray(0, 1), text.subarray(0, 100), text, zeroes, noise(1, 5000), mixed]) {
    deepEqual(decompress(compress(content), 16_384), padded(content, 16_384));
  }
});

Deno.test("lznt1: a chunk of fewer than 4096 bytes is followed by zeroes, and so is the end", () => {
  const packed = Uint8Array.from([...chunk(true, 0, 97, 98), ...chunk(false, 99), 0, 0, 1, 2, 3]);
  const expected = new Uint8Array(12_288);
  expected.set([97, 98]);
  expected[4096] = 99;
  deepEqual(decompress(packed, 12_288), expected);
});

const DAMAGES: readonly [what: string, packed: number[]][] = [
  ["a chunk beyond the end", [0xff, 0xb0, 0, 1, 2]],
  ["a copy from before the chunk", chunk(true, 0b10, 97, 0x00, 0x10)],
  ["a copy beyond the chunk", chunk(true, 0b110, 97, 0xff, 0x0f, 0xff, 0x0f)],
  ["half of a copy", chunk(true, 0b10, 97, 0)],
];

for (const [what, packed] of DAMAGES) {
  Deno.test(`lznt1: ${what} is damage`, () => {
    throws(
      () => decompress(Uint8Array.from(packed)),
      (thrown) => thrown instanceof VarveError && thrown.code === "damaged",
    );
  });
}

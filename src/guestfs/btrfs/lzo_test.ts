import { deepEqual, equal, throws } from "node:assert/strict";
import { VarveError } from "../../base/errors.ts";
import { decompress } from "./decompress.ts";
import { COMPRESSION } from "./format.ts";
import { decompressLzo } from "./lzo.ts";

const END = [0x11, 0, 0];
const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
const letters = (characters: string) => Array.from(characters, (each) => each.charCodeAt(0));

const STREAMS: readonly [what: string, stream: number[], content: string][] = [
  ["literals at the beginning", [17 + 5, ...letters("hello"), ...END], "hello"],
  ["a short run of literals", [1, ...letters("abcd"), ...END], "abcd"],
  ["a long run of literals", [0, 2, ...letters("x".repeat(20)), ...END], "x".repeat(20)],
  ["a near match of four bytes", [17 + 4, ...letters("abcd"), 0x60 | 3 << 2, 0, ...END], "abcdabcd"],
  [
    "a match that overlaps itself",
    [17 + 4, ...letters("abcd"), 0x20 | 6, 0, 0, ...END],
    "abcdddddddddd".slice(0, 12),
  ],
  ["a match and a literal behind it", [
    17 + 4,
    ...letters("abcd"),
    0x60 | 3 << 2 | 1,
    0,
    ...letters("!"),
    ...END,
  ], "abcdabcd!"],
];

for (const [what, stream, content] of STREAMS) {
  Deno.test(`btrfs: LZO: ${what}`, () => {
    const target = new Uint8Array(64);
    const length = decompressLzo(Uint8Array.from(stream), target);
    equal(text(target.subarray(0, length)), content);
    // Neither without its end nor in too small a place.
    for (let cut = 0; cut < stream.length; cut++) {
      throws(() => decompressLzo(Uint8Array.from(stream.slice(0, cut)), target), VarveError);
    }
    throws(() => decompressLzo(Uint8Array.from(stream), new Uint8Array(content.length - 1)), VarveError);
  });
}

Deno.test("btrfs: LZO: noise gives content or our error", () => {
  let state = 1;
  for (let round = 0; round < 2000; round++) {
    const stream = Uint8Array.from(
      { length: 40 },
      () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) >>> 24,
    );
    try {
      decompressLzo(stream, new Uint8Array(500));
    } catch (thrown) {
      if (!(thrown instanceof VarveError)) throw thrown;
    }
  }
});

Deno.test("btrfs: an extent of LZO blocks: one for each sector, with no length split between two", () => {
  const sector = 512;
  // 492 literals and a match of 20 bytes; it ends three bytes before the end of a sector, where a length would be split.
  const first = [0, 0, 219, ...letters("s".repeat(492)), 0x20 | 18, 0, 0, ...END];
  equal(sector - (8 + first.length), 3);
  const second = [17 + 3, ...letters("end"), ...END];
  const stored = new Uint8Array(2 * sector);
  const view = new DataView(stored.buffer);
  view.setUint32(0, sector + 4 + second.length, true);
  view.setUint32(4, first.length, true);
  stored.set(first, 8);
  view.setUint32(sector, second.length, true);
  stored.set(second, sector + 4);
  const content = decompress(stored, COMPRESSION.lzo, 2 * sector, sector);
  equal(text(content.subarray(0, 515)), "s".repeat(512) + "end");
  deepEqual(content.subarray(515), new Uint8Array(2 * sector - 515));
});

import { deepEqual, equal, ok } from "node:assert/strict";
import { decodeName, encodeName, readUtf16, Upcase } from "./names.ts";

Deno.test("names: UTF-16 becomes UTF-8 and back, halves of pairs too", () => {
  const names: readonly [name: string, hex: string][] = [
    ["a", "61"],
    ["ä𝄞", "c3a4f09d849e"],
    ["\ufeffx", "efbbbf78"],
    ["\ud834x", "eda0b478"],
    ["x\udd1e", "78edb49e"],
    ["\udd1e\ud834", "edb49eeda0b4"],
    ["ü\ud834𝄞", "c3bceda0b4f09d849e"],
  ];
  for (const [name, hex] of names) {
    equal(encodeName(name).toHex(), hex);
    equal(decodeName(Uint8Array.fromHex(hex)), name);
    const units = Uint8Array.from(
      name.split("").flatMap((unit) => [unit.charCodeAt(0) & 0xff, unit.charCodeAt(0) >> 8]),
    );
    equal(readUtf16(units, 0, name.length), name);
  }
});

Deno.test("names: bytes that no name becomes are no name", () => {
  for (
    const hex of [
      "ff",
      "80",
      "c3",
      "c080",
      "e08080",
      "eda0b4edb49e",
      "f8888080",
      "f48fbfc0",
      "f7bfbfbf",
      "61ff62",
      "e4c3a4",
    ]
  ) {
    equal(decodeName(Uint8Array.fromHex(hex)), undefined, hex);
  }
});

/** A table in which a to z, and nothing else, have an upper case, and which ends at `units`. */
function upcase(units: number): Upcase {
  const view = new DataView(new ArrayBuffer(units * 2));
  for (let unit = 0; unit < units; unit++) {
    view.setUint16(unit * 2, unit >= 97 && unit <= 122 ? unit - 32 : unit, true);
  }
  return new Upcase(new Uint8Array(view.buffer));
}

Deno.test("names: the order is that of the upper case, then that of the code units", () => {
  for (const table of [upcase(65_536), upcase(128)]) {
    const sorted = ["", "A", "a", "AA", "Aa", "aA", "aa", "Ab", "B", "[", "ä", "\ud834", "\uff41"];
    const shuffled = sorted.toReversed();
    deepEqual(shuffled.sort((left, right) => table.collate(left, right)), sorted);
    equal(table.compare("fOo", "FoO"), 0);
    ok(table.collate("fOo", "FoO") > 0);
    ok(table.compare("fo", "FOO") < 0);
  }
});

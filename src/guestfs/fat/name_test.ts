import { deepEqual, equal } from "node:assert/strict";
import { CaseFolding, decodeCodePage, decodeName, encodeName } from "./name.ts";

Deno.test("fat names: bytes and text lead to each other, with and without well-formed surrogates", () => {
  const names = [
    "",
    "plain",
    "näme",
    "日本",
    "😀",
    "\ud83d",
    "\ude00",
    "\ude00\ud83d",
    "a\ud800b\udfffc\u{10ffff}",
    "\0\x7f\x80",
  ];
  for (const name of names) equal(decodeName(encodeName(name)), name);
  deepEqual([...encodeName("😀")], [0xf0, 0x9f, 0x98, 0x80]);
  deepEqual([...encodeName("x\ud83d")], [0x78, 0xed, 0xa0, 0xbd]);
});

Deno.test("fat names: bytes that no name has are no name", () => {
  const wrong = [
    [0x80],
    [0xc3],
    [0xc0, 0x80],
    [0xe2, 0x82],
    [0xff],
    [0xf4, 0x90, 0x80, 0x80],
    // A pair of surrogates is one character, so it is not written as two.
    [0xed, 0xa0, 0xbd, 0xed, 0xb8, 0x80],
  ];
  for (const bytes of wrong) equal(decodeName(Uint8Array.from(bytes)), undefined);
});

Deno.test("fat names: the common folding leaves what has no single capital as it is", () => {
  const fold = (name: string) => CaseFolding.common.fold(name);
  equal(fold("aÉéß日😀"), "AÉÉß日😀");
});

Deno.test("fat names: code page 437", () => {
  equal(decodeCodePage(Uint8Array.of(0x41, 0x80, 0x9f, 0xe1, 0xff)), "AÇƒß\u00a0");
});

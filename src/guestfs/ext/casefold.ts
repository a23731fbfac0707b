/**
 * Names in directories that do not tell upper from lower case (`casefold`, `chattr +F`).
 *
 * The guest compares names by their decomposed form with full case folding and without ignorable characters, in Unicode
 * 12.1. Here folding is made of what the language knows: to upper and to lower case, one character after the other. That
 * is the same relation but for the dotless i, which is left alone, and for characters that later versions of Unicode
 * added. Bytes that are no UTF-8 only match themselves. Source: the kernel's `fs/unicode/` and ext4's `dir.rst`.
 *
 * @module
 */
import { latin1 } from "../_bytes.ts";

/** `s_encoding`: UTF-8 of Unicode 12.1, the only one that exists. */
export const ENCODING_UTF8 = 1;

const DOTLESS_I = "\u0131";
const IGNORABLE = /\p{Default_Ignorable_Code_Point}/gu;

/** What names that are taken for one have in common, or `undefined` for bytes that are no UTF-8. */
export function foldName(name: Uint8Array): string | undefined {
  if (name.every((byte) => byte < 0x80)) return latin1(name).toLowerCase();
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(name);
  } catch {
    return undefined;
  }
  const bare = text.normalize("NFD").replace(IGNORABLE, "");
  const folded = Array.from(bare, (each) => each === DOTLESS_I ? each : each.toUpperCase().toLowerCase());
  return folded.join("").normalize("NFD");
}

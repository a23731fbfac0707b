/**
 * Names of FAT and exFAT as text, as bytes, and as what they are compared by.
 *
 * The guest keeps 16-bit units that need not be well-formed UTF-16. As bytes they become UTF-8, and a surrogate without its
 * partner the three bytes that WTF-8 gives it: so no two names become the same.
 *
 * @module
 */
import { u16 } from "../_bytes.ts";

const ENCODER = new TextEncoder();

/** Characters from 0x80 on of code page 437. */
const CODE_PAGE_437 =
  "ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀" +
  "αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u00a0";

/** Text in code page 437. */
export function decodeCodePage(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) {
    text += byte < 0x80 ? String.fromCharCode(byte) : CODE_PAGE_437.charAt(byte - 0x80);
  }
  return text;
}

/** Text of `count` little-endian units. */
export function decodeUnits(bytes: Uint8Array, at: number, count: number): string {
  let text = "";
  for (let unit = 0; unit < count; unit++) text += String.fromCharCode(u16(bytes, at + 2 * unit));
  return text;
}

/** A name as bytes, in WTF-8. */
export function encodeName(name: string): Uint8Array {
  if (name.isWellFormed()) return ENCODER.encode(name);
  const bytes: number[] = [];
  for (const character of name) {
    const code = character.codePointAt(0) ?? 0;
    if (code >= 0xd800 && code < 0xe000) {
      bytes.push(0xe0 | (code >>> 12), 0x80 | ((code >>> 6) & 0x3f), 0x80 | (code & 0x3f));
    } else bytes.push(...ENCODER.encode(character));
  }
  return Uint8Array.from(bytes);
}

/** The name that {@linkcode encodeName} makes these bytes of, or `undefined` when there is none. */
export function decodeName(bytes: Uint8Array): string | undefined {
  let name = "";
  for (let at = 0; at < bytes.length;) {
    const lead = bytes[at++] ?? 0;
    const more = lead < 0x80 ? 0 : lead < 0xe0 ? 1 : lead < 0xf0 ? 2 : 3;
    let code = more === 0 ? lead : lead & (0x3f >>> more);
    for (let left = more; left > 0; left--) code = code * 64 + ((bytes[at++] ?? 0) & 0x3f);
    if (code > 0x10ffff) return undefined;
    name += String.fromCodePoint(code);
  }
  // Whatever was wrong with the bytes, the right ones are others.
  const again = encodeName(name);
  return again.length === bytes.length && again.every((byte, at) => byte === bytes[at]) ? name : undefined;
}

/** Makes names that differ only in case the same: unit by unit, by a table of the capital of each. */
export class CaseFolding {
  readonly #capitals: Uint16Array;
  static #common: CaseFolding | undefined;

  /** Folds by a table of 65,536 units. */
  constructor(capitals: Uint16Array) {
    this.#capitals = capitals;
  }

  /** Folding by Unicode's capitals where they are one unit long. */
  static get common(): CaseFolding {
    this.#common ??= new CaseFolding(Uint16Array.from({ length: 65_536 }, (_, unit) => {
      const capital = String.fromCharCode(unit).toUpperCase();
      return capital.length === 1 ? capital.charCodeAt(0) : unit;
    }));
    return this.#common;
  }

  /** What all names have in common that differ from this one in case alone. */
  fold(name: string): string {
    let folded = "";
    for (let at = 0; at < name.length; at++) {
      const unit = name.charCodeAt(at);
      folded += String.fromCharCode(this.#capitals[unit] ?? unit);
    }
    return folded;
  }
}

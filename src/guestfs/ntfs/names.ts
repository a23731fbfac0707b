/**
 * Names: UTF-16 on the disk, UTF-8 outside. A JavaScript string holds the code units as they are, also half a surrogate pair, which
 * NTFS allows; such a half becomes the three bytes that its number would have in UTF-8, and back, as in ntfs-3g.
 *
 * @module
 */
import { slice } from "../_bytes.ts";

const ENCODER = new TextEncoder();
const DECODER = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** The code units of a name: `units` of them from `at` on. Outside the bytes it is `damaged`. */
export function readUtf16(bytes: Uint8Array, at: number, units: number): string {
  const part = slice(bytes, at, at + 2 * units);
  let text = "";
  for (let index = 0; index < part.length; index += 2) {
    text += String.fromCharCode((part[index] as number) | ((part[index + 1] as number) << 8));
  }
  return text;
}

/** The bytes by which the outside knows a name. */
export function encodeName(name: string): Uint8Array {
  if (name.isWellFormed()) return ENCODER.encode(name);
  const bytes: number[] = [];
  for (const character of name) {
    const code = character.codePointAt(0) ?? 0;
    if (code >= 0xd800 && code < 0xe000) {
      bytes.push(0xe0 | code >> 12, 0x80 | code >> 6 & 0x3f, 0x80 | code & 0x3f);
    } else bytes.push(...ENCODER.encode(character));
  }
  return Uint8Array.from(bytes);
}

/** The name that {@linkcode encodeName} makes these bytes of, or `undefined` when there is none. */
export function decodeName(bytes: Uint8Array): string | undefined {
  try {
    return DECODER.decode(bytes);
  } catch {
    // Not UTF-8, but perhaps UTF-8 with halves of pairs.
  }
  let name = "";
  for (let at = 0; at < bytes.length;) {
    const first = bytes[at] as number;
    const length = first < 0x80 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
    let code = length === 1 ? first : first & (0xff >> (length + 1));
    for (let next = at + 1; next < at + length; next++) code = code << 6 | (bytes[next] ?? 0) & 0x3f;
    if (code > 0x10ffff) return undefined;
    name += String.fromCodePoint(code);
    at += length;
  }
  const again = encodeName(name);
  return again.length === bytes.length && again.every((byte, at) => byte === bytes[at]) ? name : undefined;
}

/** The table by which a volume tells upper from lower case, and the order of names that follows from it. */
export class Upcase {
  readonly #table: Uint16Array;

  /** Takes the content of `$UpCase`: the upper case of each code unit, in order; what lies beyond has no other case. */
  constructor(content: Uint8Array) {
    this.#table = Uint16Array.from(
      { length: 65_536 },
      (_, unit) =>
        2 * unit + 2 <= content.length
          ? (content[2 * unit] as number) | ((content[2 * unit + 1] as number) << 8)
          : unit,
    );
  }

  /** Negative, zero or positive as `left` comes before, is the same as or comes after `right` where case does not count. */
  compare(left: string, right: string): number {
    const length = Math.min(left.length, right.length);
    for (let at = 0; at < length; at++) {
      const one = left.charCodeAt(at);
      const other = right.charCodeAt(at);
      if (one === other) continue;
      const difference = (this.#table[one] as number) - (this.#table[other] as number);
      if (difference !== 0) return difference;
    }
    return left.length - right.length;
  }

  /** The order of an index: by {@linkcode compare}, then by the code units themselves. */
  collate(left: string, right: string): number {
    const difference = this.compare(left, right);
    if (difference !== 0 || left === right) return difference;
    return left < right ? -1 : 1;
  }
}

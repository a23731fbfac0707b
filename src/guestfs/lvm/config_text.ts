/**
 * The text in which LVM2 keeps its metadata: sections, and settings that are numbers, strings or lists.
 *
 * ```text
 * text     item…
 * item     name "{" item… "}"  |  name "=" value
 * value    number  |  "…" with \" and \\  |  "[" value "," … "]"
 * ```
 * `#` begins a comment up to the end of the line. Source: lvm.conf(5) and the metadata that the tools write.
 *
 * @module
 */
import { damaged } from "../_bytes.ts";

/** A section: what its names stand for. */
export type ConfigSection = ReadonlyMap<string, ConfigValue>;
/** What a name stands for. */
export type ConfigValue = number | string | readonly (number | string)[] | ConfigSection;

/** Sections in sections that are followed; LVM2 itself needs four. */
const DEPTH_MAX = 10;

type Token =
  | { readonly kind: "mark"; readonly text: string }
  | { readonly kind: "word"; readonly text: string }
  | { readonly kind: "string"; readonly text: string };

/** Parses a text, each character of which is one byte; it ends at its end or at a zero. Throws `damaged`. */
export function parseConfig(text: string): ConfigSection {
  return new Parser(text).section(0);
}

function fail(found: string): Error {
  return damaged("reading the LVM2 metadata", found);
}

class Parser {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  section(depth: number): ConfigSection {
    if (depth > DEPTH_MAX) throw fail(`more than ${DEPTH_MAX} sections in one another`);
    const items = new Map<string, ConfigValue>();
    while (true) {
      const token = this.#next();
      if (token === undefined) {
        if (depth > 0) throw fail("the text ends within a section");
        return items;
      }
      if (token.kind === "mark") {
        if (token.text === "}" && depth > 0) return items;
        throw fail(`a ${token.text} where a name should be`);
      }
      const mark = this.#next();
      if (mark?.kind === "mark" && mark.text === "{") items.set(token.text, this.section(depth + 1));
      else if (mark?.kind === "mark" && mark.text === "=") items.set(token.text, this.#value());
      else throw fail("a name without a value");
    }
  }

  #value(): ConfigValue {
    const first = this.#next();
    if (first?.kind !== "mark") return scalar(first);
    if (first.text !== "[") throw fail(`a ${first.text} where a value should be`);
    const list: (number | string)[] = [];
    while (true) {
      const token = this.#next();
      if (token?.kind === "mark" && token.text === "]") return list;
      if (token?.kind === "mark" && token.text === ",") continue;
      list.push(scalar(token));
    }
  }

  /** The next token, or `undefined` at the end. */
  #next(): Token | undefined {
    const text = this.#text;
    while (this.#at < text.length) {
      const character = text.charAt(this.#at);
      if (character === "\0") return undefined;
      if (character === "#") {
        const end = text.indexOf("\n", this.#at);
        this.#at = end < 0 ? text.length : end;
      } else if (" \t\r\n".includes(character)) this.#at++;
      else if ("{}[]=,".includes(character)) {
        this.#at++;
        return { kind: "mark", text: character };
      } else if (character === '"') return { kind: "string", text: this.#string() };
      else return { kind: "word", text: this.#word() };
    }
    return undefined;
  }

  #string(): string {
    let result = "";
    for (this.#at++; this.#at < this.#text.length; this.#at++) {
      let character = this.#text.charAt(this.#at);
      if (character === '"') {
        this.#at++;
        return result;
      }
      if (character === "\\") character = this.#text.charAt(++this.#at);
      result += character;
    }
    throw fail("the text ends within a string");
  }

  #word(): string {
    const start = this.#at;
    while (this.#at < this.#text.length && !' \t\r\n\0{}[]=,"#'.includes(this.#text.charAt(this.#at))) {
      this.#at++;
    }
    return this.#text.slice(start, this.#at);
  }
}

function scalar(token: Token | undefined): number | string {
  if (token?.kind === "string") return token.text;
  if (token?.kind !== "word") throw fail("a value is missing");
  const number = Number(token.text);
  if (!Number.isFinite(number)) throw fail(`a value ${JSON.stringify(token.text.slice(0, 40))}`);
  return number;
}

/**
 * How results look to people.
 *
 * @module
 */

/** Writes control characters visibly: names and notes from a volume must not steer the terminal. */
export function printable(text: string): string {
  return text.replaceAll(
    /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu,
    (char) => `\\u{${(char.codePointAt(0) ?? 0).toString(16)}}`,
  );
}

/** A column: its heading, and where its cells stand. */
export type Column = string | { heading: string; align: "right" };

/** Aligned columns under headings. The last column is never padded. */
export function table(columns: readonly Column[], rows: readonly (readonly string[])[]): string {
  const headings = columns.map((column) => typeof column === "string" ? column : column.heading);
  const lines = [headings, ...rows.map((row) => row.map(printable))];
  const widths = headings.map((_, index) => Math.max(...lines.map((line) => line[index]?.length ?? 0)));
  return lines.map((line) => {
    const cells = line.map((cell, index) => {
      const width = widths[index] ?? 0;
      if (typeof columns[index] === "object") return cell.padStart(width);
      return index === line.length - 1 ? cell : cell.padEnd(width);
    });
    return `${cells.join("  ").trimEnd()}\n`;
  }).join("");
}

/** Names and values, one a line, values aligned. Values that are `undefined` are left out. */
export function facts(pairs: readonly (readonly [name: string, value: string | undefined])[]): string {
  const known = pairs.filter((pair): pair is [string, string] => pair[1] !== undefined);
  const width = Math.max(...known.map(([name]) => name.length));
  return known.map(([name, value]) => `${name.padEnd(width)}  ${printable(value)}\n`).join("");
}

/** A count with its noun: `1 mark`, `3 marks`. */
export function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}

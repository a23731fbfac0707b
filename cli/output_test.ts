import assert from "node:assert/strict";
import { modeText } from "./ls.ts";
import { facts, printable, table } from "./output.ts";

const { test } = Deno;

test("a table is aligned, right where asked, without spaces at line ends", () => {
  const text = table(["NAME", { heading: "SIZE", align: "right" }, "NOTE"], [["a", "1", ""], [
    "long",
    "1000",
    "x",
  ]]);
  assert.equal(text, "NAME  SIZE  NOTE\na        1\nlong  1000  x\n");
});

test("facts leave out what is not known", () => {
  assert.equal(facts([["a", "1"], ["none", undefined], ["long", "2"]]), "a     1\nlong  2\n");
});

test("names cannot steer the terminal", () => {
  assert.equal(printable("a\x1b[2J\n\u202eb\u009b"), "a\\u{1b}[2J\\u{a}\\u{202e}b\\u{9b}");
  assert.equal(table(["NAME"], [["\x1b]0;x\x07"]]).includes("\x1b"), false);
  assert.equal(printable("grün 漢字 🙂"), "grün 漢字 🙂");
});

test("modes look as in ls -l", () => {
  const cases = [
    ["file", "0644", "-rw-r--r--"],
    ["directory", "1777", "drwxrwxrwt"],
    ["file", "4755", "-rwsr-xr-x"],
    ["file", "2644", "-rw-r-Sr--"],
    ["symlink", "0777", "lrwxrwxrwx"],
    ["block", "7000", "b--S--S--T"],
  ] as const;
  for (const [type, mode, expected] of cases) assert.equal(modeText({ type, mode }), expected);
});

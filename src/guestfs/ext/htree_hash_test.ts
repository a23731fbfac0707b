import { equal, ok } from "node:assert/strict";
import fc from "fast-check";
import { run } from "../_test_support.ts";
import { directoryHash, HASH_HALF_MD4, HASH_LEGACY, HASH_TEA, HASH_UNSIGNED } from "./htree_hash.ts";

const ALGORITHMS = [
  ["legacy", HASH_LEGACY],
  ["half_md4", HASH_HALF_MD4],
  ["tea", HASH_TEA],
  ["legacy_unsigned", HASH_LEGACY + HASH_UNSIGNED],
  ["half_md4_unsigned", HASH_HALF_MD4 + HASH_UNSIGNED],
  ["tea_unsigned", HASH_TEA + HASH_UNSIGNED],
] as const;

const UUID = "12345678-9abc-def0-0123-456789abcdef";
const SEED = [0x78563412, 0xf0debc9a, 0x67452301, 0xefcdab89];

for (const [name, version] of ALGORITHMS) {
  Deno.test(`directory hash: ${name} agrees with debugfs`, async () => {
    const names = fc.sample(fc.string({ minLength: 1, maxLength: 80, unit: "grapheme" }), {
      numRuns: 60,
      seed: 7,
    })
      .filter((text) => /^[^\s"'#;\\/\p{Cc}]+$/u.test(text) && new TextEncoder().encode(text).length <= 255);
    ok(names.length > 20);
    const script = await Deno.makeTempFile();
    try {
      const commands = names.map((text) => `dx_hash -h ${version} -s ${UUID} "${text}"`);
      await Deno.writeTextFile(script, commands.join("\n") + "\n");
      const printed = [...(await run("debugfs", "-f", script)).matchAll(/0x([0-9a-f]+) \(minor/g)];
      equal(printed.length, names.length);
      for (const [index, text] of names.entries()) {
        const hash = directoryHash(new TextEncoder().encode(text), version, SEED);
        equal(hash, parseInt(printed[index]?.[1] ?? "", 16), text);
      }
    } finally {
      await Deno.remove(script);
    }
  });
}

Deno.test("directory hash: an unknown function has no hash", () => {
  equal(directoryHash(Uint8Array.of(1), 6, SEED), undefined);
});

import { deepEqual, equal, throws } from "node:assert/strict";
import { deflateSync } from "node:zlib";
import { VarveError } from "../../base/errors.ts";
import { hex, run, TemporaryFolder } from "../_test_support.ts";
import { random } from "../_hostile.ts";
import { decompressorOf } from "./decompress.ts";
import { decompressXz } from "./xz.ts";

const CONTENT_BYTES = 300_000;

/** Content in which every filter finds what it looks for: bytes that begin branches are frequent. */
function likeCode(): Uint8Array {
  const next = random(7);
  const frequent = [0xe8, 0xe9, 0x00, 0xff, 0x48, 0x01, 0xeb, 0xf0, 0xf8, 0x40, 0x7f, 0xc0];
  return Uint8Array.from(
    { length: CONTENT_BYTES },
    () => next(3) === 0 ? next(256) : frequent[next(12)] ?? 0,
  );
}

for (
  const options of [
    ["--check=crc32", "-6"],
    ["--check=sha256", "-0"],
    ["--check=none", "--block-size=70000"],
    ["--check=crc64", "--lzma2=preset=6,lc=1,lp=2,pb=0"],
    ...["x86", "arm", "armthumb", "powerpc", "sparc"].map((
      name,
    ) => ["--check=crc32", `--${name}`, "--lzma2=preset=6"]),
  ]
) {
  Deno.test(`xz: decompresses what xz ${options.join(" ")} compressed`, async () => {
    await using folder = new TemporaryFolder();
    const content = likeCode();
    await Deno.writeFile(`${folder.path}/content`, content);
    await run("xz", "-k", "-T1", ...options, `${folder.path}/content`);
    const source = await Deno.readFile(`${folder.path}/content.xz`);
    const target = new Uint8Array(CONTENT_BYTES);
    equal(decompressXz(source, target), CONTENT_BYTES);
    equal(hex(target.subarray(0, 1000)), hex(content.subarray(0, 1000)));
    deepEqual(target, content);
    const code = (wanted: string) => (thrown: unknown) =>
      thrown instanceof VarveError && thrown.code === wanted;
    throws(() => decompressXz(source, new Uint8Array(CONTENT_BYTES - 1)), code("damaged"));
    throws(() => decompressXz(source.subarray(0, 50_000), target), code("damaged"));
  });
}

Deno.test("squashfs: content that is longer than it may be is damaged", () => {
  const source = deflateSync(new Uint8Array(8193));
  throws(
    () => decompressorOf(1)(source, 8192),
    (thrown) => thrown instanceof VarveError && thrown.code === "damaged",
  );
  equal(decompressorOf(1)(source, 8193).length, 8193);
  throws(
    () => decompressorOf(7),
    (thrown) =>
      thrown instanceof VarveError && thrown.code === "unsupported" &&
      thrown.message.includes("compressor 7"),
  );
});

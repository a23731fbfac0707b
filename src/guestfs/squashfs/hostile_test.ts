import { ok } from "node:assert/strict";
import { openGuestDisk } from "../guest_disk.ts";
import { MemoryDevice, run, TemporaryFolder } from "../_test_support.ts";
import { noise } from "../_busy_tree.ts";
import { attempt, exercise, Mutation, random, usedPieces } from "../_hostile.ts";
import { decompressorOf } from "./decompress.ts";

const IMAGES_PER_KIND = 250;
/** Offsets of the superblock's fields. */
const FIELDS = [0, 4, 8, 12, 16, 20, 22, 24, 26, 28, 32, 34, 40, 48, 56, 64, 72, 80, 88];

const KINDS: Readonly<Record<string, string[]>> = {
  "nothing compressed": ["-noI", "-noId", "-noD", "-noF", "-noX", "-b", "4096"],
  "nothing compressed, no export table": [
    "-noI",
    "-noId",
    "-noX",
    "-no-exports",
    "-b",
    "4096",
    "-comp",
    "lz4",
  ],
  "xz": ["-comp", "xz", "-b", "8192"],
  "lzo": ["-comp", "lzo", "-b", "4096"],
};

for (const [kind, make] of Object.entries(KINDS)) {
  Deno.test(`squashfs: damaged images (${kind}) give answers or our errors, and an end`, async () => {
    await using folder = new TemporaryFolder();
    const [tree, image] = [`${folder.path}/tree`, `${folder.path}/image`];
    await Deno.mkdir(`${tree}/many`, { recursive: true });
    for (let index = 0; index < 400; index++) {
      Deno.writeTextFileSync(`${tree}/many/a long enough name ${index}`, "");
    }
    Deno.writeTextFileSync(`${tree}/text`, "all work and no play\n".repeat(1500));
    Deno.writeFileSync(`${tree}/holes`, new Uint8Array(100_000));
    Deno.writeFileSync(`${tree}/noise`, noise(1, 30_000));
    Deno.symlinkSync("text", `${tree}/link`);
    await run("setfattr", "-n", "user.name", "-v", "value", `${tree}/text`);
    await run("setfattr", "-n", "user.other", "-v", "v".repeat(500), `${tree}/noise`);
    await run("mksquashfs", tree, image, "-no-progress", "-quiet", ...make);
    const device = new MemoryDevice(await Deno.readFile(image));
    const whole = openGuestDisk(device).partitions[0]?.fileSystem;
    ok(whole !== undefined && exercise(whole) > 400);
    // Damage in the content of files proves little: most of it goes to the tables behind it.
    const used = usedPieces(device.bytes, 64);
    const tables = used.filter((at) => at > 32_000);
    let opened = 0;
    for (let seed = 1; seed <= IMAGES_PER_KIND; seed++) {
      const next = random(seed);
      using mutation = new Mutation(device);
      if (next(4) === 0) mutation.field(FIELDS[next(FIELDS.length)] ?? 0, next);
      for (let count = 1 + next(6); count > 0; count--) {
        const pieces = next(5) === 0 ? used : tables;
        mutation.field((pieces[next(pieces.length)] ?? 0) + next(64), next);
      }
      try {
        for (const { fileSystem } of openGuestDisk(device).partitions) {
          if (fileSystem === undefined) continue;
          opened++;
          exercise(fileSystem, 450);
        }
      } catch (thrown) {
        throw new Error(`seed ${seed}: ${thrown}`, { cause: thrown });
      }
    }
    ok(opened > IMAGES_PER_KIND / 4, `${opened} opened`);
  });
}

Deno.test("squashfs: 1,000 damaged blocks of each own compressor give content or our errors", async () => {
  await using folder = new TemporaryFolder();
  const [tree, image] = [`${folder.path}/tree`, `${folder.path}/image`];
  await Deno.mkdir(tree);
  const content = [noise(3, 300), new TextEncoder().encode("abcabcabcd".repeat(200)), noise(4, 1500)];
  await Deno.writeFile(`${tree}/file`, Uint8Array.from(content.flatMap((part) => [...part])));
  for (const [name, number] of [["lzma", 2], ["lzo", 3], ["xz", 4], ["lz4", 5]] as const) {
    await run(
      "mksquashfs",
      tree,
      image,
      "-noappend",
      "-no-progress",
      "-quiet",
      "-comp",
      name,
      "-no-fragments",
    );
    const bytes = await Deno.readFile(image);
    // The only data block lies before the inodes, behind the superblock and the compressor's options.
    const end = new DataView(bytes.buffer).getUint32(64, true);
    const clean = [96, 106].map((start) => bytes.slice(start, end))
      .find((block) => attempt(() => decompressorOf(number)(block, 131_072)) !== undefined);
    ok(clean !== undefined, name);
    let failed = 0;
    for (let seed = 1; seed <= 1000; seed++) {
      const next = random(seed);
      const source = clean.slice(0, next(4) === 0 ? next(clean.length) : clean.length);
      for (let count = next(8); count > 0; count--) {
        source[next(next(2) === 0 ? 64 : source.length)] = next(256);
      }
      if (attempt(() => decompressorOf(number)(source, 131_072)) === undefined) failed++;
    }
    ok(failed > 100, `${name}: ${failed}`);
  }
});

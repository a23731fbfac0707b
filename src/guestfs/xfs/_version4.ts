/** Makes file systems of version 4, which recent kernels no longer mount: mkfs.xfs fills them itself. */
import { noise } from "../_busy_tree.ts";
import { run } from "../_test_support.ts";

/** Content of a file, target of a symlink, or names in a directory, by path. */
export type ExpectedTree = Map<string, Uint8Array | string | string[]>;

/** Makes an image with files of many sizes, symlinks, and directories of all forms; tells what is in it. */
export async function makeVersion4(folder: string, image: string, make: string[]): Promise<ExpectedTree> {
  const tree: ExpectedTree = new Map();
  const lines = ["none", "0 0", "d--755 3 4"];
  await Deno.writeFile(`${folder}/empty`, new Uint8Array());
  const top: string[] = [];
  for (const size of [1, 511, 4096, 70_000, 1_500_000]) {
    const content = noise(size, size);
    await Deno.writeFile(`${folder}/content${size}`, content);
    lines.push(`file${size} -u-640 1000 ${size % 100} ${folder}/content${size}`);
    tree.set(`/file${size}`, content);
    top.push(`file${size}`);
  }
  for (const length of [1, 100, 600, 1000]) {
    lines.push(`link${length} l--777 0 0 ${"t".repeat(length)}`);
    tree.set(`/link${length}`, "t".repeat(length));
    top.push(`link${length}`);
  }
  for (const count of [3, 30, 120, 2500]) {
    lines.push(`names${count} d--755 0 0`);
    const names = Array.from(
      { length: count },
      (_, index) => `a name of number ${index}`.replaceAll(" ", "-"),
    );
    for (const name of names) {
      lines.push(`${name} ---644 0 0 ${folder}/empty`);
      tree.set(`/names${count}/${name}`, new Uint8Array());
    }
    lines.push("$");
    tree.set(`/names${count}`, names.sort());
    top.push(`names${count}`);
  }
  lines.push("$", "");
  tree.set("", top.sort());
  await Deno.writeTextFile(`${folder}/proto`, lines.join("\n"));
  await run("truncate", "-s", "300M", image);
  await run("mkfs.xfs", "-q", "-f", "-p", `${folder}/proto`, "-m", "crc=0", ...make, image);
  return tree;
}

/** Adds to a tree what only XFS has, or keeps in forms of its own. */
import { noise } from "../_busy_tree.ts";
import type { Kernel } from "../_kernel_mount.ts";
import { run } from "../_test_support.ts";

/** What the file system under test can do. */
export interface XfsTreeOptions {
  /** Extents of the file in pieces; 1,300 when absent. */
  readonly pieces?: number;
  /** Whether files may share blocks. */
  readonly reflink: boolean;
}

/** Makes files of many extents, with shared blocks and many attributes, and directories whose names have one hash. */
export async function fillXfs(root: string, kernel: Kernel, options: XfsTreeOptions): Promise<void> {
  await Deno.mkdir(`${root}/xfs`);
  writePieces(`${root}/xfs/pieces`, options.pieces ?? 1300, 2);
  const value = "v".repeat(90);
  await run(
    "bash",
    "-c",
    `set -e
    cd ${root}/xfs
    touch attributes; for i in $(seq 1 120); do echo "user.attribute$i=\\"${value}$i\\""; done > ../list
    (echo '# file: attributes'; cat ../list) | setfattr --restore=-; rm ../list
    ln -s $(printf 'y%.0s' $(seq 1023)) longest; setfattr -h -n trusted.on -v link longest
    mkdir shrunk; touch $(seq -f shrunk/%g 1 700); rm $(seq -f shrunk/%g 20 680)`,
  );
  if (options.reflink) {
    Deno.writeFileSync(`${root}/xfs/origin`, noise(5, 900_000));
    await run("cp", "--reflink=always", `${root}/xfs/origin`, `${root}/xfs/shared`);
    await run("cp", "--reflink=always", `${root}/xfs/pieces`, `${root}/xfs/shared pieces`);
    patch(`${root}/xfs/shared`, 300_000, 70_000);
  }
  await Deno.mkdir(`${root}/xfs/collisions`);
  for (let index = 0; index < 256; index++) {
    Deno.writeTextFileSync(`${root}/xfs/new`, index % 64 === 0 ? `${index}` : "");
    kernel.rename(`${root}/xfs/new`, `${root}/xfs/collisions/${collidingName(index)}`);
  }
}

/** Changes what {@linkcode fillXfs} made, so that each structure is in the log. */
export async function changeXfs(root: string, round: number, { reflink }: XfsTreeOptions): Promise<void> {
  const folder = `${root}/xfs`;
  writePieces(`${folder}/pieces of ${round}`, 60, 3);
  patch(`${folder}/pieces`, round * 64 * 1024, 40_000);
  if (reflink) {
    await run("cp", "--reflink=always", `${folder}/shared`, `${folder}/shared again ${round}`);
    for (let index = 0; index < 12; index++) patch(`${folder}/shared`, round * 30_000 + index * 9_000, 4_500);
    patch(`${folder}/shared pieces`, round * 50_000, 20_000);
  }
  await run(
    "bash",
    "-c",
    `cd ${folder}; setfattr -n user.attribute${round + 3} -v changed attributes; setfattr -x user.attribute${
      round + 20
    } attributes
    setfattr -n user.large${round} -v ${"L".repeat(3000 + round * 700)} attributes
    fallocate -p -o $((${round} * 131072 + 16384)) -l 32768 pieces; ln -s $(printf 'z%.0s' $(seq $((400 + ${round})))) link${round}
    touch $(seq -f shrunk/new${round}.%g 1 60); chmod 640 shrunk/1${round}; rm -f 'pieces of ${round - 1}'`,
  );
  for (let index = round * 8; index < round * 8 + 8; index++) {
    await Deno.remove(`${root}/xfs/shrunk/${index % 19 + 1}`).catch(() => {});
  }
}

/** Names whose hashes are one: a bit that one character brings in, the next takes out. */
function collidingName(index: number): string {
  const bytes = [...`abcdefgh ijklmnop.qrst`].map((character) => character.charCodeAt(0));
  for (let bit = 0; bit < 8; bit++) {
    if ((index >>> bit) % 2 === 0) continue;
    const at = Math.floor(bit / 3) * 4 + bit % 3;
    bytes[at] = (bytes[at] ?? 0) ^ 1;
    bytes[at + 1] = (bytes[at + 1] ?? 0) ^ 0x80;
  }
  return String.fromCharCode(...bytes);
}

/** A file with a hole behind each piece of 4 KiB. */
function writePieces(path: string, pieces: number, stride: number): void {
  using file = Deno.openSync(path, { create: true, write: true });
  for (let index = 0; index < pieces; index++) {
    file.seekSync(index * stride * 4096, Deno.SeekMode.Start);
    file.writeSync(noise(index, 4096));
  }
}

function patch(path: string, offset: number, length: number): void {
  using file = Deno.openSync(path, { write: true });
  file.seekSync(offset, Deno.SeekMode.Start);
  file.writeSync(noise(offset, length));
  file.syncDataSync();
}

/** Fills a mounted NTFS volume with a tree in which everything occurs that ntfs-3g can make. */
import { noise } from "../_busy_tree.ts";
import { run } from "../_test_support.ts";

const SIZES = [0, 1, 100, 500, 700, 900, 1024, 4095, 4096, 4097, 65_535, 65_536, 65_537, 300_000];

/** How large the tree is. */
export interface TreeOptions {
  /** Names in the large directory. */
  readonly names: number;
  /** Runs of the most scattered files. */
  readonly runs: number;
}

/** Makes files, streams, links, special files and directories of all kinds below `root`. */
export async function fillTree(root: string, { names, runs }: TreeOptions): Promise<void> {
  await Deno.mkdir(`${root}/sizes`);
  for (const size of SIZES) Deno.writeFileSync(`${root}/sizes/${size}`, noise(size, size));
  await Deno.mkdir(`${root}/many`);
  for (let index = 0; index < names; index++) {
    Deno.writeTextFileSync(`${root}/many/${index % 2 === 0 ? "name" : "NAME"} number ${index}`, "");
  }
  await Deno.mkdir(`${root}/${Array.from({ length: 30 }, (_, depth) => `deep${depth}`).join("/")}`, {
    recursive: true,
  });
  await run("bash", "-c", SCRIPT, root);
  await Deno.mkdir(`${root}/names`);
  for (const name of NAMES) Deno.writeTextFileSync(`${root}/names/${name}`, name);
  scatter(`${root}/holes`, runs);
  await compress(`${root}/packed`);
  for (let index = 0; index < 60; index++) {
    await Deno.link(`${root}/sizes/100`, `${root}/links/one of many ${index}`);
  }
  for (let index = 0; index < 20; index++) {
    await run("setfattr", "-n", `user.stream ${index}`, "-v", "x".repeat(index * 40), `${root}/sizes/100`);
  }
}

const NAMES = [
  "a",
  "A",
  "ä",
  "Ä",
  "ß",
  "ÿ",
  "Ÿ",
  "ı",
  "ﬁ",
  "日本語",
  "𝄞",
  "𐐀 and 𐐨",
  "trailing dot.",
  "trailing space ",
  "a:b*c?",
  "back\\slash",
  "x".repeat(255),
  "𝄞".repeat(60),
  ".hidden",
  "new\nline",
];

const SCRIPT = `
  set -e
  cd "$0"
  mkdir links special holes streams times
  ln -s ../sizes/100 links/relative; ln -s /absolute/ä𝄞 links/absolute; ln -s $(printf 'x%.0s' $(seq 1000)) links/long
  ln sizes/4096 links/hard1; ln sizes/4096 special/hard2; ln sizes/100 links/small
  mkfifo special/fifo; mknod special/null c 1 3; mknod special/sda b 8 0; mknod special/wide b 300 70000
  python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("special/socket")'
  truncate -s 5M holes/all
  printf end | dd of=holes/far bs=1 seek=40000000 status=none
  dd if=/dev/urandom of=holes/middle bs=1000 seek=700 count=3 status=none
  truncate -s 3000000 holes/middle
  touch streams/small streams/big
  setfattr -n user.ä𝄞 -v value streams/small; setfattr -n user.empty streams/small
  setfattr -n user.big -v "$(head -c 30000 /dev/zero | tr '\\0' b)" streams/big
  setfattr -n user.dir -v directory streams; setfattr -n user.other -v x sizes/300000
  touch -d '1910-01-01 01:02:03' times/old; touch -d '2040-02-03 04:05:06.7890123' times/future
  touch -d '1999-12-31 23:59:59.999999900' times/ticks; touch -d '2300-01-01' times/far
  for i in $(seq 1 40); do touch "times/$(printf 'n%.0s' $(seq $((i * 6))))"; done
`;

/** Two files that grow in turn, cluster by cluster, and one with a hole before each cluster. */
function scatter(folder: string, runs: number): void {
  using left = Deno.openSync(`${folder}/left`, { create: true, write: true });
  using right = Deno.openSync(`${folder}/right`, { create: true, write: true });
  using comb = Deno.openSync(`${folder}/comb`, { create: true, write: true });
  for (let index = 0; index < runs; index++) {
    left.writeSync(noise(index, 4096));
    right.writeSync(noise(index + 1, 4096));
    if (index % 4 !== 0) continue;
    comb.seekSync(index * 65_536, Deno.SeekMode.Start);
    comb.writeSync(noise(index + 2, 4096));
  }
}

/** Files that ntfs-3g compresses because their folder says so; where clusters are too large it does not. */
async function compress(folder: string): Promise<void> {
  await Deno.mkdir(folder);
  await run("setfattr", "-h", "-v", "0x00080000", "-n", "system.ntfs_attrib", folder);
  const text = new TextEncoder().encode("to be compressed, again and again; ".repeat(20_000));
  const mixed = text.slice();
  mixed.set(noise(1, 150_000), 100_000);
  mixed.fill(0, 300_000, 500_000);
  for (const [index, size] of [10, 4096, 5000, 65_536, 65_537, 400_000].entries()) {
    Deno.writeFileSync(`${folder}/text ${size}`, text.subarray(index, index + size));
    Deno.writeFileSync(`${folder}/noise ${size}`, noise(size, size));
    Deno.writeFileSync(`${folder}/mixed ${size}`, mixed.subarray(0, size));
  }
  Deno.writeFileSync(`${folder}/mixed`, mixed);
  Deno.writeFileSync(`${folder}/zeroes`, new Uint8Array(500_000));
  using sparse = Deno.openSync(`${folder}/sparse`, { create: true, write: true });
  for (const at of [300_000, 900_000, 2_000_000]) {
    sparse.seekSync(at, Deno.SeekMode.Start);
    sparse.writeSync(text.subarray(0, 70_000));
  }
}

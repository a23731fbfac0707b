/** Fills a mounted file system with a tree in which everything occurs that ext knows, and keeps changing it. */
import { run } from "./_test_support.ts";
import type { Kernel } from "./_kernel_mount.ts";

const BLOCKS = [
  0,
  1,
  59,
  60,
  61,
  100,
  160,
  511,
  1023,
  1024,
  1025,
  4095,
  4096,
  4097,
  12288,
  49152,
  53248,
  300_000,
];

/** What a file system under test cannot hold. */
export interface TreeOptions {
  /** Names in the large directory; 1,000 when absent. */
  readonly names?: number;
  /** Bytes of the largest attribute; 700 when absent. */
  readonly xattrBytes?: number;
}

/** Makes files, links, special files, attributes, ACLs and directories of all kinds. */
export async function fillTree(root: string, kernel: Kernel, options: TreeOptions = {}): Promise<void> {
  await Deno.mkdir(`${root}/sizes`);
  for (const size of BLOCKS) Deno.writeFileSync(`${root}/sizes/${size}`, noise(size, size));
  const magic = Uint8Array.of(0xc0, 0x3b, 0x39, 0x98);
  const likeJournal = noise(1, 8192);
  for (let at = 0; at < likeJournal.length; at += 1024) likeJournal.set(magic, at);
  Deno.writeFileSync(`${root}/sizes/like the journal`, likeJournal);
  await Deno.mkdir(`${root}/many`);
  for (let index = 0; index < (options.names ?? 1000); index++) {
    Deno.writeTextFileSync(`${root}/many/name number ${index}`, index % 50 === 0 ? `${index}` : "");
  }
  const deep = Array.from({ length: 30 }, (_, depth) => `deep${depth}`).join("/");
  await Deno.mkdir(`${root}/${deep}`, { recursive: true });
  Deno.writeTextFileSync(`${root}/${deep}/bottom`, "bottom");

  const long = (bytes: number) => "x".repeat(bytes);
  const script = `
    set -e
    cd ${root}
    mkdir links special holes attrs odd small
    for n in 1 58 59 60 61 200 1000; do ln -s $(printf 'x%.0s' $(seq $n)) links/to$n; done
    ln sizes/4096 links/hard1; ln sizes/4096 links/hard2
    mkfifo special/fifo; mknod special/null c 1 3; mknod special/sda b 8 0; mknod special/wide b 300 70000
    chmod 4751 sizes/100; chmod 1777 special; chown 70000:123456 sizes/1024; chmod 0 sizes/60
    truncate -s 5M holes/all
    dd if=/dev/urandom of=holes/middle bs=1000 seek=700 count=3 status=none
    dd if=/dev/urandom of=holes/far bs=4096 seek=9000 count=2 status=none
    truncate -s 30000000 holes/middle
    for i in 0 5 9 60 61 62 300; do dd if=/dev/urandom of=holes/comb bs=4096 seek=$i count=1 conv=notrunc status=none; done
    fallocate -l 300000 holes/allocated 2>/dev/null || true
    touch holes/allocated
    dd if=/dev/urandom of=holes/allocated bs=4096 seek=20 count=3 conv=notrunc status=none
    fallocate -n -l 200000 sizes/4097 2>/dev/null || true
    touch attrs/f; setfattr -n user.short -v value attrs/f
    for i in $(seq 1 6); do setfattr -n user.number$i -v $i attrs/f; done
    setfattr -n user.empty attrs/f
    setfattr -n trusted.secret -v t attrs/f
    setfattr -n security.label -v s attrs/f
    touch attrs/big; setfattr -n user.big -v ${long(options.xattrBytes ?? 700)} attrs/big
    setfattr -n user.big2 -v ${long(100)} attrs/big
    cp -a attrs/big attrs/bigcopy
    setfattr -h -n trusted.link -v l links/to1
    touch attrs/acl; setfacl -m u:1234:rw,g:77:r,m:rwx attrs/acl
    mkdir attrs/dir; setfacl -d -m u:5:rwx,g:6:rx attrs/dir; touch attrs/dir/inherits
    touch -d '1910-01-01 01:02:03.5' small/old; touch -d '2040-02-03 04:05:06.789' small/future 2>/dev/null
    touch -d '2300-01-01' small/far
    for i in $(seq 1 4); do mkdir small/d$i; echo $i > small/d$i/$i; done
    for i in $(seq 1 12); do touch small/d1/entry$i; done
    for i in $(seq 1 40); do touch "odd/$(printf 'n%.0s' $(seq $((i * 6))))"; done
  `;
  await run("bash", "-c", script);
  for (const [index, name] of ["a\xff\xfe", "\x01\x02", "new\nline", "caf\xe9", "\\back"].entries()) {
    Deno.writeTextFileSync(`${root}/odd/from${index}`, `${index}`);
    kernel.rename(`${root}/odd/from${index}`, `${root}/odd/${name}`);
  }
}

/** Changes the tree again and again: some of it made durable, some of it not, `round` says how. */
export async function changeTree(root: string, round: number): Promise<void> {
  const folder = `${root}/round${round}`;
  await Deno.mkdir(folder);
  for (let index = 0; index < 60; index++) {
    Deno.writeFileSync(`${folder}/file${index}`, noise(index, index * 331));
  }
  for (let index = round * 100; index < round * 100 + 40; index++) {
    await Deno.remove(`${root}/many/name number ${index}`);
    Deno.writeTextFileSync(`${root}/many/again ${round} ${index}`, "");
  }
  await Deno.rename(`${folder}/file5`, `${root}/renamed${round}`);
  await Deno.mkdir(`${folder}/sub`);
  await Deno.rename(`${folder}/sub`, `${root}/small/moved${round}`);
  await Deno.symlink("y".repeat(round * 40 + 1), `${folder}/link`);
  await Deno.link(`${folder}/file6`, `${folder}/hard`);
  await Deno.truncate(`${folder}/file50`, 100);
  await Deno.chmod(`${folder}/file7`, 0o600);
  using file = Deno.openSync(`${folder}/synced`, { create: true, write: true });
  file.writeSync(noise(round, 100_000));
  file.syncSync();
  for (let index = 20; index < 30; index++) await Deno.remove(`${folder}/file${index}`);
  const magic = Uint8Array.of(0xc0, 0x3b, 0x39, 0x98, round);
  Deno.writeFileSync(`${root}/sizes/like the journal`, magic);
  Deno.writeFileSync(`${folder}/file3`, noise(round, 20_000));
}

/** Bytes that no block of another file has. */
export function noise(seed: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  let state = (seed * 2654435761 + 12345) >>> 0;
  for (let at = 0; at < length; at++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    bytes[at] = state >>> 24;
  }
  return bytes;
}

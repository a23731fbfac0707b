/** Work on a mounted btrfs that fills its log: every step ends with a sync of one file or folder, never of all. */
import { run } from "../_test_support.ts";
import { noise } from "../_busy_tree.ts";

/** Makes a file or folder, and nothing else, durable. */
export function syncOne(path: string): void {
  using file = Deno.openSync(path, { read: true });
  file.syncSync();
}

/** What is there before the last commit. */
export async function prepareLogWork(root: string): Promise<void> {
  await run(
    "bash",
    "-c",
    `set -e
    cd ${root}
    mkdir names links sizes attrs gone many odd
    for i in $(seq 1 30); do echo $i > names/f$i; done
    for i in $(seq 1 200); do echo $i > many/f$i; done
    for i in 1 2 3 4; do echo $i > links/a$i; ln links/a$i links/b$i; ln links/a$i names/c$i; done
    mkdir -p gone/a/b gone/c; echo x > gone/a/b/file; echo y > gone/c/file
    for i in 1 2 3 4 5 6; do dd if=/dev/urandom of=sizes/s$i bs=4096 count=100 status=none; done
    printf 'short' > sizes/inline
    touch attrs/f; setfattr -n user.one -v 1 attrs/f; setfattr -n user.two -v 2 attrs/f; setfacl -m u:1234:rw attrs/f
    touch odd/x odd/y
    sync -f .`,
  );
}

/** The steps, by name. A cut is taken after each. */
export const LOG_STEPS: Readonly<Record<string, (root: string) => Promise<void> | void>> = {
  "a new file"(root) {
    Deno.writeFileSync(`${root}/names/new`, noise(1, 50_000));
    syncOne(`${root}/names/new`);
  },
  "a new folder with files, symlinks and special files": async (root) => {
    await run(
      "bash",
      "-c",
      `cd ${root}; mkdir -p fresh/deep; echo 1 > fresh/one; ln -s target fresh/link; mkfifo fresh/fifo;
      mknod fresh/null c 1 3; echo 2 > fresh/deep/two; chown 7:8 fresh/one; chmod 4711 fresh/one`,
    );
    syncOne(`${root}/fresh`);
    syncOne(`${root}/fresh/deep/two`);
  },
  "renames, some over others"(root) {
    Deno.renameSync(`${root}/names/f1`, `${root}/names/renamed`);
    Deno.renameSync(`${root}/names/f2`, `${root}/names/f3`);
    Deno.renameSync(`${root}/names/f4`, `${root}/links/moved`);
    syncOne(`${root}/names/renamed`);
    syncOne(`${root}/names/f3`);
    syncOne(`${root}/links/moved`);
  },
  "names that change places"(root) {
    Deno.renameSync(`${root}/odd/x`, `${root}/odd/t`);
    Deno.renameSync(`${root}/odd/y`, `${root}/odd/x`);
    Deno.renameSync(`${root}/odd/t`, `${root}/odd/y`);
    syncOne(`${root}/odd/x`);
  },
  "deleted names"(root) {
    for (let index = 10; index < 20; index++) Deno.removeSync(`${root}/names/f${index}`);
    for (let index = 1; index < 200; index += 3) Deno.removeSync(`${root}/many/f${index}`);
    syncOne(`${root}/names`);
    syncOne(`${root}/many`);
  },
  "a name that another file has now"(root) {
    Deno.removeSync(`${root}/names/f21`);
    Deno.writeTextFileSync(`${root}/names/f21`, "another");
    syncOne(`${root}/names/f21`);
  },
  "more and fewer links"(root) {
    Deno.linkSync(`${root}/links/a1`, `${root}/links/third`);
    Deno.removeSync(`${root}/links/b2`);
    Deno.removeSync(`${root}/names/c3`);
    Deno.linkSync(`${root}/links/a4`, `${root}/names/fourth`);
    syncOne(`${root}/links/a1`);
    syncOne(`${root}/links/a2`);
    syncOne(`${root}/links`);
  },
  "links without number": (root) => {
    const long = "l".repeat(220);
    for (let index = 0; index < 150; index++) {
      Deno.linkSync(`${root}/names/f25`, `${root}/links/${long}${index}`);
    }
    syncOne(`${root}/names/f25`);
  },
  "some of these links again"(root) {
    const long = "l".repeat(220);
    for (let index = 5; index < 140; index += 4) Deno.removeSync(`${root}/links/${long}${index}`);
    Deno.linkSync(`${root}/names/f25`, `${root}/links/last`);
    syncOne(`${root}/names/f25`);
  },
  "writes within, cuts and growth": async (root) => {
    const write = (name: string, at: number, bytes: Uint8Array) => {
      using file = Deno.openSync(`${root}/sizes/${name}`, { write: true, create: true });
      file.seekSync(at, Deno.SeekMode.Start);
      file.writeSync(bytes);
    };
    for (let index = 0; index < 20; index++) write("s1", index * 20_001, noise(index, 5000));
    Deno.truncateSync(`${root}/sizes/s2`, 100_001);
    Deno.truncateSync(`${root}/sizes/s3`, 3_000_000);
    write("inline", 4, noise(9, 900));
    await run("fallocate", "-n", "-o", "400000", "-l", "800000", `${root}/sizes/s4`);
    await run("fallocate", "-p", "-o", "50000", "-l", "90000", `${root}/sizes/s5`);
    await run("fallocate", "-l", "500000", `${root}/sizes/ahead`);
    write("ahead", 100_000, noise(3, 30_000));
    for (const name of ["s1", "s2", "s3", "s4", "s5", "inline", "ahead"]) syncOne(`${root}/sizes/${name}`);
  },
  "extents of other files": async (root) => {
    await run("cp", "--reflink=always", `${root}/sizes/s6`, `${root}/sizes/clone`);
    syncOne(`${root}/sizes/clone`);
    Deno.truncateSync(`${root}/sizes/s2`, 10);
    Deno.truncateSync(`${root}/sizes/s2`, 20_000);
    syncOne(`${root}/sizes/s2`);
  },
  "attributes": async (root) => {
    await run(
      "bash",
      "-c",
      `cd ${root}/attrs; setfattr -x user.one f; setfattr -n user.two -v changed f; setfattr -n user.three -v 3 f;
      setfacl -b f; chmod 640 f; touch -d '2001-02-03 04:05:06.7' f`,
    );
    syncOne(`${root}/attrs/f`);
  },
  "a folder that is gone": (root) => {
    Deno.removeSync(`${root}/gone/a`, { recursive: true });
    syncOne(`${root}/gone`);
  },
  "folders that moved": (root) => {
    Deno.mkdirSync(`${root}/moving`);
    Deno.writeTextFileSync(`${root}/moving/file`, "moving");
    syncOne(`${root}/moving/file`);
    Deno.renameSync(`${root}/moving`, `${root}/attrs/moved`);
    syncOne(`${root}/attrs/moved/file`);
  },
};

/** Random work, the same for the same seed: a step now and then ends with a sync, and only then the result is true. */
export function randomLogStep(root: string, next: (below: number) => number): boolean {
  const folder = () => `${root}/r${next(3)}`;
  const name = () => `${folder()}/n${next(12)}${next(4) === 0 ? `/n${next(4)}` : ""}`;
  for (let index = 0; index < 3; index++) Deno.mkdirSync(`${root}/r${index}`, { recursive: true });
  const [one, other] = [name(), name()];
  try {
    switch (next(17)) {
      case 0:
      case 1:
        Deno.writeFileSync(one, noise(next(1000), next(30_000)));
        break;
      case 2:
      case 3:
        Deno.renameSync(one, other);
        break;
      case 4:
        Deno.linkSync(one, other);
        break;
      case 5:
        Deno.removeSync(one, { recursive: next(2) === 0 });
        break;
      case 6:
        Deno.truncateSync(one, next(60_000));
        break;
      case 7:
        Deno.mkdirSync(one);
        break;
      case 8:
        Deno.writeFileSync(one, noise(next(1000), next(9000)), { append: true });
        break;
      case 9:
        Deno.symlinkSync("x".repeat(1 + next(50)), one);
        break;
      case 10:
        change("setfattr", "-n", `user.a${next(4)}`, "-v", "v".repeat(next(300)), one);
        break;
      case 11:
        change("setfattr", "-x", `user.a${next(4)}`, one);
        break;
      case 12:
        change(
          "fallocate",
          ...["-n", "-p", "-z"].slice(next(3)).slice(0, 1),
          "-o",
          `${next(50_000)}`,
          "-l",
          `${1 + next(50_000)}`,
          one,
        );
        break;
      case 13:
        change("cp", "--reflink=always", one, other);
        break;
      default:
        syncOne(next(4) === 0 ? folder() : one);
        return true;
    }
  } catch (thrown) {
    // What does not exist, or does already, or is a folder, is left alone.
    if (!(thrown instanceof Error)) throw thrown;
  }
  return false;
}

/** Runs a program that may fail. */
function change(program: string, ...args: string[]): void {
  new Deno.Command(program, { args, stdout: "null", stderr: "null" }).outputSync();
}

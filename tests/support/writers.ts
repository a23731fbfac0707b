/**
 * Shell scripts that keep changing a file system in as many ways as they know, without ever syncing.
 *
 * @module
 */
import { ENVIRONMENT } from "./run.ts";

/** Each runs in a folder of its own, again and again with `i` counting up. */
const SCRIPTS = {
  // Contents: new, appended, overwritten in the middle, truncated, sparse, punched, gone.
  contents: `
    head -c $((RANDOM * 7)) /dev/urandom > new.$((i % 40))
    echo "line $i of the log, and some more text" >> log
    [ $((i % 50)) = 0 ] && : > log
    head -c $((RANDOM % 9000)) /dev/urandom |
      dd of=new.$(((i + 7) % 40)) bs=1 seek=$((RANDOM % 3)) conv=notrunc status=none
    truncate -s $((RANDOM * 3)) new.$(((i + 13) % 40))
    rm -f sparse.$((i % 5)); truncate -s 6M sparse.$((i % 5))
    echo tail | dd of=sparse.$((i % 5)) bs=4096 seek=$((RANDOM % 1500)) conv=notrunc status=none
    head -c 300000 /dev/urandom > punched.$((i % 3))
    fallocate --punch-hole -o $((RANDOM * 2)) -l 50000 punched.$((i % 3))
    fallocate -l 1M reserved.$((i % 3))
    rm -f new.$((RANDOM % 40))`,
  // Names: folders made, moved, emptied; symbolic links short and long, hard links, special files, odd names.
  names: `
    mkdir -p "d$((i % 9))/a/b"
    echo "$i" > "d$((i % 9))/a/b/file $i"
    ln -sf "../short$i" "d$((i % 9))/link"
    ln -sf "/a/long/target/that/does/not/fit/into/the/inode/itself/because/it/has/more/than/sixty/bytes/$i" "long$((i % 9))"
    ln -f "d$((i % 9))/a/b/file $i" "hard$((i % 20))"
    mv -T "d$((i % 9))" "d$(((i + 4) % 9)).moved" 2> /dev/null || rm -rf "d$((i % 9))" "d$(((i + 4) % 9)).moved"
    mv -f "hard$((i % 20))" "hard$(((i + 3) % 20))" 2> /dev/null
    echo x > "$(printf 'n\\303\\244me\\nwith line %d' $((i % 6)))"
    rm -f fifo; mkfifo fifo
    rm -f node; mknod node c 1 $((i % 8))`,
  // Attributes: modes, owners, times, extended attributes, access lists.
  attributes: `
    f=f$((i % 30)); touch $f
    chmod $(printf '%o' $((RANDOM % 4096))) $f
    chown $((RANDOM)):$((RANDOM * 5)) $f
    touch -d "@$((RANDOM * 100000)).$((RANDOM + 100000000))" $f
    setfattr -n user.note -v "value $i" $f
    setfattr -n user.large -v "$(head -c 900 /dev/zero | tr '\\0' x)$i" f$((RANDOM % 30)) 2> /dev/null
    setfattr -x user.note f$((RANDOM % 30)) 2> /dev/null
    setfacl -m u:$((1000 + i % 5)):rw $f
    mkdir -p sticky$((i % 4)); chmod $(printf '%o' $((RANDOM % 4096))) sticky$((i % 4))`,
  // A folder with so many names that it is indexed, growing and shrinking.
  crowd: `
    for j in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
      : > "a-rather-long-name-so-that-blocks-fill-up-quickly-$((i * 20 + j))"
    done
    [ $((i % 4)) = 3 ] && rm -f *$((RANDOM % 10))`,
} as const;

/** Processes that write until they are told to stop. */
export class Writers implements AsyncDisposable {
  readonly #stopPath: string;
  readonly #processes: Deno.ChildProcess[];

  private constructor(stopPath: string, processes: Deno.ChildProcess[]) {
    this.#stopPath = stopPath;
    this.#processes = processes;
  }

  /** Starts one of each kind in folders below `root`; `stopPath` must lie outside of it. */
  static async start(root: string, stopPath: string): Promise<Writers> {
    const processes = [];
    for (const [name, script] of Object.entries(SCRIPTS)) {
      await Deno.mkdir(`${root}/${name}`);
      processes.push(
        new Deno.Command("bash", {
          args: [
            "-c",
            `cd "$1" && for ((i = 0; ; i++)); do\n${script}\n[ -e "$0" ] && exit 0; done`,
            stopPath,
          ],
          env: ENVIRONMENT,
          cwd: `${root}/${name}`,
          stdin: "null",
        }).spawn(),
      );
    }
    return new Writers(stopPath, processes);
  }

  /** Lets each end what it is doing. */
  async [Symbol.asyncDispose](): Promise<void> {
    await Deno.writeTextFile(this.#stopPath, "");
    for (const process of this.#processes) await process.status;
  }
}

// deno-lint-ignore-file no-console -- it speaks to people at a terminal
/**
 * `deno task test`: installs what the tests need, runs every test, prints the totals as the last line.
 *
 * Arguments go to `deno test`: files to run alone, or options such as `--filter`. The exit code is 0 exactly when
 * at least one test ran and none failed.
 *
 * @module
 */
import { ensurePackages } from "./packages.ts";
import { formatTestTotals, parseTestTotals, type TestTotals } from "./test_totals.ts";

/** Debian packages whose programs are the tests' real peers. */
const PACKAGES = [
  "qemu-utils",
  "libnbd-bin",
  "nbdkit",
  "nbd-client",
  "nbd-server",
  "python3-libnbd",
  "fio",
  "e2fsprogs",
  "eatmydata",
  "xfsprogs",
  "btrfs-progs",
  "dosfstools",
  "mtools",
  "exfatprogs",
  "exfat-fuse",
  "erofs-utils",
  "restic",
  "fdisk",
  "gdisk",
  "attr",
  "acl",
  "fuse3",
  "ntfs-3g",
  "util-linux",
  "procps",
  "openssl",
  "systemd",
  "squashfs-tools",
  "genisoimage",
  "xorriso",
  "xz-utils",
  "lvm2",
  "mdadm",
  "cryptsetup-bin",
];

/** Streams what `deno test` prints and returns its totals; a run that dies before it has any counts as a failure. */
async function runTests(args: string[]): Promise<TestTotals> {
  const child = new Deno.Command(Deno.execPath(), {
    // This file's name looks like a test's.
    args: ["test", "--allow-all", "--ignore=tools/test.ts", ...args],
    env: Deno.stdout.isTerminal() ? { FORCE_COLOR: "1" } : { NO_COLOR: "1" },
    stdin: "null",
    stdout: "piped",
  }).spawn();
  const decoder = new TextDecoder();
  let seen = "";
  for await (const chunk of child.stdout) {
    for (let sent = 0; sent < chunk.length;) sent += await Deno.stdout.write(chunk.subarray(sent));
    // The summary stands at the end: a long run's beginning need not be kept.
    seen = (seen + decoder.decode(chunk, { stream: true })).slice(-100_000);
  }
  const { code } = await child.status;
  const totals = parseTestTotals(seen) ?? { passed: 0, failed: 1, skipped: 0 };
  if (code !== 0 && totals.failed === 0) totals.failed = 1;
  return totals;
}

if (import.meta.main) {
  Deno.chdir(new URL("..", import.meta.url));
  const ready = await ensurePackages(PACKAGES);
  const totals = ready ? await runTests(Deno.args) : { passed: 0, failed: 1, skipped: 0 };
  if (totals.passed + totals.failed === 0) console.error("No test ran.");
  console.log(formatTestTotals(totals));
  Deno.exit(totals.failed === 0 && totals.passed > 0 ? 0 : 1);
}

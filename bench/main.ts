// deno-lint-ignore-file no-console -- it speaks to people at a terminal
/**
 * `deno task bench [browse | nbd | scale [FEW MANY] | store]`: prints the benchmark tables. Figures are ratios against a peer in the same run,
 * or growth factors.
 *
 * @module
 */
import { ensurePackages } from "../tools/packages.ts";
import { benchBrowse } from "./browse.ts";
import { benchNbd } from "./nbd.ts";
import { benchScale } from "./scale.ts";
import { benchStore } from "./store.ts";

interface Bench {
  /** Runs it in a scratch folder and returns its table. */
  readonly run: (folder: string, args: readonly string[]) => Promise<string>;
  /** Debian packages of the programs that it talks to. */
  readonly packages: readonly string[];
}

const BENCHES: Record<string, Bench> = {
  browse: {
    run: benchBrowse,
    packages: ["restic", "borgbackup", "python3-pyfuse3", "fio", "libnbd-bin", "fuse3", "e2fsprogs"],
  },
  nbd: { run: benchNbd, packages: ["fio", "nbdkit"] },
  scale: { run: benchScale, packages: ["fio", "fuse3"] },
  store: { run: benchStore, packages: ["restic", "libnbd-bin", "fuse3", "e2fsprogs"] },
};

const [asked, ...args] = Deno.args;
for (const name of asked === undefined ? Object.keys(BENCHES) : [asked]) {
  const bench = BENCHES[name];
  if (bench === undefined) {
    console.error(`bench: there is no ${name}; there are ${Object.keys(BENCHES).join(", ")}`);
    Deno.exit(2);
  }
  if (!await ensurePackages(bench.packages)) Deno.exit(1);
  const folder = await Deno.makeTempDir({ prefix: "varve-bench-" });
  try {
    console.log(await bench.run(folder, args));
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

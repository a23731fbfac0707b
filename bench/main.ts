// deno-lint-ignore-file no-console -- it speaks to people at a terminal
/**
 * `deno task bench [nbd]`: prints the benchmark tables. Figures are ratios against a peer in the same run.
 *
 * @module
 */
import { benchNbd } from "./nbd.ts";

const BENCHES: Record<string, (folder: string) => Promise<string>> = { nbd: benchNbd };

const wanted = Deno.args.length > 0 ? Deno.args : Object.keys(BENCHES);
for (const name of wanted) {
  const bench = BENCHES[name];
  if (bench === undefined) {
    console.error(`bench: there is no ${name}; there are ${Object.keys(BENCHES).join(", ")}`);
    Deno.exit(2);
  }
  const folder = await Deno.makeTempDir({ prefix: "varve-bench-" });
  try {
    console.log(await bench(folder));
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

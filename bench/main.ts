// deno-lint-ignore-file no-console -- it speaks to people at a terminal
/**
 * `deno task bench [nbd | scale [FEW MANY] | store]`: prints the benchmark tables. Figures are ratios against a peer in the same run,
 * or growth factors.
 *
 * @module
 */
import { benchNbd } from "./nbd.ts";
import { benchScale } from "./scale.ts";
import { benchStore } from "./store.ts";

const BENCHES: Record<string, (folder: string, args: readonly string[]) => Promise<string>> = {
  nbd: benchNbd,
  scale: benchScale,
  store: benchStore,
};

const [asked, ...args] = Deno.args;
for (const name of asked === undefined ? Object.keys(BENCHES) : [asked]) {
  const bench = BENCHES[name];
  if (bench === undefined) {
    console.error(`bench: there is no ${name}; there are ${Object.keys(BENCHES).join(", ")}`);
    Deno.exit(2);
  }
  const folder = await Deno.makeTempDir({ prefix: "varve-bench-" });
  try {
    console.log(await bench(folder, args));
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

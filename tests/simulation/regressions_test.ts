import assert from "node:assert/strict";
import { runSimulation } from "./simulation.ts";

/** A file of tests/regressions. */
interface Regression {
  readonly seed: number;
  readonly steps: number;
  /** What was violated, and why. */
  readonly note: string;
}

const folder = new URL("../regressions/", import.meta.url);

for (const { name } of [...Deno.readDirSync(folder)].sort((a, b) => a.name < b.name ? -1 : 1)) {
  if (!name.endsWith(".json")) continue;
  const { seed, steps, note } = JSON.parse(Deno.readTextFileSync(new URL(name, folder))) as Regression;
  Deno.test(`Simulation, seed ${seed}: ${note}`, async () => {
    const { violation } = await runSimulation({ seed, steps });
    assert.equal(violation?.message, undefined);
  });
}

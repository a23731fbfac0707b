import assert from "node:assert/strict";
import { isLie, LIES } from "./lies.ts";
import { runSimulation } from "./simulation.ts";

const CUTS_MAX = 200;

for (const lie of Object.keys(LIES)) {
  Deno.test(`The simulation finds out a disk that lies: ${lie}, within ${CUTS_MAX} power cuts`, async () => {
    assert(isLie(lie));
    let cuts = 0;
    for (let seed = 1; cuts < CUTS_MAX; seed++) {
      const outcome = await runSimulation({ seed, steps: 100_000, cuts: CUTS_MAX - cuts, lie });
      if (outcome.violation !== undefined) return;
      cuts += outcome.cuts;
    }
    assert.fail(`${cuts} power cuts broke no promise that was noticed`);
  });
}

import assert from "node:assert/strict";
import { type RunOutcome, runSimulation } from "./simulation.ts";

function assertHeld(outcome: RunOutcome): void {
  const { violation, seed, steps } = outcome;
  assert(
    violation === undefined,
    `${violation?.recent.join("\n")}\nseed ${seed}, step ${steps}: ${violation?.message}\n` +
      `again: deno task test:sim --seed ${seed} --steps ${steps + 1}`,
  );
}

Deno.test("The engine keeps every promise through power cuts, kills, stops and failing storage", async () => {
  let cuts = 0;
  let compressing = 0;
  let gaps = 0;
  for (let seed = 1; seed <= 8; seed++) {
    const outcome = await runSimulation({ seed, steps: 100_000, cuts: 8 });
    assertHeld(outcome);
    cuts += outcome.cuts;
    if (outcome.compressed > 0) compressing++;
    gaps += outcome.gaps;
  }
  assert(cuts >= 64);
  assert(gaps >= 4, `only ${gaps} gaps in the history`);
  assert(compressing >= 4, `only ${compressing} seeds have compressed anything`);
});

Deno.test("A seed repeats its run exactly, and another seed does something else", async () => {
  const first = await runSimulation({ seed: 7, steps: 150 });
  const again = await runSimulation({ seed: 7, steps: 150 });
  const other = await runSimulation({ seed: 8, steps: 150 });
  assert.equal(again.traceHash, first.traceHash);
  assert.equal(again.cuts, first.cuts);
  assert.notEqual(other.traceHash, first.traceHash);
});

Deno.test("A shorter run does the same as the beginning of a longer one", async () => {
  const lives: string[] = [];
  await runSimulation({
    seed: 5,
    steps: 120,
    onProgress: ({ steps, cuts }) => lives.push(`${steps} ${cuts}`),
  });
  const shorter: string[] = [];
  await runSimulation({
    seed: 5,
    steps: 60,
    onProgress: ({ steps, cuts }) => shorter.push(`${steps} ${cuts}`),
  });
  assert.deepEqual(shorter, lives.slice(0, shorter.length));
});

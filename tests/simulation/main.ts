// deno-lint-ignore-file no-console -- it speaks to people at a terminal
/**
 * `deno task test:sim`: runs seeds of the simulation, several at a time, until one breaks a promise or all are done.
 *
 *     --seed S    the first seed (default 1)
 *     --seeds K   how many (default 1 where a seed is given, else 200)
 *     --steps N   steps of each seed
 *     --cuts C    power cuts of all seeds together (default 10,000 where neither seed nor steps are given)
 *     --jobs J    processes (default: as many as there are cores)
 *     --lie NAME  a disk that lies, to see it found out
 *
 * @module
 */
import { parseArgs } from "node:util";
import { isLie, type Lie } from "./lies.ts";
import { type RunOutcome, runSimulation } from "./simulation.ts";

interface Order {
  readonly seed: number;
  readonly seeds: number;
  readonly steps: number;
  readonly cutsPerSeed: number;
  readonly jobs: number;
  readonly lie: Lie | undefined;
}

function readOrder(args: string[]): Order {
  const { values } = parseArgs({
    args,
    options: {
      seed: { type: "string" },
      seeds: { type: "string" },
      steps: { type: "string" },
      cuts: { type: "string" },
      jobs: { type: "string" },
      lie: { type: "string" },
    },
  });
  const whole = (name: string, text: string | undefined, fallback: number): number => {
    if (text === undefined) return fallback;
    const value = Number(text);
    if (!Number.isSafeInteger(value) || value < 1) {
      throw new Error(`--${name} ${text}: it must be a number from 1 on`);
    }
    return value;
  };
  const { lie } = values;
  if (lie !== undefined && !isLie(lie)) throw new Error(`--lie ${lie}: there is no such lie`);
  const single = values.seed !== undefined;
  const seeds = whole("seeds", values.seeds, single ? 1 : 200);
  const bounded = values.cuts !== undefined || (!single && values.steps === undefined);
  return {
    seed: whole("seed", values.seed, 1),
    seeds,
    steps: whole("steps", values.steps, bounded ? 1_000_000 : 500),
    cutsPerSeed: bounded ? Math.ceil(whole("cuts", values.cuts, 10_000) / seeds) : 1_000_000,
    jobs: Math.min(seeds, whole("jobs", values.jobs, navigator.hardwareConcurrency)),
    lie,
  };
}

function runSeed(order: Order, seed: number): Promise<RunOutcome> {
  return runSimulation({
    seed,
    steps: order.steps,
    cuts: order.cutsPerSeed,
    ...(order.lie === undefined ? {} : { lie: order.lie }),
  });
}

/** Every `jobs`-th seed from the `first` on, in a process of its own. */
async function* runElsewhere(order: Order, first: number): AsyncGenerator<RunOutcome> {
  const words = ["--seed", order.seed, "--seeds", order.seeds, "--steps", order.steps, "--jobs", order.jobs]
    .map(String);
  const lie = order.lie === undefined ? [] : ["--lie", order.lie];
  const cuts = ["--cuts", String(order.cutsPerSeed * order.seeds)];
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", import.meta.filename ?? "", "worker", String(first), ...words, ...cuts, ...lie],
    stdin: "null",
    stdout: "piped",
  }).spawn();
  let text = "";
  for await (const chunk of child.stdout.pipeThrough(new TextDecoderStream())) {
    const lines = (text + chunk).split("\n");
    text = lines.pop() ?? "";
    for (const line of lines) yield JSON.parse(line) as RunOutcome;
  }
  const { success } = await child.status;
  if (!success) throw new Error(`the process of seed ${order.seed + first} and following has died`);
}

function describe(outcome: RunOutcome, order: Order): string {
  const lie = order.lie === undefined ? "" : ` --lie ${order.lie}`;
  return [
    ...(outcome.violation?.recent ?? []),
    `seed ${outcome.seed}, step ${outcome.steps}, after ${outcome.cuts} power cuts:`,
    `  ${outcome.violation?.message}`,
    `again: deno task test:sim --seed ${outcome.seed} --steps ${outcome.steps + 1}${lie}`,
  ].join("\n");
}

async function runAll(order: Order): Promise<boolean> {
  const startedMs = performance.now();
  const total = { seeds: 0, steps: 0, cuts: 0, kills: 0, stops: 0, compressed: 0, gaps: 0, violations: 0 };
  let hash = "";
  const summary = () =>
    `${total.seeds} seeds, ${total.steps} steps, ${total.cuts} power cuts, ${total.kills} kills, ` +
    `${total.stops} stops, ${total.compressed} segments compressed, ${total.gaps} gaps, ${total.violations} violations`;
  const take = (outcome: RunOutcome) => {
    total.seeds++;
    total.steps += outcome.steps;
    total.cuts += outcome.cuts;
    total.kills += outcome.kills;
    total.stops += outcome.stops;
    total.compressed += outcome.compressed;
    total.gaps += outcome.gaps;
    hash = outcome.traceHash;
    if (outcome.violation !== undefined) {
      total.violations++;
      console.log(`${describe(outcome, order)}\n`);
    }
    if (Deno.stdout.isTerminal()) {
      const seconds = Math.round((performance.now() - startedMs) / 1000);
      Deno.stdout.writeSync(new TextEncoder().encode(`\r\x1b[K${summary()}, ${seconds} s`));
    }
  };
  if (order.jobs === 1) {
    for (let index = 0; index < order.seeds; index++) take(await runSeed(order, order.seed + index));
  } else {
    await Promise.all(Array.from({ length: order.jobs }, async (_, first) => {
      for await (const outcome of runElsewhere(order, first)) take(outcome);
    }));
  }
  if (Deno.stdout.isTerminal()) console.log();
  console.log(summary() + (order.seeds === 1 ? `, trace ${hash}` : ""));
  return total.violations === 0;
}

async function work(order: Order, first: number): Promise<void> {
  for (let index = first; index < order.seeds; index += order.jobs) {
    console.log(JSON.stringify(await runSeed(order, order.seed + index)));
  }
}

if (import.meta.main) {
  const [first, index = "0", ...rest] = Deno.args;
  if (first === "worker") await work(readOrder(rest), Number(index));
  else Deno.exit(await runAll(readOrder(Deno.args)) ? 0 : 1);
}

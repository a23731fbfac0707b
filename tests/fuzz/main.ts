// deno-lint-ignore-file no-console -- it speaks to people at a terminal
/**
 * `deno task test:fuzz`: sends mutated messages to the NBD server until something goes wrong or all are sent.
 *
 *     --seed S      seed of the first conversation (default: from the clock, printed)
 *     --messages N  how many messages (default 1,000,000)
 *
 * @module
 */
import { parseArgs } from "node:util";
import { fuzz, type FuzzOutcome } from "./nbd.ts";

/** Memory may grow by this much in the second half of the messages; in the first the heap finds its size. */
const MAX_GROWTH_BYTES = 64 * 1024 * 1024;
const PROGRESS_EVERY = 1000;

function readOrder(args: string[]): { seed: number; messages: number } {
  const { values } = parseArgs({ args, options: { seed: { type: "string" }, messages: { type: "string" } } });
  const whole = (name: string, text: string | undefined, fallback: number): number => {
    const value = text === undefined ? fallback : Number(text);
    if (!Number.isSafeInteger(value) || value < 1) {
      throw new Error(`--${name} ${text}: it must be a number from 1 on`);
    }
    return value;
  };
  return {
    seed: whole("seed", values.seed, Date.now() % 1_000_000_000 + 1),
    messages: whole("messages", values.messages, 1_000_000),
  };
}

function describe({ conversations, messages, requests, replies }: FuzzOutcome): string {
  return `${messages} messages in ${conversations} conversations, ${requests} requests complete, ${replies} replies`;
}

/** Resident memory without what only waits to be collected: the task runs with `--expose-gc`. */
function memoryInUse(): number {
  (globalThis as { gc?: () => void }).gc?.();
  return Deno.memoryUsage().rss;
}

async function run(): Promise<boolean> {
  const { seed, messages } = readOrder(Deno.args);
  console.log(`seed ${seed}`);
  const startedMs = performance.now();
  let warmBytes: number | undefined;
  const onProgress = (outcome: FuzzOutcome) => {
    if (outcome.messages >= messages / 2) warmBytes ??= memoryInUse();
    if (outcome.conversations % PROGRESS_EVERY !== 0 || !Deno.stdout.isTerminal()) return;
    Deno.stdout.writeSync(new TextEncoder().encode(`\r\x1b[K${describe(outcome)}`));
  };
  try {
    const outcome = await fuzz({ seed, messages, onProgress });
    const seconds = Math.round((performance.now() - startedMs) / 1000);
    const grownBytes = memoryInUse() - (warmBytes ?? 0);
    const grown = `${Math.round(grownBytes / 1024 / 1024)} MiB more memory at the end than in the middle`;
    console.log(`${Deno.stdout.isTerminal() ? "\n" : ""}${describe(outcome)}, ${seconds} s, ${grown}`);
    return grownBytes <= MAX_GROWTH_BYTES;
  } catch (thrown) {
    console.log(thrown instanceof Error ? thrown.message : thrown);
    const own = /seed (\d+)/.exec(thrown instanceof Error ? thrown.message : "")?.[1] ?? seed;
    console.log(`again: deno task test:fuzz --seed ${own} --messages 1`);
    return false;
  }
}

if (import.meta.main) Deno.exit(await run() ? 0 : 1);

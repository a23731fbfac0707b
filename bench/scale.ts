/**
 * What does a long history cost? The same volume with few and with many versions in the store: random reads of a past
 * moment, reopening after `kill -9`, resident memory. Figures are growth factors from one to the other.
 *
 * @module
 */
import { TestAppliance } from "../tests/support/appliance.ts";
import { until } from "../tests/support/run.ts";
import { fio } from "./_fio.ts";
import { mib, peakMemory } from "./_memory.ts";
import { median, table } from "./_table.ts";

const SIZE_BYTES = 1024 ** 3;
const FEW = 1e5;
const MANY = 1e7;
const ROUNDS = 3;
/** No volume takes longer than this to bring all that was written into its map. */
const INDEX_LIMIT_SECONDS = 600;

interface Figures {
  readonly readsPerSecond: number;
  readonly reopenMs: number;
  readonly writingBytes: number;
  readonly readingBytes: number;
}

async function measure(versions: number): Promise<Figures> {
  await using appliance = await TestAppliance.start();
  await appliance.createVolume("disk", SIZE_BYTES);
  const uri = appliance.uri("disk");
  // Without holes, so that every read of the past has to fetch bytes, however few versions there are.
  await fio(uri, ["write", "1M", "4", "1G"]);
  const randomWrites = ["randwrite", "4k", "64", "100T", `--number_ios=${versions / 2}`, "--norandommap"];
  await fio(uri, [...randomWrites, "--randseed=1"]);
  await appliance.mark("disk", "half");
  await fio(uri, [...randomWrites, "--randseed=2", "--end_fsync=1"]);
  await until("everything is in the map", async () => {
    const { indexedSeq, window } = await appliance.volume("disk");
    return indexedSeq === window.to.seq;
  }, INDEX_LIMIT_SECONDS);
  const writingBytes = await peakMemory(appliance.pid);

  const reopened: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    await appliance.kill();
    const began = performance.now();
    await appliance.launch();
    const { state } = await appliance.volume("disk");
    if (state !== "ready") throw new Error(`after kill -9 the volume is ${state}`);
    reopened.push(performance.now() - began);
  }
  const past = appliance.uri("disk@mark:half");
  // The first pass brings the moment's bytes into the kernel's cache: the storage's own speed is not the question.
  await fio(past, ["read", "1M", "4", "1G"]);
  const reads: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    reads.push(await fio(past, ["randread", "4k", "16", "400M", "--norandommap"]) / 4096);
  }
  return {
    readsPerSecond: median(reads),
    reopenMs: median(reopened),
    writingBytes,
    readingBytes: await peakMemory(appliance.pid),
  };
}

/** Measures both and returns the table. `few` and `many` versions can be given as arguments. */
export async function benchScale(_folder: string, args: readonly string[]): Promise<string> {
  const [few = FEW, many = MANY] = args.map(Number);
  const small = await measure(few);
  const large = await measure(many);
  const name = (versions: number) => `${versions.toLocaleString("en")} versions`;
  return table([
    ["", name(few), name(many), "growth", "goal"],
    [
      "4 KiB random reads of the past, depth 16",
      `${small.readsPerSecond.toFixed(0)} /s`,
      `${large.readsPerSecond.toFixed(0)} /s`,
      (small.readsPerSecond / large.readsPerSecond).toFixed(2),
      "at most 1.5",
    ],
    [
      "reopen after kill -9, ready to serve",
      `${small.reopenMs.toFixed(0)} ms`,
      `${large.reopenMs.toFixed(0)} ms`,
      (large.reopenMs / small.reopenMs).toFixed(2),
      "at most 1.5",
    ],
    [
      "highest resident memory while writing",
      mib(small.writingBytes),
      mib(large.writingBytes),
      (large.writingBytes / small.writingBytes).toFixed(2),
      "at most 1.5, 400 MiB",
    ],
    [
      "highest resident memory while reading",
      mib(small.readingBytes),
      mib(large.readingBytes),
      (large.readingBytes / small.readingBytes).toFixed(2),
      "at most 1.5, 400 MiB",
    ],
  ]);
}

/**
 * What does capture cost? fio's nbd engine against Varve and, in turns, against `nbdkit file`, which keeps no history.
 *
 * @module
 */
import { withNbdkit } from "../tools/_nbdkit.ts";
import { TestAppliance } from "../tests/support/appliance.ts";
import { BENCH_SIZE_BYTES, fio, fioBySecond } from "./_fio.ts";
import { mib, peakMemory } from "./_memory.ts";
import { median, table } from "./_table.ts";

const ROUNDS = 5;
const SUSTAINED_SECONDS = 60;
const ENDS_SECONDS = 10;
const MEMORY_GOAL_BYTES = 300 * 2 ** 20;

interface Work {
  readonly name: string;
  readonly args: readonly string[];
  /** Least ratio of Varve's speed to its peer's; left out where there is none. */
  readonly goal?: number;
  /** The moment that is read on Varve's side; the peer reads its live file. */
  readonly mark?: "filled" | "scattered";
}

const WORKS: readonly Work[] = [
  {
    name: "1 MiB sequential write, depth 4, with final flush",
    args: ["write", "1M", "4", "1G", "--end_fsync=1"],
    goal: 0.6,
  },
  { name: "4 KiB random write, depth 16", args: ["randwrite", "4k", "16", "240M"], goal: 1 },
  { name: "4 KiB random write, depth 1", args: ["randwrite", "4k", "1", "48M"], goal: 0.7 },
  {
    name: "4 KiB random write, depth 16, fsync every 32",
    args: ["randwrite", "4k", "16", "48M", "--fsync=32"],
    goal: 0.8,
  },
  { name: "4 KiB random read, depth 16, live", args: ["randread", "4k", "16", "400M"], goal: 1 },
  { name: "1 MiB sequential read, depth 4, live", args: ["read", "1M", "4", "2G"], goal: 1 },
  {
    name: "4 KiB random read, depth 16, of a past moment",
    args: ["randread", "4k", "16", "400M"],
    goal: 0.6,
    mark: "filled",
  },
  {
    name: "1 MiB sequential read, depth 4, of a past moment",
    args: ["read", "1M", "4", "2G"],
    goal: 0.7,
    mark: "filled",
  },
  {
    name: "the same, of one after the random writes",
    args: ["read", "1M", "4", "2G"],
    mark: "scattered",
  },
];

/** Runs every work in turns against both and returns the tables. Names of works, or parts of them, may be given. */
export async function benchNbd(folder: string, asked: readonly string[]): Promise<string> {
  const isAsked = (name: string) => asked.length === 0 || asked.some((part) => name.includes(part));
  const tables: string[] = [];
  const works = WORKS.filter(({ name }) => isAsked(name));
  if (works.length > 0) tables.push(await compare(folder, works));
  if (isAsked("sustained")) tables.push(await sustain(folder));
  return tables.join("\n\n");
}

async function compare(folder: string, works: readonly Work[]): Promise<string> {
  await using appliance = await TestAppliance.start();
  await appliance.createVolume("bench", BENCH_SIZE_BYTES);
  const image = `${folder}/nbdkit.img`;
  await Deno.writeFile(image, new Uint8Array(0));
  await Deno.truncate(image, BENCH_SIZE_BYTES);
  let answer = "";
  await withNbdkit(["file", image], async (socketPath, pid) => {
    const speeds = await race(appliance, `nbd+unix:///?socket=${socketPath}`, works);
    const [varve, nbdkit] = [await peakMemory(appliance.pid), await peakMemory(pid)];
    answer = `${speeds}\n\npeak memory: Varve ${mib(varve)}, nbdkit ${mib(nbdkit)}`;
  });
  return answer;
}

async function race(appliance: TestAppliance, theirs: string, works: readonly Work[]): Promise<string> {
  // Both begin with a disk that holds data everywhere.
  for (const uri of [appliance.uri("bench"), theirs]) {
    await fio(uri, ["write", "1M", "4", "1G", "--end_fsync=1"]);
  }
  await appliance.mark("bench", "filled");
  const rows = [["work", "Varve MB/s", "nbdkit MB/s", "ratio", "goal"]];
  for (const { name, args, goal, mark } of works) {
    if (mark === "scattered") await appliance.mark("bench", mark);
    const ours = appliance.uri(mark === undefined ? "bench" : `bench@mark:${mark}`);
    // The storage's own speed is not the question: both sides read from the kernel's memory.
    if (mark !== undefined) { for (const uri of [ours, theirs]) await fio(uri, ["read", "1M", "4", "1G"]); }
    const speeds: { ours: number; theirs: number }[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      const varve = await fio(ours, args);
      speeds.push({ ours: varve, theirs: await fio(theirs, args) });
    }
    rows.push([
      name,
      (median(speeds.map(({ ours }) => ours)) / 1e6).toFixed(0),
      (median(speeds.map(({ theirs }) => theirs)) / 1e6).toFixed(0),
      median(speeds.map(({ ours, theirs }) => ours / theirs)).toFixed(2),
      goal === undefined ? "" : `at least ${goal}`,
    ]);
  }
  return table(rows);
}

/** Does capture keep its pace, and its memory, when a host writes for a minute? */
async function sustain(folder: string): Promise<string> {
  await using appliance = await TestAppliance.start();
  await appliance.createVolume("bench", BENCH_SIZE_BYTES);
  const perSecond = await fioBySecond(
    appliance.uri("bench"),
    ["randwrite", "4k", "16", "1G", "--time_based", `--runtime=${SUSTAINED_SECONDS}`],
    folder,
  );
  const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const first = mean(perSecond.slice(0, ENDS_SECONDS));
  const last = mean(perSecond.slice(-ENDS_SECONDS));
  const memoryBytes = await peakMemory(appliance.pid);
  return table([
    [`4 KiB random write, depth 16, ${SUSTAINED_SECONDS} s`, "", "goal"],
    [`first ${ENDS_SECONDS} s`, `${first.toFixed(0)} /s`, ""],
    [`last ${ENDS_SECONDS} s`, `${last.toFixed(0)} /s`, ""],
    ["last to first", (last / first).toFixed(2), "at least 0.9"],
    ["peak memory", mib(memoryBytes), `at most ${mib(MEMORY_GOAL_BYTES)}`],
  ]);
}

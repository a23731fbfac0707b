/**
 * How quickly is the past looked at? Against the kernel's own mount of a copy of the same image, and against `restic mount` and
 * `borg mount` of the same trees.
 *
 * @module
 */
import { TestAppliance } from "../tests/support/appliance.ts";
import { Random } from "../tests/support/bytes.ts";
import { kernelMount, loopDevice } from "../tests/support/devices.ts";
import { ENVIRONMENT, exists, pause, run, until } from "../tests/support/run.ts";
import { makeHistory, MARKS, NAMES, VERSIONS, VOLUME } from "./_browse_history.ts";
import { mib } from "./_memory.ts";
import { median, table } from "./_table.ts";

/** Moments that are entered for the first figure. */
const ENTERED = 200;
/** Alternating rounds of each comparison. */
const ROUNDS = 5;

/** The raw protocol's figures in the design, 4 KiB reads a second. */
const RAW_READS = { 1: 49_900, 16: 57_700 } as const;

/** Runs it and returns the table. */
export async function benchBrowse(folder: string): Promise<string> {
  await using appliance = await TestAppliance.start();
  const peers = new Peers(folder);
  await peers.init();
  await makeHistory(appliance, (path, name) => peers.snapshot(path, name));
  const volume = `${appliance.mountPath}/${VOLUME}`;
  const { window } = await appliance.volume(VOLUME);
  const rows = [["work", "figure", "goal"]];

  rows.push(...await enterMoments(volume, window.to.seq));
  rows.push(...await peers.enter());

  const image = `${folder}/image`;
  await run("cp", "--sparse=always", `${volume}/images/mark:round-50.img`, image);
  rows.push(...await compare(appliance, image));
  rows.push(...await randomReads(`${volume}/images/seq:${window.to.seq - 1000}.img`));
  rows.push(await versions(appliance));
  rows.push(await memory(appliance, volume));
  return table(rows);
}

function timed(work: () => void): number {
  const startMs = performance.now();
  work();
  return performance.now() - startMs;
}

/** Changes into moments that nobody has seen, and lists their root. */
async function enterMoments(volume: string, newestSeq: number): Promise<string[][]> {
  const random = new Random(1);
  const times: number[] = [];
  for (let round = 0; round < ENTERED; round++) {
    const path = `${volume}/at/seq:${random.integer(Math.ceil(newestSeq / 10), newestSeq)}`;
    times.push(timed(() => void [...Deno.readDirSync(path)]));
    await pause(5);
  }
  times.sort((a, b) => a - b);
  const at = (share: number) => (times[Math.floor(times.length * share)] ?? NaN).toFixed(1);
  return [
    [`root of a never-seen moment, ${newestSeq} commands: median`, `${at(0.5)} ms`, "30 ms"],
    ["the same: 99th percentile", `${at(0.99)} ms`, "150 ms"],
  ];
}

/** `restic` and `borg` with a snapshot of the tree at some of the moments. */
class Peers {
  readonly #folder: string;
  readonly #restic: string;
  readonly #borg: string;

  constructor(folder: string) {
    this.#folder = folder;
    this.#restic = `RESTIC_PASSWORD=bench restic --quiet --no-cache --repo '${folder}/restic'`;
    this.#borg = `BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes BORG_BASE_DIR='${folder}' borg`;
  }

  async init(): Promise<void> {
    await run("sh", "-c", `${this.#restic} init && ${this.#borg} init -e none '${this.#folder}/borg'`);
  }

  async snapshot(path: string, name: string): Promise<void> {
    const skipped = `--exclude '${path}/noise'`;
    await run("sh", "-c", `cd '${path}' && ${this.#restic} backup . ${skipped}`);
    await run(
      "sh",
      "-c",
      `cd '${path}' && ${this.#borg} create '${this.#folder}/borg::${name}' . --exclude noise`,
    );
  }

  async enter(): Promise<string[][]> {
    const mounts = [
      { name: "restic mount", command: `${this.#restic} mount`, below: "snapshots" },
      { name: "borg mount", command: `${this.#borg} mount -f '${this.#folder}/borg'`, below: "" },
    ];
    const rows: string[][] = [];
    for (const { name, command, below } of mounts) {
      const place = `${this.#folder}/${name.replace(" ", "-")}`;
      await Deno.mkdir(place);
      const child = new Deno.Command("sh", {
        args: ["-c", `exec env ${command} '${place}'`],
        env: { ...ENVIRONMENT, HOME: this.#folder },
        stdin: "null",
        stdout: "null",
        stderr: "null",
      }).spawn();
      const startMs = performance.now();
      try {
        const root = below === "" ? place : `${place}/${below}`;
        await until(
          `${name} shows its snapshots`,
          async () => await exists(root) && [...Deno.readDirSync(root)].length > 2,
        );
        const readyMs = performance.now() - startMs;
        const names = [...Deno.readDirSync(root)].map((entry) => entry.name).filter((entry) =>
          entry !== "latest"
        );
        const times = names.map((entry) => timed(() => void [...Deno.readDirSync(`${root}/${entry}`)]));
        rows.push([
          `root of a never-seen snapshot, ${name} (ready after ${readyMs.toFixed(0)} ms): median, most`,
          `${median(times).toFixed(1)} ms, ${Math.max(...times).toFixed(1)} ms`,
          "",
        ]);
      } finally {
        await run("fusermount3", "-uz", place);
        await child.status;
      }
    }
    return rows;
  }
}

/** Makes the kernel forget what it has of files: those of a folder, or one. */
async function forget(path: string): Promise<void> {
  const script = `sync -f "$0"; find "$0" -type f -exec dd if={} iflag=nocache count=0 status=none ";"`;
  await run("sh", "-c", script, path);
}

/** Reading and listing, cold and warm, of the same moment in the kernel's mount of its image. */
async function compare(appliance: TestAppliance, image: string): Promise<string[][]> {
  const ratios = { cold: [] as number[], warm: [] as number[], list: [] as number[] };
  const read = (path: string) => timeOf("dd", `if=${path}/big`, "of=/dev/null", "bs=1M", "status=none");
  const list = (path: string) => timeOf("ls", "-l", `${path}/many`);
  for (let round = 0; round < ROUNDS; round++) {
    // Each look is at a moment of its own, which nobody has seen; all of them hold the same files.
    const [ours, oursToo] = [0, 1].map((each) =>
      `${appliance.mountPath}/${VOLUME}/at/mark:round-${50 - 2 * round - each}`
    ) as [string, string];
    const theirList = await withKernel(image, list);
    await forget(appliance.dataPath);
    ratios.list.push(await list(ours) / theirList);
    const [theirCold, theirWarm] = await withKernel(image, async (kernel) => (
      [await read(kernel), Math.min(await read(kernel), await read(kernel))] as const
    ));
    await forget(appliance.dataPath);
    ratios.cold.push(theirCold / await read(oursToo));
    ratios.warm.push(theirWarm / Math.min(await read(oursToo), await read(oursToo)));
  }
  const text = (values: number[]) =>
    `${median(values).toFixed(2)} (${values.map((each) => each.toFixed(2)).join(", ")})`;
  return [
    ["sequential read of 200 MiB in the past, cold: of the kernel's speed", text(ratios.cold), "0.6"],
    ["the same, warm", text(ratios.warm), "0.9"],
    [`ls -l of ${NAMES} entries, cold: times the kernel's`, text(ratios.list), "3"],
  ];
}

/** Uses the kernel's mount of an image, of which it has nothing in memory yet. */
async function withKernel<T>(image: string, use: (path: string) => Promise<T>): Promise<T> {
  await forget(image);
  await using loop = await loopDevice(image);
  const path = await Deno.makeTempDir({ prefix: "varve-bench-" });
  try {
    await using kernel = await kernelMount(loop.path, `${path}/kernel`);
    return await use(kernel.path);
  } finally {
    await Deno.remove(path, { recursive: true });
  }
}

async function timeOf(command: string, ...args: string[]): Promise<number> {
  const startMs = performance.now();
  const { success } = await new Deno.Command(command, { args, env: ENVIRONMENT, stdout: "null" }).output();
  if (!success) throw new Error(`run ${command} ${args.join(" ")}: it failed`);
  return performance.now() - startMs;
}

/** 4 KiB random reads of an image, without the kernel's cache. */
async function randomReads(image: string): Promise<string[][]> {
  const rows: string[][] = [];
  for (const depth of [1, 16] as const) {
    const args = [
      "--name=read",
      // A colon parts names.
      `--filename=${image.replaceAll(":", "\\:")}`,
      "--rw=randread",
      "--bs=4k",
      "--direct=1",
      "--readonly",
    ];
    const asynchronous = ["--ioengine=libaio", `--iodepth=${depth}`, "--time_based", "--runtime=8"];
    const output = JSON.parse(
      await run("fio", ...args, ...asynchronous, "--output-format=json", "--allow_file_create=0"),
    );
    const reads = output.jobs[0].read.iops;
    rows.push([
      `4 KiB random reads of an image, depth ${depth}: a second, and of the raw protocol's ${
        RAW_READS[depth]
      }`,
      `${reads.toFixed(0)}, ${(reads / RAW_READS[depth]).toFixed(2)}`,
      "0.5",
    ]);
  }
  return rows;
}

async function versions(appliance: TestAppliance): Promise<string[]> {
  const startMs = performance.now();
  const found = await appliance.apiOk<{ versions: unknown[] }>(
    "GET",
    `/v1/volumes/${VOLUME}/files/versions?path=/docs/report`,
  );
  const seconds = (performance.now() - startMs) / 1000;
  return [
    `versions of a file with ${VERSIONS}: found ${found.versions.length}`,
    `${seconds.toFixed(2)} s`,
    "1 s",
  ];
}

/** Looks at every name of every marked moment. */
async function memory(appliance: TestAppliance, volume: string): Promise<string[]> {
  const before = await residentBytes(appliance.pid);
  let mostBytes = before;
  for (let round = 0; round < MARKS; round++) {
    await timeOf("find", `${volume}/at/mark:round-${round}/`, "-printf", "%s\\n");
    mostBytes = Math.max(mostBytes, await residentBytes(appliance.pid));
  }
  return [
    `memory after find over ${MARKS} moments of ${NAMES} names: growth, and the whole appliance`,
    `${mib(mostBytes - before)}, ${mib(mostBytes)}`,
    "256 MiB",
  ];
}

async function residentBytes(pid: number): Promise<number> {
  const status = await Deno.readTextFile(`/proc/${pid}/status`);
  return Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1]) * 1024;
}

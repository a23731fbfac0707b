/**
 * What does capture cost? fio's nbd engine against Varve and, in turns, against `nbdkit file`, which keeps no history.
 *
 * @module
 */
import { DemoAppliance } from "../tools/demo_appliance.ts";
import { BENCH_SIZE, fio } from "./_fio.ts";
import { median, table } from "./_table.ts";

const ROUNDS = 3;

interface Work {
  readonly name: string;
  readonly args: readonly string[];
  /** Export suffix on Varve's side; the peer reads its live file. */
  readonly at?: string;
}

const WORKS: readonly Work[] = [
  { name: "1 MiB sequential write, depth 4, final flush", args: ["write", "1M", "4", "1G", "--end_fsync=1"] },
  { name: "4 KiB random write, depth 16", args: ["randwrite", "4k", "16", "160M"] },
  { name: "4 KiB random write, depth 1", args: ["randwrite", "4k", "1", "24M"] },
  {
    name: "4 KiB random write, depth 16, fsync every 32",
    args: ["randwrite", "4k", "16", "12M", "--fsync=32"],
  },
  { name: "4 KiB random read, depth 16, live", args: ["randread", "4k", "16", "200M"] },
  { name: "1 MiB sequential read, depth 4, live", args: ["read", "1M", "4", "1G"] },
  {
    name: "4 KiB random read, depth 16, of the past",
    args: ["randread", "4k", "16", "200M"],
    at: "@mark:bench",
  },
  { name: "1 MiB sequential read, depth 4, of the past", args: ["read", "1M", "4", "1G"], at: "@mark:bench" },
];

/** Runs every work in turns against both and returns the table. */
export async function benchNbd(folder: string): Promise<string> {
  await using appliance = await DemoAppliance.start();
  await appliance.ready();
  await appliance.varve("volume", "create", "bench", "--size", BENCH_SIZE);
  const image = `${folder}/nbdkit.img`;
  await Deno.writeFile(image, new Uint8Array(0));
  await Deno.truncate(image, 1024 ** 3);
  const peerSocket = `${folder}/nbdkit.sock`;
  const peer = new Deno.Command("nbdkit", { args: ["-f", "-U", peerSocket, "file", image] }).spawn();
  const rows = [["work", "Varve MB/s", "nbdkit MB/s", "ratio"]];
  try {
    for (const work of WORKS) {
      if (work.at !== undefined && rows.every((row) => !row[0]?.includes("of the past"))) {
        await appliance.varve("mark", "bench", "bench");
      }
      const ours: number[] = [];
      const theirs: number[] = [];
      for (let round = 0; round < ROUNDS; round++) {
        ours.push(await fio(`nbd+unix:///bench${work.at ?? ""}?socket=${appliance.nbdPath}`, work.args));
        theirs.push(await fio(`nbd+unix:///?socket=${peerSocket}`, work.args));
      }
      const ratio = median(ours.map((speed, round) => speed / (theirs[round] ?? NaN)));
      rows.push([
        work.name,
        ...[median(ours), median(theirs)].map((b) => (b / 1e6).toFixed(0)),
        ratio.toFixed(2),
      ]);
    }
  } finally {
    peer.kill();
    await peer.status;
  }
  return table(rows);
}

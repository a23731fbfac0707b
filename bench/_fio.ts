/**
 * fio as the load of every bench.
 *
 * @module
 */

/** Size of the disks that benches work on, in bytes. */
export const BENCH_SIZE_BYTES: number = 2 ** 30;

/**
 * Runs fio's nbd engine against an export: access pattern, block size, depth, bytes to move, further options.
 * Returns bytes moved per second.
 */
export async function fio(uri: string, args: readonly string[]): Promise<number> {
  const { read, write } = (await run(uri, args)).jobs[0];
  return read.bw_bytes + write.bw_bytes;
}

/** Runs fio as {@linkcode fio} does; returns the commands of each second. */
export async function fioBySecond(uri: string, args: readonly string[], folder: string): Promise<number[]> {
  await run(uri, [...args, `--write_iops_log=${folder}/log`, "--log_avg_msec=1000"]);
  const log = await Deno.readTextFile(`${folder}/log_iops.1.log`);
  return log.trim().split("\n").map((line) => Number(line.split(",")[1]));
}

async function run(
  uri: string,
  [rw = "", bs = "", depth = "", bytes = "", ...more]: readonly string[],
  // deno-lint-ignore no-explicit-any -- fio's own document
): Promise<any> {
  const { success, stdout, stderr } = await new Deno.Command("fio", {
    args: [
      "--name=bench",
      "--ioengine=nbd",
      `--uri=${uri}`,
      `--rw=${rw}`,
      `--bs=${bs}`,
      `--iodepth=${depth}`,
      `--size=${BENCH_SIZE_BYTES}`,
      `--io_size=${bytes}`,
      "--output-format=json",
      ...more,
    ],
    stdout: "piped",
    stderr: "piped",
  }).output();
  const text = new TextDecoder().decode(stdout);
  if (!success) throw new Error(`run fio against ${uri}: ${new TextDecoder().decode(stderr)}${text}`);
  return JSON.parse(text.slice(text.indexOf("{")));
}

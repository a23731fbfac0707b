/**
 * fio as the load of every bench.
 *
 * @module
 */

/** Size of the disks that benches work on, in fio's words. */
export const BENCH_SIZE = "1G";

/**
 * Runs fio's nbd engine against an export: access pattern, block size, depth, bytes to move, further options.
 * Returns bytes moved per second.
 */
export async function fio(
  uri: string,
  [rw = "", bs = "", depth = "", bytes = "", ...more]: readonly string[],
): Promise<number> {
  const { success, stdout, stderr } = await new Deno.Command("fio", {
    args: [
      "--name=bench",
      "--ioengine=nbd",
      `--uri=${uri}`,
      `--rw=${rw}`,
      `--bs=${bs}`,
      `--iodepth=${depth}`,
      `--size=${BENCH_SIZE}`,
      `--io_size=${bytes}`,
      "--output-format=json",
      ...more,
    ],
    stdout: "piped",
    stderr: "piped",
  }).output();
  const text = new TextDecoder().decode(stdout);
  if (!success) throw new Error(`run fio against ${uri}: ${new TextDecoder().decode(stderr)}${text}`);
  const job = JSON.parse(text.slice(text.indexOf("{"))).jobs[0];
  return job.read.bw_bytes + job.write.bw_bytes;
}

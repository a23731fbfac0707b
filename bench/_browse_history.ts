/**
 * A history to browse: an ext4 file system mounted by the kernel, in which one file is written again and again while a million other
 * writes go by.
 *
 * @module
 */
import type { TestAppliance } from "../tests/support/appliance.ts";
import { KIB, MIB } from "../tests/support/bytes.ts";
import { kernelMount, loopDevice, nbdAsFile, type Placed } from "../tests/support/devices.ts";
import { run } from "../tests/support/run.ts";
import { fio } from "./_fio.ts";

/** Name of the volume. */
export const VOLUME = "disk";
/** Writes in the history, at least. */
const WRITES = 1_000_000;
/** How often the file that is asked for is written. */
export const VERSIONS = 50;
/** Marks, spread over the history. */
export const MARKS = 100;
/** Names in the large directory. */
export const NAMES = 10_000;
const SIZE_BYTES = 1024 * MIB;
const NOISE_BYTES = 128 * MIB;
const BIG_MIB = 200;

/** Called with the mounted file system at some moments of the history. */
export type OnSnapshot = (path: string, name: string) => Promise<void>;

/** Makes it; `onSnapshot` is called ten times. */
export async function makeHistory(appliance: TestAppliance, onSnapshot: OnSnapshot): Promise<void> {
  await appliance.createVolume(VOLUME, SIZE_BYTES);
  await using stack = new AsyncDisposableStack();
  const file = stack.use(await nbdAsFile(appliance.uri(VOLUME), `${appliance.folder}/nbdfuse`));
  const loop = stack.use(await loopDevice(file.path));
  await run("mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", loop.path);
  const host: Placed = stack.use(await kernelMount(loop.path, `${appliance.folder}/guest`));
  await run(
    "bash",
    "-c",
    `set -e; cd ${host.path}; mkdir many docs; fallocate -l ${NOISE_BYTES} noise
     cd many; seq ${NAMES} | xargs -n 1000 sh -c 'for i; do echo $i > name-$i; done' sh; cd ..
     head -c ${BIG_MIB}M /dev/urandom > big; sync -f .`,
  );
  const noise = await placeOf(`${host.path}/noise`);
  const rounds = MARKS;
  for (let round = 0; round < rounds; round++) {
    if (round % (rounds / VERSIONS) === 0) {
      await Deno.writeTextFile(`${host.path}/docs/report`, `version ${round}\n`.repeat(round + 1));
      await run("sync", "-f", host.path);
    }
    await fio(appliance.uri(VOLUME), [
      "randwrite",
      "4k",
      "16",
      `${WRITES / rounds * 4 * KIB}`,
      `--offset=${noise.offset}`,
      `--size=${noise.length}`,
      `--randseed=${round}`,
    ]);
    await appliance.mark(VOLUME, `round-${round}`);
    if (round % (rounds / 10) === 0) await onSnapshot(host.path, `round-${round}`);
  }
}

/** The longest run of a file on its device, in bytes, which nobody reads or writes through the file system. */
async function placeOf(path: string): Promise<{ offset: number; length: number }> {
  const lines = (await run("filefrag", "-b4096", "-v", path)).split("\n");
  const runs = lines.flatMap((line) => {
    const found = /^\s*\d+:\s*\d+\.\.\s*\d+:\s*(\d+)\.\.\s*\d+:\s*(\d+):/.exec(line);
    return found === null ? [] : [{ offset: Number(found[1]) * 4096, length: Number(found[2]) * 4096 }];
  });
  const longest = runs.toSorted((a, b) => b.length - a.length)[0];
  if (longest === undefined) throw new Error(`find where ${path} lies: ${lines.join("\n")}`);
  return longest;
}

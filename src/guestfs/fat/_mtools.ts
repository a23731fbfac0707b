/** What the tests of FAT share: images that mkfs.fat makes and mtools fills and reads back. */
import { run } from "../_test_support.ts";

const ENVIRONMENT = ["MTOOLS_SKIP_CHECK=1", "LC_ALL=C.UTF-8", "TZ=UTC"];

/** Runs one of the mtools on an image. */
export function mtools(program: string, image: string, ...args: string[]): Promise<string> {
  return run("env", ...ENVIRONMENT, program, "-i", image, ...args);
}

/** Makes an empty FAT file system of a size such as `20M`, without the times and numbers of the moment. */
export async function makeFat(image: string, size: string, options: readonly string[]): Promise<void> {
  await run("truncate", "-s", size, image);
  await run("mkfs.fat", "--invariant", ...options, image);
}

/** Fails when fsck.fat finds anything to complain about. */
export async function checkFat(image: string): Promise<void> {
  await run("fsck.fat", "-n", image);
}

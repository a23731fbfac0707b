/**
 * What follows from knowing where a file's content lies.
 *
 * @module
 */
import type { BlockDevice } from "../base/block_device.ts";
import { damaged } from "./_bytes.ts";
import type { ContentRun, GuestFileSystem } from "./guest.ts";

/** Bytes whose runs one look for data or a hole asks for at a time. */
const SEEK_WINDOW_BYTES = 1024 ** 3;
/** Runs that one look for data or a hole goes over; beyond them it answers "data", which a caller may always believe. */
const SEEK_RUNS_MAX = 65_536;

/**
 * Fills `target` with runs that begin where it does; `readMade` fills in what does not lie on the device as it is, given its place
 * in `target`. Throws `damaged` when the runs end before `target` does.
 */
export function readRuns(
  device: BlockDevice,
  runs: Iterable<ContentRun>,
  target: Uint8Array,
  readMade: (at: number, part: Uint8Array) => void,
): void {
  let at = 0;
  for (const run of runs) {
    const part = target.subarray(at, at + run.length);
    if (run.kind === "stored") device.read(run.deviceOffset, part);
    else if (run.kind === "hole") part.fill(0);
    else readMade(at, part);
    at += part.length;
    if (at === target.length) return;
  }
  if (at < target.length) {
    throw damaged("reading a file", `its content ends after ${at} of ${target.length} bytes`);
  }
}

/**
 * As `lseek` with `SEEK_DATA` and `SEEK_HOLE`: the first offset at or after `offset` of that kind, where the end of the file
 * counts as a hole; `undefined` when there is none.
 */
export function seekContent(
  fileSystem: Pick<GuestFileSystem, "map">,
  file: { readonly inode: number; readonly sizeBytes: number },
  { offset, kind }: { readonly offset: number; readonly kind: "data" | "hole" },
): number | undefined {
  if (offset >= file.sizeBytes) return undefined;
  let at = offset;
  for (let count = 0; at < file.sizeBytes;) {
    const runs = fileSystem.map(file.inode, at, Math.min(SEEK_WINDOW_BYTES, file.sizeBytes - at));
    if (runs.length === 0) throw damaged("mapping a file", `no run at ${at} of ${file.sizeBytes} bytes`);
    for (const run of runs) {
      const found = run.kind === "hole" ? "hole" : "data";
      if (found === kind || (++count > SEEK_RUNS_MAX && kind === "data")) return at;
      at += run.length;
    }
    if (count > SEEK_RUNS_MAX) break;
  }
  return kind === "data" ? undefined : file.sizeBytes;
}

/**
 * The text that stands in each volume's folder.
 *
 * @module
 */
import type { VolumeInfo } from "../src/engine.ts";

/** Says what the folder of a volume offers: its window, how to name a time, counts. `points` counts `points/`. */
export function volumeReadme(info: VolumeInfo, points: number): string {
  const { name, sizeBytes, window: { from, to }, counts, baseline } = info;
  const state = info.state === "ready"
    ? []
    : [`State       ${info.state}${info.error ? `: ${info.error}` : ""}`];
  if (info.state === "baseline") {
    state.push(
      `Copied      ${baseline.doneBytes} of ${baseline.totalBytes} bytes; no moment can be opened before that is all`,
    );
  }
  return [
    `Volume      ${name}, ${sizeBytes} bytes, since ${info.createdAt}`,
    ...state,
    `Window      ${from.time} (seq:${from.seq})`,
    `        to  ${to.time} (seq:${to.seq})`,
    ...info.gaps.map(({ from, to, reason }) =>
      `Gap         ${from.time} to ${to === undefined ? "now" : `${to.time} (seq:${to.seq})`}: ${reason}`
    ),
    `Points      ${points} listed, ${counts.marks} marks`,
    "",
    "points/TIME/       the files of the volume at a point that retention keeps",
    "marks/NAME         leads to the point of a mark",
    "at/TIME/           the files at any time in the window; not listed, just name it",
    "images/TIME.img    the raw disk at that time, for root",
    "",
    "Below at/ a TIME is one of these, and means the last write at or before it:",
    "",
    `  now                   ${to.time}`,
    `  seq:${to.seq}`.padEnd(24) + "mark:NAME",
    "  10:13                 yesterday 14:00",
    "  10m ago               2 hours ago",
    "",
    "In the folder of each moment, .varve/versions/PATH/ has every version of a file, and .varve/deleted/PATH/",
    "what a folder held before. They are not listed, just name them.",
    "",
    "Below points/ and images/ it is a date and time as in the first line of these.",
    "",
  ].join("\n");
}

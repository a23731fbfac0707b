/**
 * A bar that shows how far long work has come.
 *
 * @module
 */
import progress from "cli-progress";
import process from "node:process";
import { formatSize } from "../src/base/units.ts";
import type { CommonOptions } from "./command.ts";
import type { Terminal } from "./terminal.ts";

/** How far work has come, in bytes. */
export interface Progress {
  /** Done so far. */
  doneBytes: number;
  /** All there is to do; may grow. */
  totalBytes: number;
}

/** Draws on standard error; `stop` takes the bar away. */
export interface ProgressBar {
  /** Shows the present state. */
  show(state: Progress): void;
  /** Clears the line. */
  stop(): void;
}

/** A bar when a person watches, else one that shows nothing. */
export function progressBar(label: string, terminal: Terminal, options: CommonOptions): ProgressBar {
  if (!terminal.isInteractive || options.json) return { show: () => {}, stop: () => {} };
  const bar = new progress.SingleBar({
    stream: process.stderr,
    clearOnComplete: true,
    hideCursor: true,
    format: `${label} [{bar}] {percentage}%  {done} of {all}`,
  }, progress.Presets.rect);
  bar.start(1, 0, { done: formatSize(0), all: "?" });
  return {
    show({ doneBytes, totalBytes }) {
      bar.setTotal(Math.max(1, totalBytes));
      bar.update(doneBytes, { done: formatSize(doneBytes), all: formatSize(totalBytes) });
    },
    stop: () => bar.stop(),
  };
}

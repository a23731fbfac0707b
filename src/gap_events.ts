/**
 * What is told of gaps in the history of a volume.
 *
 * @module
 */
import { formatTime } from "./base/time.ts";
import type { Gap } from "./catalog/gaps.ts";
import type { Events } from "./events.ts";
import { gapInfo } from "./timeline/resolve.ts";

/** Tells that a gap has begun, or has ended. */
export function tellGap(events: Events, volume: string, gap: Gap): void {
  const from = formatTime(gap.fromUs, 6);
  const details = { ...gapInfo(gap) };
  if (gap.toUs === undefined) {
    events.add({
      level: "warning",
      kind: "history.gap",
      volume,
      message: `the history's storage is full; since ${from} hosts write past it, and it has a gap`,
      details,
    });
  } else {
    events.add({
      level: "info",
      kind: "history.gap-ended",
      volume,
      message: `the gap in the history from ${from} has ended at ${formatTime(gap.toUs, 6)}`,
      details,
    });
  }
}

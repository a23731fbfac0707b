/**
 * What is told when space becomes short, ends, and comes back.
 *
 * @module
 */
import { formatSize } from "./base/units.ts";
import type { SpaceState, SpaceStatus } from "./disk/mod.ts";
import type { Events, NewEvent } from "./events.ts";

/** Adds the event of a new state. */
export function tellSpace(events: Events, status: SpaceStatus, state: SpaceState): void {
  const free = `${formatSize(status.freeBytes)} of ${formatSize(status.totalBytes)} are free`;
  const told: Record<SpaceState, Pick<NewEvent, "level" | "message">> = {
    ok: { level: "info", message: `There is enough space again: ${free}` },
    low: {
      level: "warning",
      message: `Space is short: ${free}, the watermark is ${
        formatSize(status.watermarkBytes)
      }; the oldest history is thinned`,
    },
    full: { level: "error", message: `Writes are refused, for space has ended: ${free}` },
  };
  events.add({ ...told[state], kind: `storage.${state}`, details: { ...status, state } });
}

/**
 * The history of a path, read from a volume's recovery map and segments.
 *
 * @module
 */
import type { Gap } from "../catalog/gaps.ts";
import type { RecoveryMap } from "../catalog/recovery_map.ts";
import { openGuestDisk } from "../guestfs/mod.ts";
import { lastChangeOf } from "../timeline/changes.ts";
import { View, type ViewSource } from "../timeline/view.ts";
import { probeFile } from "./_file_probe.ts";
import { MapMomentSteps } from "./_moment_steps.ts";
import { NotingDevice } from "./_ranges.ts";
import type { FileHistory } from "./versions.ts";

/** Where a volume's history is read. */
export interface PastSource extends ViewSource {
  /** The recovery map. */
  readonly map: RecoveryMap;
  /** Spans without history. */
  readonly gaps?: readonly Gap[];
  /** Size of the volume at a moment, in bytes. */
  sizeAt(seq: number): number;
}

/** The history of a path, whose moments are opened in this thread: for a Worker. */
export function pastFileHistory(source: PastSource, path: string): FileHistory {
  const { map, regions, gaps } = source;
  const notes = new Map<string, unknown>();
  return {
    moments: new MapMomentSteps(map, gaps),
    probe: (seq) => {
      const newestChange = (offset: number, length: number) =>
        lastChangeOf({ regions, fromSeq: 0, toSeq: seq }, [{ offset, length }]) ?? 0;
      const view = new View(source, seq, source.sizeAt(seq));
      const device = new NotingDevice(view, { seq, notes, newestChange });
      return Promise.resolve(probeFile(device, openGuestDisk, path));
    },
    lastChange: (ranges, fromSeq, toSeq) => lastChangeOf({ regions, fromSeq, toSeq }, ranges),
  };
}

/**
 * The past of a volume, opened from its folder alone: for Workers, which share nothing with the thread that captures.
 *
 * @module
 */
import path from "node:path";
import type { BlockDevice } from "../base/block_device.ts";
import { RecoveryMap } from "../catalog/recovery_map.ts";
import { type Disk, FileDisk } from "../disk/mod.ts";
import { SegmentReader } from "../journal/mod.ts";
import { RegionCache, View } from "./view.ts";

/** Where a volume's history lies, and how large the volume was. */
export interface PastPlace {
  /** The volume's folder. */
  readonly directory: string;
  /** Size of the volume at the wanted moment, in bytes. */
  readonly sizeBytes: number;
}

/** Names inside a volume's folder. */
export const VOLUME_FILES = { segments: "segments", map: "map.sqlite", primary: "primary.img" } as const;

interface SharedHistory {
  readonly map: RecoveryMap;
  readonly segments: SegmentReader;
  readonly regions: RegionCache;
  users: number;
}

const shared = new Map<string, SharedHistory>();

/**
 * Opens a moment that the recovery map already covers. Views of one volume share its files and caches within this
 * thread; the last `close` releases them.
 */
export function openPastView(
  place: PastPlace,
  seq: number,
  disk: Disk = new FileDisk(),
): { device: BlockDevice; close(): void } {
  let history = shared.get(place.directory);
  if (history === undefined) {
    const map = new RecoveryMap(path.join(place.directory, VOLUME_FILES.map), { readOnly: true, disk });
    const segments = new SegmentReader(disk, path.join(place.directory, VOLUME_FILES.segments));
    history = { map, segments, regions: new RegionCache(map), users: 0 };
    shared.set(place.directory, history);
  }
  const opened = history;
  opened.users++;
  let open = true;
  return {
    device: new View(opened, seq, place.sizeBytes),
    close() {
      if (!open) return;
      open = false;
      if (--opened.users > 0) return;
      shared.delete(place.directory);
      opened.segments.close();
      opened.map.close();
    },
  };
}

/**
 * The past of a volume, opened from its folder alone: for Workers, which share nothing with the thread that captures.
 *
 * @module
 */
import path from "node:path";
import type { BlockDevice } from "../base/block_device.ts";
import { RecoveryMap, type ResolvedRegion } from "../catalog/recovery_map.ts";
import { type Disk, FileDisk } from "../disk/mod.ts";
import { SegmentReader } from "../journal/mod.ts";
import { lastChangeOf } from "./changes.ts";
import { BlockCache, RegionCache, View, type ViewSource } from "./view.ts";

/** Where a volume's history lies, and how large the volume was. */
export interface PastPlace {
  /** The volume's folder. */
  readonly directory: string;
  /** Size of the volume at the wanted moment, in bytes. */
  readonly sizeBytes: number;
}

/** A moment that is open. */
export interface PastView {
  /** The disk as it was. */
  readonly device: BlockDevice;
  /** The sequence, not later than the moment's, at which any byte of a range was changed last; 0 when none ever was. */
  newestChange(offset: number, length: number): number;
  /** What a region of the map says, and for which sequences. */
  region(region: number): ResolvedRegion;
  /** Gives back what it holds; nothing of it is used afterwards. */
  close(): void;
}

/** Names inside a volume's folder. */
export const VOLUME_FILES = { segments: "segments", map: "map.sqlite", primary: "primary.img" } as const;

/** Blocks of one volume that are kept for whoever looks at many of its moments, in bytes. */
const CACHED_BYTES = 8 * 1024 * 1024;

/** A volume's history, as one thread reads it. */
export interface PastHistory extends ViewSource {
  /** The recovery map. */
  readonly map: RecoveryMap;
  /** Gives back what it holds; nothing of it is used afterwards. */
  close(): void;
}

interface SharedHistory {
  readonly map: RecoveryMap;
  readonly segments: SegmentReader;
  readonly regions: RegionCache;
  readonly blocks: BlockCache;
  users: number;
}

const shared = new Map<string, SharedHistory>();

/** Opens a volume's history by its folder. All who do in this thread share its files and caches; the last `close` releases them. */
export function openPast(directory: string, disk: Disk = new FileDisk()): PastHistory {
  let history = shared.get(directory);
  if (history === undefined) {
    const map = new RecoveryMap(path.join(directory, VOLUME_FILES.map), { readOnly: true, disk });
    const segments = new SegmentReader(disk, path.join(directory, VOLUME_FILES.segments));
    const blocks = new BlockCache(CACHED_BYTES);
    history = { map, segments, regions: new RegionCache(map), blocks, users: 0 };
    shared.set(directory, history);
  }
  const opened = history;
  opened.users++;
  let open = true;
  return {
    map: opened.map,
    segments: opened.segments,
    regions: opened.regions,
    blocks: opened.blocks,
    close() {
      if (!open) return;
      open = false;
      if (--opened.users > 0) return;
      shared.delete(directory);
      opened.segments.close();
      opened.map.close();
    },
  };
}

/** How a moment is opened. */
export interface PastViewOptions {
  /** Default: the file systems of the machine. */
  readonly disk?: Disk;
  /** Keep blocks for other moments: for metadata, which many of them share. Content is seldom read again, and not kept. */
  readonly keepsBlocks?: boolean;
}

/** Opens a moment that the recovery map already covers. */
export function openPastView(place: PastPlace, seq: number, options: PastViewOptions = {}): PastView {
  const past = openPast(place.directory, options.disk);
  const { regions, segments } = past;
  return {
    device: new View(options.keepsBlocks ? past : { regions, segments }, seq, place.sizeBytes),
    newestChange: (offset, length) =>
      lastChangeOf({ regions: past.regions, fromSeq: 0, toSeq: seq }, [{ offset, length }]) ?? 0,
    region: (region) => regions.resolved(region, seq),
    close: () => past.close(),
  };
}

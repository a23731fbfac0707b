/**
 * Making a new volume.
 *
 * @module
 */
import path from "node:path";
import type { VolumeRow } from "../catalog/catalog.ts";
import { Moments } from "../catalog/moments.ts";
import { MOMENT_KINDS } from "../catalog/packing.ts";
import { RecoveryMap } from "../catalog/recovery_map.ts";
import { type Disk, makeDurableDirectory } from "../disk/mod.ts";
import { VOLUME_FILES } from "../timeline/past.ts";

/** Prepares the folder and the primary of a new volume. The caller enters it in the catalogue afterwards. */
export async function prepareVolume(
  row: VolumeRow,
  options: { disk: Disk; directory: string; adopt: boolean },
): Promise<void> {
  const { disk, directory } = options;
  // The catalogue will tell of this folder, so its name must survive power loss first, and those above it.
  const volumesDirectory = path.dirname(directory);
  await makeDurableDirectory(disk, path.join(directory, VOLUME_FILES.segments), volumesDirectory);
  if (!options.adopt) {
    const file = disk.open(row.primaryPath, { mode: "create-new" });
    try {
      file.truncate(row.sizeBytes);
      await file.sync();
    } finally {
      file.close();
    }
    await disk.syncDirectory(path.dirname(row.primaryPath));
  }
  const map = new RecoveryMap(path.join(directory, VOLUME_FILES.map), { disk });
  try {
    map.transaction(() => {
      new Moments(map).add([{ seq: 0, timeUs: row.createdUs, kind: MOMENT_KINDS.created }]);
      map.setState("baseline_bytes", options.adopt ? 0 : row.sizeBytes);
    });
  } finally {
    map.close();
  }
}

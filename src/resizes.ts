/**
 * Resizing volumes: the bounds, the journal, then the catalogue, then the space beyond the end.
 *
 * @module
 */
import { getLogger } from "@logtape/logtape";
import type { Access } from "./access.ts";
import { VarveError } from "./base/errors.ts";
import { formatSize } from "./base/units.ts";
import type { Catalog } from "./catalog/catalog.ts";
import type { Caller, ResizeRequest } from "./engine.ts";
import type { Volume } from "./volume/volume.ts";
import { checkSize, type VolumeEntry, type Volumes } from "./volumes.ts";

const logger = getLogger(["varve", "engine"]);

/** What resizes work on. */
export interface ResizesParts {
  /** Every volume. */
  readonly volumes: Volumes;
  /** The catalogue. */
  readonly catalog: Catalog;
  /** For the audit log. */
  readonly access: Access;
}

/**
 * Gives a volume another size; resolves when it is durable. Throws `invalid` for a size out of bounds or a block device
 * that is too small, and `conflict` for a smaller size without `force` or a volume that cannot be resized now.
 */
export async function resizeVolume(
  name: string,
  { sizeBytes, force = false }: ResizeRequest,
  parts: ResizesParts,
  caller: Caller,
): Promise<void> {
  const tried = `resize volume ${name}`;
  checkSize(tried, sizeBytes);
  const entry = parts.volumes.entry(name);
  const volume = parts.volumes.open(name);
  if (sizeBytes < volume.sizeBytes && !force) {
    throw new VarveError(
      "conflict",
      `${tried}: ${formatSize(sizeBytes)} is less than it has, ${formatSize(volume.sizeBytes)}`,
      {
        field: "sizeBytes",
        hint: "Hosts lose what lies beyond the new end; it stays in the history. To shrink it, say --force.",
      },
    );
  }
  await volume.whileOpen((signal) => resizeOpen(entry, volume, sizeBytes, parts, { caller, signal }));
}

async function resizeOpen(
  entry: VolumeEntry,
  volume: Volume,
  sizeBytes: number,
  { catalog, access }: ResizesParts,
  { caller, signal }: { readonly caller: Caller; readonly signal: AbortSignal },
): Promise<void> {
  const { name } = entry.row;
  const fromBytes = volume.sizeBytes;
  const end = sizeBytes === fromBytes ? undefined : await volume.resize(sizeBytes, signal);
  try {
    // Of the same size the catalogue may not know yet, where it could not be written to.
    if (entry.row.sizeBytes !== sizeBytes) {
      catalog.transaction(() => {
        catalog.setSize(entry.row.id, sizeBytes);
        access.record(caller, "volume.resize", name, { fromBytes, sizeBytes });
      });
      entry.row = { ...entry.row, sizeBytes };
    }
    end?.told();
  } finally {
    await end?.finish().catch(
      (thrown) => {
        const message = thrown instanceof Error ? thrown.message : String(thrown);
        logger.warn("Volume {volume}: the space beyond its end is not given back: {message}", {
          volume: name,
          message,
        });
      },
    );
  }
}

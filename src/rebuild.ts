/**
 * Makes the databases of a data folder anew from the segments alone: every recovery map, and what the catalogue knows of
 * volumes, marks, pins, notes and policies.
 *
 * Order: the maps first, each whole before it takes its place, then the catalogue in one transaction. Whatever fails or
 * is interrupted on the way, the segments are as they were, and it can be run again.
 *
 * Tokens, jobs and the audit log are not in the segments. A catalogue that can still be read keeps them; where there is
 * none the next start makes a new `admin.token`.
 *
 * @module
 */
import path from "node:path";
import { lockDataFolder } from "./appliance.ts";
import { VarveError } from "./base/errors.ts";
import { type Scheduler, systemScheduler } from "./base/turns.ts";
import { Catalog, type MarkRow, type VolumeRow } from "./catalog/catalog.ts";
import { type Disk, type DiskLock, FileDisk } from "./disk/mod.ts";
import { parseSegmentFileName } from "./journal/mod.ts";
import { VOLUME_FILES } from "./timeline/past.ts";
import { readVolume, type RebuiltMap, REPLACED, type ToldVolume } from "./volume/rebuild.ts";

/** Options of {@linkcode rebuildDataFolder}. */
export interface RebuildFolderOptions {
  /** The data folder. */
  readonly dataPath: string;
  /** Bring back volumes too that were deleted without `--purge`. Default false. */
  readonly includeDeleted?: boolean;
  /** Storage. Default: the file systems of the machine. */
  readonly disk?: Disk;
  /** Gives turns. Default: the event loop. */
  readonly scheduler?: Scheduler;
  /** Told how far it has come, in bytes of segments; there is more to do as more volumes are found. */
  readonly onProgress?: (doneBytes: number, totalBytes: number) => void;
}

/** A volume that was rebuilt. */
export interface RebuiltVolume extends RebuiltMap {
  /** Its name. */
  readonly name: string;
  /** 32 hexadecimal digits. */
  readonly id: string;
  /** Number of its marks. */
  readonly marks: number;
}

/** What became of a data folder. */
export interface RebuiltFolder {
  /** Volumes that were rebuilt, by name. */
  readonly volumes: RebuiltVolume[];
  /** Volumes that were deleted without `--purge` and left alone. */
  readonly deleted: { readonly name: string; readonly id: string }[];
  /** Folders that could not be rebuilt, and why; they are as they were. */
  readonly failed: { readonly id: string; readonly error: string }[];
  /** `kept`: tokens, jobs and audit log are those of before. `made`: there are none. */
  readonly catalog: "kept" | "made";
}

/**
 * Rebuilds a data folder. Throws `not-found` when there is none, `conflict` while an appliance uses it, `no-space` and
 * `io` when the new databases cannot be written.
 */
export async function rebuildDataFolder(options: RebuildFolderOptions): Promise<RebuiltFolder> {
  const { dataPath, disk = new FileDisk(), scheduler = systemScheduler } = options;
  const ids = volumeFolders(disk, dataPath);
  const lock = lockForRebuild(disk, dataPath);
  try {
    const { catalog, isKept } = await openCatalog(disk, path.join(dataPath, "catalog.sqlite"));
    try {
      const rebuild = new FolderRebuild(catalog, ids, { ...options, disk, scheduler });
      return { ...await rebuild.run(), catalog: isKept ? "kept" : "made" };
    } finally {
      catalog.close();
    }
  } catch (thrown) {
    throw VarveError.from(thrown, `rebuild ${dataPath}`);
  } finally {
    lock.release();
  }
}

function lockForRebuild(disk: Disk, dataPath: string): DiskLock {
  try {
    return lockDataFolder(disk, dataPath);
  } catch (thrown) {
    if (!(thrown instanceof VarveError) || thrown.code !== "conflict") throw thrown;
    throw new VarveError("conflict", `rebuild ${dataPath}: an appliance is using it`, {
      cause: thrown,
      hint: "Stop the appliance first.",
    });
  }
}

function volumeFolders(disk: Disk, dataPath: string): string[] {
  const directory = path.join(dataPath, "volumes");
  const ids = disk.list(directory).filter((id) =>
    /^[0-9a-f]{32}$/.test(id) &&
    disk.list(path.join(directory, id, VOLUME_FILES.segments)).some((name) =>
      parseSegmentFileName(name) !== undefined
    )
  );
  if (ids.length > 0) return ids;
  throw new VarveError("not-found", `rebuild ${dataPath}: no volume in it has segments`, {
    hint: "Name the data folder of the appliance with --data: it holds a folder called volumes.",
  });
}

/** A catalogue that cannot be read is set aside. */
async function openCatalog(disk: Disk, place: string): Promise<{ catalog: Catalog; isKept: boolean }> {
  try {
    const catalog = new Catalog(place, disk);
    if (catalog.isSound()) return { catalog, isKept: catalog.tokens().length > 0 };
    catalog.close();
  } catch (thrown) {
    if (!(thrown instanceof VarveError && thrown.code === "damaged")) throw thrown;
  }
  await disk.renameDatabase(place, place + REPLACED);
  return { catalog: new Catalog(place, disk), isKept: false };
}

class FolderRebuild {
  readonly #catalog: Catalog;
  readonly #ids: readonly string[];
  readonly #options: RebuildFolderOptions & { disk: Disk; scheduler: Scheduler };
  readonly #known: ReadonlyMap<string, VolumeRow>;
  readonly #rows: { row: VolumeRow; marks: MarkRow[] }[] = [];
  readonly #volumes: RebuiltVolume[] = [];
  readonly #deleted: { name: string; id: string }[] = [];
  readonly #failed: { id: string; error: string }[] = [];
  #doneBytes = 0;
  #totalBytes = 0;

  constructor(
    catalog: Catalog,
    ids: readonly string[],
    options: RebuildFolderOptions & { disk: Disk; scheduler: Scheduler },
  ) {
    this.#catalog = catalog;
    this.#ids = ids;
    this.#options = options;
    this.#known = new Map(catalog.volumes().map((row) => [row.id, row]));
  }

  async run(): Promise<Omit<RebuiltFolder, "catalog">> {
    for (const id of this.#ids) await this.#rebuildVolume(id);
    this.#nameApart();
    this.#catalog.transaction(() => {
      for (const { row } of this.#rows) this.#catalog.removeVolume(row.id);
      for (const { id } of this.#deleted) this.#catalog.removeVolume(id);
      for (const { row, marks } of this.#rows) {
        this.#catalog.addVolume(row);
        for (const mark of marks) this.#catalog.putMark(row.id, mark);
      }
    });
    return {
      volumes: this.#volumes.toSorted((a, b) => a.name < b.name ? -1 : 1),
      deleted: this.#deleted,
      failed: this.#failed,
    };
  }

  async #rebuildVolume(id: string): Promise<void> {
    const { disk, scheduler, dataPath } = this.#options;
    let told: ToldVolume | undefined;
    try {
      told = readVolume({
        disk,
        scheduler,
        volumeId: id,
        directory: path.join(dataPath, "volumes", id),
        onProgress: (doneBytes) => this.#tellProgress(doneBytes),
      });
      const { row, marks } = told;
      // One that the catalogue knows was brought back after it was deleted, or never quite deleted.
      if (told.deleted && !this.#options.includeDeleted && !this.#known.has(id)) {
        this.#deleted.push({ id, name: row.name });
        return;
      }
      this.#totalBytes += told.totalBytes;
      const map = await told.rebuild();
      this.#doneBytes += told.totalBytes;
      this.#rows.push({ row, marks });
      this.#volumes.push({ name: row.name, id, marks: marks.length, ...map });
    } catch (thrown) {
      const error = VarveError.from(thrown, `rebuild the volume in ${id}`);
      if (error.code !== "damaged" && error.code !== "unsupported") throw error;
      this.#failed.push({ id, error: error.message });
    } finally {
      told?.close();
    }
  }

  #tellProgress(doneBytes: number): void {
    this.#options.onProgress?.(this.#doneBytes + doneBytes, this.#totalBytes);
  }

  /** A name stands once: the volume that was not deleted keeps it, another gets the beginning of its identity. */
  #nameApart(): void {
    const taken = new Set(
      [...this.#known.values()].filter(({ id }) => !this.#rows.some(({ row }) => row.id === id)).map((row) =>
        row.name
      ),
    );
    this.#rows.sort((a, b) =>
      Number(this.#known.has(b.row.id)) - Number(this.#known.has(a.row.id)) ||
      b.row.createdUs - a.row.createdUs
    );
    for (const entry of this.#rows) {
      const { id, name } = entry.row;
      if (taken.has(name)) {
        entry.row = { ...entry.row, name: `${name.slice(0, 55)}-${id.slice(0, 8)}` };
        const index = this.#volumes.findIndex((volume) => volume.id === id);
        const volume = this.#volumes[index];
        if (volume !== undefined) this.#volumes[index] = { ...volume, name: entry.row.name };
      }
      taken.add(entry.row.name);
    }
  }
}

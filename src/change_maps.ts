/**
 * Change maps of volumes and their past, as NBD metadata contexts: `qemu:dirty-bitmap:since-TIME`.
 *
 * The name is the one that QEMU gives its dirty bitmaps, so that tools for incremental backups read them unmodified: bit 0
 * is set where the export was written after TIME, up to its own moment or, for a live volume, up to the request.
 *
 * @module
 */
import { VarveError } from "./base/errors.ts";
import type { Moment } from "./engine.ts";
import type { ExportMap, ExportMaps, MapRun } from "./nbd/mod.ts";
import { changesWithin } from "./timeline/changes.ts";
import type { Volume } from "./volume/volume.ts";

/** What the names of change maps begin with; a text of the time grammar follows. */
export const CHANGE_MAP_PREFIX = "qemu:dirty-bitmap:since-";

/** Flag of a run that was written. */
const DIRTY = 1;
/** Maps listed at most: of the newest marks. */
const LISTED_MAX = 100;

/** What change maps of an export are made from. */
export interface ChangeMapSource {
  /** The volume. */
  readonly volume: Volume;
  /** What the export shows; `undefined` for the live volume. */
  readonly moment: Moment | undefined;
  /** Marks of the volume, oldest first. */
  marks(): readonly { readonly name: string; readonly seq: number }[];
  /** The moment that a text of the time grammar names. */
  resolve(at: string): Promise<Moment>;
}

/** The change maps of one export. */
export class ChangeMaps implements ExportMaps {
  readonly #source: ChangeMapSource;

  /** Maps of `source`. */
  constructor(source: ChangeMapSource) {
    this.#source = source;
  }

  /** A map for each mark that is not later than the export, the newest hundred, oldest first. */
  list(): string[] {
    const until = this.#source.moment?.seq ?? Infinity;
    return this.#source.marks()
      .filter(({ seq }) => seq <= until)
      .slice(-LISTED_MAX)
      .map(({ name }) => `${CHANGE_MAP_PREFIX}mark:${name}`);
  }

  /** Throws as the time grammar does for a moment that does not exist, and `invalid` for one after the export's own. */
  async open(name: string): Promise<ExportMap | undefined> {
    if (!name.startsWith(CHANGE_MAP_PREFIX)) return undefined;
    const { volume, moment } = this.#source;
    const since = await this.#source.resolve(name.slice(CHANGE_MAP_PREFIX.length));
    if (moment !== undefined && since.seq > moment.seq) {
      throw new VarveError(
        "invalid",
        `open ${name}: ${since.time} (seq:${since.seq}) is later than what is exported, ${moment.time} (seq:${moment.seq})`,
        { field: "at", hint: "Ask for the changes since an earlier moment, or open a later one." },
      );
    }
    volume.changes(since.seq, since.seq);
    return {
      runs: async (offset, length, max) => {
        const until = moment?.seq ?? await present(volume);
        return changesWithin(volume.changes(since.seq, until), { offset, length }, max)
          .map((run): MapRun => ({ length: run.length, flags: run.kind === "changed" ? DIRTY : 0 }));
      },
    };
  }
}

/** The newest sequence, which the map covers. Throws `conflict` while the history does not hold all that was written. */
async function present(volume: Volume): Promise<number> {
  await volume.settle();
  const seq = volume.indexedSeq;
  // A gap that has just ended may have its last chunks behind that sequence.
  if (volume.gaps.open === undefined && volume.gaps.atSeq(seq) === undefined) return seq;
  throw new VarveError("conflict", "read the changes of a live volume: it is in a gap of its history", {
    hint: "Make space for the history, and try again when varve volume show reports the capture as running.",
  });
}

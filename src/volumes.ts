/**
 * The volumes of an appliance: opened at its start, made, adopted and deleted.
 *
 * @module
 */
import path from "node:path";
import { getLogger } from "@logtape/logtape";
import type { Access } from "./access.ts";
import { toHex } from "./base/bytes.ts";
import type { Clock } from "./base/clock.ts";
import { VarveError } from "./base/errors.ts";
import type { RandomSource } from "./base/random.ts";
import { formatTime } from "./base/time.ts";
import type { Scheduler } from "./base/turns.ts";
import type { Catalog, VolumeRow } from "./catalog/catalog.ts";
import { isRetained, type Retained } from "./catalog/moments.ts";
import type { Disk, SpaceKeeper } from "./disk/mod.ts";
import type { Caller, CreateVolumeRequest, RetentionPolicy, VolumeInfo } from "./engine.ts";
import { parseSegmentFileName } from "./journal/mod.ts";
import { VOLUME_FILES } from "./timeline/past.ts";
import { gapInfo, momentInfo } from "./timeline/resolve.ts";
import { DEFAULT_POLICY } from "./timeline/retention.ts";
import { compressionTotals } from "./volume/compression.ts";
import type { Events } from "./events.ts";
import { tellGap } from "./gap_events.ts";
import type { JournalText } from "./volume/journal_text.ts";
import { prepareVolume } from "./volume/prepare_volume.ts";
import { Volume, type VolumeSurroundings } from "./volume/volume.ts";

const logger = getLogger(["varve", "engine"]);
const NAME_FORM = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;
const NAME_HINT =
  "Letters, digits, '.', '_' and '-', beginning with a letter or digit, at most 64 characters.";
const SIZE_BYTES_MAX = 2 ** 50;

/** Throws `invalid` unless a name fits volumes and marks. */
export function checkName(tried: string, name: string): void {
  if (NAME_FORM.test(name)) return;
  throw new VarveError("invalid", `${tried}: the name does not fit`, { field: "name", hint: NAME_HINT });
}

/** Throws `invalid` unless a volume may have a size. */
export function checkSize(tried: string, sizeBytes: number | undefined): asserts sizeBytes is number {
  if (
    sizeBytes !== undefined && Number.isSafeInteger(sizeBytes) && sizeBytes > 0 && sizeBytes <= SIZE_BYTES_MAX
  ) return;
  throw new VarveError("invalid", `${tried}: the size ${sizeBytes ?? "(none)"} does not fit`, {
    field: "sizeBytes",
    hint: `A number of bytes from 1 to ${SIZE_BYTES_MAX}.`,
  });
}

/** A volume as the appliance holds it. */
export interface VolumeEntry {
  /** What the catalogue has. */
  row: VolumeRow;
  /** `undefined` when it could not be opened at all. */
  volume: Volume | undefined;
  /** What went wrong last. */
  error: VarveError | undefined;
}

/** A clone that needs a moment of a volume. */
export interface CloneHold {
  /** Name of the clone. */
  readonly name: string;
  /** The moment. */
  readonly seq: number;
}

/** What the volumes are kept with. */
export interface VolumesParts {
  /** The data folder. */
  readonly dataPath: string;
  /** Storage. */
  readonly disk: Disk;
  /** Time. */
  readonly clock: Clock;
  /** Turns. */
  readonly scheduler: Scheduler;
  /** Random bytes for identities. */
  readonly random: RandomSource;
  /** The catalogue. */
  readonly catalog: Catalog;
  /** For the audit log. */
  readonly access: Access;
  /** Keeps watch over the space. */
  readonly space: SpaceKeeper;
  /** Told of gaps. */
  readonly events: Events;
  /** Connections to a volume, live and past. */
  readonly connections: (name: string) => number;
  /** Clones of a volume, given its identity. */
  readonly clonesOf: (volumeId: string) => readonly CloneHold[];
  /** Whether something that is no volume has a name. */
  readonly isTaken: (name: string) => boolean;
  /** Bytes a second at which adopted disks are copied, each of them; `undefined` for the default. */
  readonly baselineBytesPerSecond: number | undefined;
  /** See `VolumeSurroundings.handsFor`. */
  readonly handsFor?: VolumeSurroundings["handsFor"];
  /** Size at which a segment is finished, in bytes; `undefined` for the usual one. */
  readonly segmentBytes?: number | undefined;
  /** Records that recovery maps learn of at once; `undefined` for the usual number. */
  readonly batchRecords?: number | undefined;
}

/** Every volume of the appliance. */
export class Volumes {
  readonly #dataPath: string;
  readonly #disk: Disk;
  readonly #clock: Clock;
  readonly #scheduler: Scheduler;
  readonly #random: RandomSource;
  readonly #catalog: Catalog;
  readonly #access: Access;
  readonly #space: SpaceKeeper;
  readonly #events: Events;
  readonly #connections: (name: string) => number;
  readonly #clonesOf: VolumesParts["clonesOf"];
  readonly #isTaken: VolumesParts["isTaken"];
  readonly #baselineBytesPerSecond: number | undefined;
  readonly #handsFor: VolumeSurroundings["handsFor"];
  readonly #segmentBytes: number | undefined;
  readonly #batchRecords: number | undefined;
  readonly #entries = new Map<string, VolumeEntry>();
  /** Names being created; a second request for one is refused while the first is under way. */
  readonly #creating = new Set<string>();

  /** Begins without volumes; `openAll` opens those of the catalogue. */
  constructor(parts: VolumesParts) {
    this.#dataPath = parts.dataPath;
    this.#disk = parts.disk;
    this.#clock = parts.clock;
    this.#scheduler = parts.scheduler;
    this.#random = parts.random;
    this.#catalog = parts.catalog;
    this.#access = parts.access;
    this.#space = parts.space;
    this.#events = parts.events;
    this.#connections = parts.connections;
    this.#clonesOf = parts.clonesOf;
    this.#isTaken = parts.isTaken;
    this.#baselineBytesPerSecond = parts.baselineBytesPerSecond;
    this.#handsFor = parts.handsFor;
    this.#segmentBytes = parts.segmentBytes;
    this.#batchRecords = parts.batchRecords;
  }

  /** Opens every volume of the catalogue. One that fails does not keep the others from being opened. */
  async openAll(): Promise<void> {
    const rows = this.#catalog.volumes();
    for (const row of rows) {
      if (!await this.#openVolume(row)) await this.#tellAgain(row.name);
    }
    const known = new Set(rows.map((row) => row.id));
    for (const id of this.#disk.list(path.join(this.#dataPath, "volumes"))) {
      if (known.has(id)) continue;
      logger.warn("The catalogue knows no volume {id}; its history is kept in {place}", {
        id,
        place: this.#directory(id),
      });
    }
  }

  /** Names, sorted. */
  names(): string[] {
    return [...this.#entries.keys()].sort();
  }

  /** Whether a volume has a name, or is being made with it. */
  has(name: string): boolean {
    return this.#entries.has(name) || this.#creating.has(name);
  }

  /** The volume with an identity, when it could be opened. */
  byId(id: string): VolumeEntry | undefined {
    return [...this.#entries.values()].find(({ row }) => row.id === id);
  }

  /** What stands in the way of serving, by volume. */
  problems(): string[] {
    return [...this.#entries.values()].flatMap(({ row, error }) =>
      error === undefined ? [] : [`volume ${row.name}: ${error.message}`]
    );
  }

  /** A crash amid the making or the deletion of a volume left a journal that says nothing of it, or that it is gone. */
  async #tellAgain(name: string): Promise<void> {
    const entry = this.entry(name);
    const { volume } = entry;
    if (!volume?.isLive) return;
    try {
      (await volume.live.describe(volume.describeText()))();
    } catch (thrown) {
      entry.error = VarveError.from(thrown, `open volume ${name}`);
    }
  }

  /** Returns whether the journal tells of the volume as one that is there. */
  async #openVolume(row: VolumeRow): Promise<boolean> {
    let isTold = true;
    const entry: VolumeEntry = { row, volume: undefined, error: undefined };
    this.#entries.set(row.name, entry);
    try {
      isTold = this.#disk.list(path.join(this.#directory(row.id), VOLUME_FILES.segments)).length > 0;
      const volume = await Volume.open(row, {
        disk: this.#disk,
        clock: this.#clock,
        scheduler: this.#scheduler,
        directory: this.#directory(row.id),
        handsFor: this.#handsFor,
        baselineBytesPerSecond: this.#baselineBytesPerSecond,
        segmentBytes: this.#segmentBytes ?? this.#space.segmentBytes,
        batchRecords: this.#batchRecords,
        guard: (primaryPath) => this.#space.guard(primaryPath),
        describe: () => ({ volume: entry.row, marks: this.#catalog.marks(row.id) }),
        passthrough: () => (JSON.parse(entry.row.policy) as RetentionPolicy).onFull === "passthrough",
        held: () => new Set(this.#clonesOf(row.id).map(({ seq }) => seq)),
        onGap: (gap) => tellGap(this.#events, row.name, gap),
        onThinned: (retained) => this.#forgetMarks(row.id, retained),
        onText: (text, record) => {
          if (text.type === "volume-deleted") isTold = false;
          this.#takeText(entry, text, record.header);
        },
        onFailure: (error) => {
          // It is tried again, nothing is lost, and the keeper tells of the full storage.
          if (error.code === "no-space") return this.#space.look();
          logger.error("Volume {volume}: {message}", { volume: row.name, message: error.message });
          entry.error = error;
        },
      });
      entry.volume = volume;
      // A crash kept it from the catalogue, which learns of a size last.
      if (volume.sizeBytes !== row.sizeBytes) {
        this.#catalog.setSize(row.id, volume.sizeBytes);
        entry.row = { ...entry.row, sizeBytes: volume.sizeBytes };
      }
      this.#dropLostMarks(row, volume);
      entry.error = volume.failure;
      const { droppedBytes, redoneCommands } = volume.recovered;
      if (droppedBytes > 0 || redoneCommands > 0) {
        logger.info("Volume {volume}: {redoneCommands} commands redone, {droppedBytes} torn bytes dropped", {
          volume: row.name,
          redoneCommands,
          droppedBytes,
        });
      }
      if (!volume.baselineComplete) {
        volume.completeBaseline().then(
          () => {
            if (!volume.baselineComplete) return;
            logger.info("Volume {volume}: its first copy is complete", { volume: row.name });
          },
          (thrown) => entry.error = VarveError.from(thrown, "copy the baseline"),
        );
      }
    } catch (thrown) {
      entry.error = VarveError.from(thrown, `open volume ${row.name}`);
      logger.error("Volume {volume}: {message}", { volume: row.name, message: entry.error.message });
    }
    return isTold;
  }

  /** Opens volumes again that a full storage kept from being opened. */
  async reopenWhereSpaceWasShort(): Promise<void> {
    for (const { row, volume, error } of [...this.#entries.values()]) {
      if (volume === undefined && error?.code === "no-space") await this.#openVolume(row);
    }
  }

  /** A prune that a crash has ended may have dropped moments and not yet the marks that name them. */
  #dropLostMarks(row: VolumeRow, volume: Volume): void {
    const lost = this.#catalog.marks(row.id).filter(({ seq }) =>
      volume.moments.atSeq(seq).found === undefined && seq <= volume.lastSeq
    );
    if (lost.length > 0) this.#catalog.removeMarks(row.id, lost.map(({ name }) => name));
  }

  /** Takes away the marks of which a prune has left no moment. */
  #forgetMarks(volumeId: string, retained: Retained): void {
    const lost = this.#catalog.marks(volumeId).filter(({ seq }) => !isRetained(retained, seq));
    if (lost.length > 0) this.#catalog.removeMarks(volumeId, lost.map(({ name }) => name));
  }

  /** Brings to the catalogue what a crash kept from it. */
  #takeText(entry: VolumeEntry, text: JournalText, header: { seq: number; timeUs: number }): void {
    const volumeId = entry.row.id;
    switch (text.type) {
      case "mark":
        this.#catalog.putMark(volumeId, {
          name: text.name,
          seq: header.seq,
          timeUs: header.timeUs,
          pinned: text.pinned,
          note: text.note,
        });
        break;
      case "mark-changed": {
        const mark = this.#catalog.mark(volumeId, text.name);
        if (mark !== undefined) {
          this.#catalog.putMark(volumeId, { ...mark, pinned: text.pinned, note: text.note });
        }
        break;
      }
      case "mark-deleted":
        this.#catalog.removeMark(volumeId, text.name);
        break;
      case "policy":
        this.#catalog.setPolicy(volumeId, JSON.stringify(text.policy));
        entry.row = { ...entry.row, policy: JSON.stringify(text.policy) };
        break;
      case "thinned":
        this.#forgetMarks(volumeId, text);
        break;
      case "compaction":
      case "baseline-begun":
      case "baseline-complete":
      case "gap":
      case "gap-end":
      case "resized":
      case "client":
      case "volume":
      case "volume-deleted":
        break;
    }
  }

  #directory(volumeId: string): string {
    return path.join(this.#dataPath, "volumes", volumeId);
  }

  /** A volume's entry; throws `not-found`. */
  entry(name: string): VolumeEntry {
    const entry = this.#entries.get(name);
    if (entry === undefined) {
      throw new VarveError("not-found", `find volume ${name}: there is none of that name`, {
        field: "volume",
        hint: "List the volumes with varve volume list.",
      });
    }
    return entry;
  }

  /** A volume that could be opened; throws why not. */
  open(name: string): Volume {
    const { volume, error } = this.entry(name);
    if (volume !== undefined) return volume;
    throw error ?? new VarveError("conflict", `open volume ${name}: it is still being opened`);
  }

  /** A volume that could be opened, or `undefined` when there is none of that name. */
  find(name: string): Volume | undefined {
    return this.#entries.has(name) ? this.open(name) : undefined;
  }

  /** Volumes with a live device. */
  live(): Volume[] {
    return [...this.#entries.values()].flatMap(({ volume }) => volume?.isLive ? [volume] : []);
  }

  /** What is known of every volume, by name. */
  list(): VolumeInfo[] {
    return this.names().map((name) => this.info(name));
  }

  /** What is known of one volume. */
  info(name: string): VolumeInfo {
    const { row, volume, error } = this.entry(name);
    const created = { time: formatTime(row.createdUs, 6), seq: 0 };
    const oldest = volume?.moments.oldest();
    const failed = volume === undefined || volume.failure !== undefined;
    return {
      id: row.id,
      name: row.name,
      sizeBytes: volume?.sizeBytes ?? row.sizeBytes,
      state: failed ? "failed" : volume.baselineComplete ? "ready" : "baseline",
      ...(error === undefined ? {} : { error: error.message }),
      primary: { path: row.primaryPath, managed: row.primaryManaged },
      createdAt: formatTime(row.createdUs, 6),
      window: {
        from: oldest === undefined ? created : momentInfo(oldest),
        to: volume === undefined
          ? created
          : { time: formatTime(volume.newest.timeUs, 6), seq: volume.newest.seq },
      },
      gaps: volume?.retainedGaps().map(gapInfo) ?? [],
      baseline: {
        complete: volume?.baselineComplete ?? false,
        doneBytes: volume?.baselineBytes ?? 0,
        totalBytes: volume?.sizeBytes ?? row.sizeBytes,
      },
      historyBytes: volume?.historyBytes(this.#disk) ?? 0,
      counts: {
        marks: this.#catalog.marks(row.id).length,
        segments: this.#disk.list(path.join(this.#directory(row.id), VOLUME_FILES.segments)).length,
        connections: this.#connections(name),
      },
      compression: compressionTotals(volume),
      indexedSeq: volume?.indexedSeq ?? 0,
      durableSeq: volume?.durableSeq ?? 0,
      capture: volume?.gaps.open !== undefined ? "gap" : this.#space.state === "full" ? "full" : "running",
      refusedWrites: volume?.journal?.refused ?? 0,
    };
  }

  /** Makes or adopts a volume; an adopted one is copied in the background from then on. */
  async create(request: CreateVolumeRequest, caller: Caller): Promise<VolumeInfo> {
    const { name } = request;
    checkName(`create volume ${name}`, name);
    if (this.has(name) || this.#isTaken(name)) {
      const found = this.has(name) ? "one" : "a clone";
      throw new VarveError("conflict", `create volume ${name}: there is ${found} of that name`, {
        field: "name",
      });
    }
    this.#creating.add(name);
    try {
      const adopt = request.primary?.adopt ?? false;
      const row = this.#newRow(request, adopt);
      const directory = this.#directory(row.id);
      try {
        await prepareVolume(row, { disk: this.#disk, directory, adopt });
      } catch (thrown) {
        this.#disk.removeTree(directory);
        throw thrown;
      }
      this.#catalog.transaction(() => {
        this.#catalog.addVolume(row);
        this.#access.record(caller, adopt ? "volume.adopt" : "volume.create", name, {
          sizeBytes: row.sizeBytes,
          primary: row.primaryPath,
        });
      });
      await this.#openVolume(row);
      const volume = this.open(name);
      if (volume.failure !== undefined) throw volume.failure;
      (await volume.live.describe(volume.describeText()))();
    } finally {
      this.#creating.delete(name);
    }
    return this.info(name);
  }

  #newRow(request: CreateVolumeRequest, adopt: boolean): VolumeRow {
    const id = toHex(this.#random(16));
    const { name, primary } = request;
    const tried = `create volume ${name}`;
    if (primary !== undefined && !path.isAbsolute(primary.path)) {
      throw new VarveError("invalid", `${tried}: the path ${primary.path} is not absolute`, {
        field: "primary.path",
      });
    }
    let sizeBytes = request.sizeBytes;
    if (adopt) {
      const place = primary?.path ?? "";
      const stat = this.#disk.stat(place);
      if (stat === undefined || stat.kind === "other") {
        const found = stat === undefined
          ? "there is nothing there"
          : "it is neither a file nor a block device";
        throw new VarveError("invalid", `adopt ${place}: ${found}`, { field: "primary.path" });
      }
      const user = this.primaries().get(stat.identity);
      if (user !== undefined) {
        throw new VarveError("conflict", `adopt ${place}: it is ${user}`, { field: "primary.path" });
      }
      sizeBytes ??= stat.sizeBytes;
      if (sizeBytes > stat.sizeBytes) {
        throw new VarveError("invalid", `adopt ${place}: it has ${stat.sizeBytes} bytes, not ${sizeBytes}`, {
          field: "sizeBytes",
        });
      }
    } else if (primary !== undefined && this.#disk.stat(primary.path) !== undefined) {
      throw new VarveError("conflict", `${tried}: ${primary.path} exists already`, {
        field: "primary.path",
        hint: "To protect an existing file or device as it is, adopt it.",
      });
    }
    checkSize(tried, sizeBytes);
    return {
      id,
      name,
      sizeBytes,
      primaryPath: primary?.path ?? path.join(this.#directory(id), VOLUME_FILES.primary),
      primaryManaged: primary === undefined,
      // The last thing in its millisecond, so that a time with three digits names it exactly.
      createdUs: Math.floor(this.#clock.nowUs() / 1000) * 1000 + 999,
      policy: JSON.stringify(DEFAULT_POLICY),
    };
  }

  /** Identities of the primaries of all volumes, with what they are. */
  primaries(): Map<string, string> {
    const primaries = new Map<string, string>();
    for (const { row } of this.#entries.values()) {
      const identity = this.#disk.stat(row.primaryPath)?.identity;
      if (identity !== undefined) primaries.set(identity, `the primary of volume ${row.name}`);
    }
    return primaries;
  }

  /** Forgets a volume; with `purge` its history and its managed primary are deleted too. */
  async delete(name: string, options: { purge: boolean }, caller: Caller): Promise<void> {
    const { row, volume } = this.entry(name);
    if (this.#connections(name) > 0) {
      throw new VarveError("conflict", `delete volume ${name}: clients are connected to it`, {
        hint: "Disconnect the hosts first.",
      });
    }
    const clones = this.#clonesOf(row.id).map((clone) => clone.name);
    if (clones.length > 0) {
      throw new VarveError("conflict", `delete volume ${name}: it has clones: ${clones.join(", ")}`, {
        hint: "Delete them first with varve clones delete, or promote them.",
        details: { clones },
      });
    }
    this.#entries.delete(name);
    const told = await this.#describeDeletion(name, volume);
    await volume?.close();
    this.#catalog.transaction(() => {
      this.#catalog.removeVolume(row.id);
      this.#access.record(caller, "volume.delete", name, { purge: options.purge, id: row.id });
    });
    if (options.purge) await this.#purge(row.id, told);
  }

  /**
   * Takes a volume's folder away, durably. The segment that tells of the deletion goes last: after a power cut a rebuild
   * would make a volume of what is left without it.
   */
  async #purge(volumeId: string, told: number | undefined): Promise<void> {
    const directory = this.#directory(volumeId);
    const segments = path.join(directory, VOLUME_FILES.segments);
    const names = this.#disk.list(segments);
    for (const name of names) {
      if (told === undefined || parseSegmentFileName(name) !== told) {
        this.#disk.remove(path.join(segments, name));
      }
    }
    if (names.length > 0) await this.#disk.syncDirectory(segments);
    this.#disk.removeTree(directory);
    await this.#disk.syncDirectory(path.dirname(directory));
  }

  /** A volume that cannot be written to is deleted all the same. Returns the segment that tells of it. */
  async #describeDeletion(name: string, volume: Volume | undefined): Promise<number | undefined> {
    try {
      if (volume === undefined) throw new VarveError("conflict", "it could not be opened");
      return await volume.describeDeletion();
    } catch (thrown) {
      const message = thrown instanceof Error ? thrown.message : String(thrown);
      logger.warn("Volume {volume}: a rebuild would bring it back, its journal cannot be told: {message}", {
        volume: name,
        message,
      });
      return undefined;
    }
  }

  /** Makes every volume durable and closes it. */
  async close(): Promise<void> {
    for (const { row, volume } of this.#entries.values()) {
      await volume?.close().catch((thrown) => {
        const message = thrown instanceof Error ? thrown.message : String(thrown);
        logger.error("Closing volume {volume}: {message}", { volume: row.name, message });
      });
    }
  }
}

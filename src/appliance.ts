/**
 * The appliance: puts the engine together, starts and stops it in order, and answers the rooms above.
 *
 * @module
 */
import { randomBytes } from "node:crypto";
import fs from "node:fs";
import path from "node:path";
import { getLogger } from "@logtape/logtape";
import { Access } from "./access.ts";
import { type Clock, systemClock } from "./base/clock.ts";
import { VarveError } from "./base/errors.ts";
import { formatTime } from "./base/time.ts";
import { Catalog, type MarkRow, type VolumeRow } from "./catalog/catalog.ts";
import { type Disk, FileDisk } from "./disk/mod.ts";
import type {
  AuditEntry,
  Caller,
  CreateVolumeRequest,
  Engine,
  FileContent,
  FileListing,
  JobInfo,
  MarkInfo,
  Moment,
  PointInfo,
  PointsPage,
  PruneResult,
  RecoveryRequest,
  RecoveryResult,
  RetentionPolicy,
  StatusInfo,
  TokenInfo,
  TokenScope,
  VolumeInfo,
} from "./engine.ts";
import { VolumeExports } from "./exports.ts";
import { Jobs } from "./jobs.ts";
import type { ExportProvider } from "./nbd/mod.ts";
import { type PastPlace, VOLUME_FILES } from "./timeline/past.ts";
import { listPoints, markInfo } from "./timeline/points.ts";
import { checkTarget } from "./timeline/recover.ts";
import { momentInfo, resolveMoment, spanFilter } from "./timeline/resolve.ts";
import { checkPolicy, DEFAULT_POLICY } from "./timeline/retention.ts";
import { planPrune, prune } from "./volume/prune.ts";
import { type JournalText, prepareVolume, Volume } from "./volume/volume.ts";
import { Browser, runRecovery } from "./workers.ts";

/** Version of Varve. */
export const VERSION = "0.1.0";

const logger = getLogger(["varve", "engine"]);
const NAME_FORM = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;
const NAME_HINT =
  "Letters, digits, '.', '_' and '-', beginning with a letter or digit, at most 64 characters.";
const POINTS_LIMIT = 1000;
const POINTS_LIMIT_MAX = 10_000;
const CONTENT_CHUNK_BYTES = 1 << 20;
const SIZE_BYTES_MAX = 2 ** 50;

/** Options of {@linkcode openAppliance}. */
export interface ApplianceOptions {
  /** The data folder; made when missing. */
  readonly dataPath: string;
  /** Time zone for times of day: an IANA name. Default: that of the machine. */
  readonly zone?: string;
  /** Tells the time. Default: the machine's clock. */
  readonly clock?: Clock;
}

/** What the status tells of the parts around the engine. */
export interface Surroundings {
  /** Addresses that NBD listens on. */
  readonly nbd: string[];
  /** Addresses that the API listens on. */
  readonly api: string[];
  /** Where the tree is mounted. */
  readonly mountPath?: string;
  /** Why it is not, although it should be. */
  readonly mountError?: string;
}

/** The engine with what only its owner may do. */
export interface Appliance extends Engine {
  /** Volumes, and their past, as NBD exports. */
  readonly nbdExports: ExportProvider;
  /** Where a Worker finds a moment; resolves when the recovery map covers it. */
  locatePast(volume: string, seq: number): Promise<PastPlace>;
  /** Tells the status what is around the engine. */
  setSurroundings(surroundings: Surroundings): void;
  /** Makes everything durable and stops. */
  close(): Promise<void>;
}

interface Entry {
  row: VolumeRow;
  /** `undefined` when it could not be opened at all. */
  volume: Volume | undefined;
  error: VarveError | undefined;
}

/** Opens the data folder and every volume in it. Throws `conflict` when another appliance has it open. */
export async function openAppliance(options: ApplianceOptions): Promise<Appliance> {
  const disk = new FileDisk();
  disk.makeDirectory(options.dataPath);
  const dataPath = fs.realpathSync(options.dataPath);
  const lock = await lockDataFolder(dataPath);
  try {
    return await LocalAppliance.open(dataPath, disk, lock, options);
  } catch (thrown) {
    lock.close();
    throw thrown;
  }
}

async function lockDataFolder(dataPath: string): Promise<Deno.FsFile> {
  const file = await Deno.open(path.join(dataPath, "lock"), {
    create: true,
    read: true,
    write: true,
    mode: 0o600,
  });
  if (await file.tryLock(true)) return file;
  file.close();
  throw new VarveError("conflict", `open the data folder ${dataPath}: another Varve is using it`, {
    hint: "Stop the other appliance, or give this one a folder of its own with --data.",
  });
}

class LocalAppliance implements Appliance {
  readonly nbdExports: ExportProvider;
  readonly #dataPath: string;
  readonly #disk: Disk;
  readonly #clock: Clock;
  readonly #zone: string;
  readonly #catalog: Catalog;
  readonly #access: Access;
  readonly #jobs: Jobs;
  readonly #browser = new Browser();
  readonly #entries = new Map<string, Entry>();
  readonly #exports: VolumeExports;
  readonly #lock: Deno.FsFile;
  readonly #startedAt: string;
  #surroundings: Surroundings = { nbd: [], api: [] };
  /** Names being created; a second request for one is refused while the first is under way. */
  readonly #creating = new Set<string>();

  private constructor(dataPath: string, disk: Disk, lock: Deno.FsFile, options: ApplianceOptions) {
    this.#dataPath = dataPath;
    this.#disk = disk;
    this.#lock = lock;
    this.#clock = options.clock ?? systemClock;
    this.#zone = options.zone ?? Intl.DateTimeFormat().resolvedOptions().timeZone;
    this.#catalog = new Catalog(path.join(dataPath, "catalog.sqlite"));
    this.#access = new Access(this.#catalog, this.#clock);
    this.#jobs = new Jobs(this.#catalog, this.#clock);
    this.#startedAt = formatTime(this.#clock.nowUs(), 3);
    this.#exports = new VolumeExports({
      names: () => [...this.#entries.keys()].sort(),
      find: (name) => this.#entries.has(name) ? this.#open(name) : undefined,
      resolve: (name, at) => this.resolve(name, at),
    });
    this.nbdExports = this.#exports;
  }

  static async open(
    dataPath: string,
    disk: Disk,
    lock: Deno.FsFile,
    options: ApplianceOptions,
  ): Promise<LocalAppliance> {
    const appliance = new LocalAppliance(dataPath, disk, lock, options);
    appliance.#access.ensureAdministrator(dataPath);
    for (const row of appliance.#catalog.volumes()) await appliance.#openVolume(row);
    return appliance;
  }

  async #openVolume(row: VolumeRow): Promise<void> {
    const entry: Entry = { row, volume: undefined, error: undefined };
    this.#entries.set(row.name, entry);
    try {
      const volume = await Volume.open(row, {
        disk: this.#disk,
        clock: this.#clock,
        directory: this.#directory(row.id),
        describe: () => ({ volume: entry.row, marks: this.#catalog.marks(row.id) }),
        onText: (text, record) => this.#takeText(entry, text, record.header),
        onFailure: (error) => {
          logger.error("Volume {volume}: {message}", { volume: row.name, message: error.message });
          entry.error = error;
        },
      });
      entry.volume = volume;
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
        volume.completeBaseline().catch((thrown) =>
          entry.error = VarveError.from(thrown, "copy the baseline")
        );
      }
    } catch (thrown) {
      entry.error = VarveError.from(thrown, `open volume ${row.name}`);
      logger.error("Volume {volume}: {message}", { volume: row.name, message: entry.error.message });
    }
  }

  /** Brings to the catalogue what a crash kept from it. */
  #takeText(entry: Entry, text: JournalText, header: { seq: number; timeUs: number }): void {
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
      case "compaction":
      case "volume":
        break;
    }
  }

  #directory(volumeId: string): string {
    return path.join(this.#dataPath, "volumes", volumeId);
  }

  #entry(name: string): Entry {
    const entry = this.#entries.get(name);
    if (entry === undefined) {
      throw new VarveError("not-found", `find volume ${name}: there is none of that name`, {
        field: "volume",
        hint: "List the volumes with varve volume list.",
      });
    }
    return entry;
  }

  #open(name: string): Volume {
    const { volume, error } = this.#entry(name);
    if (volume !== undefined) return volume;
    throw error ?? new VarveError("conflict", `open volume ${name}: it is still being opened`);
  }

  status(): StatusInfo {
    const space = fs.statfsSync(this.#dataPath);
    const { nbd, api, mountPath, mountError } = this.#surroundings;
    return {
      version: VERSION,
      startedAt: this.#startedAt,
      dataPath: this.#dataPath,
      ...(mountPath === undefined ? {} : { mountPath }),
      ...(mountError === undefined ? {} : { mountError }),
      nbd,
      api,
      storage: { totalBytes: space.blocks * space.bsize, freeBytes: space.bavail * space.bsize },
      volumes: this.listVolumes(),
      jobs: this.#jobs.counts(),
    };
  }

  readiness(): { ready: boolean; problems: string[] } {
    const problems = [...this.#entries.values()].flatMap(({ row, error }) =>
      error === undefined ? [] : [`volume ${row.name}: ${error.message}`]
    );
    if (this.#surroundings.mountError !== undefined) problems.push(`mount: ${this.#surroundings.mountError}`);
    return { ready: problems.length === 0, problems };
  }

  listVolumes(): VolumeInfo[] {
    return [...this.#entries.keys()].sort().map((name) => this.getVolume(name));
  }

  getVolume(name: string): VolumeInfo {
    const { row, volume, error } = this.#entry(name);
    const created = { time: formatTime(row.createdUs, 6), seq: 0 };
    const oldest = volume?.moments.oldest();
    const totalBytes = row.sizeBytes;
    const failed = volume === undefined || volume.failure !== undefined;
    return {
      id: row.id,
      name: row.name,
      sizeBytes: row.sizeBytes,
      state: failed ? "failed" : volume.baselineComplete ? "ready" : "baseline",
      ...(error === undefined ? {} : { error: error.message }),
      primary: { path: row.primaryPath, managed: row.primaryManaged },
      createdAt: formatTime(row.createdUs, 6),
      window: {
        from: oldest === undefined ? created : momentInfo(oldest),
        to: volume === undefined ? created : {
          time: formatTime(volume.lastTimeUs, 6),
          seq: volume.lastSeq,
        },
      },
      baseline: {
        complete: volume?.baselineComplete ?? false,
        doneBytes: volume?.baselineBytes ?? 0,
        totalBytes,
      },
      historyBytes: volume?.historyBytes(this.#disk) ?? 0,
      counts: {
        marks: this.#catalog.marks(row.id).length,
        segments: this.#disk.list(path.join(this.#directory(row.id), VOLUME_FILES.segments)).length,
        connections: this.#exports.connections(name),
      },
      indexedSeq: volume?.indexedSeq ?? 0,
      durableSeq: volume?.durableSeq ?? 0,
    };
  }

  async createVolume(request: CreateVolumeRequest, caller: Caller): Promise<VolumeInfo> {
    const { name } = request;
    if (!NAME_FORM.test(name)) {
      throw new VarveError("invalid", `create volume ${name}: the name does not fit`, {
        field: "name",
        hint: NAME_HINT,
      });
    }
    if (this.#entries.has(name) || this.#creating.has(name)) {
      throw new VarveError("conflict", `create volume ${name}: there is one of that name`, { field: "name" });
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
      const volume = this.#open(name);
      await volume.completeBaseline();
      if (volume.failure !== undefined) throw volume.failure;
      await volume.live.describe(
        JSON.stringify({ type: "volume", volume: row, marks: [] } satisfies JournalText),
      );
    } finally {
      this.#creating.delete(name);
    }
    return this.getVolume(name);
  }

  #newRow(request: CreateVolumeRequest, adopt: boolean): VolumeRow {
    const id = randomBytes(16).toString("hex");
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
      const user = this.#primaries().get(stat.identity);
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
    if (
      sizeBytes === undefined || !Number.isSafeInteger(sizeBytes) || sizeBytes <= 0 ||
      sizeBytes > SIZE_BYTES_MAX
    ) {
      throw new VarveError("invalid", `${tried}: the size ${sizeBytes ?? "(none)"} does not fit`, {
        field: "sizeBytes",
        hint: `A number of bytes from 1 to ${SIZE_BYTES_MAX}.`,
      });
    }
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
  #primaries(): Map<string, string> {
    const primaries = new Map<string, string>();
    for (const { row } of this.#entries.values()) {
      const identity = this.#disk.stat(row.primaryPath)?.identity;
      if (identity !== undefined) primaries.set(identity, `the primary of volume ${row.name}`);
    }
    return primaries;
  }

  async deleteVolume(name: string, options: { purge: boolean }, caller: Caller): Promise<void> {
    const { row, volume } = this.#entry(name);
    if (this.#exports.connections(name) > 0) {
      throw new VarveError("conflict", `delete volume ${name}: clients are connected to it`, {
        hint: "Disconnect the hosts first.",
      });
    }
    if (this.#jobs.list().some((job) => job.volume === name && job.state === "running")) {
      throw new VarveError("conflict", `delete volume ${name}: a job is working on it`, {
        hint: "Wait for the job, or cancel it.",
      });
    }
    this.#entries.delete(name);
    await volume?.close();
    this.#catalog.transaction(() => {
      this.#catalog.removeVolume(row.id);
      this.#access.record(caller, "volume.delete", name, { purge: options.purge, id: row.id });
    });
    if (options.purge) this.#disk.removeTree(this.#directory(row.id));
  }

  async resolve(name: string, expression: string): Promise<Moment> {
    const { row } = this.#entry(name);
    const volume = this.#open(name);
    await volume.settle();
    return resolveMoment(expression, {
      moments: volume.moments,
      findMark: (mark) => this.#catalog.mark(row.id, mark),
      nowUs: this.#clock.nowUs(),
      zone: this.#zone,
    });
  }

  async listPoints(
    name: string,
    options: { from?: string; to?: string; limit?: number; cursor?: string; kinds?: PointInfo["kind"][] },
  ): Promise<PointsPage> {
    const { row } = this.#entry(name);
    const volume = this.#open(name);
    await volume.settle();
    const within = spanFilter(options, {
      findMark: (mark) => this.#catalog.mark(row.id, mark),
      nowUs: this.#clock.nowUs(),
      zone: this.#zone,
    });
    const limit = Math.min(options.limit ?? POINTS_LIMIT, POINTS_LIMIT_MAX);
    const after = Number(options.cursor ?? -1);
    if (!Number.isSafeInteger(after)) {
      throw new VarveError("invalid", `list points: the cursor ${options.cursor} is none of ours`, {
        field: "cursor",
        hint: "Pass the nextCursor of the page before, as it is.",
      });
    }
    const points = listPoints({
      moments: volume.moments.between(0, Number.MAX_SAFE_INTEGER),
      marks: this.#catalog.marks(row.id),
      policy: this.getRetention(name),
      nowUs: this.#clock.nowUs(),
      kinds: new Set<PointInfo["kind"]>(options.kinds ?? ["created", "mark", "flush", "tier"]),
    }).filter((point) => point.seq > after && within(point));
    const page = points.slice(0, limit);
    const last = page.at(-1);
    return {
      points: page,
      ...(last !== undefined && page.length < points.length ? { nextCursor: String(last.seq) } : {}),
    };
  }

  listMarks(name: string): MarkInfo[] {
    return this.#catalog.marks(this.#entry(name).row.id).map(markInfo);
  }

  #mark(name: string, mark: string): MarkRow {
    const found = this.#catalog.mark(this.#entry(name).row.id, mark);
    if (found === undefined) {
      throw new VarveError("not-found", `find mark ${mark} of volume ${name}: there is none`, {
        field: "name",
      });
    }
    return found;
  }

  async createMark(
    name: string,
    request: { name: string; note?: string; pinned?: boolean },
    caller: Caller,
  ): Promise<MarkInfo> {
    const { row } = this.#entry(name);
    const { live } = this.#open(name);
    if (!NAME_FORM.test(request.name)) {
      throw new VarveError("invalid", `mark ${request.name}: the name does not fit`, {
        field: "name",
        hint: NAME_HINT,
      });
    }
    const key = `${row.id}/${request.name}`;
    if (this.#catalog.mark(row.id, request.name) !== undefined || this.#creating.has(key)) {
      throw new VarveError("conflict", `mark ${request.name}: the volume has a mark of that name`, {
        field: "name",
      });
    }
    this.#creating.add(key);
    try {
      const pinned = request.pinned ?? false;
      const note = request.note === undefined ? {} : { note: request.note };
      // First the journal, then the catalogue: a crash in between is made good at the next start.
      const moment = await live.mark(
        JSON.stringify({ type: "mark", name: request.name, pinned, ...note } satisfies JournalText),
      );
      const mark: MarkRow = { name: request.name, ...moment, pinned, note: request.note };
      this.#catalog.transaction(() => {
        this.#catalog.putMark(row.id, mark);
        this.#access.record(caller, "mark.create", name, { mark: mark.name, seq: mark.seq, pinned });
      });
      return markInfo(mark);
    } finally {
      this.#creating.delete(key);
    }
  }

  async updateMark(
    name: string,
    mark: string,
    change: { note?: string; pinned?: boolean },
    caller: Caller,
  ): Promise<MarkInfo> {
    const before = this.#mark(name, mark);
    const after: MarkRow = {
      ...before,
      pinned: change.pinned ?? before.pinned,
      note: change.note ?? before.note,
    };
    await this.#open(name).live.describe(JSON.stringify(
      {
        type: "mark-changed",
        name: mark,
        pinned: after.pinned,
        ...(after.note === undefined ? {} : { note: after.note }),
      } satisfies JournalText,
    ));
    this.#catalog.transaction(() => {
      this.#catalog.putMark(this.#entry(name).row.id, after);
      this.#access.record(caller, "mark.update", name, {
        mark,
        before: markInfo(before),
        after: markInfo(after),
      });
    });
    return markInfo(after);
  }

  async deleteMark(name: string, mark: string, caller: Caller): Promise<void> {
    const before = this.#mark(name, mark);
    await this.#open(name).live.describe(
      JSON.stringify({ type: "mark-deleted", name: mark } satisfies JournalText),
    );
    this.#catalog.transaction(() => {
      this.#catalog.removeMark(this.#entry(name).row.id, mark);
      this.#access.record(caller, "mark.delete", name, { mark, seq: before.seq });
    });
  }

  getRetention(name: string): RetentionPolicy {
    return JSON.parse(this.#entry(name).row.policy) as RetentionPolicy;
  }

  async setRetention(name: string, policy: RetentionPolicy, caller: Caller): Promise<RetentionPolicy> {
    checkPolicy(policy);
    const entry = this.#entry(name);
    const before = this.getRetention(name);
    await this.#open(name).live.describe(JSON.stringify({ type: "policy", policy } satisfies JournalText));
    this.#catalog.transaction(() => {
      this.#catalog.setPolicy(entry.row.id, JSON.stringify(policy));
      this.#access.record(caller, "retention.set", name, { before, after: policy });
    });
    entry.row = { ...entry.row, policy: JSON.stringify(policy) };
    return policy;
  }

  async previewRetention(name: string, policy?: RetentionPolicy): Promise<PruneResult> {
    if (policy !== undefined) checkPolicy(policy);
    const entry = this.#entry(name);
    const volume = this.#open(name);
    await volume.settle();
    const plan = await planPrune(volume, {
      marks: this.#catalog.marks(entry.row.id),
      policy: policy ?? this.getRetention(name),
      nowUs: this.#clock.nowUs(),
      onProgress: () => {},
      signal: new AbortController().signal,
    });
    return plan.result;
  }

  startPrune(name: string, caller: Caller): JobInfo {
    const entry = this.#entry(name);
    const volume = this.#open(name);
    volume.live;
    if (
      this.#jobs.list().some((job) => job.kind === "prune" && job.volume === name && job.state === "running")
    ) {
      throw new VarveError("conflict", `prune volume ${name}: a prune is under way`);
    }
    const policy = this.getRetention(name);
    this.#access.record(caller, "prune", name, { policy });
    return this.#jobs.start("prune", name, async ({ signal, progress }) => {
      await volume.settle();
      const plan = await planPrune(volume, {
        marks: this.#catalog.marks(entry.row.id),
        policy,
        nowUs: this.#clock.nowUs(),
        onProgress: progress,
        signal,
      });
      await prune(volume, this.#disk, plan, { signal, onProgress: progress });
      this.#catalog.transaction(() => {
        for (const mark of plan.marksLost) this.#catalog.removeMark(entry.row.id, mark);
      });
      return { ...plan.result };
    });
  }

  async #locate(name: string, at: string): Promise<{ moment: Moment; place: PastPlace }> {
    const moment = await this.resolve(name, at);
    return { moment, place: await this.locatePast(name, moment.seq) };
  }

  async locatePast(name: string, seq: number): Promise<PastPlace> {
    const volume = this.#open(name);
    if (seq > volume.indexedSeq) await volume.settle();
    return { directory: volume.directory, sizeBytes: volume.sizeBytes };
  }

  async listFiles(name: string, at: string, filePath: string): Promise<FileListing> {
    const { moment, place } = await this.#locate(name, at);
    const { path: found, file, entries } = await this.#browser.ask({
      place,
      seq: moment.seq,
      path: filePath,
      operation: { kind: "list" },
    });
    return { ...moment, path: found, file, ...(entries === undefined ? {} : { entries }) };
  }

  async readFile(name: string, at: string, filePath: string): Promise<FileContent> {
    const { moment, place } = await this.#locate(name, at);
    const read = (offset: number) =>
      this.#browser.ask({
        place,
        seq: moment.seq,
        path: filePath,
        operation: { kind: "read", offset, length: CONTENT_CHUNK_BYTES },
      });
    let next = await read(0);
    const { file } = next;
    let offset = 0;
    const body = new ReadableStream<Uint8Array>({
      async pull(controller) {
        const bytes = next.bytes ?? new Uint8Array(0);
        offset += bytes.length;
        if (bytes.length > 0) controller.enqueue(bytes);
        if (bytes.length === 0 || offset >= file.sizeBytes) controller.close();
        else next = await read(offset);
      },
    });
    return { ...moment, file, body };
  }

  async startRecovery(name: string, request: RecoveryRequest, caller: Caller): Promise<JobInfo> {
    const { moment, place } = await this.#locate(name, request.at);
    const forbidden = this.#primaries();
    const { row } = this.#entry(name);
    const ownIdentity = this.#disk.stat(row.primaryPath)?.identity;
    // The primary of a volume that has failed is exactly what one may want to make anew.
    if (request.force && !this.#open(name).isLive && ownIdentity !== undefined) forbidden.delete(ownIdentity);
    checkTarget(request.target, this.#disk, {
      sizeBytes: place.sizeBytes,
      force: request.force ?? false,
      forbidden,
      dataPath: this.#dataPath,
    });
    this.#access.record(caller, "recovery.start", name, { ...moment, target: request.target });
    const startedMs = performance.now();
    return this.#jobs.start("recovery", name, async ({ signal, progress }) => {
      progress(0, place.sizeBytes * (request.verify ? 2 : 1));
      const outcome = await runRecovery(
        { place, seq: moment.seq, target: request.target, verify: request.verify ?? false },
        { signal, onProgress: progress },
      );
      const result: RecoveryResult = {
        ...moment,
        target: request.target,
        sizeBytes: place.sizeBytes,
        ...outcome,
        durationMs: Math.round(performance.now() - startedMs),
      };
      return { ...result };
    });
  }

  listJobs(): JobInfo[] {
    return this.#jobs.list();
  }

  getJob(id: string): JobInfo {
    return this.#jobs.get(id);
  }

  async cancelJob(id: string, caller: Caller): Promise<JobInfo> {
    const job = await this.#jobs.cancel(id);
    this.#access.record(caller, "job.cancel", id, { kind: job.kind, volume: job.volume });
    return job;
  }

  watchJob(id: string, onChange: (job: JobInfo) => void): { stop(): void } {
    return this.#jobs.watch(id, onChange);
  }

  createToken(
    request: { name: string; scopes: TokenScope[] },
    caller: Caller,
  ): TokenInfo & { token: string } {
    return this.#access.create(request, caller);
  }

  listTokens(): TokenInfo[] {
    return this.#access.list();
  }

  revokeToken(id: string, caller: Caller): void {
    this.#access.revoke(id, caller);
  }

  authenticate(secret: string): TokenInfo | undefined {
    return this.#access.authenticate(secret);
  }

  listAudit(options: { limit?: number }): AuditEntry[] {
    return this.#access.audit(options.limit);
  }

  setSurroundings(surroundings: Surroundings): void {
    this.#surroundings = surroundings;
  }

  async close(): Promise<void> {
    await this.#jobs.close();
    this.#browser.close();
    for (const { row, volume } of this.#entries.values()) {
      await volume?.close().catch((thrown) => {
        const message = thrown instanceof Error ? thrown.message : String(thrown);
        logger.error("Closing volume {volume}: {message}", { volume: row.name, message });
      });
    }
    this.#catalog.close();
    this.#lock.close();
  }
}

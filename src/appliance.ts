/**
 * The appliance: puts the engine together, starts and stops it in order, and answers the rooms above.
 *
 * @module
 */
import fs from "node:fs";
import path from "node:path";
import { Access } from "./access.ts";
import { Background, type CompressionSettings } from "./background.ts";
import { CaptureWorkers } from "./capture_workers.ts";
import { listClients } from "./clients.ts";
import { type Clock, systemClock } from "./base/clock.ts";
import { VarveError } from "./base/errors.ts";
import { type RandomSource, systemRandom } from "./base/random.ts";
import { formatTime } from "./base/time.ts";
import { type Scheduler, systemScheduler } from "./base/turns.ts";
import { Catalog } from "./catalog/catalog.ts";
import { Clones } from "./clones.ts";
import {
  type Disk,
  type DiskLock,
  FileDisk,
  makeDurableDirectory,
  SpaceKeeper,
  type SpaceLimits,
} from "./disk/mod.ts";
import type {
  AuditEntry,
  BlockChanges,
  Caller,
  ClientEntry,
  CloneInfo,
  CreateCloneRequest,
  CreateVolumeRequest,
  DeletedFiles,
  Engine,
  EventInfo,
  FileChanges,
  FileContent,
  FileListing,
  FileVersionList,
  JobInfo,
  MarkInfo,
  Moment,
  PointsPage,
  PruneResult,
  RecoveryRequest,
  RecoveryResult,
  ResizeRequest,
  RetentionPolicy,
  ScrubResult,
  StatusInfo,
  TokenInfo,
  TokenScope,
  VolumeInfo,
} from "./engine.ts";
import { Events } from "./events.ts";
import { VolumeExports } from "./exports.ts";
import { History } from "./history.ts";
import { Jobs } from "./jobs.ts";
import { Marks } from "./marks.ts";
import type { ExportProvider } from "./nbd/mod.ts";
import { Scrubs, type ScrubSchedule } from "./scrubs.ts";
import { PastAccess } from "./past_access.ts";
import { Pressure } from "./pressure.ts";
import { Promotions } from "./promotions.ts";
import { type HandsFor, WorkerHands } from "./prune_hands.ts";
import { Prunes } from "./prunes.ts";
import { resizeVolume } from "./resizes.ts";
import { tellSpace } from "./space_events.ts";
import type { PastPlace } from "./timeline/past.ts";
import { checkTarget, realPlace, refuseMountedTree } from "./timeline/recover.ts";
import { SEGMENT_BYTES } from "./volume/volume.ts";
import { Volumes } from "./volumes.ts";
import { runRecovery } from "./workers.ts";

/** Version of Varve. */
export const VERSION = "0.1.0";

/** Options of {@linkcode openAppliance}. */
export interface ApplianceOptions {
  /** The data folder; made when missing. */
  readonly dataPath: string;
  /** Time zone for times of day: an IANA name. Default: that of the machine. */
  readonly zone?: string;
  /** Tells the time. Default: the machine's clock. */
  readonly clock?: Clock;
  /** Gives turns. Default: the event loop. */
  readonly scheduler?: Scheduler;
  /** Random bytes for identities and secrets. Default: those of the machine. */
  readonly random?: RandomSource;
  /** Storage. Default: the file systems of the machine. */
  readonly disk?: Disk;
  /** Bytes a second at which adopted disks are copied, each of them. Default: 128 MiB. */
  readonly baselineBytesPerSecond?: number;
  /** When volumes are scrubbed by themselves. Default: every 7 days, at 64 MiB a second. */
  readonly scrub?: ScrubSchedule;
  /** Size at which a segment is finished, in bytes. Default 64 MiB. */
  readonly segmentBytes?: number;
  /** Records that recovery maps learn of at once. Default 16,384. */
  readonly batchRecords?: number;
  /** How finished segments are compressed. */
  readonly compression?: CompressionSettings;
  /** Bytes set aside on the data folder's file system. Default: by its size. */
  readonly storage?: Partial<SpaceLimits>;
  /**
   * A module whose `makeKernelReading` makes a `KernelReading` (`src/browse/kernel_reading.ts`) for the Worker that reads files of the
   * past. Default: what Varve does not read itself stays unread.
   */
  readonly kernelReading?: URL;
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

/** Opens the data folder and every volume in it. Throws `conflict` when another appliance has it open. */
export async function openAppliance(options: ApplianceOptions): Promise<Appliance> {
  const disk = options.disk ?? new FileDisk();
  await makeDurableDirectory(disk, options.dataPath);
  const dataPath = options.disk === undefined ? fs.realpathSync(options.dataPath) : options.dataPath;
  const lock = lockDataFolder(disk, dataPath);
  try {
    return await LocalAppliance.open(dataPath, disk, lock, options);
  } catch (thrown) {
    lock.release();
    throw VarveError.from(thrown, `open the data folder ${dataPath}`);
  }
}

/** Throws `conflict` when somebody else works on a data folder. */
export function lockDataFolder(disk: Disk, dataPath: string): DiskLock {
  const lock = disk.lock(path.join(dataPath, "lock"));
  if (lock !== undefined) return lock;
  throw new VarveError("conflict", `open the data folder ${dataPath}: another Varve is using it`, {
    hint: "Stop the other appliance, or give this one a folder of its own with --data.",
  });
}

class LocalAppliance implements Appliance {
  readonly nbdExports: ExportProvider;
  readonly #dataPath: string;
  readonly #disk: Disk;
  readonly #clock: Clock;
  readonly #scheduler: Scheduler;
  readonly #catalog: Catalog;
  readonly #access: Access;
  readonly #jobs: Jobs;
  readonly #volumes: Volumes;
  readonly #captureWorkers = new CaptureWorkers();
  readonly #marks: Marks;
  readonly #history: History;
  readonly #past: PastAccess;
  readonly #scrubs: Scrubs;
  readonly #background: Background;
  readonly #space: SpaceKeeper;
  readonly #events: Events;
  readonly #pressure: Pressure;
  readonly #prunes: Prunes;
  readonly #clones: Clones;
  readonly #promotions: Promotions;
  /** Places that recoveries are writing to. */
  readonly #targets = new Set<string>();
  readonly #lock: DiskLock;
  readonly #startedAt: string;
  #surroundings: Surroundings = { nbd: [], api: [] };
  #reopening: Promise<void> | undefined;

  private constructor(dataPath: string, disk: Disk, lock: DiskLock, options: ApplianceOptions) {
    this.#dataPath = dataPath;
    this.#disk = disk;
    this.#lock = lock;
    this.#clock = options.clock ?? systemClock;
    this.#scheduler = options.scheduler ?? systemScheduler;
    const random = options.random ?? systemRandom;
    // Before anything else writes: a full disk may have nothing left but the reserve.
    this.#space = new SpaceKeeper({
      disk,
      path: dataPath,
      reservePath: path.join(dataPath, "reserve"),
      scheduler: this.#scheduler,
      segmentBytes: SEGMENT_BYTES,
      ...(options.storage === undefined ? {} : { limits: options.storage }),
      onState: (state) => {
        tellSpace(this.#events, this.#space.status(), state);
        this.#pressure.look();
      },
      onLook: () => {
        this.#events.write();
        this.#pressure.look();
        this.#reopen();
      },
    });
    this.#catalog = new Catalog(path.join(dataPath, "catalog.sqlite"), disk);
    this.#events = new Events(this.#catalog, this.#clock);
    this.#access = new Access({ catalog: this.#catalog, clock: this.#clock, random, disk });
    this.#jobs = new Jobs(this.#catalog, this.#clock, random);
    this.#startedAt = formatTime(this.#clock.nowUs(), 3);
    const exports: VolumeExports = new VolumeExports({
      names: () => this.#volumes.names(),
      find: (name) => {
        this.#promotions.refuseUnfinished(name);
        return this.#volumes.find(name);
      },
      resolve: (name, at) => this.resolve(name, at),
      marks: (name) => this.listMarks(name),
      clones: { list: () => this.#clones.exports(), open: (name) => this.#clones.open(name) },
    });
    this.nbdExports = exports;
    this.#volumes = new Volumes({
      dataPath,
      disk,
      clock: this.#clock,
      scheduler: this.#scheduler,
      random,
      catalog: this.#catalog,
      access: this.#access,
      events: this.#events,
      space: this.#space,
      connections: (name) => exports.connections(name),
      clonesOf: (volumeId) => this.#clones.holds(volumeId),
      isTaken: (name) => this.#clones.has(name),
      handsFor: options.disk === undefined
        ? (local, place) => this.#captureWorkers.handsFor(local, place)
        : undefined,
      baselineBytesPerSecond: options.baselineBytesPerSecond,
      segmentBytes: options.segmentBytes,
      batchRecords: options.batchRecords,
    });
    this.#marks = new Marks(this.#volumes, this.#catalog, this.#access);
    this.#history = new History({
      volumes: this.#volumes,
      marks: this.#marks,
      catalog: this.#catalog,
      clock: this.#clock,
      scheduler: this.#scheduler,
      zone: options.zone ?? Intl.DateTimeFormat().resolvedOptions().timeZone,
    });
    this.#past = new PastAccess({
      volumes: this.#volumes,
      history: this.#history,
      scheduler: this.#scheduler,
      kernelReading: options.kernelReading,
    });
    this.#scrubs = new Scrubs({
      volumes: this.#volumes,
      marks: this.#marks,
      catalog: this.#catalog,
      jobs: this.#jobs,
      access: this.#access,
      clock: this.#clock,
      scheduler: this.#scheduler,
      disk: options.disk,
      schedule: options.scrub ?? {},
    });
    this.#background = new Background({
      disk,
      inWorker: options.disk === undefined,
      scheduler: this.#scheduler,
      volumes: () => this.#volumes.live(),
      settings: options.compression ?? {},
    });
    const handsFor: HandsFor = options.disk === undefined
      ? (volume, signal) => new WorkerHands(volume, signal)
      : (volume, signal) => volume.pruneWork({ signal });
    this.#pressure = new Pressure({
      volumes: this.#volumes,
      catalog: this.#catalog,
      clock: this.#clock,
      scheduler: this.#scheduler,
      space: this.#space,
      events: this.#events,
      handsFor,
    });
    this.#prunes = new Prunes({
      volumes: this.#volumes,
      marks: this.#marks,
      catalog: this.#catalog,
      jobs: this.#jobs,
      access: this.#access,
      clock: this.#clock,
      space: this.#space,
      pressure: this.#pressure,
      handsFor,
    });
    this.#clones = new Clones({
      dataPath,
      disk,
      clock: this.#clock,
      scheduler: this.#scheduler,
      random,
      catalog: this.#catalog,
      access: this.#access,
      events: this.#events,
      space: this.#space,
      volumes: this.#volumes,
      resolve: (name, at) => this.resolve(name, at),
    });
    this.#promotions = new Promotions({
      clones: this.#clones,
      volumes: this.#volumes,
      marks: this.#marks,
      jobs: this.#jobs,
      pressure: this.#pressure,
      scheduler: this.#scheduler,
    });
  }

  static async open(
    dataPath: string,
    disk: Disk,
    lock: DiskLock,
    options: ApplianceOptions,
  ): Promise<LocalAppliance> {
    const appliance = new LocalAppliance(dataPath, disk, lock, options);
    await appliance.#access.ensureAdministrator(dataPath);
    await appliance.#volumes.openAll();
    await appliance.#clones.openAll();
    await appliance.#promotions.clearUnfinished();
    appliance.#scrubs.begin();
    appliance.#space.start();
    return appliance;
  }

  status(): StatusInfo {
    const { nbd, api, mountPath, mountError } = this.#surroundings;
    return {
      version: VERSION,
      startedAt: this.#startedAt,
      dataPath: this.#dataPath,
      ...(mountPath === undefined ? {} : { mountPath }),
      ...(mountError === undefined ? {} : { mountError }),
      nbd,
      api,
      storage: this.#space.status(),
      volumes: this.listVolumes(),
      clones: this.listClones(),
      jobs: this.#jobs.counts(),
      events: this.#events.counts(),
    };
  }

  readiness(): { ready: boolean; problems: string[] } {
    const problems = this.#volumes.problems();
    if (this.#space.state === "full") problems.push("storage: it is full, and writes are refused");
    if (this.#surroundings.mountError !== undefined) problems.push(`mount: ${this.#surroundings.mountError}`);
    return { ready: problems.length === 0, problems };
  }

  listVolumes(): VolumeInfo[] {
    return this.#volumes.list().map((info) => this.#scrubs.describe(info));
  }

  getVolume(name: string): VolumeInfo {
    return this.#scrubs.describe(this.#volumes.info(name));
  }

  async createVolume(request: CreateVolumeRequest, caller: Caller): Promise<VolumeInfo> {
    const place = request.primary?.path;
    if (place !== undefined) {
      const { mountPath } = this.#surroundings;
      await refuseMountedTree(`use ${place} as a primary`, { place, field: "primary.path", mountPath });
    }
    return await this.#volumes.create(request, caller);
  }

  async resizeVolume(name: string, request: ResizeRequest, caller: Caller): Promise<VolumeInfo> {
    await resizeVolume(name, request, {
      volumes: this.#volumes,
      catalog: this.#catalog,
      access: this.#access,
    }, caller);
    return this.getVolume(name);
  }

  listClients(name: string, options: { limit?: number }): ClientEntry[] {
    return listClients(this.#volumes.open(name), options);
  }

  async deleteVolume(name: string, options: { purge: boolean }, caller: Caller): Promise<void> {
    this.#volumes.entry(name);
    await this.#scrubs.release(name);
    if (this.#jobs.list().some((job) => job.volume === name && job.state === "running")) {
      throw new VarveError("conflict", `delete volume ${name}: a job is working on it`, {
        hint: "Wait for the job, or cancel it.",
      });
    }
    await this.#pressure.exclusively(name, () => this.#volumes.delete(name, options, caller), {
      interrupt: true,
    });
  }

  resolve(name: string, expression: string): Promise<Moment> {
    return this.#history.resolve(name, expression);
  }

  listPoints(name: string, options: Parameters<Engine["listPoints"]>[1]): Promise<PointsPage> {
    return this.#history.listPoints(name, options);
  }

  listMarks(name: string): MarkInfo[] {
    return this.#marks.list(name);
  }

  createMark(name: string, request: Parameters<Engine["createMark"]>[1], caller: Caller): Promise<MarkInfo> {
    return this.#marks.create(name, request, caller);
  }

  updateMark(
    name: string,
    mark: string,
    change: Parameters<Engine["updateMark"]>[2],
    caller: Caller,
  ): Promise<MarkInfo> {
    return this.#marks.update(name, mark, change, caller);
  }

  deleteMark(name: string, mark: string, caller: Caller): Promise<void> {
    return this.#marks.delete(name, mark, caller);
  }

  getRetention(name: string): RetentionPolicy {
    return this.#marks.policy(name);
  }

  setRetention(name: string, policy: RetentionPolicy, caller: Caller): Promise<RetentionPolicy> {
    return this.#marks.setPolicy(name, policy, caller);
  }

  previewRetention(name: string, policy?: RetentionPolicy): Promise<PruneResult> {
    return this.#prunes.preview(name, policy);
  }

  startPrune(name: string, caller: Caller): JobInfo {
    return this.#prunes.start(name, caller);
  }

  #reopen(): void {
    this.#reopening ??= this.#volumes.reopenWhereSpaceWasShort().finally(() => this.#reopening = undefined);
  }

  startScrub(name: string, options: { rateBytes?: number }, caller: Caller): JobInfo {
    return this.#scrubs.start(name, options, caller);
  }

  lastScrub(name: string): ScrubResult {
    return this.#scrubs.last(name);
  }

  locatePast(name: string, seq: number): Promise<PastPlace> {
    return this.#history.locatePast(name, seq);
  }

  listFiles(name: string, at: string, filePath: string): Promise<FileListing> {
    return this.#past.listFiles(name, at, filePath);
  }

  readFile(name: string, at: string, filePath: string): Promise<FileContent> {
    return this.#past.readFile(name, at, filePath);
  }

  listFileVersions(
    name: string,
    filePath: string,
    options: { from?: string; to?: string; limit?: number },
  ): Promise<FileVersionList> {
    return this.#past.listFileVersions(name, filePath, options);
  }

  listDeletedFiles(
    name: string,
    at: string,
    filePath: string,
    options: { limit?: number },
  ): Promise<DeletedFiles> {
    return this.#past.listDeletedFiles(name, at, filePath, options);
  }

  listBlockChanges(
    name: string,
    options: { from: string; to: string; offset?: number; limit?: number },
  ): Promise<BlockChanges> {
    return this.#past.listBlockChanges(name, options);
  }

  listFileChanges(
    name: string,
    options: { from: string; to: string; path?: string; limit?: number },
  ): Promise<FileChanges> {
    return this.#past.listFileChanges(name, options);
  }

  async startRecovery(name: string, request: RecoveryRequest, caller: Caller): Promise<JobInfo> {
    const { moment, place } = await this.#history.locate(name, request.at);
    const { mountPath } = this.#surroundings;
    await refuseMountedTree(`recover to ${request.target}`, {
      place: request.target,
      field: "target",
      mountPath,
    });
    checkTarget(request.target, this.#disk, {
      sizeBytes: place.sizeBytes,
      force: request.force ?? false,
      forbidden: this.#volumes.primaries(),
      dataPath: this.#dataPath,
    });
    const target = realPlace(request.target);
    if (this.#targets.has(target)) {
      throw new VarveError("conflict", `recover to ${request.target}: another recovery is writing to it`, {
        field: "target",
        hint: "Wait for that job, or cancel it.",
      });
    }
    this.#targets.add(target);
    this.#access.record(caller, "recovery.start", name, { ...moment, target: request.target });
    const startedMs = this.#scheduler.ticksMs();
    return this.#jobs.start("recovery", name, async ({ signal, progress }) => {
      progress(0, place.sizeBytes * (request.verify ? 2 : 1));
      const outcome = await runRecovery(
        { place, seq: moment.seq, target: request.target, verify: request.verify ?? false },
        { signal, onProgress: progress },
      ).finally(() => this.#targets.delete(target));
      const result: RecoveryResult = {
        ...moment,
        target: request.target,
        sizeBytes: place.sizeBytes,
        ...outcome,
        durationMs: Math.round(this.#scheduler.ticksMs() - startedMs),
      };
      return { ...result };
    });
  }

  listClones(): CloneInfo[] {
    return this.#clones.list();
  }

  getClone(name: string): CloneInfo {
    return this.#clones.info(name);
  }

  createClone(request: CreateCloneRequest, caller: Caller): Promise<CloneInfo> {
    return this.#clones.create(request, caller);
  }

  deleteClone(name: string, caller: Caller): Promise<void> {
    return this.#clones.delete(name, caller);
  }

  promoteClone(name: string, volume: string, caller: Caller): JobInfo {
    return this.#promotions.start(name, volume, caller);
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

  listEvents(options: { limit?: number; after?: number }): EventInfo[] {
    return this.#events.list(options);
  }

  listAudit(options: { limit?: number }): AuditEntry[] {
    return this.#access.audit(options.limit);
  }

  setSurroundings(surroundings: Surroundings): void {
    this.#surroundings = surroundings;
  }

  async close(): Promise<void> {
    this.#scrubs.close();
    await this.#jobs.close();
    await this.#background.close();
    this.#past.close();
    await this.#pressure.close();
    await this.#reopening;
    await this.#clones.close();
    await this.#volumes.close();
    this.#captureWorkers.close();
    this.#events.write();
    this.#space.close();
    this.#catalog.close();
    this.#lock.release();
  }
}

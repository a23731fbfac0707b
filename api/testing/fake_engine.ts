// deno-lint-ignore-file require-await -- The interface is asynchronous, a fake is not.
/**
 * An engine in memory for the tests of the API and the command line: one volume, one directory, jobs that the test
 * moves by hand.
 *
 * @module
 */
import { VarveError } from "../../src/base/errors.ts";
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
  FileChange,
  FileChanges,
  FileContent,
  FileInfo,
  FileListing,
  FileVersionInfo,
  FileVersionList,
  JobInfo,
  MarkInfo,
  Moment,
  PointInfo,
  PointsPage,
  PruneResult,
  RecoveryRequest,
  ResizeRequest,
  RetentionPolicy,
  ScrubResult,
  StatusInfo,
  TokenInfo,
  TokenScope,
  VolumeInfo,
} from "../../src/engine.ts";

/** The moment at which the fake stands. */
export const NOW: Moment = { time: "2026-11-22T10:15:00.000000Z", seq: 40 };

const CREATED: Moment = { time: "2026-11-22T09:00:00.000000Z", seq: 0 };

/** Content of `/etc/motd` in the fake volume. */
export const MOTD = "Hello from the past.\n";

/** See the module. Fields are open, so that a test can set a scene and look at what arrived. */
export class FakeEngine implements Engine {
  /** Volumes by name; `db` is there from the start. */
  volumes: Map<string, VolumeInfo> = new Map([["db", fakeVolume("db", 1024 ** 3)]]);
  /** Marks by volume and name. */
  marks: Map<string, MarkInfo> = new Map();
  /** Clones by name. */
  clones: Map<string, CloneInfo> = new Map();
  /** Jobs by identity. */
  jobs: Map<string, JobInfo> = new Map();
  /** Who watches which job. */
  watchers: Map<string, Set<(job: JobInfo) => void>> = new Map();
  /** Tokens by secret. */
  tokens: Map<string, TokenInfo> = new Map();
  /** The policy of every volume. */
  retention: RetentionPolicy = { continuous: "24h", tiers: [{ every: "1h", for: "7d" }] };
  /** What was changed, oldest first. */
  audit: AuditEntry[] = [];
  /** What happened by itself, oldest first. */
  events: EventInfo[] = [1, 2, 3].map((id) => ({
    id,
    time: CREATED.time,
    level: "warning",
    kind: "history.thinned",
    volume: "db",
    message: `space is short: step ${id}`,
    details: { bytesFreed: 4096 },
  }));
  /** What stands in the way of serving. */
  problems: string[] = [];
  /** Thrown by the next call of `getVolume`, once. */
  nextFailure: unknown;
  /** Whether the body of the last file was cancelled before its end. */
  bodyCancelled = false;
  /** Last scrubs by volume. */
  scrubs: Map<string, ScrubResult> = new Map();
  /** What `startScrub` was asked for last. */
  scrubAsked: { rateBytes?: number } | undefined;
  /** What `listPoints` was asked for last. */
  pointsAsked: Parameters<Engine["listPoints"]>[1] | undefined;

  status(): StatusInfo {
    const jobs = { queued: 0, running: 0, succeeded: 0, failed: 0, cancelled: 0 };
    for (const job of this.jobs.values()) jobs[job.state]++;
    return {
      version: "0.1.0",
      startedAt: CREATED.time,
      dataPath: "/data",
      mountPath: "/varve",
      nbd: ["unix:/run/varve/nbd.sock"],
      api: ["unix:/run/varve/api.sock"],
      storage: {
        totalBytes: 2 ** 40,
        freeBytes: 2 ** 39,
        reserveBytes: 2 ** 30,
        watermarkBytes: 54_975_581_388,
        state: "ok",
      },
      volumes: this.listVolumes(),
      clones: this.listClones(),
      jobs,
      events: [{ level: "warning", kind: "storage.low", count: 1 }],
    };
  }

  readiness(): { ready: boolean; problems: string[] } {
    return { ready: this.problems.length === 0, problems: this.problems };
  }

  listVolumes(): VolumeInfo[] {
    return [...this.volumes.values()];
  }

  getVolume(name: string): VolumeInfo {
    const failure = this.nextFailure;
    this.nextFailure = undefined;
    if (failure !== undefined) throw failure;
    return found(this.volumes.get(name), `volume ${name}`);
  }

  async createVolume(request: CreateVolumeRequest, caller: Caller): Promise<VolumeInfo> {
    if (this.volumes.has(request.name)) {
      throw new VarveError("conflict", `Creating volume ${request.name}: it exists`, { field: "name" });
    }
    const volume = fakeVolume(request.name, request.sizeBytes ?? 4096);
    if (request.primary !== undefined) volume.primary = { path: request.primary.path, managed: false };
    this.volumes.set(request.name, volume);
    this.#note(caller, "volume.create", request.name, { ...request });
    return volume;
  }

  async resizeVolume(name: string, request: ResizeRequest, caller: Caller): Promise<VolumeInfo> {
    const volume = this.getVolume(name);
    volume.sizeBytes = request.sizeBytes;
    this.#note(caller, "volume.resize", name, { ...request });
    return volume;
  }

  listClients(volume: string, options: { limit?: number }): ClientEntry[] {
    this.getVolume(volume);
    const entry = {
      client: 2,
      peer: "unix",
      pid: 7,
      uid: 0,
      gid: 0,
      openedAt: CREATED.time,
      connected: true,
    };
    return [entry, { ...entry, client: 1, connected: false }].slice(0, options.limit);
  }

  async deleteVolume(name: string, options: { purge: boolean }, caller: Caller): Promise<void> {
    this.getVolume(name);
    this.volumes.delete(name);
    this.#note(caller, "volume.delete", name, options);
  }

  async resolve(volume: string, expression: string): Promise<Moment> {
    this.getVolume(volume);
    if (expression === "now") return NOW;
    if (expression === "2001-01-01T00:00:00Z") {
      throw new VarveError("not-retained", "Resolving 2001-01-01T00:00:00Z: it is before the window", {
        field: "at",
        details: { newer: CREATED },
      });
    }
    throw new VarveError("invalid", `Reading a time: found ${JSON.stringify(expression)}`, { field: "at" });
  }

  async listPoints(volume: string, options: Parameters<Engine["listPoints"]>[1]): Promise<PointsPage> {
    this.getVolume(volume);
    this.pointsAsked = options;
    const created: PointInfo = { ...CREATED, kind: "created", pinned: false };
    const points = [created, ...this.listMarks(volume)];
    const start = Number(options.cursor ?? 0);
    const end = start + (options.limit ?? 1000);
    const page = { points: points.slice(start, end) };
    return end < points.length ? { ...page, nextCursor: String(end) } : page;
  }

  listMarks(volume: string): MarkInfo[] {
    this.getVolume(volume);
    return [...this.marks].filter(([key]) => key.startsWith(`${volume}/`)).map(([, mark]) => mark);
  }

  async createMark(
    volume: string,
    request: { name: string; note?: string; pinned?: boolean },
    caller: Caller,
  ): Promise<MarkInfo> {
    this.getVolume(volume);
    const mark: MarkInfo = { ...NOW, kind: "mark", pinned: false, ...request };
    this.marks.set(`${volume}/${request.name}`, mark);
    this.#note(caller, "mark.create", volume, request);
    return mark;
  }

  async updateMark(
    volume: string,
    name: string,
    change: { note?: string; pinned?: boolean },
  ): Promise<MarkInfo> {
    const mark = { ...found(this.marks.get(`${volume}/${name}`), `mark ${name}`), ...change };
    this.marks.set(`${volume}/${name}`, mark);
    return mark;
  }

  async deleteMark(volume: string, name: string): Promise<void> {
    found(this.marks.get(`${volume}/${name}`), `mark ${name}`);
    this.marks.delete(`${volume}/${name}`);
  }

  getRetention(volume: string): RetentionPolicy {
    this.getVolume(volume);
    return this.retention;
  }

  async setRetention(_volume: string, policy: RetentionPolicy): Promise<RetentionPolicy> {
    return this.retention = policy;
  }

  async previewRetention(_volume: string, policy?: RetentionPolicy): Promise<PruneResult> {
    const pointsLost = (policy ?? this.retention).tiers.length;
    return { pointsLost, momentsLost: 7, bytesFreed: 8192, window: { from: CREATED, to: NOW } };
  }

  startPrune(volume: string): JobInfo {
    this.getVolume(volume);
    return this.#startJob("prune", volume);
  }

  startScrub(volume: string, options: { rateBytes?: number }): JobInfo {
    this.getVolume(volume);
    this.scrubAsked = options;
    return this.#startJob("scrub", volume);
  }

  lastScrub(volume: string): ScrubResult {
    this.getVolume(volume);
    return found(this.scrubs.get(volume), `a scrub of ${volume}`);
  }

  /** Keeps what a scrub found, as the engine does at its end. */
  finishScrub(volume: string, result: ScrubResult): void {
    this.scrubs.set(volume, result);
    const { finishedAt, checkedBytes, damagedPlaces, damagedPoints } = result;
    const scrub = { finishedAt, checkedBytes, damagedPlaces, damagedPoints };
    this.volumes.set(volume, { ...this.getVolume(volume), scrub });
  }

  async listFiles(volume: string, at: string, path: string): Promise<FileListing> {
    return this.#file(volume, at, path);
  }

  async listFileVersions(
    volume: string,
    path: string,
    options: { from?: string; to?: string; limit?: number },
  ): Promise<FileVersionList> {
    const { file } = await this.#file(volume, options.to ?? "now", path);
    const versions: FileVersionInfo[] = [
      { from: NOW, until: NOW, file, contentChanged: true },
      { from: CREATED, until: CREATED },
    ];
    const kept = versions.slice(0, options.limit);
    return { path, versions: kept, unreadable: [], unproven: [], truncated: kept.length < versions.length };
  }

  async listDeletedFiles(volume: string, at: string, path: string): Promise<DeletedFiles> {
    const moment = await this.resolve(volume, at);
    const file = fakeFile("/etc/lost", "file", 7);
    return { ...moment, path, files: [{ lastSeen: CREATED, file }], truncated: false };
  }

  async listBlockChanges(
    volume: string,
    options: { from: string; to: string; offset?: number; limit?: number },
  ): Promise<BlockChanges> {
    const [from, to] = [await this.resolve(volume, options.from), await this.resolve(volume, options.to)];
    const all = [{ offset: 0, length: 4096 }, { offset: 65536, length: 8192 }];
    const extents = all.filter(({ offset }) => offset >= (options.offset ?? 0)).slice(0, options.limit);
    const changedBytes = extents.reduce((sum, { length }) => sum + length, 0);
    const last = extents.at(-1);
    return {
      from,
      to,
      changedBytes,
      extents,
      ...(last === undefined || last === all.at(-1) ? {} : { nextOffset: last.offset + last.length }),
    };
  }

  async listFileChanges(
    volume: string,
    options: { from: string; to: string; path?: string; limit?: number },
  ): Promise<FileChanges> {
    const [from, to] = [await this.resolve(volume, options.from), await this.resolve(volume, options.to)];
    const file = (path: string) => fakeFile(path, "file", 5);
    const changes: FileChange[] = [
      { kind: "created", path: "/etc/new", contentChanged: true, after: file("/etc/new") },
      { kind: "deleted", path: "/etc/old", contentChanged: true, before: file("/etc/old") },
      {
        kind: "renamed",
        path: "/etc/b",
        previousPath: "/etc/a",
        contentChanged: false,
        before: file("/etc/a"),
        after: file("/etc/b"),
      },
    ];
    const kept = changes.slice(0, options.limit);
    return { from, to, changes: kept, unreadable: [], truncated: kept.length < changes.length };
  }

  async readFile(volume: string, at: string, path: string): Promise<FileContent> {
    const { file, time, seq } = await this.#file(volume, at, path);
    if (file.type === "directory") {
      throw new VarveError("invalid", `Reading ${path}: it is a directory`, { field: "path" });
    }
    const chunks = [MOTD.slice(0, 5), MOTD.slice(5)].map((text) => new TextEncoder().encode(text));
    const body = new ReadableStream<Uint8Array>({
      pull: (controller) => {
        const chunk = chunks.shift();
        if (chunk === undefined) controller.close();
        else controller.enqueue(chunk);
      },
      cancel: () => {
        this.bodyCancelled = true;
      },
    }, { highWaterMark: 0 });
    return { file, time, seq, body };
  }

  async startRecovery(volume: string, request: RecoveryRequest, caller: Caller): Promise<JobInfo> {
    this.getVolume(volume);
    this.#note(caller, "recovery.start", volume, { ...request });
    return this.#startJob("recovery", volume);
  }

  listClones(): CloneInfo[] {
    return [...this.clones.values()];
  }

  getClone(name: string): CloneInfo {
    return found(this.clones.get(name), `clone ${name}`);
  }

  async createClone(request: CreateCloneRequest, caller: Caller): Promise<CloneInfo> {
    const { name, volume, at, budgetBytes = 10 * 2 ** 30, ttl } = request;
    const moment = await this.resolve(volume, at);
    const clone: CloneInfo = {
      ...moment,
      id: "fedcba9876543210fedcba9876543210",
      name,
      volume,
      sizeBytes: this.getVolume(volume).sizeBytes,
      state: "ready",
      createdAt: NOW.time,
      ...(ttl === false ? {} : { expiresAt: "2026-11-23T10:15:00.000000Z" }),
      budgetBytes,
      usedBytes: 8192,
      connections: 0,
    };
    this.clones.set(name, clone);
    this.#note(caller, "clone.create", name, { ...request });
    return clone;
  }

  async deleteClone(name: string, caller: Caller): Promise<void> {
    if (this.getClone(name).connections > 0) {
      throw new VarveError("conflict", `Deleting clone ${name}: clients are connected to it`);
    }
    this.clones.delete(name);
    this.#note(caller, "clone.delete", name, {});
  }

  promoteClone(name: string, volume: string, caller: Caller): JobInfo {
    this.getClone(name);
    this.#note(caller, "clone.promote", name, { volume });
    return this.#startJob("promote", volume);
  }

  listJobs(): JobInfo[] {
    return [...this.jobs.values()].reverse();
  }

  getJob(id: string): JobInfo {
    return found(this.jobs.get(id), `job ${id}`);
  }

  async cancelJob(id: string): Promise<JobInfo> {
    return this.changeJob(id, { state: "cancelled", endedAt: NOW.time });
  }

  watchJob(id: string, onChange: (job: JobInfo) => void): { stop(): void } {
    const watchers = this.watchers.get(id) ?? new Set();
    this.watchers.set(id, watchers.add(onChange));
    return { stop: () => watchers.delete(onChange) };
  }

  createToken(request: { name: string; scopes: TokenScope[] }): TokenInfo & { token: string } {
    const token = `secret-${request.name}`;
    const info = { id: `t${this.tokens.size + 1}`, createdAt: NOW.time, ...request };
    this.tokens.set(token, info);
    return { ...info, token };
  }

  listTokens(): TokenInfo[] {
    return [...this.tokens.values()];
  }

  revokeToken(id: string): void {
    const [secret] = found([...this.tokens].find(([, token]) => token.id === id), `token ${id}`);
    this.tokens.delete(secret);
  }

  authenticate(secret: string): TokenInfo | undefined {
    return this.tokens.get(secret);
  }

  listEvents(options: { limit?: number; after?: number }): EventInfo[] {
    const behind = this.events.filter((event) => event.id > (options.after ?? 0));
    return options.after === undefined
      ? behind.slice(-(options.limit ?? 100))
      : behind.slice(0, options.limit);
  }

  listAudit(options: { limit?: number }): AuditEntry[] {
    return [...this.audit].reverse().slice(0, options.limit);
  }

  /** Changes a job and tells its watchers, as the work itself would. */
  changeJob(id: string, change: Partial<JobInfo>): JobInfo {
    const job = { ...this.getJob(id), ...change };
    this.jobs.set(id, job);
    for (const tell of this.watchers.get(id) ?? []) tell(job);
    return job;
  }

  #startJob(kind: JobInfo["kind"], volume: string): JobInfo {
    const id = `j${this.jobs.size + 1}`;
    const progress = { doneBytes: 0, totalBytes: 1024 };
    const job: JobInfo = { id, kind, volume, state: "running", progress, createdAt: NOW.time };
    this.jobs.set(id, job);
    return job;
  }

  async #file(volume: string, at: string, path: string): Promise<FileListing> {
    const moment = await this.resolve(volume, at);
    const motd = fakeFile("/etc/motd", "file", MOTD.length);
    if (path === "/etc/motd") return { ...moment, path, file: motd };
    if (path !== "/") {
      throw new VarveError("not-found", `Looking for ${path}: there is no such file`, { field: "path" });
    }
    const link: FileInfo = { ...fakeFile("/motd", "symlink", 9), target: "/etc/motd" };
    return { ...moment, path, file: fakeFile("/", "directory", 4096), entries: [motd, link] };
  }

  #note(caller: Caller, action: string, subject: string, details: Record<string, unknown>): void {
    this.audit.push({
      id: this.audit.length + 1,
      time: NOW.time,
      actor: caller.name,
      action,
      subject,
      details,
    });
  }
}

function fakeVolume(name: string, sizeBytes: number): VolumeInfo {
  return {
    id: "0123456789abcdef0123456789abcdef",
    name,
    sizeBytes,
    state: "ready",
    primary: { path: `/data/volumes/${name}.raw`, managed: true },
    createdAt: CREATED.time,
    window: { from: CREATED, to: NOW },
    gaps: [],
    baseline: { complete: true, doneBytes: sizeBytes, totalBytes: sizeBytes },
    historyBytes: 12_345_678,
    compression: { compressedSegments: 2, rawBytes: 8_000_000, storedBytes: 3_000_000 },
    counts: { marks: 0, segments: 1, connections: 2 },
    indexedSeq: 30,
    durableSeq: 38,
    capture: "running",
    refusedWrites: 3,
  };
}

/** What a scrub of a history with damage finds. */
export function fakeScrub(): ScrubResult {
  return {
    startedAt: CREATED.time,
    finishedAt: NOW.time,
    checkedBytes: 12_345_678,
    damagedPlaces: 2,
    places: [
      {
        segment: 7,
        file: "segments/000000000007.seg",
        offset: 4196,
        length: 4096,
        seq: 12,
        blocks: 1,
        harmless: false,
        problem: "the checksum of a block does not match",
      },
      {
        segment: 7,
        file: "segments/000000000007.seg",
        offset: 9000,
        length: 64,
        blocks: 0,
        harmless: true,
        problem: "the checksum of a record's header does not match",
      },
    ],
    damagedSeqs: [{ fromSeq: 12, toSeq: 40 }],
    spansJoined: false,
    damagedPoints: 1,
    points: [{ ...NOW, kind: "mark", name: "before", pinned: false }],
    newestDamaged: true,
    hint: "Write those blocks again.",
  };
}

/** What a scrub of a whole history finds. */
export function cleanScrub(): ScrubResult {
  const { hint: _, ...scrub } = fakeScrub();
  return {
    ...scrub,
    damagedPlaces: 0,
    places: [],
    damagedSeqs: [],
    damagedPoints: 0,
    points: [],
    newestDamaged: false,
  };
}

function fakeFile(path: string, type: FileInfo["type"], sizeBytes: number): FileInfo {
  return {
    name: path.slice(path.lastIndexOf("/") + 1),
    path,
    type,
    sizeBytes,
    mode: type === "directory" ? "0755" : "0644",
    uid: 0,
    gid: 1000,
    links: 1,
    inode: 12,
    modifiedAt: "2026-11-22T10:00:00.123456789Z",
  };
}

function found<T>(thing: T | undefined, what: string): T {
  if (thing === undefined) throw new VarveError("not-found", `Looking for ${what}: there is none`);
  return thing;
}

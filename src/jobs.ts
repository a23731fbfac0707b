/**
 * Long work in the background: its states, its progress, and what is left of it after a restart.
 *
 * @module
 */
import { getLogger } from "@logtape/logtape";
import type { Clock } from "./base/clock.ts";
import { toHex } from "./base/bytes.ts";
import { VarveError } from "./base/errors.ts";
import { type RandomSource, systemRandom } from "./base/random.ts";
import { formatTime } from "./base/time.ts";
import type { Catalog } from "./catalog/catalog.ts";
import type { JobInfo, JobState } from "./engine.ts";

const logger = getLogger(["varve", "jobs"]);
/** Jobs remembered at most. */
const JOBS_MAX = 1000;

/** What a job's work is given. */
export interface JobContext {
  /** Aborted when somebody cancels the job or the appliance stops. */
  readonly signal: AbortSignal;
  /** Tells how far the work has come, in bytes. */
  progress(doneBytes: number, totalBytes: number): void;
}

interface Job {
  info: JobInfo;
  readonly createdUs: number;
  readonly abort: AbortController;
  readonly watchers: Set<(info: JobInfo) => void>;
  ended: Promise<void>;
}

/** All jobs of the appliance. Ended ones survive a restart; those under way are then listed as failed. */
export class Jobs {
  readonly #catalog: Catalog;
  readonly #clock: Clock;
  readonly #random: RandomSource;
  readonly #jobs = new Map<string, Job>();

  /** Takes over the jobs of the catalogue. */
  constructor(catalog: Catalog, clock: Clock, random: RandomSource = systemRandom) {
    this.#random = random;
    this.#catalog = catalog;
    this.#clock = clock;
    catalog.trimJobs(JOBS_MAX);
    for (const text of catalog.jobs(JOBS_MAX)) {
      const info = JSON.parse(text) as JobInfo;
      const job: Job = {
        info,
        createdUs: Date.parse(info.createdAt) * 1000,
        abort: new AbortController(),
        watchers: new Set(),
        ended: Promise.resolve(),
      };
      this.#jobs.set(info.id, job);
      if (info.state === "running" || info.state === "queued") {
        this.#change(job, {
          state: "failed",
          endedAt: this.#now(),
          error: { code: "cancelled", detail: "the appliance stopped while the job was under way" },
        });
      }
    }
  }

  #now(): string {
    return formatTime(this.#clock.nowUs(), 3);
  }

  /** Starts work and returns its job. The work's result becomes the job's. */
  start(
    kind: JobInfo["kind"],
    volume: string,
    work: (context: JobContext) => Promise<Record<string, unknown>>,
  ): JobInfo {
    const job: Job = {
      info: {
        id: toHex(this.#random(16)),
        kind,
        volume,
        state: "running",
        progress: { doneBytes: 0, totalBytes: 0 },
        createdAt: this.#now(),
      },
      createdUs: this.#clock.nowUs(),
      abort: new AbortController(),
      watchers: new Set(),
      ended: Promise.resolve(),
    };
    this.#jobs.set(job.info.id, job);
    for (const [oldest, old] of this.#jobs) {
      if (this.#jobs.size <= JOBS_MAX || old.info.state === "running") break;
      this.#jobs.delete(oldest);
    }
    this.#change(job, {});
    job.ended = this.#run(job, work);
    return job.info;
  }

  async #run(job: Job, work: (context: JobContext) => Promise<Record<string, unknown>>): Promise<void> {
    let outcome: Partial<JobInfo>;
    try {
      const result = await work({
        signal: job.abort.signal,
        progress: (doneBytes, totalBytes) => {
          job.info = { ...job.info, progress: { doneBytes, totalBytes } };
          for (const watcher of job.watchers) watcher(job.info);
        },
      });
      outcome = { state: "succeeded", result };
    } catch (thrown) {
      const error = VarveError.from(thrown, `run the ${job.info.kind}`);
      const cancelled = job.abort.signal.aborted;
      outcome = {
        state: cancelled ? "cancelled" : "failed",
        error: {
          code: cancelled ? "cancelled" : error.code,
          detail: cancelled ? "the job was cancelled" : error.message,
          ...(error.hint === undefined ? {} : { hint: error.hint }),
        },
      };
    }
    try {
      this.#change(job, { ...outcome, endedAt: this.#now() });
    } catch (thrown) {
      const message = thrown instanceof Error ? thrown.message : String(thrown);
      logger.error("Keeping the outcome of job {id}: {message}", { id: job.info.id, message });
    }
  }

  #change(job: Job, change: Partial<JobInfo>): void {
    job.info = { ...job.info, ...change };
    this.#catalog.putJob(job.info.id, job.createdUs, JSON.stringify(job.info));
    for (const watcher of job.watchers) watcher(job.info);
  }

  #find(id: string): Job {
    const job = this.#jobs.get(id);
    if (job === undefined) {
      throw new VarveError("not-found", `find job ${id}: there is none`, { field: "id" });
    }
    return job;
  }

  /** Every job, newest first. */
  list(): JobInfo[] {
    return [...this.#jobs.values()].map((job) => job.info).reverse();
  }

  /** One job. */
  get(id: string): JobInfo {
    return this.#find(id).info;
  }

  /** Numbers of jobs by state. */
  counts(): Record<JobState, number> {
    const counts: Record<JobState, number> = { queued: 0, running: 0, succeeded: 0, failed: 0, cancelled: 0 };
    for (const job of this.#jobs.values()) counts[job.info.state]++;
    return counts;
  }

  /** Asks a job to stop; resolves when it has. A job that has ended is a conflict. */
  async cancel(id: string): Promise<JobInfo> {
    const job = this.#find(id);
    if (job.info.state !== "running") {
      throw new VarveError("conflict", `cancel job ${id}: it has ${job.info.state} already`);
    }
    job.abort.abort();
    await job.ended;
    return job.info;
  }

  /** Calls back at every change until the job has ended or `stop` is called. */
  watch(id: string, onChange: (info: JobInfo) => void): { stop(): void } {
    const job = this.#find(id);
    job.watchers.add(onChange);
    return { stop: () => void job.watchers.delete(onChange) };
  }

  /** Stops every job and waits until they have ended. */
  async close(): Promise<void> {
    for (const job of this.#jobs.values()) job.abort.abort();
    await Promise.all([...this.#jobs.values()].map((job) => job.ended));
  }
}

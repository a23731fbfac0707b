/**
 * Scrubs of volumes: asked for, or by themselves when the last one is long ago; and what the last one found.
 *
 * @module
 */
import { getLogger } from "@logtape/logtape";
import type { Access } from "./access.ts";
import type { Clock } from "./base/clock.ts";
import { VarveError } from "./base/errors.ts";
import { formatTime } from "./base/time.ts";
import type { Scheduler, Timer } from "./base/turns.ts";
import type { Catalog } from "./catalog/catalog.ts";
import type { Disk } from "./disk/mod.ts";
import type { Caller, JobInfo, ScrubResult, ScrubSummary, VolumeInfo } from "./engine.ts";
import type { JobContext, Jobs } from "./jobs.ts";
import type { RecordPlace } from "./journal/mod.ts";
import type { Marks } from "./marks.ts";
import { type ScrubOrder, type ScrubOutcome, scrubVolume } from "./volume/scrub.ts";
import type { Volume } from "./volume/volume.ts";
import type { Volumes } from "./volumes.ts";
import { runScrub } from "./workers.ts";

const logger = getLogger(["varve", "scrub"]);

/** A volume is scrubbed by itself when its last scrub is older than this, in milliseconds. */
export const SCRUB_EVERY_MS = 7 * 24 * 3600 * 1000;
/** Bytes a second of a scrub that nobody asked for. */
export const SCRUB_RATE_BYTES = 64 * 1024 * 1024;
/** When it is first looked whether a scrub is due: a start has other things to do. */
const FIRST_LOOK_MS = 60_000;
/** How often it is looked. */
const LOOK_MS = 3_600_000;
/** How long a scrub on this thread goes on before others get their turn. */
const SLICE_MS = 2;

/** When volumes are scrubbed by themselves. */
export interface ScrubSchedule {
  /** A volume is scrubbed when its last scrub is older, in milliseconds; `false` for never. Default 7 days. */
  readonly everyMs?: number | false;
  /** Bytes a second. Default 64 MiB. */
  readonly rateBytes?: number;
}

/** What scrubs are run with. */
export interface ScrubsParts {
  /** Every volume. */
  readonly volumes: Volumes;
  /** For policies. */
  readonly marks: Marks;
  /** The catalogue. */
  readonly catalog: Catalog;
  /** Jobs of the appliance. */
  readonly jobs: Jobs;
  /** For the audit log. */
  readonly access: Access;
  /** Time. */
  readonly clock: Clock;
  /** Gives turns. */
  readonly scheduler: Scheduler;
  /** Storage that no Worker can open by itself; then scrubs take turns on this thread. */
  readonly disk: Disk | undefined;
  /** When volumes are scrubbed by themselves. */
  readonly schedule: ScrubSchedule;
}

/** Scrubs of every volume. */
export class Scrubs {
  readonly #parts: ScrubsParts;
  /** The last finished scrub, by the volume's identity. */
  readonly #last = new Map<string, { finishedUs: number; result: ScrubResult }>();
  /** Scrubs under way, by the volume's name. */
  readonly #running = new Map<string, { job: string; ended: Promise<void> }>();
  #timer: Timer | undefined;
  #closed = false;

  /** Takes over what the catalogue knows. */
  constructor(parts: ScrubsParts) {
    this.#parts = parts;
    for (const { volumeId, finishedUs, result } of parts.catalog.scrubs()) {
      this.#last.set(volumeId, { finishedUs, result: JSON.parse(result) as ScrubResult });
    }
  }

  /** Begins to look whether a scrub is due. */
  begin(): void {
    this.#lookAfter(FIRST_LOOK_MS);
  }

  /** Starts a scrub as a job; throws `conflict` when one of that volume is under way. */
  start(name: string, options: { rateBytes?: number }, caller: Caller): JobInfo {
    this.#parts.volumes.open(name);
    if (this.#running.has(name)) {
      throw new VarveError("conflict", `scrub volume ${name}: a scrub is under way`, {
        hint: "Wait for that job, or cancel it.",
      });
    }
    this.#parts.access.record(caller, "scrub.start", name, { ...options });
    return this.#start(name, options.rateBytes).job;
  }

  #start(name: string, rateBytes: number | undefined): { job: JobInfo; ended: Promise<void> } {
    const ended = Promise.withResolvers<void>();
    const job = this.#parts.jobs.start("scrub", name, async (context) => {
      try {
        return { ...await this.#scrub(name, rateBytes, context) };
      } finally {
        this.#running.delete(name);
        ended.resolve();
      }
    });
    this.#running.set(name, { job: job.id, ended: ended.promise });
    return { job, ended: ended.promise };
  }

  async #scrub(name: string, rateBytes: number | undefined, context: JobContext): Promise<ScrubResult> {
    const { clock, catalog, volumes } = this.#parts;
    const startedAt = formatTime(clock.nowUs(), 3);
    const { row } = volumes.entry(name);
    const order = await this.#order(name, rateBytes);
    const outcome = await this.#run(order, context);
    const finishedUs = clock.nowUs();
    const result: ScrubResult = { startedAt, finishedAt: formatTime(finishedUs, 3), ...outcome };
    catalog.putScrub(row.id, finishedUs, JSON.stringify(result));
    this.#last.set(row.id, { finishedUs, result });
    const { damagedPlaces: places, damagedPoints: points } = result;
    if (places > 0) {
      const [first] = result.places;
      logger.warn(
        "Volume {volume}: {places} damaged places in its history, {points} damaged points; the first: {file}: {problem}",
        { volume: name, places, points, file: first?.file, problem: first?.problem },
      );
    }
    return result;
  }

  async #order(name: string, rateBytes: number | undefined): Promise<ScrubOrder> {
    const { row } = this.#parts.volumes.entry(name);
    const volume = this.#parts.volumes.open(name);
    const end = await durableEnd(volume);
    return {
      directory: volume.directory,
      volumeId: row.id,
      marks: this.#parts.catalog.marks(row.id),
      policy: this.#parts.marks.policy(name),
      nowUs: this.#parts.clock.nowUs(),
      ...(end === undefined ? {} : { end }),
      ...(rateBytes === undefined ? {} : { rateBytes }),
    };
  }

  #run(order: ScrubOrder, { signal, progress: onProgress }: JobContext): Promise<ScrubOutcome> {
    const { disk, scheduler } = this.#parts;
    if (disk === undefined) return runScrub(order, { signal, onProgress });
    return scrubVolume(order, { disk, scheduler, sliceMs: SLICE_MS, signal, onProgress });
  }

  /** What the last finished scrub of a volume found; throws `not-found` when there was none. */
  last(name: string): ScrubResult {
    const found = this.#last.get(this.#parts.volumes.entry(name).row.id);
    if (found !== undefined) return found.result;
    throw new VarveError("not-found", `look for a scrub of volume ${name}: none has finished yet`, {
      hint: `Start one with varve scrub ${name}.`,
    });
  }

  /** A volume's description with the summary of its last scrub. */
  describe(info: VolumeInfo): VolumeInfo {
    const result = this.#last.get(info.id)?.result;
    if (result === undefined) return info;
    const { finishedAt, checkedBytes, damagedPlaces, damagedPoints } = result;
    return {
      ...info,
      scrub: { finishedAt, checkedBytes, damagedPlaces, damagedPoints } satisfies ScrubSummary,
    };
  }

  /** Ends a scrub of a volume that is about to be deleted. */
  async release(name: string): Promise<void> {
    const running = this.#running.get(name);
    if (running === undefined) return;
    await Promise.all([this.#parts.jobs.cancel(running.job), running.ended]);
  }

  #lookAfter(delayMs: number): void {
    if (this.#closed || this.#parts.schedule.everyMs === false) return;
    this.#timer = this.#parts.scheduler.after(delayMs, () => {
      this.#scrubDue().catch((thrown) => {
        const { message } = VarveError.from(thrown, "scrub");
        logger.error("Looking for volumes to scrub: {message}", { message });
      }).finally(() => this.#lookAfter(LOOK_MS));
    });
  }

  /** Scrubs the volumes whose last scrub is long ago, one after the other. What a stop interrupts is due again. */
  async #scrubDue(): Promise<void> {
    const { volumes, schedule } = this.#parts;
    for (const name of volumes.names()) {
      if (this.#closed) return;
      if (!this.#isDue(name, schedule.everyMs || SCRUB_EVERY_MS)) continue;
      await this.#start(name, schedule.rateBytes ?? SCRUB_RATE_BYTES).ended;
    }
  }

  #isDue(name: string, everyMs: number): boolean {
    const { volumes, clock } = this.#parts;
    // One may have been deleted while another was scrubbed.
    if (!volumes.names().includes(name) || this.#running.has(name)) return false;
    const { row, volume } = volumes.entry(name);
    if (volume === undefined) return false;
    const lastUs = this.#last.get(row.id)?.finishedUs ?? row.createdUs;
    return clock.nowUs() - lastUs >= everyMs * 1000;
  }

  /** Starts no more scrubs; those under way end with the jobs. */
  close(): void {
    this.#closed = true;
    this.#timer?.cancel();
  }
}

/** Up to where the journal of a volume is durable; `undefined` when nothing is added to it. */
async function durableEnd(volume: Volume): Promise<RecordPlace | undefined> {
  if (volume.journal === undefined) return undefined;
  if (volume.isLive) {
    const end = volume.live.position.place;
    try {
      await volume.live.sync();
      await volume.settle();
      return end;
    } catch {
      // A volume that takes no more writes still has a history to prove: that which the map knows to be durable.
    }
  }
  return {
    segment: volume.map.getState("scan_segment", 1),
    offset: volume.map.getState("scan_offset", 0),
  };
}

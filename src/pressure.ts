/**
 * Thins history while space is short, so that capture goes on: what a full disk costs is the resolution of the oldest
 * history, then its span, and never the primary.
 *
 * The policies in force are not changed. A round works out the laxest of the steps (`pressure_steps.ts`) that frees
 * enough, and carries it out volume by volume, the oldest history first:
 * 1. only when there is something to free the reserve is given back, for the work needs room of its own;
 * 2. segments in which nothing lives are dropped, which takes no room;
 * 3. a later round rewrites those of which little lives, as many as there is room for.
 * When space ends within a round everything that is kept stays readable, and what was freed so far is free.
 *
 * @module
 */
import { getLogger } from "@logtape/logtape";
import type { Clock } from "./base/clock.ts";
import { VarveError } from "./base/errors.ts";
import { formatTime } from "./base/time.ts";
import type { Scheduler } from "./base/turns.ts";
import { formatSize } from "./base/units.ts";
import type { Catalog } from "./catalog/catalog.ts";
import type { PackedMoment } from "./catalog/packing.ts";
import type { SpaceKeeper } from "./disk/mod.ts";
import type { RetentionPolicy } from "./engine.ts";
import type { Events } from "./events.ts";
import { marksUnder, type PressureStep, pressureSteps } from "./pressure_steps.ts";
import type { HandsFor } from "./prune_hands.ts";
import { planPrune, prune, type PrunePlan } from "./volume/prune.ts";
import type { PruneHands } from "./volume/prune_work.ts";
import type { Volume } from "./volume/volume.ts";
import type { VolumeEntry, Volumes } from "./volumes.ts";

const logger = getLogger(["varve", "pressure"]);

/** When nothing could be freed it is tried again after so long, and each time after twice as long, in milliseconds. */
const STUCK_MS_MIN = 500;
const STUCK_MS_MAX = 8000;
/** Less than this is not worth a moment of history, unless it is all that is wanted. */
const FREED_BYTES_MIN = 1 << 20;

/** What the pressure works on. */
export interface PressureParts {
  /** Every volume. */
  readonly volumes: Volumes;
  /** Marks, and policies. */
  readonly catalog: Catalog;
  /** Time. */
  readonly clock: Clock;
  /** Turns. */
  readonly scheduler: Scheduler;
  /** Knows how much must be freed. */
  readonly space: SpaceKeeper;
  /** Told of every step. */
  readonly events: Events;
  /** Who does the work of prunes. */
  readonly handsFor: HandsFor;
}

/** A volume whose history may be thinned. */
interface Candidate {
  readonly entry: VolumeEntry;
  readonly volume: Volume;
  readonly hands: PruneHands;
  readonly steps: readonly PressureStep[];
}

interface Planned {
  readonly candidate: Candidate;
  readonly step: PressureStep;
  readonly plan: PrunePlan;
}

/** See the module. */
export class Pressure {
  readonly #parts: PressureParts;
  /** Volumes that somebody else prunes or deletes. */
  readonly #taken = new Set<string>();
  #running: Promise<void> | undefined;
  #abort = new AbortController();
  /** When it is tried again after nothing could be freed, and how long that was put off. */
  #stuck: { untilMs: number; pauseMs: number } | undefined;
  #closed = false;

  /** Works on `parts`; nothing happens before the first look. */
  constructor(parts: PressureParts) {
    this.#parts = parts;
  }

  /** Begins to thin history if space is short and it is not being done already. */
  look(): void {
    const { space, scheduler } = this.#parts;
    if (space.state === "ok") {
      this.#stuck = undefined;
      return;
    }
    if (this.#running !== undefined || this.#closed) return;
    if (scheduler.ticksMs() < (this.#stuck?.untilMs ?? 0)) return;
    this.#abort = new AbortController();
    this.#running = this.#run(this.#abort.signal).catch((thrown) => {
      const { message } = VarveError.from(thrown, "thin the history");
      logger.warn("Thinning the history: {message}", { message });
    }).finally(() => this.#running = undefined);
  }

  /** Runs other work that frees space, when no round is under way; rounds leave the volume alone meanwhile. */
  async exclusively<T>(
    volume: string,
    work: () => Promise<T>,
    options: { interrupt?: boolean } = {},
  ): Promise<T> {
    this.#taken.add(volume);
    try {
      if (options.interrupt) this.#abort.abort();
      await this.#running;
      return await this.#parts.space.lend(work);
    } finally {
      this.#taken.delete(volume);
    }
  }

  async #run(signal: AbortSignal): Promise<void> {
    const { space } = this.#parts;
    try {
      while (!signal.aborted && space.wantedBytes > 0) {
        if (await this.#round(space.wantedBytes, signal)) this.#stuck = undefined;
        else {return this.#putOff(
            "what is left is the present and what pinned marks need",
          );}
      }
    } catch (thrown) {
      if (signal.aborted) return;
      this.#putOff(VarveError.from(thrown, "thin the history").message);
    }
  }

  #putOff(why: string): void {
    const before = this.#stuck?.pauseMs;
    const pauseMs = Math.min(before === undefined ? STUCK_MS_MIN : before * 2, STUCK_MS_MAX);
    this.#stuck = { untilMs: this.#parts.scheduler.ticksMs() + pauseMs, pauseMs };
    // The second time it is no matter of what was written just now.
    if (before !== STUCK_MS_MIN) return;
    this.#parts.events.add({
      level: "error",
      kind: "history.exhausted",
      message: `Space is short, and nothing more of the history can be given up now: ${why}`,
      details: { ...this.#parts.space.status() },
    });
  }

  /** Frees what it can of `wantedBytes`; false when that is nothing. */
  async #round(wantedBytes: number, signal: AbortSignal): Promise<boolean> {
    const candidates = await this.#candidates(signal);
    try {
      return await this.#thin(candidates, wantedBytes, signal);
    } finally {
      for (const { hands } of candidates) hands.close();
    }
  }

  async #thin(
    candidates: readonly Candidate[],
    wantedBytes: number,
    signal: AbortSignal,
  ): Promise<boolean> {
    const steps = candidates[0]?.steps.length ?? 0;
    if (steps === 0) return false;
    let planned = await this.#planAll(candidates, steps - 1, signal);
    const roomBytes = this.#parts.space.workingBytes;
    const mostBytes = freedBytes(planned, roomBytes);
    if (mostBytes < Math.min(wantedBytes, FREED_BYTES_MIN)) return false;
    const enoughBytes = Math.min(wantedBytes, mostBytes);
    // The laxest step that frees enough: what a step drops, a stricter one drops too.
    for (let low = 0, high = steps - 1; low < high;) {
      const middle = (low + high) >>> 1;
      const tried = await this.#planAll(candidates, middle, signal);
      if (freedBytes(tried, roomBytes) >= enoughBytes) {
        planned = tried;
        high = middle;
      } else low = middle + 1;
    }
    let freed = 0;
    for (const each of planned) {
      signal.throwIfAborted();
      if (freed < enoughBytes && each.plan.segments.length > 0) {
        freed += await this.#parts.space.lend(() => this.#carryOut(each, signal));
        this.#letGo(each.candidate, candidates);
      }
    }
    return freed > 0;
  }

  /** A Worker takes memory: where there are several volumes, there is one at a time. */
  #letGo({ hands }: Candidate, candidates: readonly Candidate[]): void {
    if (candidates.length > 1) hands.close();
  }

  async #candidates(signal: AbortSignal): Promise<Candidate[]> {
    const { volumes, clock } = this.#parts;
    const found: { entry: VolumeEntry; volume: Volume; oldestUs: number }[] = [];
    for (const name of volumes.names()) {
      const entry = volumes.entry(name);
      const { volume } = entry;
      if (volume === undefined || !volume.isLive || !volume.baselineComplete || this.#taken.has(name)) {
        continue;
      }
      try {
        await volume.settleSegments();
      } catch {
        // It tells of its failure itself; the others can be thinned all the same.
        continue;
      }
      found.push({ entry, volume, oldestUs: volume.moments.oldest()?.timeUs ?? clock.nowUs() });
    }
    found.sort((a, b) => a.oldestUs - b.oldestUs);
    const ageMs = (clock.nowUs() - (found[0]?.oldestUs ?? 0)) / 1000;
    return found.map(({ entry, volume }) => ({
      entry,
      volume,
      hands: this.#parts.handsFor(volume, signal),
      steps: pressureSteps(JSON.parse(entry.row.policy) as RetentionPolicy, ageMs),
    }));
  }

  async #planAll(candidates: readonly Candidate[], index: number, signal: AbortSignal): Promise<Planned[]> {
    const planned: Planned[] = [];
    for (const candidate of candidates) {
      const step = candidate.steps[index];
      if (step === undefined) continue;
      const plan = await planPrune(candidate.volume, {
        marks: marksUnder(step, this.#parts.catalog.marks(candidate.entry.row.id)),
        policy: step.policy,
        nowUs: this.#parts.clock.nowUs(),
        onProgress: () => {},
        signal,
        hands: candidate.hands,
      });
      planned.push({ candidate, step, plan });
      this.#letGo(candidate, candidates);
    }
    return planned;
  }

  /** Drops the dead segments of a plan, or rewrites what there is room for; returns the bytes that became free. */
  async #carryOut({ candidate, step, plan }: Planned, signal: AbortSignal): Promise<number> {
    const { space } = this.#parts;
    const { volume, entry, hands } = candidate;
    const dead = choose(plan, "dead", space.workingBytes);
    const { segments, freed } = dead.segments.length > 0
      ? dead
      : choose(plan, "mostly dead", space.workingBytes);
    if (segments.length === 0) return 0;
    const from = firstLost(volume, plan);
    await prune(volume, { ...plan, segments }, { signal, hands, onProgress: () => {} });
    this.#tell(entry.row.name, { from, step, plan, freed });
    return freed;
  }

  #tell(
    volume: string,
    { from, step, plan, freed }: {
      from: PackedMoment | undefined;
      step: PressureStep;
      plan: PrunePlan;
      freed: number;
    },
  ): void {
    const { momentsLost, pointsLost, window } = plan.result;
    const details = { momentsLost, pointsLost, marksLost: plan.marksLost, bytesFreed: freed, window };
    if (from === undefined) {
      this.#parts.events.add({
        level: "info",
        kind: "history.compacted",
        volume,
        message: `space is short: ${formatSize(freed)} freed of what no kept moment needs`,
        details,
      });
      return;
    }
    const to = plan.outcome.base;
    this.#parts.events.add({
      level: "warning",
      kind: "history.thinned",
      volume,
      message: `space is short: ${momentsLost} moments (${pointsLost} points) from ${
        formatTime(from.timeUs, 6)
      } to ${formatTime(to.timeUs, 6)} dropped, ${
        formatSize(freed)
      } freed; the window is now ${window.from.time} to ${window.to.time}`,
      details: {
        ...details,
        from: { time: formatTime(from.timeUs, 6), seq: from.seq },
        to: { time: formatTime(to.timeUs, 6), seq: to.seq },
        policy: step.policy,
      },
    });
  }

  /** Stops, and waits until a round has ended. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#abort.abort();
    await this.#running;
  }
}

/** What plans come to with so much room for rewriting, in bytes. */
function freedBytes(planned: readonly Planned[], roomBytes: number): number {
  let freed = 0;
  for (const { plan } of planned) {
    const dead = choose(plan, "dead", roomBytes);
    // What is dropped makes room for what is rewritten.
    freed += dead.freed + choose(plan, "mostly dead", roomBytes + dead.freed).freed;
  }
  return freed;
}

/** Segments in which nothing lives; or those in which little does, the least first, as many as fit when rewritten. */
function choose(
  plan: PrunePlan,
  kind: "dead" | "mostly dead",
  roomBytes: number,
): { segments: number[]; freed: number } {
  const sorted = [...plan.sizes].sort(([, a], [, b]) => a.livingBytes - b.livingBytes);
  const segments: number[] = [];
  let freed = 0;
  let needed = 0;
  for (const [segment, { bytes, livingBytes }] of sorted) {
    if ((kind === "dead") !== (livingBytes === 0)) continue;
    needed += livingBytes;
    if (needed > roomBytes) break;
    segments.push(segment);
    freed += bytes - livingBytes;
  }
  return { segments, freed };
}

/** The oldest moment that a plan drops. */
function firstLost(volume: Volume, plan: PrunePlan): PackedMoment | undefined {
  if (plan.outcome.momentsLost === 0) return undefined;
  const kept = new Set(plan.keptSeqs);
  for (const moment of volume.moments.between(0, Number.MAX_SAFE_INTEGER)) {
    if (!kept.has(moment.seq)) return moment;
  }
  return undefined;
}

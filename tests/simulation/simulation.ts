/**
 * Runs the engine through many lives: it is started, worked on and ended by power cuts, kills and orderly stops, and
 * after each start every promise is checked. A seed and a number of steps determine a run.
 */
import { VarveError } from "../../src/base/errors.ts";
import { attendCopy, finishCopy } from "./adopt.ts";
import { becomeThere, checkFirstToken, checkNoOther, checkSubject } from "./checks.ts";
import { attendGaps } from "./gaps.ts";
import { type Lie, LIES } from "./lies.ts";
import { loseDatabases, rebuild } from "./rebuild.ts";
import { attendPrune, orderFault, pickStep } from "./steps.ts";
import { Subject } from "./subject.ts";
import { CALLER, World } from "./world.ts";
import { LifeEnded, Violation } from "./violation.ts";

/** What to run. */
export interface RunOptions {
  /** Determines everything. */
  readonly seed: number;
  /** Steps after which the run ends. */
  readonly steps: number;
  /** Power cuts after which it ends, if that comes earlier. */
  readonly cuts?: number;
  /** A lie of the disk, for tests of the simulator. */
  readonly lie?: Lie;
  /** Told of each life. */
  readonly onProgress?: (outcome: { steps: number; cuts: number }) => void;
}

/** What came of a run. */
export interface RunOutcome {
  readonly seed: number;
  readonly steps: number;
  readonly cuts: number;
  readonly kills: number;
  readonly stops: number;
  /** Segments that were given their compressed form. */
  readonly compressed: number;
  /** Gaps that the history was given. */
  readonly gaps: number;
  readonly traceHash: string;
  /** The promise that was broken, if one was, and what happened before. */
  readonly violation: { readonly message: string; readonly recent: readonly string[] } | undefined;
}

const STEPS_PER_LIFE = 26;
const SIZES: readonly [number, ...number[]] = [
  40 * 4096 + 1234,
  1 << 20,
  1 << 20,
  (5 << 20) + 512,
  40 << 20,
  (64 << 20) + 8192,
];

/** Runs one seed to its end, or to the first violation. */
export async function runSimulation(options: RunOptions): Promise<RunOutcome> {
  const run = new Run(options);
  try {
    return await run.toEnd();
  } finally {
    run.world[Symbol.dispose]();
  }
}

class Run {
  readonly world: World;
  readonly #options: RunOptions;
  #steps = 0;
  #cuts = 0;
  #kills = 0;
  #stops = 0;

  constructor(options: RunOptions) {
    this.#options = options;
    this.world = new World(options.seed, [], options.lie === undefined ? undefined : LIES[options.lie]);
    const { random } = this.world;
    this.world.subjects.push(new Subject("alpha", random.pick(SIZES)));
    if (random.oneIn(4)) this.world.subjects.push(new Subject("beta", random.pick(SIZES)));
  }

  async toEnd(): Promise<RunOutcome> {
    const { world } = this;
    try {
      while (this.#steps < this.#options.steps && this.#cuts < (this.#options.cuts ?? Infinity)) {
        await this.#life(false);
        this.#options.onProgress?.({ steps: this.#steps, cuts: this.#cuts });
      }
      await this.#life(true);
      return this.#outcome(undefined);
    } catch (thrown) {
      const known = thrown instanceof Violation || thrown instanceof VarveError;
      const message = known ? thrown.message : thrown instanceof Error ? `${thrown.stack}` : String(thrown);
      return this.#outcome({ message, recent: world.recent });
    }
  }

  #outcome(violation: RunOutcome["violation"]): RunOutcome {
    return {
      seed: this.#options.seed,
      steps: this.#steps,
      cuts: this.#cuts,
      kills: this.#kills,
      stops: this.#stops,
      compressed: this.world.compressed,
      gaps: this.world.subjects.reduce((sum, { gapsSeen }) => sum + gapsSeen, 0),
      traceHash: this.world.traceHash,
      violation,
    };
  }

  async #life(last: boolean): Promise<void> {
    const { world } = this;
    try {
      await this.#live(last);
    } catch (thrown) {
      if (thrown instanceof Violation || world.disk.powered) throw thrown;
    }
    if (!world.disk.powered) {
      this.#cuts++;
      world.note(`── step ${this.#steps}: power cut`);
      for (const subject of world.subjects) subject.answeredSeq = subject.answeredOrder = 0;
    }
    await world.endLife();
  }

  async #live(last: boolean): Promise<void> {
    const { world } = this;
    const { random, disk } = world;
    // Drawn in every life, so that a shorter run does the same as long as it lasts.
    const cutsStart = random.oneIn(6);
    const cutAt = 1 + random.below(random.pick([30, 200]));
    if (cutsStart && !last) disk.cutPowerAfter(cutAt);
    const failsStart = random.oneIn(12) && !last;
    if (failsStart) orderFault(world);
    const rebuilds = random.oneIn(5) && world.subjects.some((subject) => subject.state === "there");
    try {
      if (rebuilds) await loseDatabases(world);
      if (world.mustRebuild) await rebuild(world);
      await world.start();
    } catch (thrown) {
      world.checkLife();
      if (!failsStart || !(thrown instanceof VarveError)) throw thrown;
      world.note(`── step ${this.#steps}: not started: ${thrown.message}`);
      return;
    }
    world.faulty = failsStart;
    disk.clearFaults();
    disk.keepPower();
    world.note(`── step ${this.#steps}: started${failsStart ? " on failing storage" : ""}`);
    if (failsStart && world.appliance.listVolumes().some((volume) => volume.state === "failed")) return;
    checkFirstToken(world);
    for (const subject of world.subjects) {
      if (subject.state === "unasked") continue;
      await checkSubject(world, subject);
      await attendCopy(world, subject);
    }
    checkNoOther(world);
    if (last) {
      for (const subject of world.subjects) if (subject.state === "there") await finishCopy(world, subject);
      await this.#stop();
      return;
    }
    await this.#createVolumes();
    const steps = 1 + random.below(STEPS_PER_LIFE);
    const end = random.below(10);
    for (let step = 0; step < steps; step++) {
      // Most power cuts come amid the work; the operation at which they do is picked some steps before.
      if (end >= 2 && end < 7 && step === Math.max(0, steps - 3)) disk.cutPowerAfter(1 + random.below(200));
      if (end >= 7 && step === Math.max(0, steps - 3)) world.eventsUntilCut = 1 + random.below(40);
      await this.#step();
    }
    if (end === 0) {
      this.#kills++;
      world.note(`── step ${this.#steps}: killed`);
      return;
    }
    if (end === 1) {
      if (random.oneIn(3)) disk.cutPowerAfter(1 + random.below(100));
      await this.#stop();
      return;
    }
    world.note(`── step ${this.#steps}: cut between steps`);
    disk.cutPower();
  }

  async #step(): Promise<void> {
    const { world } = this;
    const { random } = world;
    const there = world.subjects.filter((other) => other.state === "there");
    const subject = there[random.oneIn(3) ? there.length - 1 : 0];
    const { name, step } = pickStep(world);
    if (subject === undefined) throw new Error("the simulation has no volume");
    this.#steps++;
    world.note(`step ${this.#steps}: ${name} on ${subject.name}`);
    try {
      await step(world, subject);
    } catch (thrown) {
      world.checkLife();
      if (thrown instanceof LifeEnded || !world.faulty || !(thrown instanceof VarveError)) throw thrown;
    }
    for (let turns = random.oneIn(3) ? random.below(12) : 0; turns > 0; turns--) await world.turn();
    world.checkLife();
    for (const other of world.subjects) {
      if (other.state === "there") attendGaps(world, other);
      attendPrune(world, other);
      await attendCopy(world, other);
    }
  }

  async #createVolumes(): Promise<void> {
    const { world } = this;
    for (const subject of world.subjects) {
      if (subject.state === "there" || subject.adoptedPath !== undefined) continue;
      if (world.random.oneIn(4)) world.disk.cutPowerAfter(1 + world.random.below(40));
      subject.state = "asked";
      await world.until(
        `create volume ${subject.name}`,
        world.appliance.createVolume({ name: subject.name, sizeBytes: subject.sizeBytes }, CALLER),
      );
      becomeThere(world, subject);
      world.disk.keepPower();
    }
  }

  /** Stops the engine in order: nothing at all may be lost then. */
  async #stop(): Promise<void> {
    const { world } = this;
    await world.close();
    this.#stops++;
    world.note(`── step ${this.#steps}: stopped in order`);
    if (world.faulty) return;
    for (const subject of world.subjects) {
      subject.durableSeq = subject.model.lastSeq;
      subject.answeredSeq = subject.model.lastSeq;
      subject.durableOrder = subject.answeredOrder = subject.model.order;
    }
  }
}

/**
 * Prunes that somebody asks for: previewed, or carried out as a job.
 *
 * @module
 */
import type { Access } from "./access.ts";
import type { Clock } from "./base/clock.ts";
import { VarveError } from "./base/errors.ts";
import type { Catalog } from "./catalog/catalog.ts";
import type { SpaceKeeper } from "./disk/mod.ts";
import type { Caller, JobInfo, PruneResult, RetentionPolicy } from "./engine.ts";
import type { JobContext, Jobs } from "./jobs.ts";
import type { Marks } from "./marks.ts";
import type { Pressure } from "./pressure.ts";
import type { HandsFor } from "./prune_hands.ts";
import { checkPolicy } from "./timeline/retention.ts";
import { planPrune, prune, type PrunePlan } from "./volume/prune.ts";
import type { PruneHands } from "./volume/prune_work.ts";
import type { Volume } from "./volume/volume.ts";
import type { Volumes } from "./volumes.ts";

/** What prunes are made with. */
export interface PrunesParts {
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
  /** Gives the reserve back for a prune. */
  readonly space: SpaceKeeper;
  /** Leaves a volume alone that is pruned by order. */
  readonly pressure: Pressure;
  /** Who does the work. */
  readonly handsFor: HandsFor;
}

/** Prunes of the appliance's volumes. */
export class Prunes {
  readonly #parts: PrunesParts;

  /** Works on `parts`. */
  constructor(parts: PrunesParts) {
    this.#parts = parts;
  }

  /** What a prune would do now, by the policy in force or another one; changes nothing. */
  async preview(name: string, policy?: RetentionPolicy): Promise<PruneResult> {
    if (policy !== undefined) checkPolicy(policy);
    return await this.#planned(
      this.#parts.volumes.open(name),
      policy ?? this.#parts.marks.policy(name),
      { signal: new AbortController().signal, progress: () => {} },
      ({ result }) => Promise.resolve(result),
    );
  }

  /** Begins a prune by the policy in force. Throws `conflict` when one is under way already. */
  start(name: string, caller: Caller): JobInfo {
    const { volumes, marks, jobs, space, access, pressure } = this.#parts;
    const volume = volumes.open(name);
    if (volume.failure !== undefined) throw volume.failure;
    volume.checkPast(`prune volume ${name}`);
    if (jobs.list().some((job) => job.kind === "prune" && job.volume === name && job.state === "running")) {
      throw new VarveError("conflict", `prune volume ${name}: a prune is under way`);
    }
    const policy = marks.policy(name);
    // The order itself is written to the catalogue.
    if (space.state === "full") space.relieve();
    access.record(caller, "prune", name, { policy });
    const work = (context: JobContext) =>
      this.#planned(volume, policy, context, async (plan, hands) => {
        await prune(volume, plan, { signal: context.signal, hands, onProgress: context.progress });
        return { ...plan.result };
      });
    return jobs.start("prune", name, (context) => pressure.exclusively(name, () => work(context)));
  }

  async #planned<T>(
    volume: Volume,
    policy: RetentionPolicy,
    { signal, progress }: JobContext,
    work: (plan: PrunePlan, hands: PruneHands) => Promise<T>,
  ): Promise<T> {
    const { catalog, clock, handsFor } = this.#parts;
    await volume.settleSegments();
    const hands = handsFor(volume, signal);
    try {
      const plan = await planPrune(volume, {
        marks: catalog.marks(volume.id),
        policy,
        nowUs: clock.nowUs(),
        onProgress: progress,
        signal,
        hands,
      });
      return await work(plan, hands);
    } finally {
      hands.close();
    }
  }
}

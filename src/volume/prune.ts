/**
 * Drops what retention does not keep, and gives its space back.
 *
 * A version of a block is alive when some kept moment sees it: a kept sequence lies between the version and the next
 * one of the same block. Everything from the base on is kept, so only what is older is looked at.
 *
 * The order of steps, and what breaks if two are swapped:
 * 1. The journal is told which moments remain, durably; then the map's moments are thinned, and the catalogue forgets the
 *    marks of those that went. From here on nobody can ask for what is about to go. Were it later, somebody could be
 *    reading a moment whose bytes disappear, and a prune that is stopped would leave marks that name nothing. The primary
 *    is durable before that, so that the horizon never lies behind what the next start looks at.
 * 2. Region by region, in one transaction each, dead versions leave the map. Nobody can name a moment that sees them.
 * 3. Mostly-dead segments are dealt with in groups, so that memory, and the space that old and new take together, stay
 *    bounded. Living blocks of a group are written to new segments, synced, renamed into place, and listed. Old and new
 *    ones are marked as parts of a compaction that is not finished (`retired` 2): when it is interrupted, all of them are
 *    one group of the next prune, so that no segment of a half-finished one is ever dropped alone.
 * 4. Row by row of the map, living versions of the group point to their new place. Old and new segments both exist, so
 *    every row is right before and after.
 * 5. The journal is told everything about the volume again, durably: the segments that go may hold the newest texts.
 * 6. Old segments of the group are marked as retired, that is made durable, and only then are they deleted. Were they
 *    deleted first, a power cut could bring back a map that points at them.
 * A crash in between loses nothing: dead versions that are left are found by the next prune. A segment of which a part
 * cannot be proved right stays whole: its damaged blocks stay errors, and nothing else goes.
 *
 * @module
 */
import { VarveError } from "../base/errors.ts";
import { inTurns } from "../base/turns.ts";
import type { MarkRow } from "../catalog/catalog.ts";
import type { PruneResult, RetentionPolicy } from "../engine.ts";
import { momentInfo } from "../timeline/resolve.ts";
import { choosingKept, type RetentionOutcome } from "../timeline/retention.ts";
import { compactSegments } from "./compaction.ts";
import type { JournalText } from "./journal_text.ts";
import type { PruneHands } from "./prune_work.ts";
import type { Volume } from "./volume.ts";

/** A segment is rewritten when less than this share of it is alive. */
const LIVE_SHARE_MIN = 0.5;
/** A group of segments that are rewritten together has at most so many, */
const GROUP_SEGMENTS_MAX = 32;
/** and at most so many living bytes, unless it is a single one. */
const GROUP_LIVING_BYTES_MAX = 256 * 1024 * 1024;

/** What a prune is to do. */
export interface PrunePlan {
  /** What it comes to. */
  readonly result: PruneResult;
  /** Names of marks that go. */
  readonly marksLost: readonly string[];
  /** The moments that stay. */
  readonly outcome: RetentionOutcome;
  /** Kept sequences below the base, and the base, ascending. */
  readonly keptSeqs: readonly number[];
  /** Segments to rewrite or delete. */
  readonly segments: readonly number[];
  /** What each of them holds, and how much of that lives on, in bytes. */
  readonly sizes: ReadonlyMap<number, { readonly bytes: number; readonly livingBytes: number }>;
}

/** Options of {@linkcode planPrune}. */
export interface PruneOptions {
  /** Marks of the volume. */
  readonly marks: readonly MarkRow[];
  /** The policy to apply. */
  readonly policy: RetentionPolicy;
  /** The time of the decision, in microseconds. */
  readonly nowUs: number;
  /** Told how far it has come, in bytes of history. */
  readonly onProgress: (doneBytes: number, totalBytes: number) => void;
  /** Stops it when aborted. */
  readonly signal: AbortSignal;
  /** Who does the work. Default: this thread, in turns. */
  readonly hands?: PruneHands | undefined;
}

/**
 * Works out what a prune would do now, exactly, and changes nothing. Everything captured must be in the map.
 * Throws `conflict` while an adopted disk is being copied: compaction would drop the records that tell what is covered.
 */
export async function planPrune(volume: Volume, options: PruneOptions): Promise<PrunePlan> {
  volume.checkPast("prune");
  const outcome = await inTurns(
    choosingKept({
      moments: volume.moments.between(0, Number.MAX_SAFE_INTEGER),
      kept: volume.moments.kept(),
      marks: options.marks,
      held: volume.heldSeqs(),
      policy: options.policy,
      nowUs: options.nowUs,
    }),
    volume.scheduler,
  );
  if (outcome === undefined) throw new VarveError("conflict", "prune: the volume has no history");
  const keptSeqs = [...outcome.kept.map((moment) => moment.seq), outcome.base.seq];
  const hands = options.hands ?? volume.pruneWork(options);
  const liveBytes = await hands.countLiving(keptSeqs);

  const segments: number[] = [];
  const sizes = new Map<number, { bytes: number; livingBytes: number }>();
  let bytesFreed = 0;
  // What the next start would scan stays as it is.
  const rows = volume.map.statement(
    "SELECT segment, bytes, coalesce(stored_bytes, bytes) AS stored, retired FROM segments WHERE retired = 2 OR (last_seq <= ? AND retired = 0 AND (compacted = 1 OR segment < ?))",
  ).all(outcome.base.seq, volume.map.getState("scan_segment", 1));
  for (const row of rows) {
    const bytes = Number(row["bytes"]);
    const living = liveBytes.get(Number(row["segment"])) ?? 0;
    if (living >= bytes * LIVE_SHARE_MIN && Number(row["retired"]) === 0) continue;
    segments.push(Number(row["segment"]));
    // What is left of a compressed segment is compressed again.
    bytesFreed += Math.round(Number(row["stored"]) * (1 - living / bytes));
    sizes.set(Number(row["segment"]), { bytes, livingBytes: living });
  }
  const oldest = outcome.kept[0] ?? outcome.base;
  return {
    result: {
      pointsLost: outcome.pointsLost,
      momentsLost: outcome.momentsLost,
      bytesFreed,
      window: {
        from: momentInfo(oldest),
        to: momentInfo({ seq: volume.lastSeq, timeUs: volume.lastTimeUs, kind: 0 }),
      },
    },
    marksLost: outcome.marksLost,
    outcome,
    keptSeqs,
    segments,
    sizes,
  };
}

/** Carries out a plan. An abort leaves everything readable that the plan keeps. */
export async function prune(
  volume: Volume,
  plan: PrunePlan,
  options: Pick<PruneOptions, "signal" | "onProgress" | "hands">,
): Promise<void> {
  const { outcome, keptSeqs } = plan;
  const { map } = volume;
  // A segment that goes takes the records of its moments along: they are told in the journal as single ones.
  if (outcome.momentsLost > 0 || plan.segments.length > 0) {
    await volume.live.sync();
    refuseLosingKept(volume, outcome);
    const retained = {
      horizonSeq: outcome.base.seq,
      horizonUs: outcome.base.timeUs,
      horizonKind: outcome.base.kind,
      kept: outcome.kept,
    };
    const text = { type: "thinned", ...retained } satisfies JournalText;
    const told = await volume.live.describe(JSON.stringify(text));
    await volume.exclusively(() => {
      map.transaction(() => volume.moments.thin(outcome.base.seq, outcome.kept));
      return Promise.resolve();
    });
    volume.forgetMarks(retained);
    told();
  }
  const unfinished = unfinishedSegments(volume);
  const isFinishing = plan.segments.some((segment) => unfinished.has(segment));
  const condemned = isFinishing ? [...new Set([...unfinished, ...plan.segments])] : plan.segments;
  for (const segment of condemned) volume.condemned.add(segment);
  try {
    const hands = options.hands ?? volume.pruneWork(options);
    const living = await hands.dropDead(keptSeqs, condemned);
    const totalBytes = [...living.values()].reduce((sum, bytes) => sum + bytes, 0);
    let doneBytes = 0;
    for (const group of groupSegments(condemned, unfinished, living)) {
      await rewriteGroup(volume, hands, group, {
        baseSeq: outcome.base.seq,
        hasLiving: group.some((segment) => living.has(segment)),
        onProgress: (bytes) => options.onProgress(doneBytes += bytes, totalBytes),
      });
    }
  } finally {
    volume.condemned.clear();
  }
}

/**
 * A mark may have been pinned, or a moment held, since the plan was made. Between this and the text that thins, nobody has
 * a turn; what comes after it finds the moment gone.
 */
function refuseLosingKept(volume: Volume, { base, kept }: RetentionOutcome): void {
  const stays = new Set(kept.map((moment) => moment.seq));
  const isLost = (seq: number) => seq < base.seq && !stays.has(seq);
  const mark = volume.marks.find(({ pinned, seq }) => pinned && isLost(seq));
  const held = [...volume.heldSeqs()].find(isLost);
  if (mark === undefined && held === undefined) return;
  const found = mark === undefined
    ? `sequence ${held} is in use by a clone that was made`
    : `mark ${mark.name} has been pinned`;
  throw new VarveError("conflict", `prune: ${found} since the prune was planned`, {
    hint: "Nothing was dropped. Order the prune again.",
  });
}

/** Old and new segments of compactions that were interrupted. */
function unfinishedSegments(volume: Volume): Set<number> {
  const rows = volume.map.statement("SELECT segment FROM segments WHERE retired = 2").all();
  return new Set(rows.map((row) => Number(row["segment"])));
}

/**
 * Divides segments into groups, those without living bytes first, for they give space back at once. The parts of a
 * compaction that was not finished are one group, whatever its size.
 */
function* groupSegments(
  condemned: readonly number[],
  unfinished: ReadonlySet<number>,
  livingBytes: ReadonlyMap<number, number>,
): Generator<number[]> {
  const together = condemned.filter((segment) => unfinished.has(segment));
  if (together.length > 0) yield together;
  const segments = condemned.filter((segment) => !unfinished.has(segment));
  let group: number[] = [];
  let groupBytes = 0;
  const dead = segments.filter((segment) => !livingBytes.has(segment));
  for (const segment of dead.concat(segments.filter((segment) => livingBytes.has(segment)))) {
    const bytes = livingBytes.get(segment) ?? 0;
    const isFull = group.length === GROUP_SEGMENTS_MAX || groupBytes + bytes > GROUP_LIVING_BYTES_MAX;
    if (group.length > 0 && (isFull || (groupBytes === 0 && bytes > 0))) {
      yield group;
      group = [];
      groupBytes = 0;
    }
    group.push(segment);
    groupBytes += bytes;
  }
  if (group.length > 0) yield group;
}

/** Takes steps 3 to 6 of the module's comment for one group. */
async function rewriteGroup(
  volume: Volume,
  hands: PruneHands,
  group: readonly number[],
  { baseSeq, hasLiving, onProgress }: {
    baseSeq: number;
    hasLiving: boolean;
    onProgress: (bytes: number) => void;
  },
): Promise<void> {
  const { living, regions } = hasLiving
    ? await hands.collectLiving(group, baseSeq)
    : { living: new Float64Array(0), regions: [] };
  const { moved, damaged, made } = await compactSegments(volume, hands, {
    segments: group,
    living,
    onProgress,
  });
  const doomed = group.filter((segment) => !damaged.has(segment));
  if (regions.length > 0) await hands.relocate({ regions, baseSeq, moved, doomed });
  await deleteSegments(volume, hands, { doomed, staying: [...made, ...damaged] });
}

async function deleteSegments(
  volume: Volume,
  hands: PruneHands,
  { doomed, staying }: { readonly doomed: readonly number[]; readonly staying: readonly number[] },
): Promise<void> {
  const { map } = volume;
  if (doomed.length > 0) (await volume.live.describe(volume.describeText()))();
  await volume.exclusively(async () => {
    map.transaction(() => {
      const retire = map.statement("UPDATE segments SET retired = ? WHERE segment = ?");
      for (const segment of staying) retire.run(0, segment);
      for (const segment of doomed) retire.run(1, segment);
    });
    await hands.fold();
    volume.forgetRegions();
    for (const segment of doomed) volume.segments.forget(segment);
    await hands.remove(doomed);
    map.transaction(() => map.statement("DELETE FROM segments WHERE retired = 1").run());
  });
}

/**
 * The points that people are shown, inside damaged spans.
 *
 * @module
 */
import { formatTime } from "../base/time.ts";
import type { MarkRow } from "../catalog/catalog.ts";
import { MOMENT_KINDS, type PackedMoment, unpackMoments } from "../catalog/packing.ts";
import { blobOf, type RecoveryMap } from "../catalog/recovery_map.ts";
import type { PointInfo, RetentionPolicy } from "../engine.ts";
import { markInfo } from "../timeline/points.ts";
import { TierPicker } from "../timeline/retention.ts";
import type { SeqSpans } from "./scrub_findings.ts";
import type { ScrubPace } from "./scrub_pace.ts";

/** Points listed at most. */
export const POINTS_MAX = 1000;
/** Moments kept below the horizon that are read at once. */
const KEPT_ROWS = 4096;

/** What {@linkcode damagedPoints} works with. */
export interface DamagedPointsParts {
  /** The recovery map, for its moments. */
  readonly map: RecoveryMap;
  /** Marks of the volume. */
  readonly marks: readonly MarkRow[];
  /** The policy, for its tiers. */
  readonly policy: RetentionPolicy;
  /** The present, in microseconds. */
  readonly nowUs: number;
  /** Sequences that cannot be read in full. */
  readonly spans: SeqSpans;
  /** Says when to rest. */
  readonly pace: ScrubPace;
}

/**
 * Counts and lists the points in damaged spans, as `listPoints` would show them. Moments in damaged rows of the map are
 * left out, apart from marks.
 */
export async function damagedPoints(
  parts: DamagedPointsParts,
): Promise<{ count: number; points: PointInfo[] }> {
  if (parts.spans.isEmpty) return { count: 0, points: [] };
  const { spans } = parts;
  const marks = parts.marks.filter((mark) => spans.has(mark.seq));
  const marked = new Set(marks.map((mark) => mark.seq));
  const pickers = parts.policy.tiers.map((tier) => new TierPicker(tier, parts.nowUs));
  /** Moments kept by a tier, which the intervals bound in number. */
  const tiers = new Map<number, { moment: PackedMoment; every: string }>();
  const pick = (picker: TierPicker, moment: PackedMoment | undefined) => {
    if (moment !== undefined && spans.has(moment.seq) && !marked.has(moment.seq)) {
      tiers.set(moment.seq, { moment, every: picker.tier.every });
    }
  };
  const flushes: PackedMoment[] = [];
  const created: PackedMoment[] = [];
  let flushCount = 0;
  for await (const moment of allMoments(parts.map, parts.pace)) {
    for (const picker of pickers) pick(picker, picker.next(moment));
    if (!spans.has(moment.seq) || marked.has(moment.seq)) continue;
    if (moment.kind === MOMENT_KINDS.created) created.push(moment);
    if (moment.kind !== MOMENT_KINDS.flush) continue;
    flushCount++;
    // Some of those listed may turn out to be a tier's.
    if (flushes.length < 2 * POINTS_MAX) flushes.push(moment);
  }
  for (const picker of pickers) pick(picker, picker.last(parts.nowUs));
  for (const { seq } of created) tiers.delete(seq);

  const shown = (moment: PackedMoment, kind: PointInfo["kind"], tier?: string): PointInfo => ({
    time: formatTime(moment.timeUs, 6),
    seq: moment.seq,
    kind,
    pinned: false,
    ...(tier === undefined ? {} : { tier }),
  });
  const tierFlushes = [...tiers.values()].filter(({ moment }) => moment.kind === MOMENT_KINDS.flush).length;
  const points = [
    ...marks.map(markInfo),
    ...created.map((moment) => shown(moment, "created")),
    ...[...tiers.values()].map(({ moment, every }) => shown(moment, "tier", every)),
    ...flushes.filter((moment) => !tiers.has(moment.seq)).map((moment) => shown(moment, "flush")),
  ].slice(0, POINTS_MAX);
  return {
    count: marks.length + created.length + tiers.size + flushCount - tierFlushes,
    points: points.sort((a, b) => a.seq - b.seq),
  };
}

/** Every kept moment, ascending, row by row; what cannot be read is passed over: the map's check has told it. */
async function* allMoments(map: RecoveryMap, pace: ScrubPace): AsyncGenerator<PackedMoment> {
  let last = -1;
  for (;;) {
    const rows = map.statement("SELECT seq, time_us, kind FROM kept WHERE seq > ? ORDER BY seq LIMIT ?")
      .all(last, KEPT_ROWS);
    for (const row of rows) {
      last = Number(row["seq"]);
      yield { seq: last, timeUs: Number(row["time_us"]), kind: Number(row["kind"]) };
    }
    if (pace.spend(0)) await pace.rest();
    if (rows.length < KEPT_ROWS) break;
  }
  for (let after = -1;;) {
    const row = map.statement(
      "SELECT first_seq, packed FROM moments WHERE first_seq > ? ORDER BY first_seq LIMIT 1",
    ).get(after);
    if (row === undefined) return;
    after = Number(row["first_seq"]);
    for (const moment of readable(blobOf(row["packed"]))) {
      // A prune meanwhile begins its first row anew.
      if (moment.seq <= last) continue;
      last = moment.seq;
      yield moment;
    }
    if (pace.spend(0)) await pace.rest();
  }
}

function readable(packed: Uint8Array): PackedMoment[] {
  try {
    return unpackMoments(packed);
  } catch {
    return [];
  }
}

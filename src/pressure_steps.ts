/**
 * What history loses when space is short, step by step: first resolution, from the oldest on, then span, then marks.
 * Pure: a policy in, ever stricter policies out.
 *
 * 1. What the policy in force would drop anyway.
 * 2. The span in which every moment is kept shrinks from its old end, by halves; of what lies behind it one moment a
 *    minute is kept, a flush boundary where there is one, and from the fourth half on one each two minutes, four, …
 *    up to an hour: a host that writes seldom would else lose its newest moments before its oldest.
 * 3. The intervals of the tiers widen, fourfold each time.
 * 4. The longest spans of the tiers shrink, by halves.
 * 5. Marks go, the older half first; pinned ones never.
 *
 * @module
 */
import { formatDuration } from "./base/units.ts";
import type { MarkRow } from "./catalog/catalog.ts";
import type { RetentionPolicy, RetentionTier } from "./engine.ts";
import { durationUs } from "./timeline/retention.ts";

/** One step. */
export interface PressureStep {
  /** What is kept. */
  readonly policy: RetentionPolicy;
  /** Which share of the marks stays, the newest: 1 for all. Pinned ones stay whatever it says. */
  readonly marksShare: number;
}

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
/** So many times the full span is halved before one moment a minute is too much. */
const MINUTE_HALVES = 3;
const SPAN_MS_MIN = 250;
const WIDENINGS = 6;
const SHORTENINGS = 8;

/**
 * The steps for a policy, from the laxest to the strictest. `ageMs` is the age of the oldest moment of all volumes:
 * with the same age there is the same number of steps, and step n reaches equally far back in each volume.
 */
export function pressureSteps(policy: RetentionPolicy, ageMs: number): PressureStep[] {
  const ms = (text: string) => durationUs(text, "policy") / 1000;
  const continuousMs = ms(policy.continuous);
  const minutes: RetentionTier[] = continuousMs > MINUTE_MS ? [{ every: "1m", for: policy.continuous }] : [];
  const tiers = minutes.concat(policy.tiers);
  const steps: PressureStep[] = [{ policy, marksShare: 1 }];
  const push = (spanMs: number, kept: RetentionTier[], marksShare = 1) =>
    steps.push({ policy: { continuous: formatDuration(Math.floor(spanMs)), tiers: kept }, marksShare });

  let widened = tiers;
  for (let half = 1; ageMs / 2 ** half >= SPAN_MS_MIN; half++) {
    const everyMs = Math.min(MINUTE_MS * 2 ** Math.max(0, half - MINUTE_HALVES), HOUR_MS);
    widened = tiers.map((tier) => ({ ...tier, every: formatDuration(Math.max(ms(tier.every), everyMs)) }));
    push(Math.min(continuousMs, ageMs / 2 ** half), widened);
  }
  push(0, widened);
  for (let i = 0; i < WIDENINGS; i++) {
    widened = widened.map((tier) => ({ ...tier, every: formatDuration(ms(tier.every) * 4) }));
    push(0, widened);
  }
  const longestMs = Math.min(ageMs, ...tiers.map((tier) => ms(tier.for)).sort((a, b) => b - a).slice(0, 1));
  for (let i = 1; i <= SHORTENINGS; i++) {
    const mostMs = Math.floor(longestMs / 2 ** i);
    push(0, widened.map((tier) => ({ ...tier, for: formatDuration(Math.min(ms(tier.for), mostMs)) })));
  }
  push(0, []);
  push(0, [], 0.5);
  push(0, [], 0);
  return steps;
}

/** The marks of a volume as a step sees them: those that stay count as pinned. */
export function marksUnder(step: PressureStep, marks: readonly MarkRow[]): MarkRow[] {
  const loose = marks.filter((mark) => !mark.pinned).sort((a, b) => a.seq - b.seq);
  const going = new Set(loose.slice(0, Math.ceil(loose.length * (1 - step.marksShare))));
  return marks.map((mark) => ({ ...mark, pinned: !going.has(mark) }));
}

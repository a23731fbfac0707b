/**
 * Reads the totals out of what `deno test` prints.
 *
 * @module
 */

/** Numbers of tests; steps within a test are not counted. */
export interface TestTotals {
  /** Tests that ran and held. */
  passed: number;
  /** Tests that failed, with files that could not be run at all. */
  failed: number;
  /** Tests that were left out. */
  skipped: number;
}

// deno-lint-ignore no-control-regex -- colours begin with the escape character
const COLOUR = /\x1b\[[0-9;]*m/g;
const SUMMARY = /^(?:ok|FAILED) \| (\d+) passed\b.*? \| (\d+) failed\b(?:.*? \| (\d+) ignored\b)?/gm;

/**
 * Finds the last summary line, for example `FAILED | 8 passed (2 steps) | 1 failed | 1 ignored (16ms)`.
 *
 * @returns `undefined` when there is none: the run ended before it could count.
 */
export function parseTestTotals(output: string): TestTotals | undefined {
  const [, passed, failed, skipped] = [...output.replaceAll(COLOUR, "").matchAll(SUMMARY)].at(-1) ?? [];
  if (passed === undefined) return undefined;
  return { passed: Number(passed), failed: Number(failed), skipped: Number(skipped ?? 0) };
}

/** Writes the totals as the last line of a run: `8 passed, 0 failed`, with `, 1 skipped` where it applies. */
export function formatTestTotals(totals: TestTotals): string {
  const skipped = totals.skipped > 0 ? `, ${totals.skipped} skipped` : "";
  return `${totals.passed} passed, ${totals.failed} failed${skipped}`;
}

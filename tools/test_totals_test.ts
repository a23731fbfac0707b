import assert from "node:assert/strict";
import { formatTestTotals, parseTestTotals } from "./test_totals.ts";

Deno.test("parseTestTotals() reads every shape of summary", () => {
  const cases: [string, number, number, number][] = [
    ["ok | 8 passed | 0 failed (16ms)", 8, 0, 0],
    ["ok | 8 passed (12 steps) | 0 failed | 3 ignored (1s)", 8, 0, 3],
    ["FAILED | 2 passed (2 steps) | 6 failed (1 step) | 1 ignored (133ms)", 2, 6, 1],
    ["ok | 0 passed | 0 failed | 4 filtered out (0ms)", 0, 0, 0],
    ["ok | 5 passed | 0 failed | 1 ignored (2 steps) | 4 filtered out (0ms)", 5, 0, 1],
    ["\x1b[0m\x1b[32mok\x1b[0m | \x1b[0m11 passed | 0 failed \x1b[38;5;245m(9ms)\x1b[0m", 11, 0, 0],
  ];
  for (const [line, passed, failed, skipped] of cases) {
    assert.deepEqual(parseTestTotals(`running tests\n\n${line}\n\n`), { passed, failed, skipped }, line);
  }
});

Deno.test("parseTestTotals() takes the last summary and nothing that only resembles one", () => {
  assert.equal(parseTestTotals(""), undefined);
  assert.equal(parseTestTotals("error: no summary\nthis is ok | 8 passed | 0 failed\n"), undefined);
  assert.deepEqual(parseTestTotals("ok | 1 passed | 0 failed (1ms)\nFAILED | 2 passed | 1 failed (1ms)\n"), {
    passed: 2,
    failed: 1,
    skipped: 0,
  });
});

Deno.test("formatTestTotals() speaks of skipped tests only when there are some", () => {
  assert.equal(formatTestTotals({ passed: 8, failed: 0, skipped: 0 }), "8 passed, 0 failed");
  assert.equal(formatTestTotals({ passed: 8, failed: 1, skipped: 2 }), "8 passed, 1 failed, 2 skipped");
});

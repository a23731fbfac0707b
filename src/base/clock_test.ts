import assert from "node:assert/strict";
import { systemClock } from "./clock.ts";

Deno.test("systemClock follows the wall clock when it is set, forwards and backwards", () => {
  const realNow = Date.now;
  try {
    for (const shiftMs of [0, 3_600_000, -7_200_000, 0]) {
      Date.now = () => realNow() + shiftMs;
      const beforeMs = Date.now();
      const us = systemClock.nowUs();
      const afterMs = Date.now();
      assert.ok(Number.isSafeInteger(us));
      assert.ok(us >= (beforeMs - 3) * 1000 && us <= (afterMs + 3) * 1000, `${us} with ${shiftMs} ms`);
    }
  } finally {
    Date.now = realNow;
  }
});

Deno.test("systemClock counts more finely than the wall clock", () => {
  const seen = new Set<number>();
  for (let i = 0; i < 100_000 && seen.size < 3; i++) {
    const us = systemClock.nowUs();
    if (us % 1000 !== 0) seen.add(us);
  }
  assert.equal(seen.size, 3);
});

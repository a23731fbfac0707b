import assert from "node:assert/strict";
import { inTurns, Queue } from "./turns.ts";

Deno.test("inTurns() returns what the generator returns and lets timers run in between", async () => {
  let timerRan = false;
  const timer = setTimeout(() => timerRan = true, 0);
  const result = await inTurns((function* () {
    // Ends only because the event loop turns.
    while (!timerRan) yield;
    return 7;
  })());
  clearTimeout(timer);
  assert.equal(result, 7);
});

Deno.test("inTurns() passes on what the generator throws", async () => {
  await assert.rejects(
    inTurns((function* () {
      yield;
      throw new Error("broken");
    })()),
    /broken/,
  );
});

Deno.test("Queue runs one piece of work at a time, in order, whatever failed before", async () => {
  const queue = new Queue();
  const events: string[] = [];
  const work = (name: string, fails = false) =>
    queue.run(async () => {
      events.push(`${name} begins`);
      await new Promise((resolve) => setTimeout(resolve, 0));
      events.push(`${name} ends`);
      if (fails) throw new Error(name);
      return name;
    });
  const results = Promise.allSettled([work("a"), work("b", true), work("c")]);
  await queue.idle();
  assert.deepEqual(events, ["a begins", "a ends", "b begins", "b ends", "c begins", "c ends"]);
  assert.deepEqual((await results).map(({ status }) => status), ["fulfilled", "rejected", "fulfilled"]);
});

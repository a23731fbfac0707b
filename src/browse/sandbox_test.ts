import assert from "node:assert/strict";
import { MISDEEDS } from "./_misbehaving_guest.ts";
import { Sandbox } from "./sandbox.ts";

const place = { directory: "/nowhere", sizeBytes: 0 };

class TestSandbox extends Sandbox implements Disposable {
  constructor(limitMs = 10_000) {
    super({ limitMs, guestUrl: new URL("./_misbehaving_guest.ts", import.meta.url) });
  }

  stat(moment: number, inode: number): Promise<unknown> {
    return this.ask(moment, { call: "stat", partition: 0, inode });
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

Deno.test("a sandbox may touch nothing", async () => {
  using sandbox = new TestSandbox();
  const moment = sandbox.register({ place, seq: 1 });
  for (const misdeed of ["reads", "calls", "connects", "runs"] as const) {
    await assert.rejects(sandbox.stat(moment, MISDEEDS[misdeed]), {
      code: "forbidden",
      message: "NotCapable",
    }, misdeed);
  }
  assert.equal(await sandbox.stat(moment, 100), 100);
});

Deno.test("a reader that never answers is ended; only its moment is refused", async () => {
  using sandbox = new TestSandbox(1500);
  const [hostile, good] = [sandbox.register({ place, seq: 1 }), sandbox.register({ place, seq: 2 })];
  assert.equal(await sandbox.stat(good, 100), 100);
  const looping = sandbox.stat(hostile, MISDEEDS.loops);
  const behind = [sandbox.stat(good, 101), sandbox.stat(hostile, 102), sandbox.stat(good, 103)];
  const results = await Promise.allSettled([looping, ...behind]);
  assert.deepEqual(results.map(({ status }) => status), ["rejected", "fulfilled", "rejected", "fulfilled"]);
  await assert.rejects(looping, { code: "io", message: /ended after \d+ s without an answer/ });
  await assert.rejects(sandbox.stat(hostile, 104), { code: "io" });
  assert.equal(await sandbox.stat(good, 105), 105);
});

Deno.test("a reader that dies fails its question alone", async () => {
  using sandbox = new TestSandbox();
  const [hostile, good] = [sandbox.register({ place, seq: 1 }), sandbox.register({ place, seq: 2 })];
  const dying = sandbox.stat(hostile, MISDEEDS.dies);
  const behind = sandbox.stat(good, 101);
  await assert.rejects(dying, { code: "io", message: /it died/ });
  assert.equal(await behind, 101);
});

Deno.test("what is asked of a sandbox that was closed, or of a moment that was, is cancelled", async () => {
  using sandbox = new TestSandbox();
  const moment = sandbox.register({ place, seq: 1 });
  assert.equal(await sandbox.stat(moment, 100), 100);
  const under = sandbox.stat(moment, MISDEEDS.loops);
  sandbox.close();
  await assert.rejects(under, { code: "cancelled" });
  await assert.rejects(sandbox.stat(moment, 100), { code: "cancelled" });

  using other = new TestSandbox();
  const gone = other.register({ place, seq: 1 });
  other.forget(gone);
  await assert.rejects(other.stat(gone, 100), { code: "cancelled" });
});

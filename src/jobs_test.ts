import assert from "node:assert/strict";
import path from "node:path";
import { VarveError } from "./base/errors.ts";
import { Catalog } from "./catalog/catalog.ts";
import type { JobInfo } from "./engine.ts";
import { Jobs } from "./jobs.ts";

const clock = { nowUs: () => Date.parse("2026-01-01T00:00:00Z") * 1000 };

async function withCatalog(work: (catalog: Catalog, place: string) => Promise<void>): Promise<void> {
  const directory = Deno.makeTempDirSync({ prefix: "varve-jobs-" });
  const place = path.join(directory, "catalog.sqlite");
  const catalog = new Catalog(place);
  try {
    await work(catalog, place);
  } finally {
    catalog.close();
    Deno.removeSync(directory, { recursive: true });
  }
}

/** Work that waits until it is told to end, or aborted. */
function waiting(): {
  work: (context: { signal: AbortSignal }) => Promise<Record<string, unknown>>;
  end: () => void;
} {
  const { promise, resolve, reject } = Promise.withResolvers<Record<string, unknown>>();
  return {
    work: ({ signal }) => {
      signal.addEventListener("abort", () => reject(signal.reason));
      return promise;
    },
    end: () => resolve({ answer: 42 }),
  };
}

/** Resolves when a job is in a state other than running. */
function ended(jobs: Jobs, id: string): Promise<JobInfo> {
  return new Promise((resolve) => {
    if (jobs.get(id).state !== "running") resolve(jobs.get(id));
    else jobs.watch(id, (info) => info.state !== "running" && resolve(info));
  });
}

Deno.test("Jobs tells progress and result to watchers, and remembers them over a restart", async () => {
  await withCatalog(async (catalog) => {
    const jobs = new Jobs(catalog, clock);
    const { promise, resolve } = Promise.withResolvers<void>();
    const { id, state, createdAt } = jobs.start("recovery", "a", async ({ progress }) => {
      await promise;
      progress(3, 10);
      return { answer: 42 };
    });
    assert.deepEqual([state, createdAt], ["running", "2026-01-01T00:00:00.000Z"]);
    const seen: string[] = [];
    const stopped: string[] = [];
    jobs.watch(
      id,
      ({ state, progress }) => seen.push(`${state} ${progress.doneBytes}/${progress.totalBytes}`),
    );
    jobs.watch(id, () => stopped.push("called")).stop();
    resolve();
    const info = await ended(jobs, id);
    assert.deepEqual(seen, ["running 3/10", "succeeded 3/10"]);
    assert.deepEqual(stopped, []);
    assert.deepEqual([info.state, info.result, info.error], ["succeeded", { answer: 42 }, undefined]);
    assert.equal(info.endedAt, "2026-01-01T00:00:00.000Z");
    await assert.rejects(jobs.cancel(id), { name: "VarveError", code: "conflict" });
    assert.deepEqual(new Jobs(catalog, clock).get(id), info);
  });
});

Deno.test("Jobs keeps the code, the message and the hint of a failure", async () => {
  await withCatalog(async (catalog) => {
    const jobs = new Jobs(catalog, clock);
    const { id } = jobs.start("prune", "a", () => {
      throw new VarveError("no-space", "prune: full", { hint: "Make room." });
    });
    const info = await ended(jobs, id);
    assert.equal(info.state, "failed");
    assert.deepEqual(info.error, { code: "no-space", detail: "prune: full", hint: "Make room." });
  });
});

Deno.test("Jobs cancels what is under way, and work that ends all the same has succeeded", async () => {
  await withCatalog(async (catalog) => {
    const jobs = new Jobs(catalog, clock);
    const aborted = jobs.start("prune", "a", waiting().work);
    const info = await jobs.cancel(aborted.id);
    assert.deepEqual([info.state, info.error?.code], ["cancelled", "cancelled"]);
    const stubborn = waiting();
    const { id } = jobs.start("prune", "a", () => stubborn.work({ signal: new AbortController().signal }));
    const cancelling = jobs.cancel(id);
    stubborn.end();
    assert.equal((await cancelling).state, "succeeded");
    await assert.rejects(jobs.cancel("none"), { name: "VarveError", code: "not-found" });
    assert.throws(() => jobs.watch("none", () => {}), { name: "VarveError", code: "not-found" });
    assert.deepEqual(jobs.counts(), { queued: 0, running: 0, succeeded: 1, failed: 0, cancelled: 1 });
    assert.deepEqual(jobs.list().map((job) => job.id), [id, aborted.id], "newest first");
  });
});

Deno.test("Jobs.close() stops every job and waits for it", async () => {
  await withCatalog(async (catalog) => {
    const jobs = new Jobs(catalog, clock);
    const { id } = jobs.start("prune", "a", waiting().work);
    await jobs.close();
    assert.equal(jobs.get(id).state, "cancelled");
  });
});

Deno.test("Jobs lists as failed what was under way when the appliance died", async () => {
  await withCatalog(async (catalog) => {
    const before = new Jobs(catalog, clock);
    const { work, end } = waiting();
    const { id } = before.start("recovery", "a", work);
    const after = new Jobs(catalog, clock).get(id);
    assert.equal(after.state, "failed");
    assert.ok(after.error?.detail.includes("stopped"));
    assert.equal(new Jobs(catalog, clock).get(id).endedAt, after.endedAt, "that is remembered too");
    end();
    await before.close();
  });
});

Deno.test("Jobs calls work that has succeeded a success, even when a watcher fails", async () => {
  await withCatalog(async (catalog) => {
    const jobs = new Jobs(catalog, clock);
    const { work, end } = waiting();
    const { id } = jobs.start("prune", "a", work);
    jobs.watch(id, () => {
      throw new Error("the watcher is broken");
    });
    end();
    await jobs.close().catch(() => {});
    assert.equal(jobs.get(id).state, "succeeded");
  });
});

/**
 * Jobs: starting a recovery, following, cancelling.
 *
 * @module
 */
import { createRoute, z } from "@hono/zod-openapi";
import { streamSSE } from "hono/streaming";
import type { Engine, JobInfo } from "../../src/engine.ts";
import type { ApiApp } from "../context.ts";
import { body, given, json, jsonAt, needs, problems } from "../route.ts";
import { IdParams, JobSchema, JobsSchema, NewRecoverySchema, VolumeParams } from "../schemas.ts";

/** A comment is sent after so long without news, so that both ends notice a dead connection. */
const HEARTBEAT_MS = 15_000;

const recover = createRoute({
  method: "post",
  path: "/v1/volumes/{volume}/recoveries",
  operationId: "startRecovery",
  summary: "Copy a moment to a file or a block device, as a job",
  tags: ["jobs"],
  ...needs("operate"),
  request: { params: VolumeParams, body: body(NewRecoverySchema) },
  responses: { 202: jsonAt("The job.", JobSchema), ...problems },
});

const list = createRoute({
  method: "get",
  path: "/v1/jobs",
  operationId: "listJobs",
  summary: "Jobs, newest first",
  tags: ["jobs"],
  ...needs("read"),
  responses: { 200: json("The jobs.", JobsSchema), ...problems },
});

const show = createRoute({
  method: "get",
  path: "/v1/jobs/{id}",
  operationId: "getJob",
  summary: "One job",
  tags: ["jobs"],
  ...needs("read"),
  request: { params: IdParams },
  responses: { 200: json("The job.", JobSchema), ...problems },
});

const events = createRoute({
  method: "get",
  path: "/v1/jobs/{id}/events",
  operationId: "watchJob",
  summary: "Server-sent events named `job`, each the whole job; the stream ends with the job",
  tags: ["jobs"],
  ...needs("read"),
  request: { params: IdParams },
  responses: {
    200: { description: "The events.", content: { "text/event-stream": { schema: z.string() } } },
    ...problems,
  },
});

const cancel = createRoute({
  method: "delete",
  path: "/v1/jobs/{id}",
  operationId: "cancelJob",
  summary: "Ask a job to stop",
  tags: ["jobs"],
  ...needs("operate"),
  request: { params: IdParams },
  responses: { 200: json("The job.", JobSchema), ...problems },
});

/** Registers the routes. `closing` ends event streams when the server stops. */
export function registerJobs(app: ApiApp, engine: Engine, closing: AbortSignal): void {
  app.openapi(recover, async (c) => {
    const { volume } = c.req.valid("param");
    const job = await engine.startRecovery(volume, given(c.req.valid("json")), c.get("caller"));
    return c.json(job, 202, { location: `/v1/jobs/${job.id}` });
  });
  app.openapi(list, (c) => c.json({ jobs: engine.listJobs() }, 200));
  app.openapi(show, (c) => c.json(engine.getJob(c.req.valid("param").id), 200));
  app.openapi(cancel, async (c) => {
    return c.json(await engine.cancelJob(c.req.valid("param").id, c.get("caller")), 200);
  });

  app.openapi(events, (c) => {
    const { id } = c.req.valid("param");
    let latest = engine.getJob(id);
    return streamSSE(c, async (stream) => {
      // Only the newest state waits to be sent, so a slow reader holds nothing up and nothing piles up.
      let news = Promise.withResolvers<void>();
      const wake = () => news.resolve();
      stream.onAbort(wake);
      closing.addEventListener("abort", wake);
      const watch = engine.watchJob(id, (job) => {
        latest = job;
        wake();
      });
      try {
        latest = engine.getJob(id);
        while (!stream.aborted && !closing.aborted) {
          const sent = latest;
          await stream.writeSSE({ event: "job", data: JSON.stringify(sent) });
          if (hasEnded(sent)) break;
          while (latest === sent && !stream.aborted && !closing.aborted) {
            if (!await within(news.promise, HEARTBEAT_MS)) await stream.write(": \n\n");
            news = Promise.withResolvers<void>();
          }
        }
      } finally {
        watch.stop();
        closing.removeEventListener("abort", wake);
      }
    });
  });
}

function hasEnded(job: JobInfo): boolean {
  return job.state !== "queued" && job.state !== "running";
}

/** Whether the promise settles before the time is over. */
async function within(promise: Promise<void>, ms: number): Promise<boolean> {
  const late = Promise.withResolvers<boolean>();
  const timer = setTimeout(() => late.resolve(false), ms);
  try {
    return await Promise.race([promise.then(() => true), late.promise]);
  } finally {
    clearTimeout(timer);
  }
}

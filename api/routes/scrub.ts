/**
 * Scrubbing: starting a scrub, and what the last one found.
 *
 * @module
 */
import { createRoute, type z } from "@hono/zod-openapi";
import type { Engine } from "../../src/engine.ts";
import type { ApiApp } from "../context.ts";
import { body, given, json, jsonAt, needs, problems } from "../route.ts";
import { JobSchema, NewScrubSchema, ScrubSchema, VolumeParams } from "../schemas.ts";

const start = createRoute({
  method: "post",
  path: "/v1/volumes/{volume}/scrub",
  operationId: "startScrub",
  summary: "Verify every checksum of the history, as a job whose result is what was found",
  tags: ["scrub"],
  ...needs("operate"),
  request: { params: VolumeParams, body: { ...body(NewScrubSchema), required: false } },
  responses: { 202: jsonAt("The job.", JobSchema), ...problems },
});

const last = createRoute({
  method: "get",
  path: "/v1/volumes/{volume}/scrub",
  operationId: "lastScrub",
  summary: "What the last finished scrub found",
  tags: ["scrub"],
  ...needs("read"),
  request: { params: VolumeParams },
  responses: { 200: json("What it found.", ScrubSchema), ...problems },
});

/** Registers the routes. */
export function registerScrub(app: ApiApp, engine: Engine): void {
  app.openapi(start, (c) => {
    const options: z.infer<typeof NewScrubSchema> = c.req.valid("json");
    const job = engine.startScrub(c.req.valid("param").volume, given(options), c.get("caller"));
    return c.json(job, 202, { location: `/v1/jobs/${job.id}` });
  });
  app.openapi(last, (c) => c.json(engine.lastScrub(c.req.valid("param").volume), 200));
}

/**
 * Retention: the policy, what it would drop, and dropping it.
 *
 * @module
 */
import { createRoute, type z } from "@hono/zod-openapi";
import type { Engine, RetentionPolicy } from "../../src/engine.ts";
import type { ApiApp } from "../context.ts";
import { body, given, json, jsonAt, needs, problems } from "../route.ts";
import { JobSchema, PrunePreviewSchema, RetentionSchema, VolumeParams } from "../schemas.ts";

const get = createRoute({
  method: "get",
  path: "/v1/volumes/{volume}/retention",
  operationId: "getRetention",
  summary: "The policy in force",
  tags: ["retention"],
  ...needs("read"),
  request: { params: VolumeParams },
  responses: { 200: json("The policy.", RetentionSchema), ...problems },
});

const put = createRoute({
  method: "put",
  path: "/v1/volumes/{volume}/retention",
  operationId: "setRetention",
  summary: "Replace the policy; nothing is dropped until the next prune",
  tags: ["retention"],
  ...needs("admin"),
  request: { params: VolumeParams, body: body(RetentionSchema) },
  responses: { 200: json("The policy now in force.", RetentionSchema), ...problems },
});

const preview = createRoute({
  method: "post",
  path: "/v1/volumes/{volume}/retention/preview",
  operationId: "previewRetention",
  summary: "What a prune would drop now, under the given policy or, without a body, the one in force",
  tags: ["retention"],
  ...needs("read"),
  request: { params: VolumeParams, body: { ...body(RetentionSchema), required: false } },
  responses: { 200: json("What would be dropped.", PrunePreviewSchema), ...problems },
});

const prune = createRoute({
  method: "post",
  path: "/v1/volumes/{volume}/prune",
  operationId: "startPrune",
  summary: "Drop what the policy does not keep, as a job",
  tags: ["retention"],
  ...needs("admin"),
  request: { params: VolumeParams },
  responses: { 202: jsonAt("The job.", JobSchema), ...problems },
});

/** Registers the routes. */
export function registerRetention(app: ApiApp, engine: Engine): void {
  app.openapi(get, (c) => c.json(engine.getRetention(c.req.valid("param").volume), 200));
  app.openapi(put, async (c) => {
    const policy: RetentionPolicy = given(c.req.valid("json"));
    return c.json(await engine.setRetention(c.req.valid("param").volume, policy, c.get("caller")), 200);
  });
  app.openapi(preview, async (c) => {
    const asked: Partial<z.infer<typeof RetentionSchema>> = c.req.valid("json");
    const { continuous, tiers, ...rest } = asked;
    const policy = continuous === undefined || tiers === undefined
      ? undefined
      : given({ continuous, tiers, ...rest });
    return c.json(await engine.previewRetention(c.req.valid("param").volume, policy), 200);
  });
  app.openapi(prune, (c) => {
    const job = engine.startPrune(c.req.valid("param").volume, c.get("caller"));
    return c.json(job, 202, { location: `/v1/jobs/${job.id}` });
  });
}

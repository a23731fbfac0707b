/**
 * The appliance as a whole: status, liveness, readiness, metrics, audit.
 *
 * @module
 */
import { createRoute, z } from "@hono/zod-openapi";
import type { Engine } from "../../src/engine.ts";
import type { ApiApp } from "../context.ts";
import { METRICS_TYPE, renderMetrics } from "../metrics.ts";
import { given, json, needs, problems } from "../route.ts";
import { AuditQuery, AuditSchema, StatusSchema } from "../schemas.ts";

const HealthSchema = z.object({ status: z.literal("ok") }).openapi("Health");
const ReadinessSchema = z.object({ ready: z.boolean(), problems: z.array(z.string()) }).openapi("Readiness");

const status = createRoute({
  method: "get",
  path: "/v1/status",
  operationId: "getStatus",
  summary: "The appliance as a whole",
  tags: ["appliance"],
  ...needs("read"),
  responses: {
    200: json("Version, addresses, storage, volumes and numbers of jobs.", StatusSchema),
    ...problems,
  },
});

const audit = createRoute({
  method: "get",
  path: "/v1/audit",
  operationId: "listAudit",
  summary: "Changes that were made, newest first",
  tags: ["appliance"],
  ...needs("admin"),
  request: { query: AuditQuery },
  responses: { 200: json("The entries.", AuditSchema), ...problems },
});

const metrics = createRoute({
  method: "get",
  path: "/metrics",
  operationId: "getMetrics",
  summary: "Figures for Prometheus",
  tags: ["appliance"],
  ...needs("read"),
  responses: {
    200: { description: "Text exposition format.", content: { "text/plain": { schema: z.string() } } },
    ...problems,
  },
});

const health = createRoute({
  method: "get",
  path: "/healthz",
  operationId: "getHealth",
  summary: "Whether the process answers",
  tags: ["appliance"],
  security: [],
  responses: { 200: json("It does.", HealthSchema) },
});

const readiness = createRoute({
  method: "get",
  path: "/readyz",
  operationId: "getReadiness",
  summary: "Whether the appliance can serve now",
  tags: ["appliance"],
  security: [],
  responses: {
    200: json("It can.", ReadinessSchema),
    503: json("It cannot; `problems` says what is in the way.", ReadinessSchema),
  },
});

/** Registers the routes. */
export function registerAppliance(app: ApiApp, engine: Engine): void {
  app.openapi(status, (c) => c.json(engine.status(), 200));
  app.openapi(audit, (c) => c.json({ entries: engine.listAudit(given(c.req.valid("query"))) }, 200));
  app.openapi(metrics, (c) => {
    return c.text(renderMetrics(engine.status(), engine.readiness().ready), 200, {
      "content-type": METRICS_TYPE,
    });
  });
  app.openapi(health, (c) => c.json({ status: "ok" as const }, 200));
  app.openapi(readiness, (c) => {
    const found = engine.readiness();
    return found.ready ? c.json(found, 200) : c.json(found, 503);
  });
}

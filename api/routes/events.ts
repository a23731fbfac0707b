/**
 * Events: what happened by itself and people should know.
 *
 * @module
 */
import { createRoute } from "@hono/zod-openapi";
import type { Engine } from "../../src/engine.ts";
import type { ApiApp } from "../context.ts";
import { given, json, needs, problems } from "../route.ts";
import { EventsQuery, EventsSchema } from "../schemas.ts";

const list = createRoute({
  method: "get",
  path: "/v1/events",
  operationId: "listEvents",
  summary: "What happened by itself, oldest first: behind an event, or the newest",
  tags: ["appliance"],
  ...needs("read"),
  request: { query: EventsQuery },
  responses: { 200: json("The events.", EventsSchema), ...problems },
});

/** Registers the route. */
export function registerEvents(app: ApiApp, engine: Engine): void {
  app.openapi(list, (c) => c.json({ events: engine.listEvents(given(c.req.valid("query"))) }, 200));
}

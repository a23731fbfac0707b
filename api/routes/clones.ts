/**
 * Clones: moments of the past that can be written to.
 *
 * @module
 */
import { createRoute } from "@hono/zod-openapi";
import type { Engine } from "../../src/engine.ts";
import type { ApiApp } from "../context.ts";
import { body, done, given, json, jsonAt, needs, problems } from "../route.ts";
import {
  CloneParams,
  CloneSchema,
  ClonesSchema,
  JobSchema,
  NewCloneSchema,
  PromotionSchema,
} from "../schemas.ts";

const list = createRoute({
  method: "get",
  path: "/v1/clones",
  operationId: "listClones",
  summary: "Every clone, by name",
  tags: ["clones"],
  ...needs("read"),
  responses: { 200: json("The clones.", ClonesSchema), ...problems },
});

const create = createRoute({
  method: "post",
  path: "/v1/clones",
  operationId: "createClone",
  summary: "Make a moment writable, as an NBD export that goes by itself; history stays as it is",
  tags: ["clones"],
  ...needs("operate"),
  request: { body: body(NewCloneSchema) },
  responses: { 201: jsonAt("The new clone.", CloneSchema), ...problems },
});

const show = createRoute({
  method: "get",
  path: "/v1/clones/{name}",
  operationId: "getClone",
  summary: "One clone",
  tags: ["clones"],
  ...needs("read"),
  request: { params: CloneParams },
  responses: { 200: json("The clone.", CloneSchema), ...problems },
});

const remove = createRoute({
  method: "delete",
  path: "/v1/clones/{name}",
  operationId: "deleteClone",
  summary: "Delete a clone and all that was written to it; refused while clients are connected",
  tags: ["clones"],
  ...needs("operate"),
  request: { params: CloneParams },
  responses: { 204: done, ...problems },
});

const promote = createRoute({
  method: "post",
  path: "/v1/clones/{name}/promote",
  operationId: "promoteClone",
  summary: "Make a new volume with the present content of a clone, as a job; the clone stays",
  tags: ["clones"],
  ...needs("operate"),
  request: { params: CloneParams, body: body(PromotionSchema) },
  responses: { 202: jsonAt("The job.", JobSchema), ...problems },
});

/** Registers the routes. */
export function registerClones(app: ApiApp, engine: Engine): void {
  app.openapi(list, (c) => c.json({ clones: engine.listClones() }, 200));
  app.openapi(create, async (c) => {
    const clone = await engine.createClone(given(c.req.valid("json")), c.get("caller"));
    return c.json(clone, 201, { location: `/v1/clones/${encodeURIComponent(clone.name)}` });
  });
  app.openapi(show, (c) => c.json(engine.getClone(c.req.valid("param").name), 200));
  app.openapi(remove, async (c) => {
    await engine.deleteClone(c.req.valid("param").name, c.get("caller"));
    return c.body(null, 204);
  });
  app.openapi(promote, (c) => {
    const { name } = c.req.valid("json");
    const job = engine.promoteClone(c.req.valid("param").name, name, c.get("caller"));
    return c.json(job, 202, { location: `/v1/jobs/${job.id}` });
  });
}

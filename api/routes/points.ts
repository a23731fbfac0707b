/**
 * Moments of a volume: points, marks, and what a time expression names.
 *
 * @module
 */
import { createRoute } from "@hono/zod-openapi";
import type { Engine } from "../../src/engine.ts";
import type { ApiApp } from "../context.ts";
import { body, done, given, json, jsonAt, needs, problems } from "../route.ts";
import {
  AtQuery,
  MarkChangeSchema,
  MarkParams,
  MarkSchema,
  MarksSchema,
  MomentSchema,
  NewMarkSchema,
  PointsQuery,
  PointsSchema,
  VolumeParams,
} from "../schemas.ts";

const listPoints = createRoute({
  method: "get",
  path: "/v1/volumes/{volume}/points",
  operationId: "listPoints",
  summary: "Points of a span of time, oldest first",
  tags: ["points"],
  ...needs("read"),
  request: { params: VolumeParams, query: PointsQuery },
  responses: { 200: json("A page of points.", PointsSchema), ...problems },
});

const listMarks = createRoute({
  method: "get",
  path: "/v1/volumes/{volume}/marks",
  operationId: "listMarks",
  summary: "Marks, oldest first",
  tags: ["points"],
  ...needs("read"),
  request: { params: VolumeParams },
  responses: { 200: json("The marks.", MarksSchema), ...problems },
});

const createMark = createRoute({
  method: "post",
  path: "/v1/volumes/{volume}/marks",
  operationId: "createMark",
  summary: "Name the present moment; the mark is durable when the answer comes",
  tags: ["points"],
  ...needs("operate"),
  request: { params: VolumeParams, body: body(NewMarkSchema) },
  responses: { 201: jsonAt("The mark.", MarkSchema), ...problems },
});

const updateMark = createRoute({
  method: "patch",
  path: "/v1/volumes/{volume}/marks/{name}",
  operationId: "updateMark",
  summary: "Change the note of a mark, pin it or unpin it",
  tags: ["points"],
  ...needs("operate"),
  request: { params: MarkParams, body: body(MarkChangeSchema) },
  responses: { 200: json("The mark.", MarkSchema), ...problems },
});

const deleteMark = createRoute({
  method: "delete",
  path: "/v1/volumes/{volume}/marks/{name}",
  operationId: "deleteMark",
  summary: "Take a name away; the moment stays until retention drops it",
  tags: ["points"],
  ...needs("operate"),
  request: { params: MarkParams },
  responses: { 204: done, ...problems },
});

const resolve = createRoute({
  method: "get",
  path: "/v1/volumes/{volume}/resolve",
  operationId: "resolveTime",
  summary: "The exact moment that a time names",
  tags: ["points"],
  ...needs("read"),
  request: { params: VolumeParams, query: AtQuery },
  responses: { 200: json("The moment.", MomentSchema), ...problems },
});

/** Registers the routes. */
export function registerPoints(app: ApiApp, engine: Engine): void {
  app.openapi(listPoints, async (c) => {
    const { kind: kinds, ...span } = c.req.valid("query");
    return c.json(await engine.listPoints(c.req.valid("param").volume, given({ ...span, kinds })), 200);
  });
  app.openapi(listMarks, (c) => c.json({ marks: engine.listMarks(c.req.valid("param").volume) }, 200));
  app.openapi(createMark, async (c) => {
    const { volume } = c.req.valid("param");
    const mark = await engine.createMark(volume, given(c.req.valid("json")), c.get("caller"));
    const location = `/v1/volumes/${encodeURIComponent(volume)}/marks/${encodeURIComponent(mark.name)}`;
    return c.json(mark, 201, { location });
  });
  app.openapi(updateMark, async (c) => {
    const { volume, name } = c.req.valid("param");
    return c.json(await engine.updateMark(volume, name, given(c.req.valid("json")), c.get("caller")), 200);
  });
  app.openapi(deleteMark, async (c) => {
    const { volume, name } = c.req.valid("param");
    await engine.deleteMark(volume, name, c.get("caller"));
    return c.body(null, 204);
  });
  app.openapi(resolve, async (c) => {
    return c.json(await engine.resolve(c.req.valid("param").volume, c.req.valid("query").at), 200);
  });
}

/**
 * Volumes: list, create, adopt, show, resize, delete, and who changed them.
 *
 * @module
 */
import { createRoute } from "@hono/zod-openapi";
import type { Engine } from "../../src/engine.ts";
import type { ApiApp } from "../context.ts";
import { body, done, given, json, jsonAt, needs, problems } from "../route.ts";
import {
  ClientsQuery,
  ClientsSchema,
  NewVolumeSchema,
  PurgeQuery,
  VolumeChangeSchema,
  VolumeParams,
  VolumeSchema,
  VolumesSchema,
} from "../schemas.ts";

const list = createRoute({
  method: "get",
  path: "/v1/volumes",
  operationId: "listVolumes",
  summary: "Every volume, by name",
  tags: ["volumes"],
  ...needs("read"),
  responses: { 200: json("The volumes.", VolumesSchema), ...problems },
});

const create = createRoute({
  method: "post",
  path: "/v1/volumes",
  operationId: "createVolume",
  summary:
    "Make a volume, or adopt an existing disk, which is captured from then on while its baseline is copied",
  tags: ["volumes"],
  ...needs("admin"),
  request: { body: body(NewVolumeSchema) },
  responses: { 201: jsonAt("The new volume.", VolumeSchema), ...problems },
});

const show = createRoute({
  method: "get",
  path: "/v1/volumes/{volume}",
  operationId: "getVolume",
  summary: "One volume",
  tags: ["volumes"],
  ...needs("read"),
  request: { params: VolumeParams },
  responses: { 200: json("The volume.", VolumeSchema), ...problems },
});

const resize = createRoute({
  method: "patch",
  path: "/v1/volumes/{volume}",
  operationId: "resizeVolume",
  summary:
    "Give a volume another size while hosts use it; new connections see it, moments of the past keep theirs",
  tags: ["volumes"],
  ...needs("admin"),
  request: { params: VolumeParams, body: body(VolumeChangeSchema) },
  responses: { 200: json("The volume.", VolumeSchema), ...problems },
});

const clients = createRoute({
  method: "get",
  path: "/v1/volumes/{volume}/clients",
  operationId: "listClients",
  summary: "Connections that changed a volume or are open to it, newest first",
  tags: ["volumes"],
  ...needs("read"),
  request: { params: VolumeParams, query: ClientsQuery },
  responses: { 200: json("The connections.", ClientsSchema), ...problems },
});

const remove = createRoute({
  method: "delete",
  path: "/v1/volumes/{volume}",
  operationId: "deleteVolume",
  summary: "Forget a volume; with purge its history and managed primary are deleted too",
  tags: ["volumes"],
  ...needs("admin"),
  request: { params: VolumeParams, query: PurgeQuery },
  responses: { 204: done, ...problems },
});

/** Registers the routes. */
export function registerVolumes(app: ApiApp, engine: Engine): void {
  app.openapi(list, (c) => c.json({ volumes: engine.listVolumes() }, 200));
  app.openapi(create, async (c) => {
    const { primary, ...asked } = given(c.req.valid("json"));
    const request = primary === undefined ? asked : { ...asked, primary: given(primary) };
    const volume = await engine.createVolume(request, c.get("caller"));
    return c.json(volume, 201, { location: `/v1/volumes/${encodeURIComponent(volume.name)}` });
  });
  app.openapi(show, (c) => c.json(engine.getVolume(c.req.valid("param").volume), 200));
  app.openapi(resize, async (c) => {
    const request = given(c.req.valid("json"));
    return c.json(await engine.resizeVolume(c.req.valid("param").volume, request, c.get("caller")), 200);
  });
  app.openapi(clients, (c) => {
    const found = engine.listClients(c.req.valid("param").volume, given(c.req.valid("query")));
    return c.json({ clients: found }, 200);
  });
  app.openapi(remove, async (c) => {
    const purge = c.req.valid("query").purge === "true";
    await engine.deleteVolume(c.req.valid("param").volume, { purge }, c.get("caller"));
    return c.body(null, 204);
  });
}

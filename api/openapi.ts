/**
 * What the app knows of its own routes: `/openapi.json` and the methods of an address.
 *
 * @module
 */
import { createRoute, z } from "@hono/zod-openapi";
import type { ApiApp } from "./context.ts";
import { json, TOKEN_SCHEME } from "./route.ts";

const description = createRoute({
  method: "get",
  path: "/openapi.json",
  operationId: "getOpenApi",
  summary: "This description",
  tags: ["appliance"],
  security: [],
  responses: { 200: json("An OpenAPI 3.1 document.", z.record(z.string(), z.unknown())) },
});

const INFO = {
  title: "Varve",
  version: "1",
  description:
    "Block-level continuous data protection: every write is kept, every moment can be read and recovered. " +
    "Sizes are bytes, times are RFC 3339 strings, failures are RFC 9457 problem documents. " +
    "Over the Unix socket no token is needed.",
  license: { name: "Apache-2.0", identifier: "Apache-2.0" },
};

const TAGS = [
  { name: "appliance", description: "The appliance as a whole" },
  { name: "volumes", description: "Protected block devices" },
  { name: "points", description: "Moments: points, marks, times" },
  { name: "retention", description: "How long history is kept" },
  { name: "scrub", description: "Whether the stored history is whole" },
  { name: "files", description: "Files of the past" },
  { name: "clones", description: "Moments of the past that can be written to" },
  { name: "jobs", description: "Recoveries and other long work" },
  { name: "tokens", description: "Who may use the API over TCP" },
];

/** Registers `/openapi.json`, made from every route of the app. */
export function registerOpenApi(app: ApiApp): void {
  app.openAPIRegistry.registerComponent("securitySchemes", TOKEN_SCHEME, {
    type: "http",
    scheme: "bearer",
    description:
      "A token of the appliance; each route names the scope it needs. `admin` includes `operate`, " +
      "which includes `read`.",
  });
  let document: Record<string, unknown> | undefined;
  app.openapi(description, (c) => {
    document ??= {
      ...app.getOpenAPI31Document({ openapi: "3.1.0", info: INFO, tags: TAGS, servers: [{ url: "/" }] }),
    };
    return c.json(document, 200);
  });
}

/** The methods that an address takes; none when there is no such address. */
export function allowedMethods(app: ApiApp, path: string): string[] {
  const methods = app.openAPIRegistry.definitions.flatMap((definition) => {
    const isHere = definition.type === "route" && fits(path, definition.route.path);
    return isHere ? [definition.route.method.toUpperCase()] : [];
  });
  return methods.includes("GET") ? [...methods, "HEAD"] : methods;
}

function fits(path: string, template: string): boolean {
  const parts = path.split("/");
  const wanted = template.split("/");
  return parts.length === wanted.length &&
    wanted.every((part, index) => part.startsWith("{") ? parts[index] !== "" : parts[index] === part);
}

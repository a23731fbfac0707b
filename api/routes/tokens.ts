/**
 * Bearer tokens: list, create, revoke.
 *
 * @module
 */
import { createRoute } from "@hono/zod-openapi";
import type { Engine } from "../../src/engine.ts";
import type { ApiApp } from "../context.ts";
import { body, done, json, jsonAt, needs, problems } from "../route.ts";
import { IdParams, NewTokenRequestSchema, NewTokenSchema, TokensSchema } from "../schemas.ts";

const list = createRoute({
  method: "get",
  path: "/v1/tokens",
  operationId: "listTokens",
  summary: "Tokens, without their secrets",
  tags: ["tokens"],
  ...needs("admin"),
  responses: { 200: json("The tokens.", TokensSchema), ...problems },
});

const create = createRoute({
  method: "post",
  path: "/v1/tokens",
  operationId: "createToken",
  summary: "Make a token; the secret is answered only here",
  tags: ["tokens"],
  ...needs("admin"),
  request: { body: body(NewTokenRequestSchema) },
  responses: { 201: jsonAt("The token with its secret.", NewTokenSchema), ...problems },
});

const revoke = createRoute({
  method: "delete",
  path: "/v1/tokens/{id}",
  operationId: "revokeToken",
  summary: "Take a token back",
  tags: ["tokens"],
  ...needs("admin"),
  request: { params: IdParams },
  responses: { 204: done, ...problems },
});

/** Registers the routes. */
export function registerTokens(app: ApiApp, engine: Engine): void {
  app.openapi(list, (c) => c.json({ tokens: engine.listTokens() }, 200));
  app.openapi(create, (c) => {
    const token = engine.createToken(c.req.valid("json"), c.get("caller"));
    return c.json(token, 201, { location: `/v1/tokens/${token.id}` });
  });
  app.openapi(revoke, (c) => {
    engine.revokeToken(c.req.valid("param").id, c.get("caller"));
    return c.body(null, 204);
  });
}

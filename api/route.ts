/**
 * The pieces that route definitions are made of: the scope a route needs, its answers, its body.
 *
 * @module
 */
import { z } from "@hono/zod-openapi";
import type { MiddlewareHandler } from "hono";
import type { TokenScope } from "../src/engine.ts";
import { requireScope } from "./auth.ts";
import type { ApiEnv } from "./context.ts";
import { ProblemSchema } from "./schemas.ts";

/** Name of the security scheme in `/openapi.json`. */
export const TOKEN_SCHEME = "token";

const problem = { "application/problem+json": { schema: ProblemSchema } };

/** The failures that any route may answer with. */
export const problems = {
  "4XX": { description: "The request cannot be served; the document says why.", content: problem },
  "5XX": { description: "Varve or its storage failed; the document says where.", content: problem },
} as const;

/** The scope that a route needs: enforced by the middleware, told by `/openapi.json`. */
export function needs(scope: TokenScope): {
  security: Record<string, string[]>[];
  middleware: MiddlewareHandler<ApiEnv>;
} {
  return { security: [{ [TOKEN_SCHEME]: [scope] }], middleware: requireScope(scope) };
}

/** An answer in JSON. */
export function json<S extends z.ZodType>(
  description: string,
  schema: S,
): { description: string; content: { "application/json": { schema: S } } } {
  return { description, content: { "application/json": { schema } } };
}

/** An answer in JSON about a thing that has an address of its own. */
export function jsonAt<S extends z.ZodType>(
  description: string,
  schema: S,
): { description: string; headers: z.ZodObject; content: { "application/json": { schema: S } } } {
  const headers = z.object({ Location: z.string().openapi({ description: "Address of the thing." }) });
  return { ...json(description, schema), headers };
}

/** A body that must be there. */
export function body<S extends z.ZodType>(
  schema: S,
): { required: true; content: { "application/json": { schema: S } } } {
  return { required: true, content: { "application/json": { schema } } };
}

/** An answer without a body. */
export const done = { description: "Done." } as const;

/** Drops the fields that hold `undefined`, which only the types of optional fields allow. */
export function given<T extends object>(fields: T): { [K in keyof T]: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]: Exclude<T[K], undefined>;
  };
}

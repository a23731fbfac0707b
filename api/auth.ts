/**
 * Who may do what: bearer tokens over TCP, none over the Unix socket, a scope for each route.
 *
 * @module
 */
import type { MiddlewareHandler } from "hono";
import type { Engine, TokenScope } from "../src/engine.ts";
import type { ApiEnv } from "./context.ts";
import { problemResponse } from "./problem.ts";

/** From the least to the most: each scope includes those before it. */
const SCOPES: readonly TokenScope[] = ["read", "operate", "admin"];

/** Whether somebody with `held` scopes may do what needs `needed`. */
export function allows(held: readonly TokenScope[], needed: TokenScope): boolean {
  return held.some((scope) => SCOPES.indexOf(scope) >= SCOPES.indexOf(needed));
}

/** Finds out who asks. Over TCP a request without a token that is known ends here with 401. */
export function authenticate(engine: Pick<Engine, "authenticate">): MiddlewareHandler<ApiEnv> {
  return async (c, next) => {
    if (c.env?.transport === "unix") {
      c.set("caller", { name: "unix" });
      c.set("scopes", ["admin"]);
      return await next();
    }
    const header = c.req.header("authorization");
    if (header === undefined) {
      return unauthorized("Reading the Authorization header: found none", 'Bearer realm="varve"');
    }
    const secret = /^Bearer +([\x21-\x7e]+)$/i.exec(header)?.[1];
    const token = secret === undefined ? undefined : engine.authenticate(secret);
    if (token === undefined) {
      return unauthorized(
        "Reading the Authorization header: the token is not known",
        'Bearer realm="varve", error="invalid_token"',
      );
    }
    c.set("caller", { name: token.name });
    c.set("scopes", token.scopes);
    return await next();
  };
}

/** Lets only callers with the scope through; others get 403. Runs after {@linkcode authenticate}. */
export function requireScope(scope: TokenScope): MiddlewareHandler<ApiEnv> {
  return async (c, next) => {
    if (allows(c.get("scopes"), scope)) return await next();
    return problemResponse("forbidden", `Checking the token: it has no ${scope} scope`, {
      hint: `Use a token with the scope ${scope}.`,
      headers: { "www-authenticate": `Bearer realm="varve", error="insufficient_scope", scope="${scope}"` },
    });
  };
}

function unauthorized(detail: string, challenge: string): Response {
  return problemResponse("unauthorized", detail, {
    hint: "Send `Authorization: Bearer TOKEN`; the first token is in admin.token of the data folder.",
    headers: { "www-authenticate": challenge },
  });
}

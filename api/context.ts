/**
 * What every request carries through the app: the way it came in, and who asks.
 *
 * @module
 */
import type { OpenAPIHono } from "@hono/zod-openapi";
import type { Caller, TokenScope } from "../src/engine.ts";

/** How a request came in. The Unix socket is guarded by its mode, TCP by bearer tokens. */
export type Transport = "unix" | "tcp";

/** The app's environment: `Bindings` come with each request, `Variables` are set by the guard. */
export interface ApiEnv {
  /** Passed as the second argument of `app.fetch`; without them a request counts as one over TCP. */
  Bindings: { transport?: Transport };
  /** Set by {@linkcode authenticate} of `auth.ts`. */
  Variables: {
    /** Who asks; the audit log keeps it. */
    caller: Caller;
    /** What the caller may do. */
    scopes: readonly TokenScope[];
  };
}

/** The app that routes are registered on. */
export type ApiApp = OpenAPIHono<ApiEnv>;

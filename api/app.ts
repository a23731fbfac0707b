/**
 * The HTTP app: every route over one {@linkcode Engine}, without a socket.
 *
 * @module
 */
import { OpenAPIHono } from "@hono/zod-openapi";
import { getLogger } from "@logtape/logtape";
import type { MiddlewareHandler } from "hono";
import { bodyLimit } from "hono/body-limit";
import { HTTPException } from "hono/http-exception";
import { VarveError } from "../src/base/errors.ts";
import type { Engine } from "../src/engine.ts";
import { authenticate } from "./auth.ts";
import type { ApiApp, ApiEnv } from "./context.ts";
import { allowedMethods, registerOpenApi } from "./openapi.ts";
import { problemOfError, problemOfValidation, problemResponse, statusOf } from "./problem.ts";
import { registerAppliance } from "./routes/appliance.ts";
import { registerClones } from "./routes/clones.ts";
import { registerEvents } from "./routes/events.ts";
import { registerFiles } from "./routes/files.ts";
import { registerJobs } from "./routes/jobs.ts";
import { registerPoints } from "./routes/points.ts";
import { registerRetention } from "./routes/retention.ts";
import { registerScrub } from "./routes/scrub.ts";
import { registerTokens } from "./routes/tokens.ts";
import { registerVolumes } from "./routes/volumes.ts";

const BODY_BYTES_MAX = 1024 * 1024;

const logger = getLogger(["varve", "api"]);

/** What {@linkcode createApi} takes besides the engine. */
export interface ApiOptions {
  /** Ends the streams that are open when it is aborted: events and downloads. */
  closing?: AbortSignal;
}

/**
 * Makes the app. It reads the transport from the bindings of each request; without them it asks for a token.
 *
 * @example
 * ```ts ignore
 * const response = await createApi(engine).request("/v1/status", {}, { transport: "unix" });
 * ```
 */
export function createApi(engine: Engine, options: ApiOptions = {}): ApiApp {
  const closing = options.closing ?? new AbortController().signal;
  const app = new OpenAPIHono<ApiEnv>({
    defaultHook: (result) => {
      if (result.success) return;
      return problemOfValidation(result.error, result.target === "json" ? "body" : result.target);
    },
  });

  app.use(secureHeaders);
  app.use("/v1/*", authenticate(engine));
  app.use("/metrics", authenticate(engine));
  app.on(
    ["POST", "PUT", "PATCH"],
    "/v1/*",
    bodyLimit({
      maxSize: BODY_BYTES_MAX,
      onError: () =>
        problemResponse("too-large", `Reading the body: it is longer than ${BODY_BYTES_MAX} bytes`),
    }),
  );

  registerAppliance(app, engine);
  registerEvents(app, engine);
  registerVolumes(app, engine);
  registerPoints(app, engine);
  registerRetention(app, engine);
  registerScrub(app, engine);
  registerFiles(app, engine, closing);
  registerClones(app, engine);
  registerJobs(app, engine, closing);
  registerTokens(app, engine);
  registerOpenApi(app);
  app.get("/", (c) => c.json({ name: "Varve", api: "/v1", description: "/openapi.json" }));

  app.notFound((c) => {
    const methods = allowedMethods(app, c.req.path);
    if (methods.length === 0) {
      return problemResponse("not-found", `Looking for ${c.req.path}: there is no such address`, {
        hint: "/openapi.json lists every address.",
      });
    }
    return problemResponse(
      "method-not-allowed",
      `${c.req.method} ${c.req.path}: only ${methods.join(", ")}`,
      {
        headers: { allow: methods.join(", ") },
      },
    );
  });

  app.onError((error, c) => {
    if (error instanceof HTTPException) return problemOfHttp(error);
    if (error instanceof VarveError) {
      if (statusOf(error.code) >= 500) logger.error("{method} {path}: {error}", { ...where(c.req), error });
      return problemOfError(error);
    }
    logger.error("{method} {path}: unexpected: {error}", { ...where(c.req), error });
    return problemResponse("internal", "Serving the request: an unexpected failure; the log has it");
  });
  return app;
}

function where(request: { method: string; path: string }): { method: string; path: string } {
  return { method: request.method, path: request.path };
}

/** What the framework itself refuses before a handler runs. */
function problemOfHttp(error: HTTPException): Response {
  if (error.status === 415) {
    return problemResponse("unsupported-media-type", "Reading the body: it is not sent as JSON", {
      hint: "Send `Content-Type: application/json`.",
    });
  }
  return problemResponse("invalid", "Reading the body: it is not well-formed JSON", { field: "body" });
}

/** The answers are data: nothing in them may be run, framed, guessed at or kept. */
const secureHeaders: MiddlewareHandler = async (c, next) => {
  await next();
  c.header("x-content-type-options", "nosniff");
  c.header("x-frame-options", "DENY");
  c.header("referrer-policy", "no-referrer");
  c.header("content-security-policy", "default-src 'none'; frame-ancestors 'none'");
  if (!c.res.headers.has("cache-control")) c.header("cache-control", "no-store");
};

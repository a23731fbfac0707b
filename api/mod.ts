/**
 * The HTTP API: Hono routes over one `Engine`, Zod schemas, problem documents, and the server that listens.
 *
 * @module
 */
export { type ApiOptions, createApi } from "./app.ts";
export type { ApiApp, ApiEnv, Transport } from "./context.ts";
export { type ApiServer, serveApi, type ServeApiOptions } from "./server.ts";
export { isLocal, parseListenAddress } from "../src/nbd/mod.ts";

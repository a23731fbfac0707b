/**
 * Requests to the app without a socket. Every answer is checked against what the route says of itself.
 *
 * @module
 */
import type { z } from "@hono/zod-openapi";
import assert from "node:assert/strict";
import { createApi } from "../app.ts";
import type { ApiApp, Transport } from "../context.ts";
import { FakeEngine } from "./fake_engine.ts";

/** One route, as its definition has it. */
export interface RouteEntry {
  /** `GET`, `POST`, … */
  method: string;
  /** Path with `{parameters}`. */
  path: string;
  /** The scope that is needed, or `undefined` for an open route. */
  scope: string | undefined;
  /** Schemas of JSON answers by status. */
  answers: Map<number, z.ZodType>;
  /** The statuses that are described. */
  statuses: string[];
}

/** What {@linkcode Harness.call} takes besides method and path. */
export interface CallOptions {
  /** Sent as JSON; a string is sent as it is. */
  body?: unknown;
  /** Request headers. */
  headers?: Record<string, string>;
  /** Default: `unix`, which needs no token. */
  transport?: Transport;
}

/** What came back, with its JSON when it is JSON. */
export interface Answer {
  status: number;
  headers: Headers;
  text: string;
  // deno-lint-ignore no-explicit-any -- Tests look into it; the schema has checked it.
  body: any;
}

/** An app over a fake engine. */
export class Harness {
  readonly engine: FakeEngine = new FakeEngine();
  readonly app: ApiApp = createApi(this.engine);

  /** Sends a request and checks that the route describes the answer: its status, its whole body, its media type. */
  async call(method: string, path: string, options: CallOptions = {}): Promise<Answer> {
    const { body, headers = {}, transport = "unix" } = options;
    const response = await this.app.request(path, {
      method,
      headers: { ...(body === undefined ? {} : { "content-type": "application/json" }), ...headers },
      ...(body === undefined ? {} : { body: typeof body === "string" ? body : JSON.stringify(body) }),
    }, { transport });
    const text = await response.text();
    const type = response.headers.get("content-type") ?? "";
    const answer: Answer = {
      status: response.status,
      headers: response.headers,
      text,
      body: /[/+]json/.test(type) && text !== "" ? JSON.parse(text) : undefined,
    };
    if (answer.status >= 400 && answer.status !== 503) checkProblem(answer, type);
    else this.#checkDescribed(method, path, answer);
    return answer;
  }

  /** Every route of the app. */
  routes(): RouteEntry[] {
    return this.app.openAPIRegistry.definitions.flatMap((definition) => {
      if (definition.type !== "route") return [];
      const { method, path, security, responses } = definition.route;
      const answers = new Map<number, z.ZodType>();
      for (const [status, response] of Object.entries(responses)) {
        const media = "content" in response ? response.content?.["application/json"] : undefined;
        if (media !== undefined && "schema" in media) answers.set(Number(status), media.schema as z.ZodType);
      }
      const scope = security?.flatMap((requirement) => Object.values(requirement).flat()).at(0);
      return [{ method: method.toUpperCase(), path, scope, answers, statuses: Object.keys(responses) }];
    });
  }

  #checkDescribed(method: string, path: string, answer: Answer): void {
    const { pathname } = new URL(path, "http://localhost");
    const route = this.routes().find((each) =>
      each.method === (method === "HEAD" ? "GET" : method) && samplePattern(each.path).test(pathname)
    );
    if (route === undefined) return;
    const where = `${method} ${path} answered ${answer.status}`;
    assert.ok(route.statuses.includes(String(answer.status)), `${where}, which the route does not describe`);
    const schema = route.answers.get(answer.status);
    if (schema !== undefined) assert.deepEqual(answer.body, schema.parse(answer.body), where);
  }
}

/** Matches the addresses that a path with `{parameters}` stands for. */
function samplePattern(path: string): RegExp {
  return new RegExp(`^${path.replaceAll(".", "\\.").replaceAll(/\{[^}]+\}/g, "[^/]+")}$`);
}

function checkProblem(answer: Answer, type: string): void {
  assert.equal(type, "application/problem+json");
  for (const member of ["type", "title", "detail", "code"]) {
    assert.equal(typeof answer.body[member], "string", member);
  }
  assert.equal(answer.body.status, answer.status);
}

/**
 * The client of the HTTP API, over the Unix socket or TCP.
 *
 * @module
 */
import { VarveError } from "../src/base/errors.ts";
import type { JobInfo } from "../src/engine.ts";
import { pause } from "./pause.ts";

/** Where the appliance listens unless told otherwise. */
export const DEFAULT_API = "unix:/run/varve/api.sock";

/** Pause before a lost event stream is taken up again. */
const RECONNECT_MS = 500;

/** A problem document that the API answered with. */
export interface Problem {
  /** Kind of failure. */
  code: string;
  /** What was tried, and what was found. */
  detail: string;
  /** What can be done about it. */
  hint?: string;
  /** Whatever else it holds. */
  [member: string]: unknown;
}

/** The API refused a request. */
export class ProblemError extends Error {
  /** The document. */
  readonly problem: Problem;

  /** Wraps a document. */
  constructor(problem: Problem) {
    super(problem.detail);
    this.problem = problem;
  }
}

/** Values of a query; those that are `undefined` are left out. */
export type Query = Record<string, string | number | boolean | undefined>;

/** What a request carries. */
export interface RequestOptions {
  /** Appended to the path. */
  query?: Query;
  /** Sent as JSON. */
  body?: unknown;
}

/** Talks to one appliance. Every method throws {@linkcode ProblemError}, or {@linkcode VarveError} `io` without an answer. */
export class ApiClient implements Disposable {
  readonly #api: string;
  readonly #base: string;
  readonly #token: string | undefined;
  readonly #http: Deno.HttpClient | undefined;

  /** `api` is `unix:/path`, `HOST:PORT` or an `http:` or `https:` URL. */
  constructor(api: string, token?: string) {
    this.#api = api;
    this.#token = token;
    if (api.startsWith("unix:")) {
      this.#base = "http://localhost";
      this.#http = Deno.createHttpClient({ proxy: { transport: "unix", path: api.slice("unix:".length) } });
    } else {
      this.#base = /^https?:\/\//.test(api) ? api.replace(/\/+$/, "") : `http://${api}`;
      if (!URL.canParse(this.#base)) {
        throw new VarveError("invalid", `Reading the address ${JSON.stringify(api)}: it has no known form`, {
          hint: "Write unix:/path/to/socket, HOST:PORT or a URL.",
        });
      }
    }
  }

  /** Closes the connections. */
  [Symbol.dispose](): void {
    this.#http?.close();
  }

  /** Sends a request and reads the JSON it is answered with; `undefined` when the answer has no body. */
  async request<T>(method: string, path: string, options: RequestOptions = {}): Promise<T> {
    const response = await this.#fetch(method, path, options);
    const text = await response.text();
    return (text === "" ? undefined : JSON.parse(text)) as T;
  }

  /** Sends a GET request and answers with the body as it comes. */
  async download(path: string, query: Query): Promise<ReadableStream<Uint8Array>> {
    const response = await this.#fetch("GET", path, { query });
    return response.body ?? new ReadableStream({ start: (controller) => controller.close() });
  }

  /** The states of a job as they come, until it has ended. A lost connection is taken up again. */
  async *follow(id: string): AsyncGenerator<JobInfo, void> {
    const path = `/v1/jobs/${encodeURIComponent(id)}`;
    for (;;) {
      const events = await this.download(`${path}/events`, {});
      try {
        for await (const data of eventData(events)) {
          const job = JSON.parse(data) as JobInfo;
          yield job;
          if (hasEnded(job)) return;
        }
      } catch (thrown) {
        if (!(thrown instanceof TypeError)) throw thrown; // What fetch throws when the connection breaks.
      }
      const job = await this.request<JobInfo>("GET", path);
      yield job;
      if (hasEnded(job)) return;
      await pause(RECONNECT_MS);
    }
  }

  async #fetch(method: string, path: string, { query = {}, body }: RequestOptions): Promise<Response> {
    const url = new URL(this.#base + path);
    for (const [key, value] of Object.entries(query)) {
      if (value !== undefined) url.searchParams.set(key, String(value));
    }
    const headers = new Headers();
    if (this.#token !== undefined) headers.set("authorization", `Bearer ${this.#token}`);
    if (body !== undefined) headers.set("content-type", "application/json");
    let response;
    try {
      response = await fetch(url, {
        method,
        headers,
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
        ...(this.#http === undefined ? {} : { client: this.#http }),
      });
    } catch (thrown) {
      throw this.#unreachable(thrown);
    }
    if (!response.ok) throw new ProblemError(await readProblem(response));
    return response;
  }

  #unreachable(thrown: unknown): VarveError {
    const cause = thrown instanceof Error && thrown.cause instanceof Error ? thrown.cause : thrown;
    const message = cause instanceof Error ? cause.message : String(cause);
    const found = message.split("(Connect): ").at(-1);
    return new VarveError("io", `Connecting to ${this.#api}: ${found}`, {
      cause: thrown,
      hint: "Is the appliance running? `varve serve` starts it; --api or VARVE_API names another address.",
    });
  }
}

/** Whether a job changes no more. */
export function hasEnded(job: JobInfo): boolean {
  return job.state !== "queued" && job.state !== "running";
}

/** The `data` of each event in a stream of server-sent events. */
async function* eventData(bytes: ReadableStream<Uint8Array>): AsyncGenerator<string, void> {
  let rest = "";
  for await (
    const text of bytes.pipeThrough(new TextDecoderStream() as ReadableWritablePair<string, Uint8Array>)
  ) {
    const events = (rest + text).split("\n\n");
    rest = events.pop() ?? "";
    for (const event of events) {
      const lines = event.split("\n").filter((line) => line.startsWith("data: "));
      if (lines.length > 0) yield lines.map((line) => line.slice("data: ".length)).join("\n");
    }
  }
}

async function readProblem(response: Response): Promise<Problem> {
  const text = await response.text();
  try {
    const problem = JSON.parse(text);
    if (typeof problem.code === "string" && typeof problem.detail === "string") return problem;
  } catch {
    // Something that is no appliance answered; the text below says so.
  }
  return {
    code: "io",
    detail: `Asking ${response.url}: answered ${response.status} without a problem document`,
  };
}

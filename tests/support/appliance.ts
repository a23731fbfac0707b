/**
 * An appliance as a subprocess, in a temporary folder of its own: what the acceptance tests work on.
 *
 * @module
 */
import type { JobInfo, MarkInfo, VolumeInfo } from "../../src/engine.ts";
import { NbdDisk } from "./nbd_disk.ts";
import { attempt, ENVIRONMENT, type Ran, run } from "./run.ts";

const CLI = new URL("../../cli/main.ts", import.meta.url).pathname;
/** An appliance that has not stopped by then is killed, and the test fails. */
const STOP_LIMIT_MS = 15_000;
/** A request without an answer by then fails the test. */
const ANSWER_LIMIT_MS = 20_000;

/** An answer of the HTTP API. */
// deno-lint-ignore no-explicit-any -- tests say by their assertions what is in it
export interface Answer<T = any> {
  /** Status code. */
  status: number;
  /** Media type. */
  type: string;
  /** The JSON, `undefined` for an empty body. */
  body: T;
}

interface Running {
  process: Deno.ChildProcess;
  log: Promise<string>;
  /** Whether it has ended, asked or not. */
  hasEnded: boolean;
}

/** Options of {@linkcode TestAppliance.start}. */
export interface StartOptions {
  /** More addresses for NBD. */
  nbd?: string[];
  /** More addresses for the API. */
  api?: string[];
  /** How much of an adopted disk is copied a second, as on the command line. */
  baselineRate?: string;
  /** More flags of `varve serve`; they beat those that it gets anyway. */
  flags?: string[];
  /** Whether it may start without its mount; `place.mountError` then says why it has none. */
  mayLackMount?: boolean;
  /** Gives the data folder a file system of its own, a tmpfs of this size. */
  dataBytes?: number;
}

/** A running appliance; disposing of it stops it and removes everything that it had. */
export class TestAppliance implements AsyncDisposable {
  /** Holds its data, its sockets and its mount point, and whatever the test puts there. */
  readonly folder: string;
  /** Addresses it told when it was ready last. */
  place: { nbd: string[]; api: string[]; mountPath?: string; mountError?: string } = { nbd: [], api: [] };
  readonly #options: StartOptions;
  #running: Running | undefined;

  private constructor(folder: string, options: StartOptions) {
    this.folder = folder;
    this.#options = options;
  }

  /** Starts one; resolves when it serves. */
  static async start(options: StartOptions = {}): Promise<TestAppliance> {
    const appliance = new TestAppliance(await Deno.makeTempDir({ prefix: "varve-test-" }), options);
    try {
      if (options.dataBytes !== undefined) {
        await Deno.mkdir(appliance.dataPath);
        await run("mount", "-t", "tmpfs", "-o", `size=${options.dataBytes}`, "tmpfs", appliance.dataPath);
      }
      await appliance.launch();
      return appliance;
    } catch (thrown) {
      await appliance[Symbol.asyncDispose]();
      throw thrown;
    }
  }

  /** Process number of the running appliance. */
  get pid(): number {
    if (this.#running === undefined) throw new Error("Looking at the appliance: it does not run");
    return this.#running.process.pid;
  }

  /** The data folder. */
  get dataPath(): string {
    return `${this.folder}/data`;
  }

  /** Where the past is mounted. */
  get mountPath(): string {
    return `${this.folder}/mnt`;
  }

  /** The socket of the NBD server. */
  get nbdPath(): string {
    return `${this.folder}/nbd.sock`;
  }

  /** Arguments of `varve serve`. */
  get serveArguments(): string[] {
    const { nbd = [], api = [], baselineRate, flags = [] } = this.#options;
    return [
      ...["serve", "--json", "--data", this.dataPath, "--mount", this.mountPath],
      ...["--nbd", `unix:${this.nbdPath}`, ...nbd.flatMap((address) => ["--nbd", address])],
      ...["--api", `unix:${this.folder}/api.sock`, ...api.flatMap((address) => ["--api", address])],
      ...(baselineRate === undefined ? [] : ["--baseline-rate", baselineRate]),
      ...flags,
    ];
  }

  /** Starts it again after {@linkcode stop} or {@linkcode kill}, on the same paths. */
  async launch(): Promise<void> {
    const process = new Deno.Command(Deno.execPath(), {
      args: ["run", "--allow-all", "--v8-flags=--optimize-for-size", CLI, ...this.serveArguments],
      env: ENVIRONMENT,
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    const log = new Response(process.stderr).text();
    const running: Running = { process, log, hasEnded: false };
    process.status.then(() => running.hasEnded = true);
    this.#running = running;
    let printed = "";
    const decoder = new TextDecoder();
    for await (const chunk of process.stdout.values({ preventCancel: true })) {
      printed += decoder.decode(chunk, { stream: true });
      if (!printed.endsWith("\n")) continue;
      this.place = JSON.parse(printed);
      if (this.place.mountError === undefined || this.#options.mayLackMount) return;
      throw new Error(`The appliance could not mount the past: ${this.place.mountError}`);
    }
    throw new Error(`The appliance did not start:\n${await log}`);
  }

  /** Ends it as its owner would; returns its log. Throws an `Error` when it does not go, or not in peace. */
  async stop(): Promise<string> {
    const { code, signal, log } = await this.#end("SIGTERM");
    if (code !== 0) throw new Error(`Stopping the appliance: it ended with ${signal ?? code}\n${log}`);
    return log;
  }

  /** Ends it as a crash would: `kill -9`. */
  async kill(): Promise<void> {
    await this.#end("SIGKILL");
  }

  async #end(signal: Deno.Signal): Promise<Deno.CommandStatus & { log: string }> {
    if (this.#running === undefined) throw new Error("Ending the appliance: it does not run");
    const { process, log, hasEnded } = this.#running;
    this.#running = undefined;
    const killer = setTimeout(() => {
      sendSignal(process, "SIGKILL");
      // One that waits for its own mount outlives even that, until the mount is aborted.
      attempt("umount", "--force", "--lazy", this.mountPath);
    }, STOP_LIMIT_MS);
    sendSignal(process, signal);
    const status = await process.status;
    clearTimeout(killer);
    await process.stdout.cancel();
    if (hasEnded) {
      throw new Error(`The appliance ended by itself with ${status.signal ?? status.code}:\n${await log}`);
    }
    return { ...status, log: await log };
  }

  /** Runs a command of `varve` to its end, whatever comes out. */
  varve(...args: string[]): Promise<Ran> {
    const api = `VARVE_API=unix:${this.folder}/api.sock`;
    return attempt("env", api, Deno.execPath(), "run", "--allow-all", CLI, ...args);
  }

  /** Runs a command of `varve` that must succeed; returns what it printed. */
  async varveOk(...args: string[]): Promise<string> {
    const { code, stdout, stderr } = await this.varve(...args);
    if (code !== 0) throw new Error(`varve ${args.join(" ")}: exit code ${code}\n${stdout}${stderr}`);
    return stdout;
  }

  /** Asks the HTTP API over its Unix socket; `body` is sent as JSON, or as it is when it is a text. */
  async api<T = unknown>(method: string, path: string, body?: unknown): Promise<Answer<T>> {
    using client = Deno.createHttpClient({ proxy: { transport: "unix", path: `${this.folder}/api.sock` } });
    const response = await fetch(`http://localhost${path}`, {
      client,
      method,
      signal: AbortSignal.timeout(ANSWER_LIMIT_MS),
      ...(body === undefined ? {} : {
        headers: { "content-type": "application/json" },
        body: typeof body === "string" ? body : JSON.stringify(body),
      }),
    });
    const text = await response.text();
    const type = response.headers.get("content-type") ?? "";
    return {
      status: response.status,
      type,
      body: (/json/.test(type) ? JSON.parse(text) : text === "" ? undefined : text) as T,
    };
  }

  /** Asks the HTTP API for something that it must grant. */
  async apiOk<T>(method: string, path: string, body?: unknown): Promise<T> {
    const answer = await this.api<T>(method, path, body);
    if (answer.status < 300) return answer.body;
    throw new Error(`${method} ${path}: ${answer.status} ${JSON.stringify(answer.body)}`);
  }

  /** Makes a volume with a managed primary. */
  createVolume(name: string, sizeBytes: number): Promise<VolumeInfo> {
    return this.apiOk("POST", "/v1/volumes", { name, sizeBytes });
  }

  /** What is known of a volume. */
  volume(name: string): Promise<VolumeInfo> {
    return this.apiOk("GET", `/v1/volumes/${name}`);
  }

  /** Marks the present moment of a volume. */
  mark(volume: string, name: string, more: { pinned?: boolean } = {}): Promise<MarkInfo> {
    return this.apiOk("POST", `/v1/volumes/${volume}/marks`, { name, ...more });
  }

  /** Waits for a job to end; throws an `Error` unless it succeeds. */
  async finish(job: JobInfo): Promise<JobInfo> {
    // The stream of events ends with the job.
    await this.apiOk("GET", `/v1/jobs/${job.id}/events`);
    const ended = await this.apiOk<JobInfo>("GET", `/v1/jobs/${job.id}`);
    if (ended.state === "succeeded") return ended;
    throw new Error(`Job ${ended.kind} of ${ended.volume}: ${ended.state} ${JSON.stringify(ended.error)}`);
  }

  /** Recovers a moment to a target, reads it back and waits for the end. */
  async recover(volume: string, at: string, target: string): Promise<JobInfo> {
    const request = { at, target, verify: true };
    return await this.finish(await this.apiOk("POST", `/v1/volumes/${volume}/recoveries`, request));
  }

  /** Opens an export with the tests' own client. */
  disk(exportName: string): Promise<NbdDisk> {
    return NbdDisk.open(this.nbdPath, exportName);
  }

  /** The URI of an export for qemu and libnbd. */
  uri(exportName: string): string {
    return `nbd+unix:///${encodeURIComponent(exportName)}?socket=${this.nbdPath}`;
  }

  /** The time by which a mark is listed under `points/` and `images/`. */
  async timeOfMark(volume: string, name: string): Promise<string> {
    return (await Deno.readLink(`${this.mountPath}/${volume}/marks/${name}`)).replace("../points/", "");
  }

  /** Stops it and removes everything; a mount left by a killed one too. */
  async [Symbol.asyncDispose](): Promise<void> {
    try {
      if (this.#running !== undefined) await this.stop();
    } finally {
      const mounts = await Deno.readTextFile("/proc/self/mounts");
      for (const place of [this.mountPath, this.dataPath]) {
        if (mounts.includes(` ${place} `)) await run("umount", "--lazy", place);
      }
      await Deno.remove(this.folder, { recursive: true });
    }
  }
}

/**
 * Makes a test of something that wants an appliance of its own. When both the test and the appliance's end fail, both
 * are told: the latter holds the log, which is often the reason of the former.
 */
export function withAppliance(
  test: (appliance: TestAppliance) => Promise<void>,
  options: StartOptions = {},
): () => Promise<void> {
  return async () => {
    const appliance = await TestAppliance.start(options);
    const failures: unknown[] = [];
    await test(appliance).catch((thrown) => failures.push(thrown));
    await appliance[Symbol.asyncDispose]().catch((thrown) => failures.push(thrown));
    if (failures.length > 1) {
      const messages = failures.map((thrown) => thrown instanceof Error ? thrown.message : String(thrown));
      throw new Error(messages.join("\nAnd then: "), { cause: failures[0] });
    }
    if (failures.length > 0) throw failures[0];
  };
}

function sendSignal(process: Deno.ChildProcess, signal: Deno.Signal): void {
  try {
    process.kill(signal);
  } catch (thrown) {
    if (!(thrown instanceof TypeError)) throw thrown; // What Deno throws when it has ended already.
  }
}

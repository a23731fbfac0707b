// deno-lint-ignore-file no-console -- it speaks to people at a terminal
/**
 * The appliance of the demo: a subprocess, in a temporary folder of its own.
 *
 * @module
 */
import { runProgram } from "./demo_host.ts";

const CLI = new URL("../cli/main.ts", import.meta.url).pathname;
/** An appliance that has not stopped by then is killed. */
const STOP_LIMIT_MS = 10_000;

/** A running appliance; disposing of it stops it and removes everything that it had. */
export class DemoAppliance implements AsyncDisposable {
  /** Holds its data, its sockets and its mount point. */
  readonly folder: string;
  /** Where the past is mounted; `undefined` when it could not be mounted. */
  mountPath: string | undefined;
  /** Why it is not mounted. */
  mountError: string | undefined;
  readonly #process: Deno.ChildProcess;
  readonly #log: Promise<string>;

  private constructor(folder: string) {
    this.folder = folder;
    this.#process = new Deno.Command(Deno.execPath(), {
      args: [
        ...["run", "--allow-all", "--v8-flags=--optimize-for-size", CLI, "serve", "--json"],
        ...["--data", `${folder}/data`, "--mount", `${folder}/mnt`],
        ...["--nbd", `unix:${this.nbdPath}`, "--api", `unix:${folder}/api.sock`],
      ],
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    this.#log = new Response(this.#process.stderr).text();
  }

  /** Starts one; it is not ready yet. */
  static async start(): Promise<DemoAppliance> {
    return new DemoAppliance(await Deno.makeTempDir({ prefix: "varve-demo-" }));
  }

  /** The socket of its NBD server. */
  get nbdPath(): string {
    return `${this.folder}/nbd.sock`;
  }

  /** Resolves when it serves; throws an `Error` with its log when it ends before. */
  async ready(): Promise<void> {
    let printed = "";
    const decoder = new TextDecoder();
    for await (const chunk of this.#process.stdout.values({ preventCancel: true })) {
      printed += decoder.decode(chunk, { stream: true });
      if (!printed.endsWith("\n")) continue;
      const place: { mountPath?: string; mountError?: string } = JSON.parse(printed);
      this.mountPath = place.mountPath;
      this.mountError = place.mountError;
      return;
    }
    throw new Error(`The appliance did not start:\n${await this.#log}`);
  }

  /** Runs the command line as a user would; returns what it printed, throws an `Error` with what it complained. */
  async varve(...args: string[]): Promise<Uint8Array> {
    console.log(`         $ varve ${args.join(" ")}`);
    const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: ["run", "--allow-all", CLI, ...args],
      env: { VARVE_API: `unix:${this.folder}/api.sock`, NO_COLOR: "1" },
      stdin: "null",
    }).output();
    if (!success) throw new Error(`varve ${args.join(" ")}: ${new TextDecoder().decode(stderr)}`);
    return stdout;
  }

  /** Stops it and removes everything. */
  async [Symbol.asyncDispose](): Promise<void> {
    const killer = setTimeout(() => this.#kill("SIGKILL"), STOP_LIMIT_MS);
    this.#kill("SIGTERM");
    await Promise.all([this.#process.status, this.#log]);
    clearTimeout(killer);
    await this.#process.stdout.cancel();
    const mounts = await Deno.readTextFile("/proc/self/mounts");
    if (mounts.includes(` ${this.folder}/mnt `)) await runProgram("umount", ["--lazy", `${this.folder}/mnt`]);
    await Deno.remove(this.folder, { recursive: true });
  }

  #kill(signal: Deno.Signal): void {
    try {
      this.#process.kill(signal);
    } catch (thrown) {
      if (!(thrown instanceof TypeError)) throw thrown; // What Deno throws when it has ended already.
    }
  }
}

/**
 * The asking side of the process that serves disks to the kernel.
 *
 * @module
 */
import { VarveError } from "../../src/base/errors.ts";
import {
  decodeMessages,
  type DiskPart,
  encodeMessage,
  errorOf,
  type FromDisks,
  type ToDisks,
} from "./disk_messages.ts";

/** A disk that is served. */
export interface ServedDisk {
  /** Path of the disk as a file that can be read and written; good until it is released. */
  readonly path: string;
  /** Resolves when nobody serves it any more: with the first failure of the disk, if there was one. */
  readonly ended: Promise<VarveError | undefined>;
  /** Nobody will open it any more: the serving ends when those who have it open have left. */
  release(): void;
  /** Ends the serving, whoever waits for it: they get an error. */
  stop(): void;
}

interface Served {
  readonly serving: PromiseWithResolvers<number>;
  readonly ended: PromiseWithResolvers<VarveError | undefined>;
}

interface Running {
  readonly process: Deno.ChildProcess;
  readonly input: WritableStreamDefaultWriter<Uint8Array<ArrayBuffer>>;
  readonly ended: Promise<void>;
}

/** Started by the first disk, and again when it has ended. */
export class DiskServer {
  readonly #url: URL;
  readonly #served = new Map<number, Served>();
  #running: Running | undefined;
  #nextId = 1;

  /** `url` is the entry of the process; tests have their own. */
  constructor(url: URL = new URL("./disk_process.ts", import.meta.url)) {
    this.#url = url;
  }

  /** Begins to serve a part of a moment's disk. Rejects with what opening or mounting it throws. */
  async serve({ place, seq, pieces }: DiskPart): Promise<ServedDisk> {
    const running = this.#running ??= this.#start();
    const id = this.#nextId++;
    const served: Served = { serving: Promise.withResolvers(), ended: Promise.withResolvers() };
    this.#served.set(id, served);
    const ended = served.ended.promise;
    this.#tell(running, { kind: "serve", id, place, seq, pieces });
    const failed = ended.then((error) => {
      throw error ?? new VarveError("io", "serve a disk to the kernel: it ended at once");
    });
    failed.catch(() => {});
    const mount = await Promise.race([served.serving.promise, failed]);
    return {
      path: `/proc/${running.process.pid}/fd/${mount}`,
      ended,
      release: () => this.#tell(running, { kind: "release", id }),
      stop: () => this.#tell(running, { kind: "stop", id }),
    };
  }

  #tell({ input }: Running, message: ToDisks): void {
    // One that is gone is told of by the end of its output.
    input.write(encodeMessage(message)).catch(() => {});
  }

  #start(): Running {
    const process = new Deno.Command(Deno.execPath(), {
      args: ["run", "--allow-all", "--quiet", this.#url.href],
      stdin: "piped",
      stdout: "piped",
    }).spawn();
    return { process, input: process.stdin.getWriter(), ended: this.#listen(process) };
  }

  async #listen(process: Deno.ChildProcess): Promise<void> {
    let error: unknown;
    try {
      for await (const message of decodeMessages<FromDisks>(process.stdout)) this.#hear(message);
    } catch (thrown) {
      error = thrown;
    }
    const { signal, code } = await process.status;
    this.#running = undefined;
    for (const { ended } of this.#served.values()) {
      ended.resolve(
        new VarveError("io", `serve disks to the kernel: the process ended with ${signal ?? code}`, {
          cause: error,
        }),
      );
    }
    this.#served.clear();
  }

  #hear(message: FromDisks): void {
    const served = this.#served.get(message.id);
    if (message.kind === "serving") return served?.serving.resolve(message.mount);
    this.#served.delete(message.id);
    served?.ended.resolve(errorOf(message.error));
  }

  /** Ends the process once nobody uses a disk of it any more. */
  async close(): Promise<void> {
    const running = this.#running;
    if (running === undefined) return;
    await running.input.close().catch(() => {});
    await running.ended;
  }
}

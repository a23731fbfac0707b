/**
 * The main thread's side of the Worker that does the work of a prune.
 *
 * @module
 */
import { VarveError } from "./base/errors.ts";
import type { PruneMessage, PruneRequest, PruneTask } from "./prune_worker.ts";
import type { GroupLiving, PruneHands, RelocationOrder } from "./volume/prune_work.ts";
import type { RewriteOrder, RewriteOutcome } from "./volume/rewrite.ts";
import type { Volume } from "./volume/volume.ts";

/** Finds somebody who does the work of a prune until the signal is aborted, and whom the caller lets go at the end. */
export type HandsFor = (volume: Volume, signal: AbortSignal) => PruneHands;

interface Waiting {
  resolve(outcome: unknown): void;
  reject(error: VarveError): void;
  readonly onProgress: (bytes: number) => void;
}

/** Has a Worker do the work of a prune; the Worker begins with the first piece and ends with `close`. */
export class WorkerHands implements PruneHands {
  readonly #volume: Volume;
  readonly #signal: AbortSignal;
  readonly #stop = () => this.#worker?.postMessage({ kind: "stop" } satisfies PruneRequest);
  #worker: Worker | undefined;
  #waiting: Waiting | undefined;
  /** Ends the Worker's time with the map. */
  #release: () => void = () => {};

  /** Works on a volume until `signal` is aborted. */
  constructor(volume: Volume, signal: AbortSignal) {
    this.#volume = volume;
    this.#signal = signal;
  }

  #begin(): Worker {
    if (this.#signal.aborted) throw new VarveError("cancelled", "prune: it was stopped");
    const worker = new Worker(new URL("./prune_worker.ts", import.meta.url), {
      type: "module",
      name: "prune",
    });
    worker.onmessage = ({ data }: MessageEvent<PruneMessage>) => this.#take(data);
    worker.onerror = (event) => {
      event.preventDefault();
      const waiting = this.#waiting;
      this.close();
      waiting?.reject(new VarveError("io", `prune: the worker ended: ${event.message}`));
    };
    worker.postMessage({ kind: "open", directory: this.#volume.directory } satisfies PruneRequest);
    this.#signal.addEventListener("abort", this.#stop);
    return worker;
  }

  #take(message: PruneMessage): void {
    switch (message.kind) {
      case "acquire":
        void this.#volume.exclusively(() => this.#grant());
        break;
      case "release":
        this.#release();
        break;
      case "progress":
        this.#waiting?.onProgress(message.bytes);
        break;
      case "done":
        this.#waiting?.resolve(message.outcome);
        break;
      case "failed":
        this.#waiting?.reject(VarveError.fromMessage(message.error));
        break;
    }
  }

  #grant(): Promise<void> {
    return new Promise((resolve) => {
      this.#release = resolve;
      if (this.#worker === undefined) resolve();
      else this.#worker.postMessage({ kind: "granted" } satisfies PruneRequest);
    });
  }

  async #work<T>(task: PruneTask, onProgress: (bytes: number) => void = () => {}): Promise<T> {
    const worker = this.#worker ??= this.#begin();
    try {
      return await new Promise<unknown>((resolve, reject) => {
        this.#waiting = { resolve, reject, onProgress };
        worker.postMessage({ kind: "work", task } satisfies PruneRequest);
      }) as T;
    } finally {
      this.#waiting = undefined;
    }
  }

  countLiving(keptSeqs: readonly number[]): Promise<Map<number, number>> {
    return this.#work({ method: "countLiving", args: [keptSeqs] });
  }

  dropDead(keptSeqs: readonly number[], condemned: readonly number[]): Promise<Map<number, number>> {
    return this.#work({ method: "dropDead", args: [keptSeqs, condemned] });
  }

  collectLiving(group: readonly number[], baseSeq: number): Promise<GroupLiving> {
    return this.#work({ method: "collectLiving", args: [group, baseSeq] });
  }

  rewrite(order: RewriteOrder, onProgress: (bytes: number) => void): Promise<RewriteOutcome> {
    return this.#work({ method: "rewrite", args: [order] }, onProgress);
  }

  relocate(order: RelocationOrder): Promise<void> {
    return this.#work({ method: "relocate", args: [order] });
  }

  fold(): Promise<void> {
    return this.#work({ method: "fold", args: [] });
  }

  remove(segments: readonly number[]): Promise<void> {
    return this.#work({ method: "remove", args: [segments] });
  }

  close(): void {
    this.#signal.removeEventListener("abort", this.#stop);
    this.#worker?.terminate();
    this.#worker = undefined;
    this.#release();
  }
}

/**
 * The main thread's side of the Workers that read the past.
 *
 * @module
 */
import { VarveError } from "./base/errors.ts";
import type { BrowseAnswer, BrowseRequest } from "./browse_worker.ts";
import type { RecoveryMessage, RecoveryOrder } from "./recovery_worker.ts";
import type { ScrubMessage } from "./scrub_worker.ts";
import type { CopyOutcome } from "./timeline/recover.ts";
import type { ScrubOrder, ScrubOutcome } from "./volume/scrub.ts";

interface Waiting {
  resolve(answer: BrowseAnswer & { ok: true }): void;
  reject(error: VarveError): void;
}

/** Asks the Worker that reads files of the past; it is started by the first request. */
export class Browser {
  #worker: Worker | undefined;
  #nextId = 1;
  readonly #waiting = new Map<number, Waiting>();

  /** Sends a request and resolves with its answer. */
  ask(request: Omit<BrowseRequest, "id">): Promise<BrowseAnswer & { ok: true }> {
    const worker = this.#worker ??= this.#start();
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      worker.postMessage({ ...request, id } satisfies BrowseRequest);
    });
  }

  #start(): Worker {
    const worker = new Worker(new URL("./browse_worker.ts", import.meta.url), {
      type: "module",
      name: "browse",
    });
    worker.onmessage = ({ data }: MessageEvent<BrowseAnswer>) => {
      const waiting = this.#waiting.get(data.id);
      this.#waiting.delete(data.id);
      if (data.ok) waiting?.resolve(data);
      else waiting?.reject(VarveError.fromMessage(data.error));
    };
    worker.onerror = (event) => {
      event.preventDefault();
      this.#stop(new VarveError("io", `read files of the past: the reader ended: ${event.message}`));
    };
    return worker;
  }

  #stop(error: VarveError): void {
    this.#worker?.terminate();
    this.#worker = undefined;
    for (const waiting of this.#waiting.values()) waiting.reject(error);
    this.#waiting.clear();
  }

  /** Ends the Worker; requests under way are rejected. */
  close(): void {
    this.#stop(new VarveError("cancelled", "read files of the past: the appliance is stopping"));
  }
}

/** Carries out one recovery in a Worker of its own; aborting `signal` ends it at once. */
export function runRecovery(
  order: RecoveryOrder,
  options: { signal: AbortSignal; onProgress: (doneBytes: number, totalBytes: number) => void },
): Promise<CopyOutcome> {
  const worker = new Worker(new URL("./recovery_worker.ts", import.meta.url), {
    type: "module",
    name: "recovery",
  });
  return new Promise<CopyOutcome>((resolve, reject) => {
    options.signal.addEventListener(
      "abort",
      () => reject(new VarveError("cancelled", "recover: it was cancelled")),
    );
    worker.onmessage = ({ data }: MessageEvent<RecoveryMessage>) => {
      if (data.kind === "progress") options.onProgress(data.doneBytes, data.totalBytes);
      else if (data.kind === "done") resolve(data.outcome);
      else reject(VarveError.fromMessage(data.error));
    };
    worker.onerror = (event) => {
      event.preventDefault();
      reject(new VarveError("io", `recover: the worker ended: ${event.message}`));
    };
    worker.postMessage(order);
  }).finally(() => worker.terminate());
}

/** Carries out one scrub in a Worker of its own; aborting `signal` ends it at once. */
export function runScrub(
  order: ScrubOrder,
  options: { signal: AbortSignal; onProgress: (doneBytes: number, totalBytes: number) => void },
): Promise<ScrubOutcome> {
  const worker = new Worker(new URL("./scrub_worker.ts", import.meta.url), { type: "module", name: "scrub" });
  return new Promise<ScrubOutcome>((resolve, reject) => {
    const cancelled = () => reject(new VarveError("cancelled", "scrub: it was cancelled"));
    if (options.signal.aborted) return cancelled();
    options.signal.addEventListener("abort", cancelled);
    worker.onmessage = ({ data }: MessageEvent<ScrubMessage>) => {
      if (data.kind === "progress") options.onProgress(data.doneBytes, data.totalBytes);
      else if (data.kind === "done") resolve(data.outcome);
      else reject(VarveError.fromMessage(data.error));
    };
    worker.onerror = (event) => {
      event.preventDefault();
      reject(new VarveError("io", `scrub: the worker ended: ${event.message}`));
    };
    worker.postMessage(order);
  }).finally(() => worker.terminate());
}

/**
 * The main thread's side of the Workers that read the past.
 *
 * @module
 */
import { AskedWorker } from "./asked_worker.ts";
import { VarveError } from "./base/errors.ts";
import type { BrowseAnswer, BrowseCallName, BrowseCalls, BrowseQuestion } from "./browse_worker.ts";
import type { RecoveryMessage, RecoveryOrder } from "./recovery_worker.ts";
import type { ScrubMessage } from "./scrub_worker.ts";
import type { CopyOutcome } from "./timeline/recover.ts";
import type { ScrubOrder, ScrubOutcome } from "./volume/scrub.ts";

/** The Worker that looks into the past. */
export class Browser {
  readonly #worker: AskedWorker<BrowseQuestion<BrowseCallName>, BrowseAnswer>;

  /** `kernelReading` is the module of its `KernelReading`, if it has one. */
  constructor(kernelReading?: URL) {
    const url = new URL("./browse_worker.ts", import.meta.url);
    if (kernelReading !== undefined) url.searchParams.set("kernel", kernelReading.href);
    this.#worker = new AskedWorker(
      "look into the past",
      () => new Worker(url, { type: "module", name: "browse" }),
    );
  }

  /** Asks it. */
  ask<Name extends BrowseCallName>(question: BrowseQuestion<Name>): Promise<BrowseCalls[Name]["answer"]> {
    return this.#worker.ask(question as BrowseQuestion<BrowseCallName>) as Promise<
      BrowseCalls[Name]["answer"]
    >;
  }

  /** Ends it. */
  close(): void {
    this.#worker.close();
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

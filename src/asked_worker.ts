/**
 * A Worker that is asked and answers, in any order.
 *
 * @module
 */
import { VarveError, type VarveErrorMessage } from "./base/errors.ts";

/** What such a Worker answers to the request of that `id`. */
export type WorkerAnswer<Done> =
  & { readonly id: number }
  & ({ readonly done: Done } | { readonly error: VarveErrorMessage });

interface Waiting<Done> {
  resolve(done: Done): void;
  reject(error: VarveError): void;
}

/** The asking side; the Worker is started by the first request, and after it has ended by the next one. */
export class AskedWorker<Request, Done> {
  readonly #tried: string;
  readonly #start: () => Worker;
  readonly #waiting = new Map<number, Waiting<Done>>();
  #worker: Worker | undefined;
  #nextId = 1;

  /** `tried` is how errors begin; `start` starts a Worker that takes requests with an `id`. */
  constructor(tried: string, start: () => Worker) {
    this.#tried = tried;
    this.#start = start;
  }

  /** Whether there is a Worker now. */
  get isRunning(): boolean {
    return this.#worker !== undefined;
  }

  /** Sends a request and resolves with what came of it, or rejects with the error. */
  ask(request: Request): Promise<Done> {
    const worker = this.#worker ??= this.#listen(this.#start());
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      worker.postMessage({ ...request, id });
    });
  }

  #listen(worker: Worker): Worker {
    worker.onmessage = ({ data }: MessageEvent<WorkerAnswer<Done>>) => {
      const waiting = this.#waiting.get(data.id);
      this.#waiting.delete(data.id);
      if ("error" in data) waiting?.reject(VarveError.fromMessage(data.error));
      else waiting?.resolve(data.done);
    };
    worker.onerror = (event) => {
      event.preventDefault();
      this.#stop(new VarveError("io", `${this.#tried}: the worker ended: ${event.message}`));
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
    this.#stop(new VarveError("cancelled", `${this.#tried}: the appliance is stopping`));
  }
}

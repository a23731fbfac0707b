/**
 * The main thread's side of the Workers that do the long work of capture. There are two for all volumes, so that nothing
 * that a FLUSH waits for waits for the recovery map.
 *
 * @module
 */
import { VarveError } from "./base/errors.ts";
import type { CaptureAnswer, CaptureRequest } from "./capture_worker.ts";
import type { CaptureHands, CapturePlace, IndexOrder } from "./volume/capture_hands.ts";
import { blocksOfExtents } from "./volume/number_rows.ts";

/** Up to so many blocks are brought to the primary on the main thread: asking a Worker would take longer. */
const FEW_BLOCKS = 64;

type Work<R = CaptureRequest> = R extends CaptureRequest ? Omit<R, "id"> : never;

interface Waiting {
  resolve(): void;
  reject(error: VarveError): void;
}

/** One Worker, started by the first order. */
class CaptureWorker {
  readonly #name: string;
  readonly #waiting = new Map<number, Waiting>();
  #worker: Worker | undefined;
  #nextId = 1;

  constructor(name: string) {
    this.#name = name;
  }

  /** Resolves when the work is done; a Worker that was never asked for anything has nothing to close. */
  ask(work: Work): Promise<void> {
    if (work.kind === "close" && this.#worker === undefined) return Promise.resolve();
    const worker = this.#worker ??= this.#start();
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      worker.postMessage({ ...work, id } satisfies CaptureRequest);
    });
  }

  #start(): Worker {
    const worker = new Worker(new URL("./capture_worker.ts", import.meta.url), {
      type: "module",
      name: this.#name,
    });
    worker.onmessage = ({ data: { id, error } }: MessageEvent<CaptureAnswer>) => {
      const waiting = this.#waiting.get(id);
      this.#waiting.delete(id);
      if (error === undefined) waiting?.resolve();
      else waiting?.reject(VarveError.fromMessage(error));
    };
    worker.onerror = (event) => {
      event.preventDefault();
      this.stop(new VarveError("io", `${this.#name}: the worker ended: ${event.message}`));
    };
    return worker;
  }

  /** Ends it; what it was asked for fails with `error`. The next order starts another. */
  stop(error: VarveError): void {
    this.#worker?.terminate();
    this.#worker = undefined;
    for (const waiting of this.#waiting.values()) waiting.reject(error);
    this.#waiting.clear();
  }
}

/** The Workers of an appliance. */
export class CaptureWorkers {
  readonly #apply = new CaptureWorker("apply");
  readonly #index = new CaptureWorker("index");

  /** Hands for one volume; `local` does what is quicker done at once. */
  handsFor(local: CaptureHands, place: CapturePlace): CaptureHands {
    return {
      apply: (extents: Float64Array, sizeBytes: number) =>
        blocksOfExtents(extents) <= FEW_BLOCKS
          ? local.apply(extents, sizeBytes)
          : this.#apply.ask({ kind: "apply", place, extents, sizeBytes }),
      index: (order: IndexOrder) => this.#index.ask({ kind: "index", place, order }),
      close: async () => {
        await Promise.all([this.#apply, this.#index].map((worker) => worker.ask({ kind: "close", place })));
      },
    };
  }

  /** Ends the Workers; to be called when every volume is closed. */
  close(): void {
    const error = new VarveError("cancelled", "capture: the appliance is stopping");
    this.#apply.stop(error);
    this.#index.stop(error);
  }
}

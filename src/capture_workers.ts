/**
 * The main thread's side of the Workers that do the long work of capture. There are two for all volumes, so that nothing
 * that a FLUSH waits for waits for the recovery map.
 *
 * @module
 */
import { AskedWorker } from "./asked_worker.ts";
import type { CaptureRequest } from "./capture_worker.ts";
import type { CaptureHands, CapturePlace, IndexOrder } from "./volume/capture_hands.ts";
import { blocksOfExtents } from "./volume/number_rows.ts";

/** Up to so many blocks are brought to the primary on the main thread: asking a Worker would take longer. */
const FEW_BLOCKS = 64;

/** A request without its number. */
type Work<R = CaptureRequest> = R extends CaptureRequest ? Omit<R, "id"> : never;

function captureWorker(name: string, tried: string): AskedWorker<Work, void> {
  return new AskedWorker(
    tried,
    () => new Worker(new URL("./capture_worker.ts", import.meta.url), { type: "module", name }),
  );
}

/** The Workers of an appliance. */
export class CaptureWorkers {
  readonly #apply = captureWorker("apply", "bring the journal to a primary");
  readonly #index = captureWorker("index", "bring the journal to a recovery map");

  /** Hands for one volume; `local` does what is quicker done at once. */
  handsFor(local: CaptureHands, place: CapturePlace): CaptureHands {
    return {
      apply: (extents: Float64Array, sizeBytes: number) =>
        blocksOfExtents(extents) <= FEW_BLOCKS
          ? local.apply(extents, sizeBytes)
          : this.#apply.ask({ kind: "apply", place, extents, sizeBytes }),
      index: (order: IndexOrder) => this.#index.ask({ kind: "index", place, order }),
      close: async () => {
        const running = [this.#apply, this.#index].filter((worker) => worker.isRunning);
        await Promise.all(running.map((worker) => worker.ask({ kind: "close", place })));
      },
    };
  }

  /** Ends the Workers; to be called when every volume is closed. */
  close(): void {
    this.#apply.close();
    this.#index.close();
  }
}

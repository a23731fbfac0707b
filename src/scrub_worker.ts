/**
 * A Worker that carries out one scrub, so that checking checksums never delays capture.
 *
 * @module
 */
import { VarveError, type VarveErrorMessage } from "./base/errors.ts";
import { systemScheduler } from "./base/turns.ts";
import { FileDisk, lowerPriority } from "./disk/mod.ts";
import { type ScrubOrder, type ScrubOutcome, scrubVolume } from "./volume/scrub.ts";

/** What the Worker tells. */
export type ScrubMessage =
  | { kind: "progress"; doneBytes: number; totalBytes: number }
  | { kind: "done"; outcome: ScrubOutcome }
  | { kind: "failed"; error: VarveErrorMessage };

/** Nobody else waits for a turn here; it only lets progress out, in milliseconds. */
const SLICE_MS = 100;

const scope = self as unknown as {
  onmessage: (event: MessageEvent<ScrubOrder>) => void;
  postMessage(message: ScrubMessage): void;
};

lowerPriority();

scope.onmessage = async ({ data: order }) => {
  let reportedAt = -Infinity;
  try {
    const outcome = await scrubVolume(order, {
      disk: new FileDisk(),
      scheduler: systemScheduler,
      sliceMs: SLICE_MS,
      // Cancelling ends the Worker.
      signal: new AbortController().signal,
      onProgress(doneBytes, totalBytes) {
        const now = performance.now();
        if (now - reportedAt < SLICE_MS) return;
        reportedAt = now;
        scope.postMessage({ kind: "progress", doneBytes, totalBytes });
      },
    });
    scope.postMessage({ kind: "done", outcome });
  } catch (thrown) {
    scope.postMessage({ kind: "failed", error: VarveError.from(thrown, "scrub").toMessage() });
  }
};

/**
 * A Worker that writes the living records of condemned segments to new ones, so that a prune does not delay capture.
 *
 * @module
 */
import { VarveError, type VarveErrorMessage } from "./base/errors.ts";
import { systemScheduler } from "./base/turns.ts";
import { FileDisk } from "./disk/mod.ts";
import { type RewriteOrder, type RewriteOutcome, rewriteSegments } from "./volume/rewrite.ts";

/** What the Worker is told: one order, and whether to give it up. */
export type RewriteRequest =
  | { kind: "rewrite"; order: RewriteOrder }
  /** It is answered as cancelled, and what was made is gone. */
  | { kind: "stop" };

/** What the Worker tells. */
export type RewriteMessage =
  | { kind: "progress"; bytes: number }
  | { kind: "done"; outcome: RewriteOutcome }
  | { kind: "failed"; error: VarveErrorMessage };

/** Progress is told after so many bytes. */
const PROGRESS_BYTES = 4 << 20;

const scope = self as unknown as {
  onmessage: (event: MessageEvent<RewriteRequest>) => void;
  postMessage(message: RewriteMessage, transfer?: Transferable[]): void;
};

const abort = new AbortController();

scope.onmessage = async ({ data: request }) => {
  if (request.kind === "stop") {
    abort.abort();
    return;
  }
  let untold = 0;
  try {
    const outcome = await rewriteSegments(new FileDisk(), request.order, {
      scheduler: systemScheduler,
      signal: abort.signal,
      onProgress: (bytes) => {
        untold += bytes;
        if (untold < PROGRESS_BYTES) return;
        scope.postMessage({ kind: "progress", bytes: untold });
        untold = 0;
      },
    });
    if (untold > 0) scope.postMessage({ kind: "progress", bytes: untold });
    scope.postMessage({ kind: "done", outcome }, [outcome.moved.buffer]);
  } catch (thrown) {
    scope.postMessage({ kind: "failed", error: VarveError.from(thrown, "rewrite segments").toMessage() });
  }
};

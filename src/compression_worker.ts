/**
 * A Worker that compresses finished segments, so that neither reading nor compressing delays capture.
 *
 * @module
 */
import { VarveError, type VarveErrorMessage } from "./base/errors.ts";
import { systemScheduler } from "./base/turns.ts";
import { FileDisk, lowerPriority } from "./disk/mod.ts";
import { type CompressionOrder, type CompressionOutcome, compressSegment } from "./volume/compression.ts";
import type { Pace } from "./volume/pacer.ts";

/** What the Worker is told. An order is given only when the one before it has been answered. */
export type CompressionRequest =
  | { kind: "compress"; order: CompressionOrder; pace: Pace }
  /** Give up what is under way; it is answered as cancelled. */
  | { kind: "stop" };

/** What the Worker answers to an order. */
export type CompressionAnswer =
  | { ok: true; outcome: CompressionOutcome }
  | { ok: false; error: VarveErrorMessage };

const scope = self as unknown as {
  onmessage: (event: MessageEvent<CompressionRequest>) => void;
  postMessage(message: CompressionAnswer): void;
};

lowerPriority();
const disk = new FileDisk();
let abort = new AbortController();

scope.onmessage = async ({ data: request }) => {
  if (request.kind === "stop") {
    abort.abort();
    return;
  }
  abort = new AbortController();
  try {
    const outcome = await compressSegment(disk, request.order, {
      scheduler: systemScheduler,
      pace: request.pace,
      signal: abort.signal,
    });
    scope.postMessage({ ok: true, outcome });
  } catch (thrown) {
    scope.postMessage({ ok: false, error: VarveError.from(thrown, "compress a segment").toMessage() });
  }
};

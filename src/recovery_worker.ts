/**
 * A Worker that carries out one recovery, so that copying never delays capture.
 *
 * @module
 */
import { VarveError, type VarveErrorMessage } from "./base/errors.ts";
import { FileDisk } from "./disk/mod.ts";
import { openPastView, type PastPlace } from "./timeline/past.ts";
import { type CopyOutcome, copyToTarget } from "./timeline/recover.ts";

/** What the Worker is told to do. */
export interface RecoveryOrder {
  /** Where the history is. */
  place: PastPlace;
  /** The moment. */
  seq: number;
  /** Path of a file or a block device. */
  target: string;
  /** Read the target back. */
  verify: boolean;
}

/** What the Worker tells. */
export type RecoveryMessage =
  | { kind: "progress"; doneBytes: number; totalBytes: number }
  | { kind: "done"; outcome: CopyOutcome }
  | { kind: "failed"; error: VarveErrorMessage };

/** Time between two reports of progress, in milliseconds. */
const REPORT_MS = 100;

const scope = self as unknown as {
  onmessage: (event: MessageEvent<RecoveryOrder>) => void;
  postMessage(message: RecoveryMessage): void;
};

scope.onmessage = async ({ data: order }) => {
  let reportedAt = 0;
  const disk = new FileDisk();
  try {
    const view = openPastView(order.place, order.seq, { disk });
    try {
      const outcome = await copyToTarget(view.device, disk, {
        target: order.target,
        verify: order.verify,
        onProgress(doneBytes, totalBytes) {
          const now = performance.now();
          if (now - reportedAt < REPORT_MS && doneBytes < totalBytes) return;
          reportedAt = now;
          scope.postMessage({ kind: "progress", doneBytes, totalBytes });
        },
      });
      scope.postMessage({ kind: "done", outcome });
    } finally {
      view.close();
    }
  } catch (thrown) {
    scope.postMessage({ kind: "failed", error: VarveError.from(thrown, "recover").toMessage() });
  }
};

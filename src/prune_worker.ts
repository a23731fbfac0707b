/**
 * A Worker that does the long work of a prune with a map and files of its own, so that capture is not delayed. It lives as
 * long as the prune.
 *
 * It changes the map only while the main thread has nobody else change it: it asks for the map, is given it, and gives it
 * back. SQLite's own lock would make the main thread wait in a call that blocks it.
 *
 * @module
 */
import path from "node:path";
import { VarveError, type VarveErrorMessage } from "./base/errors.ts";
import { systemScheduler } from "./base/turns.ts";
import { RecoveryMap } from "./catalog/recovery_map.ts";
import { FileDisk } from "./disk/mod.ts";
import { VOLUME_FILES } from "./timeline/past.ts";
import { type PruneHands, PruneWork } from "./volume/prune_work.ts";

/** A piece of work: a method of `PruneHands` with its arguments, but for functions. */
export type PruneTask = {
  [K in Exclude<keyof PruneHands, "close">]: { readonly method: K; readonly args: PruneArguments<K> };
}[Exclude<keyof PruneHands, "close">];

type PruneArguments<K extends Exclude<keyof PruneHands, "close">> = K extends "rewrite"
  ? readonly [Parameters<PruneHands["rewrite"]>[0]]
  : Readonly<Parameters<PruneHands[K]>>;

/** What the Worker is told. The volume's folder comes first, then one piece of work at a time. */
export type PruneRequest =
  | { readonly kind: "open"; readonly directory: string }
  | { readonly kind: "work"; readonly task: PruneTask }
  /** The map is its own until it answers with `release`. */
  | { readonly kind: "granted" }
  /** Give up what is under way; it is answered as cancelled, as is all that follows. */
  | { readonly kind: "stop" };

/** What the Worker tells. */
export type PruneMessage =
  | { readonly kind: "acquire" | "release" }
  | { readonly kind: "progress"; readonly bytes: number }
  | { readonly kind: "done"; readonly outcome: unknown }
  | { readonly kind: "failed"; readonly error: VarveErrorMessage };

/** Progress is told after so many bytes. */
const PROGRESS_BYTES = 4 << 20;

const scope = self as unknown as {
  onmessage: (event: MessageEvent<PruneRequest>) => void;
  postMessage(message: PruneMessage): void;
};

const abort = new AbortController();
let directory = "";
let work: PruneWork | undefined;
let onGranted: () => void = () => {};

async function exclusively<T>(change: () => Promise<T>): Promise<T> {
  const granted = new Promise<void>((resolve) => onGranted = resolve);
  scope.postMessage({ kind: "acquire" });
  await granted;
  try {
    return await change();
  } finally {
    scope.postMessage({ kind: "release" });
  }
}

function begin(): PruneWork {
  const disk = new FileDisk();
  return new PruneWork({
    map: new RecoveryMap(path.join(directory, VOLUME_FILES.map), { disk }),
    disk,
    directory: path.join(directory, VOLUME_FILES.segments),
    scheduler: systemScheduler,
    exclusively,
    signal: abort.signal,
  });
}

function run(hands: PruneHands, task: PruneTask): Promise<unknown> {
  switch (task.method) {
    case "countLiving":
      return hands.countLiving(...task.args);
    case "dropDead":
      return hands.dropDead(...task.args);
    case "collectLiving":
      return hands.collectLiving(...task.args);
    case "relocate":
      return hands.relocate(...task.args);
    case "fold":
      return hands.fold();
    case "remove":
      return hands.remove(...task.args);
    case "rewrite": {
      let untold = 0;
      return hands.rewrite(task.args[0], (bytes) => {
        untold += bytes;
        if (untold < PROGRESS_BYTES) return;
        scope.postMessage({ kind: "progress", bytes: untold });
        untold = 0;
      });
    }
  }
}

async function answer(task: PruneTask): Promise<void> {
  try {
    work ??= begin();
    scope.postMessage({ kind: "done", outcome: await run(work, task) });
  } catch (thrown) {
    scope.postMessage({ kind: "failed", error: VarveError.from(thrown, "prune").toMessage() });
  }
}

scope.onmessage = ({ data: request }) => {
  switch (request.kind) {
    case "open":
      directory = request.directory;
      break;
    case "work":
      void answer(request.task);
      break;
    case "granted":
      onGranted();
      break;
    case "stop":
      abort.abort();
      break;
  }
};

/**
 * The life of the serving thread: it waits for `start`, serves until the mount is gone, and says so.
 *
 * @module
 */
import type { Awaitable } from "../src/base/awaitable.ts";
import { VarveError } from "../src/base/errors.ts";
import { Device, type DeviceHandles } from "./device.ts";
import type { FromWorker, PastPlace, Questions, ToWorker } from "./messages.ts";
import { Session } from "./session.ts";
import { makeTree } from "./tree.ts";
import type { OpenView } from "./tree_source.ts";

/** The parts of the engine that the serving thread runs by itself. */
export interface ServeOptions {
  /** Opens the past of a volume from its folder. */
  open(place: PastPlace, seq: number): OpenView;
  /** Called when the end has come; waited for. */
  close(): Awaitable<void>;
}

/** The global scope of a Worker, as far as it is used. */
export interface WorkerScope {
  /** Sends to the thread that made this one. */
  postMessage(message: FromWorker): void;
  /** Called with what that thread sends. */
  onmessage: ((event: MessageEvent<ToWorker>) => void) | null;
  /** Ends this thread. */
  close(): void;
}

/** Serves one mount from the Worker whose scope is given. */
export function serveInWorker(scope: WorkerScope, options: ServeOptions): void {
  const asked = new Map<number, PromiseWithResolvers<unknown>>();
  let nextId = 1;
  let session: Session | undefined;

  function ask<M extends keyof Questions>(
    method: M,
    ...parameters: Parameters<Questions[M]>
  ): ReturnType<Questions[M]> {
    const id = nextId++;
    const answer = Promise.withResolvers<unknown>();
    asked.set(id, answer);
    scope.postMessage({ kind: "ask", id, method, parameters });
    return answer.promise as ReturnType<Questions[M]>;
  }

  async function serve(handles: DeviceHandles): Promise<void> {
    const tree = makeTree({
      listVolumes: () => ask("listVolumes"),
      listPoints: (volume) => ask("listPoints", volume),
      listMarksOf: (volume, millisecond) => ask("listMarksOf", volume, millisecond),
      resolve: (volume, expression) => ask("resolve", volume, expression),
      describe: (volume) => ask("describe", volume),
      versions: (volume, path) => ask("versions", volume, path),
      deleted: (volume, seq, path) => ask("deleted", volume, seq, path),
      open: async (volume, seq) => options.open(await ask("locate", volume, seq), seq),
    });
    session = new Session(new Device(handles), tree, { onReady: () => scope.postMessage({ kind: "ready" }) });
    let error: VarveError | undefined;
    try {
      await session.run();
    } catch (thrown) {
      error = VarveError.from(thrown, "Serve the mounted tree");
    }
    await options.close();
    scope.postMessage({ kind: "ended", error: error?.toMessage() });
    scope.close();
  }

  scope.onmessage = ({ data }) => {
    switch (data.kind) {
      case "start":
        serve(data.handles);
        break;
      case "stop":
        session?.stop();
        break;
      case "answer": {
        const answer = asked.get(data.id);
        asked.delete(data.id);
        if ("error" in data) answer?.reject(VarveError.fromMessage(data.error));
        else answer?.resolve(data.value);
        break;
      }
    }
  };
}

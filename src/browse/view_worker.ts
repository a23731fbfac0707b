/**
 * Entry of the Worker beside a sandbox: gives it blocks of the moments that their owner has registered, and of no others.
 *
 * @module
 */
import { openPastView, type PastPlace, type PastView } from "../timeline/past.ts";
import { BlockServer } from "./block_channel.ts";

/** To this Worker. */
export type ToViews =
  | { readonly kind: "start"; readonly memory: SharedArrayBuffer; readonly port: MessagePort }
  | { readonly kind: "register"; readonly moment: number; readonly place: PastPlace; readonly seq: number }
  | { readonly kind: "forget"; readonly moment: number };

interface Registered {
  readonly place: PastPlace;
  readonly seq: number;
  view: PastView | undefined;
}

const scope = self as unknown as {
  onmessage: ((event: MessageEvent<ToViews>) => void) | null;
};
const registered = new Map<number, Registered>();

let server: BlockServer | undefined;

function find(moment: number): PastView | undefined {
  const found = registered.get(moment);
  return found && (found.view ??= openPastView(found.place, found.seq, { keepsBlocks: true }));
}

scope.onmessage = ({ data }) => {
  switch (data.kind) {
    case "start": {
      const started = server = new BlockServer(data.memory, find);
      data.port.onmessage = () => started.serve();
      break;
    }
    case "register":
      registered.set(data.moment, { place: data.place, seq: data.seq, view: undefined });
      // The sandbox may have asked for it before this thread was told.
      server?.serve();
      break;
    case "forget":
      registered.get(data.moment)?.view?.close();
      registered.delete(data.moment);
  }
};

/**
 * The reading side of a channel, for its test: reads what it is told to and sends back what it got.
 *
 * @module
 */
import { VarveError } from "../base/errors.ts";
import { BlockReader } from "./block_channel.ts";
import { NewestChanges } from "./newest_changes.ts";
import { ChunkCache, RemoteDevice } from "./remote_device.ts";

/** One read, or one question. */
export interface ChannelOrder {
  readonly kind: "read" | "extents" | "newest";
  readonly moment: number;
  readonly offset: number;
  readonly length: number;
  readonly max?: number;
}

const scope = self as unknown as {
  onmessage: ((event: MessageEvent) => void) | null;
  postMessage(message: unknown): void;
};
const chunks = new ChunkCache();
let reader: BlockReader | undefined;

scope.onmessage = ({ data }) => {
  if ("memory" in data) {
    reader = new BlockReader(data.memory, () => data.port.postMessage(undefined));
    return;
  }
  if (reader === undefined) return;
  const { sizeBytes, orders } = data as { sizeBytes: number; orders: ChannelOrder[] };
  const way = reader;
  scope.postMessage(orders.map(({ kind, moment, offset, length, max }) => {
    const notes = new Map<string, unknown>();
    const changes = new NewestChanges();
    const device = new RemoteDevice({ reader: way, moment, seq: 1, sizeBytes, chunks, notes, changes });
    try {
      if (kind === "newest") return device.moment.newestChange(offset, length);
      if (kind === "extents") return device.extents(offset, length, max);
      const bytes = new Uint8Array(length);
      device.read(offset, bytes);
      return bytes;
    } catch (thrown) {
      return thrown instanceof VarveError ? thrown.toMessage() : `${thrown}`;
    }
  }));
};

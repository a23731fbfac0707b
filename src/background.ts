/**
 * Work that the appliance does by itself when nobody asks: compressing finished segments, the oldest first, one at a
 * time, at a pace that hosts do not notice.
 *
 * @module
 */
import { getLogger } from "@logtape/logtape";
import { VarveError } from "./base/errors.ts";
import type { Scheduler, Timer } from "./base/turns.ts";
import type { CompressionAnswer, CompressionRequest } from "./compression_worker.ts";
import type { Disk } from "./disk/mod.ts";
import {
  type CompressionOrder,
  type CompressionOutcome,
  compressSegment,
  nextToCompress,
  publishCompressed,
} from "./volume/compression.ts";
import type { Pace } from "./volume/pacer.ts";
import type { Volume } from "./volume/volume.ts";

const logger = getLogger(["varve", "compression"]);

/** How finished segments are compressed. */
export interface CompressionSettings extends Partial<Pace> {
  /** Whether it is done at all. Default true. */
  readonly enabled?: boolean;
  /** Time between two looks for finished segments, in milliseconds. Default 30,000. */
  readonly intervalMs?: number;
}

/** Share of one core that compression takes at most, unless told otherwise. */
const CORE_SHARE = 0.25;
/** Bytes that it reads in a second at most: each segment is read three times. */
const BYTES_PER_SECOND = 48 << 20;
const INTERVAL_MS = 30_000;

/** What works in the background. */
export interface BackgroundParts {
  /** Storage. */
  readonly disk: Disk;
  /** Whether a Worker can reach that storage by itself; else the work is done in turns on this thread. */
  readonly inWorker: boolean;
  /** Gives turns. */
  readonly scheduler: Scheduler;
  /** Volumes with a live device, as they are now. */
  readonly volumes: () => Iterable<Volume>;
  /** How to compress. */
  readonly settings: CompressionSettings;
}

/** Does the work from its making until it is closed. */
export class Background {
  readonly #parts: BackgroundParts;
  readonly #pace: Pace;
  readonly #stop = new AbortController();
  readonly #worker = new CompressionWorker();
  /** Segments that failed, by volume: not tried again before the next start. */
  readonly #failed = new WeakMap<Volume, Set<number>>();
  #timer: Timer | undefined;
  #pass: Promise<void> = Promise.resolve();

  /** Begins after one interval. */
  constructor(parts: BackgroundParts) {
    this.#parts = parts;
    this.#pace = {
      coreShare: parts.settings.coreShare ?? CORE_SHARE,
      bytesPerSecond: parts.settings.bytesPerSecond ?? BYTES_PER_SECOND,
    };
    if (parts.settings.enabled ?? true) this.#schedule();
  }

  #schedule(): void {
    this.#timer = this.#parts.scheduler.after(this.#parts.settings.intervalMs ?? INTERVAL_MS, () => {
      this.#pass = this.#compressAll().finally(() => {
        this.#worker.close();
        if (!this.#stop.signal.aborted) this.#schedule();
      });
    });
  }

  /** One segment of each volume in turn, until there is none left. */
  async #compressAll(): Promise<void> {
    for (let found = true; found && !this.#stop.signal.aborted;) {
      found = false;
      for (const volume of [...this.#parts.volumes()]) {
        if (this.#stop.signal.aborted) return;
        try {
          found = await volume.whileOpen((closing) => this.#compressNext(volume, closing)) || found;
        } catch (thrown) {
          // It is being closed, or there is no space to work in: the next look may find it otherwise.
          const { message } = VarveError.from(thrown, "compress segments");
          logger.debug("Volume {id}: {message}", { id: volume.id, message });
        }
      }
    }
  }

  async #compressNext(volume: Volume, closing: AbortSignal): Promise<boolean> {
    const failed = this.#failed.get(volume) ?? new Set<number>();
    this.#failed.set(volume, failed);
    const segment = nextToCompress(volume, failed);
    if (segment === undefined) return false;
    const order = { directory: volume.directory, volumeId: volume.id, segment };
    const signal = AbortSignal.any([closing, this.#stop.signal]);
    try {
      const outcome = await this.#compress(order, signal);
      await publishCompressed(volume, this.#parts.disk, segment, outcome);
      if (outcome.kind === "damaged") {
        logger.error("Segment {segment} of volume {id} is damaged from byte {at} on; it stays as it is", {
          segment,
          id: volume.id,
          at: outcome.validBytes,
        });
      }
    } catch (thrown) {
      const { code, message } = VarveError.from(thrown, "compress a segment");
      if (code === "no-space" || code === "cancelled") throw thrown;
      failed.add(segment);
      // What is not found was deleted by a prune.
      if (code !== "not-found") logger.warn("Volume {id}: {message}", { id: volume.id, message });
    }
    return true;
  }

  #compress(order: CompressionOrder, signal: AbortSignal): Promise<CompressionOutcome> {
    const { inWorker, disk, scheduler } = this.#parts;
    return inWorker
      ? this.#worker.compress(order, this.#pace, signal)
      : compressSegment(disk, order, { scheduler, pace: this.#pace, signal });
  }

  /** Stops; resolves when nothing is under way any more. */
  async close(): Promise<void> {
    this.#stop.abort();
    this.#timer?.cancel();
    await this.#pass;
  }
}

/** This thread's side of the Worker that compresses; it lives from an order until `close`. */
class CompressionWorker {
  #worker: Worker | undefined;

  /** Resolves when the order is carried out, or given up after `signal` was aborted. One at a time. */
  async compress(order: CompressionOrder, pace: Pace, signal: AbortSignal): Promise<CompressionOutcome> {
    signal.throwIfAborted();
    const worker = this.#worker ??= new Worker(new URL("./compression_worker.ts", import.meta.url), {
      type: "module",
      name: "compression",
    });
    const stop = () => worker.postMessage({ kind: "stop" } satisfies CompressionRequest);
    signal.addEventListener("abort", stop);
    try {
      return await new Promise<CompressionOutcome>((resolve, reject) => {
        worker.onmessage = ({ data }: MessageEvent<CompressionAnswer>) => {
          if (data.ok) resolve(data.outcome);
          else reject(VarveError.fromMessage(data.error));
        };
        worker.onerror = (event) => {
          event.preventDefault();
          this.close();
          reject(new VarveError("io", `compress a segment: the worker ended: ${event.message}`));
        };
        worker.postMessage({ kind: "compress", order, pace } satisfies CompressionRequest);
      });
    } finally {
      signal.removeEventListener("abort", stop);
    }
  }

  close(): void {
    this.#worker?.terminate();
    this.#worker = undefined;
  }
}

/**
 * Promotions: a new volume with the present content of a clone.
 *
 * The catalogue knows the name of the new volume before it is made and until it is finished. So a promotion that a crash
 * has ended leaves nothing: the next start deletes what there is of it.
 *
 * @module
 */
import { getLogger } from "@logtape/logtape";
import type { BlockDevice } from "./base/block_device.ts";
import { isZero } from "./base/bytes.ts";
import { VarveError } from "./base/errors.ts";
import { pause, type Scheduler } from "./base/turns.ts";
import type { Clones } from "./clones.ts";
import { formatTime } from "./base/time.ts";
import type { Caller, JobInfo, PromoteResult } from "./engine.ts";
import type { JobContext, Jobs } from "./jobs.ts";
import type { Marks } from "./marks.ts";
import type { Pressure } from "./pressure.ts";
import { checkName, type Volumes } from "./volumes.ts";

const logger = getLogger(["varve", "clones"]);
/** Extents are asked for in ranges of this size. */
const RANGE_BYTES = 2 ** 30;
/** Data is copied in pieces of this size. */
const PIECE_BYTES = 2 ** 20;
/** Name of the mark that ends a promotion. */
const MARK = "promoted";
/** Who takes away what a crash has left. */
const SELF: Caller = { name: "varve" };

/** What promotions are made with. */
export interface PromotionsParts {
  /** Every clone. */
  readonly clones: Clones;
  /** Every volume. */
  readonly volumes: Volumes;
  /** Names the moment at which a new volume is finished. */
  readonly marks: Marks;
  /** Jobs of the appliance. */
  readonly jobs: Jobs;
  /** Leaves a volume alone that is being deleted. */
  readonly pressure: Pressure;
  /** Gives turns. */
  readonly scheduler: Scheduler;
}

/** Promotions of the appliance's clones. */
export class Promotions {
  readonly #parts: PromotionsParts;
  /** Volumes that are not finished. */
  readonly #unfinished = new Set<string>();

  /** Works on `parts`. */
  constructor(parts: PromotionsParts) {
    this.#parts = parts;
  }

  /** Deletes the volumes of promotions that a crash has ended. */
  async clearUnfinished(): Promise<void> {
    const { clones, volumes } = this.#parts;
    for (const { name, volume } of clones.unfinished()) {
      try {
        if (volumes.has(volume)) await volumes.delete(volume, { purge: true }, SELF);
        clones.endPromotion(name);
      } catch (thrown) {
        const { message } = VarveError.from(thrown, `delete volume ${volume}`);
        logger.error("Clone {clone}: its promotion was not finished: {message}", { clone: name, message });
      }
    }
  }

  /** Throws `conflict` for a volume that is not finished. */
  refuseUnfinished(volume: string): void {
    if (!this.#unfinished.has(volume)) return;
    throw new VarveError("conflict", `open ${volume}: it is being made of a clone`, {
      hint: "Wait for that job.",
    });
  }

  /** Begins a promotion as a job. */
  start(clone: string, volume: string, caller: Caller): JobInfo {
    const { clones, volumes, jobs } = this.#parts;
    const tried = `promote clone ${clone}`;
    checkName(tried, volume);
    if (volumes.has(volume) || clones.has(volume)) {
      throw new VarveError("conflict", `${tried}: the name ${volume} is taken`, { field: "name" });
    }
    const { row, device } = clones.beginPromotion(clone, volume, caller);
    // Whoever waits for it is told; it may fail before anybody does.
    device.catch(() => {});
    this.#unfinished.add(volume);
    const moment = { time: formatTime(row.timeUs, 6), seq: row.seq };
    return jobs.start("promote", volume, async (context) => {
      const startedMs = this.#parts.scheduler.ticksMs();
      try {
        const writtenBytes = await this.#fill(volume, await device, context, caller);
        const result: PromoteResult = {
          ...moment,
          clone,
          volume,
          sizeBytes: row.sizeBytes,
          writtenBytes,
          durationMs: Math.round(this.#parts.scheduler.ticksMs() - startedMs),
        };
        // Until this is kept, the next start would delete the volume.
        clones.endPromotion(clone);
        this.#unfinished.delete(volume);
        return { ...result };
      } catch (thrown) {
        await this.#discard(clone, volume, caller);
        throw thrown;
      }
    });
  }

  async #fill(
    name: string,
    clone: BlockDevice,
    { signal, progress }: JobContext,
    caller: Caller,
  ): Promise<number> {
    const { volumes, marks, scheduler } = this.#parts;
    const { sizeBytes } = clone;
    await volumes.create({ name, sizeBytes }, caller);
    const { live } = volumes.open(name);
    let writtenBytes = 0;
    for (const [offset, length] of pieces(clone)) {
      signal.throwIfAborted();
      const data = new Uint8Array(length);
      clone.read(offset, data);
      if (!isZero(data)) {
        live.write(offset, data);
        live.commit();
        await live.held();
        await live.pressure();
        writtenBytes += length;
      }
      progress(offset + length, sizeBytes);
      await pause(scheduler);
    }
    signal.throwIfAborted();
    await live.flush();
    await marks.create(name, { name: MARK, note: "made of a clone" }, caller);
    progress(sizeBytes, sizeBytes);
    return writtenBytes;
  }

  /** Deletes a volume that is not finished. When that fails the next start does it, and the clone waits for that. */
  async #discard(clone: string, volume: string, caller: Caller): Promise<void> {
    const { clones, volumes, pressure } = this.#parts;
    try {
      if (volumes.has(volume)) {
        await pressure.exclusively(volume, () => volumes.delete(volume, { purge: true }, caller), {
          interrupt: true,
        });
      }
      clones.endPromotion(clone);
      this.#unfinished.delete(volume);
    } catch (thrown) {
      const { message } = VarveError.from(thrown, `delete volume ${volume}`);
      logger.error("Promoting clone {clone}: {message}; the next start tries it again", { clone, message });
    }
  }
}

/** Pieces of a device that are not holes, in order. */
function* pieces(device: BlockDevice): Generator<[offset: number, length: number]> {
  for (let from = 0; from < device.sizeBytes; from += RANGE_BYTES) {
    for (const extent of device.extents(from, Math.min(RANGE_BYTES, device.sizeBytes - from))) {
      if (extent.kind === "hole") continue;
      for (let at = 0; at < extent.length; at += PIECE_BYTES) {
        yield [extent.offset + at, Math.min(PIECE_BYTES, extent.length - at)];
      }
    }
  }
}

/**
 * What a live volume does where space ends. Nothing that was acknowledged may be lost, so work that finds no space is
 * tried again: at once with the reserve, later without.
 *
 * @module
 */
import { getLogger } from "@logtape/logtape";
import { VarveError } from "../base/errors.ts";
import type { SpaceGuard } from "../disk/mod.ts";

const logger = getLogger(["varve", "volume"]);

/** Bytes that a captured command will take in the recovery map, about. */
const MAP_BYTES_PER_RECORD = 128;

/** Whether something failed for want of space. */
export function isNoSpace(thrown: unknown): boolean {
  return thrown instanceof VarveError && thrown.code === "no-space";
}

/** The wall, as one volume meets it. */
export class Wall {
  readonly #space: SpaceGuard | undefined;
  #boundaryMissed = false;

  /** `space` is left out where nobody keeps watch. */
  constructor(space: SpaceGuard | undefined) {
    this.#space = space;
  }

  /** Tells the keeper what is captured and not yet where it belongs. */
  owes(waiting: { overlayBytes: () => number; unusedBytes: () => number; records: () => number }): void {
    const { sharesPrimary } = this.#space ?? {};
    this.#space?.owes(() =>
      (sharesPrimary ? waiting.overlayBytes() + waiting.unusedBytes() : 0) +
      waiting.records() * MAP_BYTES_PER_RECORD
    );
  }

  /** Runs work for acknowledged commands; when it finds no space, once more with the reserve. */
  async relieved(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (thrown) {
      if (!this.relieve(thrown)) throw thrown;
      await work();
    }
  }

  /** Gives the reserve back if something failed for want of space; true when that may help. */
  relieve(thrown: unknown): boolean {
    return isNoSpace(thrown) && this.#space?.relieve() === true;
  }

  /** Takes note that a flush has a record, or, of several in a row that have none, of the first. */
  flushed(refusal: unknown): void {
    const missed = refusal !== undefined;
    if (missed && !this.#boundaryMissed) {
      const message = refusal instanceof Error ? refusal.message : String(refusal);
      logger.warn("A flush is kept without a boundary in the history: {message}", { message });
    }
    this.#boundaryMissed = missed;
  }

  /** Forgets what the volume owes. */
  close(): void {
    this.#space?.close();
  }
}

/**
 * Moments that are open: views of the past.
 *
 * Opening costs (a look-up, a replay of the guest's journal), so what was used last stays open. Nodes of the
 * tree hold keys alone: whatever was closed meanwhile is opened again when it is needed.
 *
 * @module
 */
import type { Awaitable } from "../src/base/awaitable.ts";
import { VarveError } from "../src/base/errors.ts";
import { HeldValues } from "../src/base/held_values.ts";
import type { OpenView, TreeSource } from "./tree_source.ts";

/** A moment of a volume, as the tree names it. */
export interface PastMoment {
  /** The volume's name. */
  readonly volume: string;
  /** When that volume was made; a later volume of the same name is another one. */
  readonly createdAt: string;
  /** Sequence number. */
  readonly seq: number;
  /** Its time, in nanoseconds since 1970. */
  readonly timeNs: bigint;
}

/** Identity of a moment as a string. */
export function momentKey(moment: PastMoment): string {
  return `${moment.volume}\0${moment.createdAt}\0${moment.seq}`;
}

/** What a {@linkcode MomentStore} works with. */
export interface MomentStoreOptions {
  /** Where views come from. */
  source: Pick<TreeSource, "open" | "listVolumes">;
  /** How many moments stay open. Default 64. */
  limit?: number;
}

/** Opens moments and keeps those used last. */
export class MomentStore {
  readonly #options: MomentStoreOptions;
  readonly #open: HeldValues<OpenView>;
  readonly #opening = new Map<string, Promise<void>>();
  #closed = false;

  constructor(options: MomentStoreOptions) {
    this.#options = options;
    this.#open = new HeldValues(options.limit ?? 64);
  }

  /**
   * Uses a moment, at once when it is open. It stays open until what `use` answers is there; what `use` is given must not be
   * kept beyond that.
   */
  use<T>(moment: PastMoment, use: (view: OpenView) => Awaitable<T>): Awaitable<T> {
    const used = this.#open.use(momentKey(moment), use);
    return used === undefined ? this.#useLater(moment, use) : used.result;
  }

  async #useLater<T>(moment: PastMoment, use: (view: OpenView) => Awaitable<T>): Promise<T> {
    for (;;) {
      const used = this.#open.use(momentKey(moment), use);
      if (used !== undefined) return await used.result;
      await this.#ensureOpen(moment);
    }
  }

  #ensureOpen(moment: PastMoment): Promise<void> {
    const key = momentKey(moment);
    let opening = this.#opening.get(key);
    if (opening === undefined) {
      opening = this.#openNow(moment, key).finally(() => this.#opening.delete(key));
      this.#opening.set(key, opening);
    }
    return opening;
  }

  async #openNow(moment: PastMoment, key: string): Promise<void> {
    const { source } = this.#options;
    const volumes = await source.listVolumes();
    if (!volumes.some(({ name, createdAt }) => name === moment.volume && createdAt === moment.createdAt)) {
      throw new VarveError(
        "not-found",
        `Open sequence ${moment.seq} of "${moment.volume}": the volume is gone`,
      );
    }
    const view = await source.open(moment.volume, moment.seq);
    if (this.#closed) {
      view.close();
      throw new VarveError(
        "cancelled",
        `Open sequence ${moment.seq} of "${moment.volume}": the tree was closed`,
      );
    }
    this.#open.add(key, view);
  }

  /** Closes every moment. */
  close(): void {
    this.#closed = true;
    this.#open.clear();
  }
}

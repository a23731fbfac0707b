/**
 * Moments that are open: a view of the past and, when files were asked for, what its disk holds.
 *
 * Opening costs (a look-up, a replay of the guest's journal), so what was used last stays open. Nodes of the
 * tree hold keys alone: whatever was closed meanwhile is opened again when it is needed.
 *
 * @module
 */
import type { BlockDevice } from "../src/base/block_device.ts";
import { VarveError } from "../src/base/errors.ts";
import type { GuestDisk, OpenGuestDisk } from "../src/guestfs/guest.ts";
import type { Awaitable } from "./filesystem.ts";
import { Lru } from "./lru.ts";
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

/** An open moment. */
export class OpenMoment {
  readonly #view: OpenView;
  readonly #openGuestDisk: OpenGuestDisk;
  #disk: GuestDisk | undefined;

  constructor(view: OpenView, openGuestDisk: OpenGuestDisk) {
    this.#view = view;
    this.#openGuestDisk = openGuestDisk;
  }

  /** The raw volume. */
  get device(): BlockDevice {
    return this.#view.device;
  }

  /** What the volume holds. A disk that can't be understood is one partition with the reason. */
  get disk(): GuestDisk {
    return this.#disk ??= this.#findDisk();
  }

  #findDisk(): GuestDisk {
    try {
      return this.#openGuestDisk(this.device);
    } catch (thrown) {
      const error = VarveError.from(thrown, "Find out what the disk holds");
      // The disk's own fault is a fact about this moment; a fault of our storage may pass.
      if (error.code !== "damaged" && error.code !== "unsupported" && error.code !== "invalid") throw error;
      const whole = { name: "", pieces: [{ offset: 0, length: this.device.sizeBytes }] };
      return { table: "none", partitions: [{ ...whole, fileSystem: undefined, reason: error.message }] };
    }
  }

  /** Gives the view back. */
  close(): void {
    this.#view.close();
  }
}

/** What a {@linkcode MomentStore} works with. */
export interface MomentStoreOptions {
  /** Where views come from. */
  source: Pick<TreeSource, "open" | "listVolumes">;
  /** Reads guest disks. */
  openGuestDisk: OpenGuestDisk;
  /** How many moments stay open. Default 64. */
  limit?: number;
}

/** Opens moments and keeps those used last. */
export class MomentStore {
  readonly #options: MomentStoreOptions;
  readonly #open: Lru<OpenMoment>;
  readonly #opening = new Map<string, Promise<void>>();
  #closed = false;

  constructor(options: MomentStoreOptions) {
    this.#options = options;
    this.#open = new Lru(options.limit ?? 64, (moment) => moment.close());
  }

  /** The moment if it is open. */
  peek(moment: PastMoment): OpenMoment | undefined {
    return this.#open.get(momentKey(moment));
  }

  /** Uses a moment synchronously, at once when it is open; what `use` is given must not be kept. */
  use<T>(moment: PastMoment, use: (open: OpenMoment) => T): Awaitable<T> {
    const open = this.peek(moment);
    return open === undefined ? this.#useLater(moment, use) : use(open);
  }

  async #useLater<T>(moment: PastMoment, use: (open: OpenMoment) => T): Promise<T> {
    for (;;) {
      const open = this.peek(moment);
      if (open !== undefined) return use(open);
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
    const { source, openGuestDisk } = this.#options;
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
    this.#open.set(key, new OpenMoment(view, openGuestDisk));
  }

  /** Closes every moment. */
  close(): void {
    this.#closed = true;
    this.#open.clear();
  }
}

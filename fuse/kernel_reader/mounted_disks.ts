/**
 * Disks that the kernel reads at the moment: a bounded number, mounted when they are used, unmounted when others are.
 *
 * @module
 */
import { VarveError } from "../../src/base/errors.ts";
import type { KernelPartition } from "../../src/browse/kernel_reading.ts";
import { MountedDisk } from "./mounted_disk.ts";
import type { MountSummary } from "./reader_calls.ts";
import { DiskServer } from "./served_disks.ts";

/** Mounts at the same time. */
const MOUNTS_MAX = 8;
/** How long a disk is refused after it kept the kernel busy for too long, in milliseconds. */
const REFUSED_MS = 60_000;

/** What {@linkcode MountedDisks} may be told. */
export interface MountedDisksOptions {
  /** Mounts at the same time. Default 8. */
  readonly mountsMax?: number;
  /** How long a question may take, in milliseconds. Default 30,000. */
  readonly limitMs?: number;
  /** Entry of the process that serves disks; tests have their own. */
  readonly diskUrl?: URL;
}

interface Mounted {
  readonly disk: MountedDisk;
  readonly summary: MountSummary;
}

interface Place {
  /** What is mounted there; rejects when that fails. */
  readonly mounted: Promise<Mounted>;
  users: number;
  /** Resolves when it is free; set once its end has begun. */
  leaving: Promise<void> | undefined;
}

/** A partition's identity. */
export function partitionKey({ place, seq, name, type }: KernelPartition): string {
  return [place.directory, seq, name, type].join("\0");
}

/** The mounts. */
export class MountedDisks {
  readonly #options: MountedDisksOptions;
  readonly #server: DiskServer;
  /** By partition, the one not used for longest first. */
  readonly #places = new Map<string, Place>();
  readonly #refused = new Map<string, { readonly error: VarveError; readonly untilMs: number }>();
  /** Resolved and made anew whenever a place may have become free. */
  #change = Promise.withResolvers<void>();
  #closed = false;

  /** Mounts nothing yet. */
  constructor(options: MountedDisksOptions = {}) {
    this.#options = options;
    this.#server = new DiskServer(options.diskUrl);
  }

  /** Uses a partition, which stays mounted until what `use` answers is there. Rejects with what mounting or `use` throws. */
  async use<T>(partition: KernelPartition, use: (mounted: Mounted) => Promise<T>): Promise<T> {
    const key = partitionKey(partition);
    const place = await this.#take(key, partition);
    try {
      const mounted = await place.mounted;
      try {
        return await use(mounted);
      } finally {
        const { failure } = mounted.disk;
        if (failure !== undefined) this.#refuse(key, failure);
      }
    } finally {
      place.users--;
      this.#changed();
    }
  }

  /** A place with one more user. */
  async #take(key: string, partition: KernelPartition): Promise<Place> {
    for (;;) {
      if (this.#closed) throw new VarveError("cancelled", "have the kernel read a disk: it was closed");
      const refused = this.#refused.get(key);
      if (refused !== undefined && performance.now() < refused.untilMs) throw refused.error;
      const known = this.#places.get(key);
      if (known !== undefined && known.leaving === undefined) {
        this.#places.delete(key);
        this.#places.set(key, known);
        known.users++;
        return known;
      }
      if (known !== undefined) await known.leaving;
      else if (this.#places.size < (this.#options.mountsMax ?? MOUNTS_MAX)) {
        return this.#mount(key, partition);
      } else await this.#makeRoom();
    }
  }

  #mount(key: string, part: KernelPartition): Place {
    const { limitMs } = this.#options;
    const mounted = MountedDisk.open({
      server: this.#server,
      part,
      type: part.type,
      ...(limitMs === undefined ? {} : { limitMs }),
    });
    const place: Place = { mounted, users: 1, leaving: undefined };
    this.#places.set(key, place);
    mounted.catch(() => {
      if (this.#places.get(key) === place) this.#places.delete(key);
      this.#changed();
    });
    return place;
  }

  async #makeRoom(): Promise<void> {
    const leaving = [...this.#places.values()].find((place) => place.leaving !== undefined);
    const idle = [...this.#places].find(([, { users }]) => users === 0);
    if (leaving === undefined && idle !== undefined) this.#unmount(...idle);
    await this.#change.promise;
  }

  #unmount(key: string, place: Place): Promise<void> {
    return place.leaving ??= place.mounted.then(({ disk }) => disk.close(), () => {}).then(() => {
      if (this.#places.get(key) === place) this.#places.delete(key);
      this.#changed();
    });
  }

  #changed(): void {
    this.#change.resolve();
    this.#change = Promise.withResolvers();
  }

  /** Its kernel may be stuck: it is unmounted as far as that goes, and not tried again for a while. */
  #refuse(key: string, error: VarveError): void {
    const place = this.#places.get(key);
    if (place === undefined || place.leaving !== undefined) return;
    this.#refused.set(key, { error, untilMs: performance.now() + REFUSED_MS });
    for (const [oldest, { untilMs }] of this.#refused) {
      if (untilMs < performance.now()) this.#refused.delete(oldest);
    }
    this.#unmount(key, place);
  }

  /** Unmounts a partition that is not needed any more, unless somebody uses it. */
  leave(partition: KernelPartition): void {
    const key = partitionKey(partition);
    const place = this.#places.get(key);
    if (place?.users === 0) this.#unmount(key, place);
  }

  /** Unmounts everything. */
  async close(): Promise<void> {
    this.#closed = true;
    await Promise.all(Array.from(this.#places, ([key, place]) => this.#unmount(key, place)));
    this.#changed();
    await this.#server.close();
  }
}

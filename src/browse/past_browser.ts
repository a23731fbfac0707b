/**
 * Opens moments for whoever shows their files: the view of the disk in this thread, and the reading of its file systems in sandboxes.
 *
 * @module
 */
import type { Awaitable } from "../base/awaitable.ts";
import type { BlockDevice } from "../base/block_device.ts";
import { VarveError } from "../base/errors.ts";
import { openPastView, type PastPlace } from "../timeline/past.ts";
import { KernelPartitions } from "./kernel_partitions.ts";
import type { KernelReading } from "./kernel_reading.ts";
import type { PastDisk } from "./past_file_system.ts";
import { Sandbox, type SandboxOptions } from "./sandbox.ts";
import { type HistoryPlace, VolumeHistory } from "./volume_history.ts";
import { type AskGuest, GuestCache, sandboxedDisk } from "./sandboxed_disk.ts";

/** What a {@linkcode PastBrowser} may be told. */
export interface PastBrowserOptions extends SandboxOptions {
  /** How many sandboxes share the volumes: a hostile disk holds up only those of its own. Default 2. */
  readonly sandboxes?: number;
  /** Reads what the sandboxes cannot; without it that stays unread. It is closed with the browser. */
  readonly kernel?: KernelReading;
}

/** A moment that is open. */
export interface OpenedMoment {
  /** The disk as it was. */
  readonly device: BlockDevice;
  /** What it holds: asked for once, and from then on answered at once, which spares whoever serves it a turn of its loop. */
  disk(): Awaitable<PastDisk>;
  /** Gives back what it holds; neither the device nor its files are used afterwards. */
  close(): void;
}

/** A disk's own fault is a fact about the moment, told as the reason; a fault of our storage may pass, and is thrown. */
function unreadableDisk(thrown: unknown, { sizeBytes }: BlockDevice): PastDisk {
  const error = VarveError.from(thrown, "find out what the disk holds");
  if (error.code !== "damaged" && error.code !== "unsupported" && error.code !== "invalid") throw error;
  const pieces = [{ offset: 0, length: sizeBytes }];
  const { message: reason, code: refusal } = error;
  return { table: "none", partitions: [{ name: "", pieces, fileSystem: undefined, reason, refusal }] };
}

/** Sandboxes, and which volume is read in which. */
export class PastBrowser {
  readonly #sandboxes: Sandbox[];
  readonly #cache = new GuestCache();
  readonly #assigned = new Map<string, Sandbox>();
  readonly #kernel: KernelReading | undefined;

  /** Starts nothing yet. */
  constructor({ sandboxes = 2, kernel, ...options }: PastBrowserOptions = {}) {
    this.#kernel = kernel;
    this.#sandboxes = Array.from({ length: sandboxes }, () => new Sandbox(options));
  }

  /** Starts what the first look into the past needs, which takes a moment. */
  warm(): void {
    this.#sandboxes[0]?.start();
  }

  /** Opens a moment that the recovery map already covers. */
  open(place: PastPlace, seq: number): OpenedMoment {
    const view = openPastView(place, seq);
    const sandbox = this.#sandboxOf(place.directory);
    const moment = sandbox.register({ place, seq });
    const ask: AskGuest = (question) => sandbox.ask(moment, question);
    const cache = this.#cache;
    const key = `${place.directory}@${seq}`;
    const partitions = new KernelPartitions({ place, seq }, view.device, this.#kernel);
    let disk: Awaitable<PastDisk> | undefined;
    return {
      device: view.device,
      disk() {
        if (disk !== undefined) return disk;
        const asked = ask({ call: "describe" }).then(
          (summary) => sandboxedDisk(summary, { device: view.device, ask, cache, key }),
          (thrown) => unreadableDisk(thrown, view.device),
        ).then((found) => partitions.add(found));
        disk = asked;
        // What failed may pass, so it is asked again the next time.
        asked.then((found) => disk = found, () => disk = undefined);
        return asked;
      },
      close() {
        partitions.close();
        sandbox.forget(moment);
        view.close();
      },
    };
  }

  /** Opens a volume's history, for looking at many of its moments. */
  openHistory(place: HistoryPlace): VolumeHistory {
    return new VolumeHistory(place, this.#sandboxOf(place.directory));
  }

  #sandboxOf(volume: string): Sandbox {
    let sandbox = this.#assigned.get(volume);
    if (sandbox === undefined) {
      sandbox = this.#sandboxes[this.#assigned.size % this.#sandboxes.length] as Sandbox;
      this.#assigned.set(volume, sandbox);
    }
    return sandbox;
  }

  /** Ends the sandboxes and what the kernel reads. */
  async close(): Promise<void> {
    for (const sandbox of this.#sandboxes) sandbox.close();
    await this.#kernel?.close();
  }
}

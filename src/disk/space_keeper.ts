/**
 * Keeps watch over the space of the data folder's file system, so that a full disk loses nothing that was
 * acknowledged.
 *
 * What a host sends goes to the journal now, and to the primary and the recovery map later. So a command may be taken
 * only while there is space for all three, and the rule for data is:
 *
 * `free - missing part of the reserve - debts - floor >= what it takes now and later`
 *
 * - **debts**: what acknowledged commands will still take in a sparse primary on the same file system, what the
 *   journal has reserved and not used yet (it will be owed to the primary once it is used), and the map's rows.
 * - **floor**: for small records (flushes, marks, descriptions), the databases, and names of files.
 * - **reserve**: a file whose space is really allocated. It is given back for the work that frees space, which needs
 *   room of its own, and at a start; and, when something else has filled the file system, to bring acknowledged
 *   commands where they belong. Afterwards it is taken again. What is missing of it counts as taken, so data never
 *   lives off it.
 *
 * Writers ask once for each step of reservation, not for each command.
 *
 * @module
 */
import { getLogger } from "@logtape/logtape";
import { VarveError } from "../base/errors.ts";
import type { Scheduler, Timer } from "../base/turns.ts";
import type { Disk, DiskFile } from "./disk.ts";

const logger = getLogger(["varve", "space"]);

/** How much space there is: enough, below the watermark, or too little for writes. */
export const SPACE_STATES = ["ok", "low", "full"] as const;

/** One of {@linkcode SPACE_STATES}. */
export type SpaceState = typeof SPACE_STATES[number];

/** Bytes that are set aside. */
export interface SpaceLimits {
  /** Size of the reserve. */
  readonly reserveBytes: number;
  /** With less free than this, history is thinned. */
  readonly watermarkBytes: number;
  /** Data leaves so much to small records and databases. */
  readonly floorBytes: number;
}

/** What a volume asks of the keeper. */
export interface SpaceGuard {
  /** Whether the primary takes space on the same file system. */
  readonly sharesPrimary: boolean;
  /**
   * Whether the debts are not covered any more, because something else has filled the file system: then data asks for
   * what is reserved already, too.
   */
  readonly isStarved: boolean;
  /**
   * Grants bytes of the journal for what hosts send: `wantedBytes` or fewer, but never fewer than `neededBytes`.
   * Throws `no-space` when there are not so many.
   */
  grant(wantedBytes: number, neededBytes: number): number;
  /** Grants bytes for small records, which may live off the floor. Throws `no-space`. */
  grantSmall(bytes: number): number;
  /** Gives the reserve back for acknowledged commands that find no space; false when there was nothing to give. */
  relieve(): boolean;
  /** Tells what the volume still owes to the file system, in bytes; it replaces what was told before. */
  owes(debtBytes: () => number): void;
  /** Forgets the debts. */
  close(): void;
}

/** What is told of the space. */
export interface SpaceStatus extends Omit<SpaceLimits, "floorBytes"> {
  /** Size of the file system. */
  readonly totalBytes: number;
  /** Free bytes, the reserve not among them. */
  readonly freeBytes: number;
  /** How it stands. */
  readonly state: SpaceState;
}

/** What {@linkcode SpaceKeeper} is made with. */
export interface SpaceKeeperOptions {
  /** Storage. */
  readonly disk: Disk;
  /** Any path on the file system, the data folder. */
  readonly path: string;
  /** The file that holds the reserve. */
  readonly reservePath: string;
  /** Gives turns. */
  readonly scheduler: Scheduler;
  /** Size of a full segment, in bytes. */
  readonly segmentBytes: number;
  /** Limits other than those that follow from the file system's size. */
  readonly limits?: Partial<SpaceLimits>;
  /** Told when the state changes, in a turn of its own. */
  readonly onState: (state: SpaceState, before: SpaceState) => void;
  /** Told at every look, after `onState`. */
  readonly onLook?: () => void;
}

const MIB = 1 << 20;
const PAGE_BYTES = 4096;
/** The file system has room for so many full segments at least. */
const SEGMENTS_MIN = 32;
/** Distance between two looks, in milliseconds. */
const LOOK_MS = 1000;
/** With less room for data than this it counts as full. */
const FULL_BYTES = 256 << 10;
/** It is no longer full with so much room for data. */
const RESUME_BYTES = MIB;
/** Grants close to the wall are a multiple of this. */
const GRANT_BYTES = 64 << 10;
/** It is no longer low when free space exceeds the watermark by this factor. */
const RELAXED = 1.1;
/** What can be done without asks for so much at once. */
const SPARE_STEP_BYTES = MIB;

function clamp(value: number, least: number, most: number): number {
  return Math.max(least, Math.min(value, most));
}

/**
 * The limits for a file system of a size. The reserve is 1 % of it, from 8 MiB to 1 GiB, never more than 5 %; the
 * watermark 5 %, at least twice the reserve and one segment, never more than a quarter.
 */
export function spaceLimits(
  totalBytes: number,
  segmentBytes: number,
  told: Partial<SpaceLimits> = {},
): SpaceLimits {
  const wholePages = (bytes: number) => Math.floor(bytes / PAGE_BYTES) * PAGE_BYTES;
  const reserveBytes = told.reserveBytes ??
    wholePages(Math.min(clamp(totalBytes / 100, 8 * MIB, 1024 * MIB), totalBytes / 20));
  const watermarkBytes = told.watermarkBytes ??
    wholePages(Math.min(Math.max(totalBytes / 20, 2 * reserveBytes + segmentBytes), totalBytes / 4));
  const floorBytes = told.floorBytes ??
    wholePages(Math.min(clamp(totalBytes / 32, 2 * MIB, 64 * MIB), totalBytes / 16));
  return { reserveBytes, watermarkBytes, floorBytes };
}

/** See the module. */
export class SpaceKeeper {
  readonly #options: SpaceKeeperOptions;
  readonly #limits: SpaceLimits;
  readonly #totalBytes: number;
  readonly #debts = new Set<() => number>();
  readonly #fileSystem: string | undefined;
  readonly #reserve: DiskFile;
  #held = false;
  #borrowers = 0;
  #state: SpaceState = "ok";
  #toldState: SpaceState = "ok";
  /** Room that the smallest refused write would need; 0 when none is refused. */
  #refusedBytes = 0;
  #timer: Timer | undefined;
  #soon: Timer | undefined;
  #closed = false;
  #isStarved = false;

  /** Begins with the reserve given back: a start needs room. The first look takes it. */
  constructor(options: SpaceKeeperOptions) {
    this.#options = options;
    const { totalBytes, fileSystem } = options.disk.space(options.path);
    this.#totalBytes = totalBytes;
    this.#limits = spaceLimits(totalBytes, options.segmentBytes, options.limits);
    this.#fileSystem = fileSystem;
    this.#reserve = options.disk.open(options.reservePath, { mode: "create" });
    this.#reserve.truncate(0);
  }

  /** How it stands, as of the last look. */
  get state(): SpaceState {
    return this.#state;
  }

  /** What is told of the space. */
  status(): SpaceStatus {
    const { totalBytes, freeBytes } = this.#options.disk.space(this.#options.path);
    const { reserveBytes, watermarkBytes } = this.#limits;
    const lent = this.#held ? 0 : reserveBytes;
    return {
      totalBytes,
      freeBytes: Math.max(0, freeBytes - lent),
      reserveBytes,
      watermarkBytes,
      state: this.#state,
    };
  }

  /** Bytes that must be freed until there is enough again. */
  get wantedBytes(): number {
    return Math.max(0, Math.ceil(this.#limits.watermarkBytes * RELAXED) - this.#free() + PAGE_BYTES);
  }

  /** Size at which a segment is full: small ones on a small file system, for a segment is given back as a whole. */
  get segmentBytes(): number {
    return Math.min(this.#options.segmentBytes, Math.max(MIB, this.#totalBytes / SEGMENTS_MIN));
  }

  /** Bytes that work which frees space may take for itself when it has the reserve. */
  get workingBytes(): number {
    const bytes = this.#free() + this.#limits.reserveBytes;
    return Math.max(0, bytes - this.#debtBytes() - this.#limits.floorBytes / 2);
  }

  /** Bytes that may be taken for what can be done without: below the watermark there are none. */
  get spareBytes(): number {
    return Math.max(0, this.#free() - this.#debtBytes() - this.#limits.watermarkBytes);
  }

  /**
   * Makes something that asks for bytes of what can be done without, and throws `no-space` when there are none to spare:
   * then history would be thinned for it, or captured writes refused. It asks once for each step.
   */
  spare(): (bytes: number) => void {
    let grantedBytes = 0;
    return (bytes) => {
      if (grantedBytes < bytes) {
        const { spareBytes } = this;
        const neededBytes = bytes - grantedBytes;
        if (spareBytes < neededBytes) {
          throw new VarveError(
            "no-space",
            `take ${bytes} bytes in ${this.#options.path}: ${spareBytes} bytes can be spared`,
            { hint: "Free space on that file system, or delete clones; history comes first." },
          );
        }
        grantedBytes += clamp(SPARE_STEP_BYTES, neededBytes, spareBytes);
      }
      grantedBytes -= bytes;
    };
  }

  #debtBytes(): number {
    let bytes = 0;
    for (const debt of this.#debts) bytes += debt();
    return bytes;
  }

  /** Free bytes as if the reserve were in its place; below 0 when a part of that is used. */
  #free(): number {
    const { freeBytes } = this.#options.disk.space(this.#options.path);
    return freeBytes - (this.#held ? 0 : this.#limits.reserveBytes);
  }

  #room(): number {
    return this.#free() - this.#debtBytes() - this.#limits.floorBytes;
  }

  /** Begins to look at the space every second. */
  start(): void {
    this.look();
  }

  /** Looks at the space now: takes the reserve again where it can, and finds the state. */
  look(): void {
    if (this.#closed) return;
    this.#timer?.cancel();
    this.#timer = this.#options.scheduler.after(LOOK_MS, () => this.look());
    this.#quietly(() => {
      this.#takeReserve();
      this.#findState();
      this.#tell();
      this.#options.onLook?.();
    });
  }

  #takeReserve(): void {
    if (this.#held || this.#borrowers > 0) return;
    // Not from what acknowledged commands are about to take.
    if (this.#free() - this.#debtBytes() < 0) return;
    try {
      this.#reserve.reserve(0, this.#limits.reserveBytes);
      this.#held = true;
    } catch (thrown) {
      this.#reserve.truncate(0);
      if (VarveError.from(thrown, "take the reserve").code !== "no-space") throw thrown;
    }
  }

  #giveReserve(): void {
    if (!this.#held) return;
    this.#reserve.truncate(0);
    this.#held = false;
  }

  #findState(): void {
    const room = this.#room();
    this.#isStarved = room + this.#limits.floorBytes < 0;
    if (room >= Math.max(this.#refusedBytes, RESUME_BYTES)) this.#refusedBytes = 0;
    const full = this.#refusedBytes > 0 || room < (this.#state === "full" ? RESUME_BYTES : FULL_BYTES);
    const { watermarkBytes } = this.#limits;
    const low = this.#free() < (this.#state === "ok" ? watermarkBytes : watermarkBytes * RELAXED);
    this.#state = full ? "full" : low ? "low" : "ok";
  }

  #tell(): void {
    const before = this.#toldState;
    if (before === this.#state) return;
    this.#toldState = this.#state;
    this.#options.onState(this.#state, before);
  }

  /** A host's write is under way: whoever must be told is told afterwards. */
  #tellSoon(): void {
    if (this.#toldState === this.#state || this.#soon !== undefined || this.#closed) return;
    this.#soon = this.#options.scheduler.after(0, () => {
      this.#soon = undefined;
      this.#tell();
    });
  }

  /** Runs work that frees space with the reserve given back; the reserve is taken again when all such work has ended. */
  async lend<T>(work: () => Promise<T>): Promise<T> {
    this.#borrowers++;
    try {
      this.#giveReserve();
      return await work();
    } finally {
      this.#borrowers--;
      this.look();
    }
  }

  /** Gives the reserve back for what cannot wait, until a later look takes it again; false when it was not there. */
  relieve(): boolean {
    const had = this.#held;
    this.#quietly(() => {
      this.#giveReserve();
      this.#findState();
      this.#tellSoon();
    });
    return had;
  }

  /** Storage that fails is looked at again in a second, and met by whoever asks it for something. */
  #quietly(work: () => void): void {
    try {
      work();
    } catch (thrown) {
      const { message } = VarveError.from(thrown, "look at the space");
      logger.warn("Looking at the space of {place}: {message}", { place: this.#options.path, message });
    }
  }

  /** The keeper as one volume sees it. */
  guard(primaryPath: string): SpaceGuard {
    const { disk } = this.#options;
    const stat = disk.stat(primaryPath);
    const sharesPrimary = stat?.kind === "file" && disk.space(primaryPath).fileSystem === this.#fileSystem;
    let debt: (() => number) | undefined;
    const isStarved = () => this.#isStarved;
    const forget = () => {
      if (debt !== undefined) this.#debts.delete(debt);
      debt = undefined;
    };
    return {
      sharesPrimary,
      get isStarved() {
        return isStarved();
      },
      grant: (wantedBytes, neededBytes) => this.#grant(wantedBytes, neededBytes, sharesPrimary ? 2 : 1),
      grantSmall: (bytes) => this.#grantSmall(bytes),
      relieve: () => this.relieve(),
      owes: (debtBytes) => {
        forget();
        this.#debts.add(debt = debtBytes);
      },
      close: forget,
    };
  }

  /** `copies`: how often the bytes will be stored, in the journal and in the primary. */
  #grant(wantedBytes: number, neededBytes: number, copies: number): number {
    const most = Math.floor(this.#room() / copies);
    if (most >= wantedBytes) {
      this.#findState();
      this.#tellSoon();
      return wantedBytes;
    }
    if (most >= neededBytes) {
      const half = Math.floor(most / 2 / GRANT_BYTES) * GRANT_BYTES;
      return clamp(half, neededBytes, wantedBytes);
    }
    const neededRoom = neededBytes * copies;
    this.#refusedBytes = this.#refusedBytes === 0 ? neededRoom : Math.min(this.#refusedBytes, neededRoom);
    this.#findState();
    this.#tellSoon();
    throw this.#noSpace(neededBytes);
  }

  #grantSmall(bytes: number): number {
    const { freeBytes } = this.#options.disk.space(this.#options.path);
    if (freeBytes - this.#debtBytes() - this.#limits.floorBytes / 2 < bytes) throw this.#noSpace(bytes);
    return bytes;
  }

  #noSpace(bytes: number): VarveError {
    const { path, disk } = this.#options;
    const { freeBytes } = disk.space(path);
    return new VarveError(
      "no-space",
      `take ${bytes} bytes for the history in ${path}: ${freeBytes} bytes are free, and ${
        Math.max(0, freeBytes - this.#room())
      } of them are set aside`,
      { hint: "Free space on that file system, or prune the history; writes go on by themselves." },
    );
  }

  /** Stops looking; the reserve stays in its place. */
  close(): void {
    this.#closed = true;
    this.#timer?.cancel();
    this.#soon?.cancel();
    this.#reserve.close();
  }
}

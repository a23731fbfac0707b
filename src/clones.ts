/**
 * Clones: moments of the past that can be written to, from their making to their end.
 *
 * A clone holds its moment: prunes keep it, and its volume cannot be deleted. It is made in this order: the moment is held,
 * the folder is made durable, the catalogue learns of it. It goes in the other: the catalogue forgets it, the moment is
 * let go, the folder is removed. So a crash in between leaves a folder that nobody knows, which the next start removes,
 * and never a clone without its bytes.
 *
 * @module
 */
import path from "node:path";
import { getLogger } from "@logtape/logtape";
import type { Access } from "./access.ts";
import type { BlockDevice } from "./base/block_device.ts";
import { toHex } from "./base/bytes.ts";
import type { Clock } from "./base/clock.ts";
import { VarveError } from "./base/errors.ts";
import type { RandomSource } from "./base/random.ts";
import { formatTime, parseRfc3339 } from "./base/time.ts";
import type { Scheduler, Timer } from "./base/turns.ts";
import { formatSize } from "./base/units.ts";
import type { Catalog, CloneRow } from "./catalog/catalog.ts";
import { CloneDevice } from "./clone/clone_device.ts";
import { Scratch, type ScratchOptions } from "./clone/scratch.ts";
import { type Disk, makeDurableDirectory, type SpaceKeeper } from "./disk/mod.ts";
import type { Caller, CloneInfo, CreateCloneRequest, Moment } from "./engine.ts";
import type { Events } from "./events.ts";
import type { ExportEntry, OpenExport } from "./nbd/mod.ts";
import { durationUs } from "./timeline/retention.ts";
import type { Volume } from "./volume/volume.ts";
import { checkName, type CloneHold, type Volumes } from "./volumes.ts";

const logger = getLogger(["varve", "clones"]);
const DEFAULT_BUDGET_BYTES = 10 * 2 ** 30;
const DEFAULT_TTL = "24h";
/** Whether clones have expired is looked at after so long at most, in milliseconds: the clock may be set. */
const LOOK_MS_MAX = 60_000;

/** What clones are made with. */
export interface ClonesParts {
  /** The data folder. */
  readonly dataPath: string;
  /** Storage. */
  readonly disk: Disk;
  /** Time. */
  readonly clock: Clock;
  /** Turns. */
  readonly scheduler: Scheduler;
  /** Random bytes for identities. */
  readonly random: RandomSource;
  /** The catalogue. */
  readonly catalog: Catalog;
  /** For the audit log. */
  readonly access: Access;
  /** Told of clones that have gone by themselves. */
  readonly events: Events;
  /** Says what can be spared. */
  readonly space: SpaceKeeper;
  /** Every volume. */
  readonly volumes: Volumes;
  /** The moment that a text of the time grammar names. */
  readonly resolve: (volume: string, at: string) => Promise<Moment>;
}

interface Clone {
  row: CloneRow;
  scratch: Scratch | undefined;
  error: VarveError | undefined;
  connections: number;
}

/** Every clone of the appliance. */
export class Clones {
  readonly #parts: ClonesParts;
  readonly #clones = new Map<string, Clone>();
  /** Names of clones being made, with what they hold once that is known. */
  readonly #making = new Map<string, { volumeId: string; seq: number } | undefined>();
  #timer: Timer | undefined;
  #closed = false;
  readonly #removals = new Set<Promise<void>>();

  /** Takes over those of the catalogue, so that their moments are held before any prune; `openAll` opens them. */
  constructor(parts: ClonesParts) {
    this.#parts = parts;
    for (const row of parts.catalog.clones()) {
      this.#clones.set(row.name, { row, scratch: undefined, error: undefined, connections: 0 });
    }
  }

  #directory(id = ""): string {
    return path.join(this.#parts.dataPath, "clones", id);
  }

  #scratchOptions({ id, sizeBytes, budgetBytes }: CloneRow): ScratchOptions {
    const { disk, space } = this.#parts;
    return { disk, directory: this.#directory(id), sizeBytes, budgetBytes, grant: space.spare() };
  }

  /** Opens every clone, and removes what is left of those that a crash has kept from being made or removed. */
  async openAll(): Promise<void> {
    const { disk } = this.#parts;
    const known = new Set([...this.#clones.values()].map(({ row }) => row.id));
    for (const id of disk.list(this.#directory())) if (!known.has(id)) this.#removeFolder(id);
    for (const clone of this.#clones.values()) {
      try {
        clone.scratch = await Scratch.open(this.#scratchOptions(clone.row));
      } catch (thrown) {
        clone.error = VarveError.from(thrown, `open clone ${clone.row.name}`);
        logger.error("Clone {clone}: {message}", { clone: clone.row.name, message: clone.error.message });
      }
    }
    this.#look();
  }

  /** Whether a clone has a name, or is being made with it. */
  has(name: string): boolean {
    return this.#clones.has(name) || this.#making.has(name);
  }

  /** What clones need of a volume, those being made among them. */
  holds(volumeId: string): CloneHold[] {
    const made = [...this.#clones.values()].filter(({ row }) => row.volumeId === volumeId)
      .map(({ row: { name, seq } }) => ({ name, seq }));
    const making = [...this.#making].flatMap(([name, hold]) =>
      hold?.volumeId === volumeId ? [{ name, seq: hold.seq }] : []
    );
    return [...made, ...making];
  }

  /** Every clone, by name. */
  list(): CloneInfo[] {
    return [...this.#clones.keys()].sort().map((name) => this.info(name));
  }

  /** One clone. */
  info(name: string): CloneInfo {
    const clone = this.#find(name);
    const { row, scratch, error, connections } = clone;
    const isExpired = this.#isExpired(row);
    return {
      id: row.id,
      name,
      volume: this.#parts.volumes.byId(row.volumeId)?.row.name ?? row.volumeId,
      time: formatTime(row.timeUs, 6),
      seq: row.seq,
      sizeBytes: row.sizeBytes,
      state: error !== undefined
        ? "failed"
        : row.promoting !== undefined
        ? "promoting"
        : isExpired
        ? "expired"
        : "ready",
      ...(error === undefined ? {} : { error: error.message }),
      createdAt: formatTime(row.createdUs, 6),
      ...(row.expiresUs === undefined ? {} : { expiresAt: formatTime(row.expiresUs, 6) }),
      budgetBytes: row.budgetBytes,
      usedBytes: scratch?.storedBytes ?? 0,
      connections,
    };
  }

  #find(name: string): Clone {
    const clone = this.#clones.get(name);
    if (clone !== undefined) return clone;
    throw new VarveError("not-found", `find clone ${name}: there is none of that name`, {
      field: "name",
      hint: "List the clones with varve clones list.",
    });
  }

  #isExpired({ expiresUs }: CloneRow): boolean {
    return expiresUs !== undefined && expiresUs <= this.#parts.clock.nowUs();
  }

  /** Makes a clone; it is there after a power cut when this resolves. */
  async create(request: CreateCloneRequest, caller: Caller): Promise<CloneInfo> {
    const { name, volume: volumeName } = request;
    const tried = `create clone ${name}`;
    checkName(tried, name);
    if (this.has(name) || this.#parts.volumes.has(name)) {
      const found = this.has(name) ? "one" : "a volume";
      throw new VarveError("conflict", `${tried}: there is ${found} of that name`, { field: "name" });
    }
    const terms = this.#terms(tried, request);
    this.#making.set(name, undefined);
    try {
      const moment = await this.#parts.resolve(volumeName, request.at);
      const { row: { id: volumeId }, volume } = this.#parts.volumes.entry(volumeName);
      // From here on prunes keep it, and the volume cannot be deleted.
      this.#making.set(name, { volumeId, seq: moment.seq });
      const view = await this.#view(volume, moment.seq, tried);
      const row: CloneRow = {
        id: toHex(this.#parts.random(16)),
        name,
        volumeId,
        seq: moment.seq,
        timeUs: parseRfc3339(moment.time) ?? 0,
        sizeBytes: view.sizeBytes,
        ...terms,
        promoting: undefined,
      };
      await this.#make(row, { moment, volumeName }, caller);
    } finally {
      this.#making.delete(name);
    }
    this.#look();
    return this.info(name);
  }

  #terms(
    tried: string,
    { budgetBytes, ttl = DEFAULT_TTL }: CreateCloneRequest,
  ): Pick<CloneRow, "budgetBytes" | "createdUs" | "expiresUs"> {
    const createdUs = this.#parts.clock.nowUs();
    const ttlUs = ttl === false ? undefined : durationUs(ttl, "ttl");
    if (ttlUs === 0) throw new VarveError("invalid", `${tried}: it would be gone at once`, { field: "ttl" });
    const budget = budgetBytes ?? Math.min(DEFAULT_BUDGET_BYTES, this.#parts.space.spareBytes);
    if (!Number.isSafeInteger(budget) || budget < 0 || budgetBytes === 0) {
      throw new VarveError("invalid", `${tried}: the budget ${budget} is no number of bytes above 0`, {
        field: "budgetBytes",
      });
    }
    return {
      createdUs,
      expiresUs: ttlUs === undefined ? undefined : createdUs + ttlUs,
      budgetBytes: budget,
    };
  }

  async #view(volume: Volume | undefined, seq: number, tried: string): Promise<BlockDevice> {
    if (volume === undefined) throw new VarveError("conflict", `${tried}: its volume cannot be opened`);
    // A prune may have decided to drop it since it was found.
    if (!volume.isRetained(seq)) {
      throw new VarveError("not-retained", `${tried}: sequence ${seq} has been dropped by a prune`, {
        field: "at",
      });
    }
    return await volume.view(seq);
  }

  async #make(
    row: CloneRow,
    { moment, volumeName }: { moment: Moment; volumeName: string },
    caller: Caller,
  ): Promise<void> {
    const { disk, catalog, access } = this.#parts;
    const directory = this.#directory(row.id);
    let scratch: Scratch | undefined;
    try {
      await makeDurableDirectory(disk, directory);
      scratch = await Scratch.create(this.#scratchOptions(row));
      catalog.transaction(() => {
        catalog.putClone(row);
        access.record(caller, "clone.create", row.name, {
          volume: volumeName,
          ...moment,
          budgetBytes: row.budgetBytes,
          ...(row.expiresUs === undefined ? {} : { expiresAt: formatTime(row.expiresUs, 6) }),
        });
      });
      this.#clones.set(row.name, { row, scratch, error: undefined, connections: 0 });
    } catch (thrown) {
      await scratch?.abandon();
      disk.removeTree(directory);
      throw thrown;
    }
  }

  /** Deletes a clone. Throws `conflict` while it is in use. */
  async delete(name: string, caller: Caller): Promise<void> {
    const clone = this.#find(name);
    this.#checkIdle(`delete clone ${name}`, clone);
    const { catalog, access } = this.#parts;
    const usedBytes = clone.scratch?.storedBytes ?? 0;
    catalog.transaction(() => {
      catalog.removeClone(clone.row.id);
      access.record(caller, "clone.delete", name, { id: clone.row.id, usedBytes });
    });
    await this.#remove(clone);
  }

  #checkIdle(tried: string, { row, connections }: Clone): void {
    if (row.promoting !== undefined) {
      throw new VarveError("conflict", `${tried}: volume ${row.promoting} is being made of it`, {
        hint: "Wait for that job, or cancel it.",
      });
    }
    if (connections === 0) return;
    throw new VarveError("conflict", `${tried}: clients are connected to it`, {
      hint: "Disconnect the hosts first.",
    });
  }

  /** Lets go of one that the catalogue has forgotten. */
  async #remove(clone: Clone): Promise<void> {
    this.#clones.delete(clone.row.name);
    await clone.scratch?.abandon();
    this.#removeFolder(clone.row.id);
  }

  #removeFolder(id: string): void {
    try {
      this.#parts.disk.removeTree(this.#directory(id));
    } catch (thrown) {
      const { message } = VarveError.from(thrown, `remove clone ${id}`);
      logger.warn("{message}; the next start tries it again", { message });
    }
  }

  /** Removes clones that have expired and are not in use, and comes again when the next one is due. */
  #look(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    if (this.#closed) return;
    const { clock, scheduler } = this.#parts;
    let nextMs = Infinity;
    for (const clone of [...this.#clones.values()]) {
      const { expiresUs, promoting } = clone.row;
      if (expiresUs === undefined) continue;
      const isUsed = clone.connections > 0 || promoting !== undefined;
      if (this.#isExpired(clone.row) && !isUsed && this.#expire(clone)) continue;
      nextMs = Math.min(nextMs, Math.max(1, Math.ceil((expiresUs - clock.nowUs()) / 1000)));
      if (this.#isExpired(clone.row)) nextMs = LOOK_MS_MAX;
    }
    if (nextMs === Infinity) return;
    this.#timer = scheduler.after(Math.min(nextMs, LOOK_MS_MAX), () => this.#look());
  }

  /** Removes a clone; false when the catalogue cannot be written. */
  #expire(clone: Clone): boolean {
    const { catalog, events, volumes } = this.#parts;
    const { row } = clone;
    const usedBytes = clone.scratch?.storedBytes ?? 0;
    try {
      catalog.transaction(() => catalog.removeClone(row.id));
    } catch (thrown) {
      const { message } = VarveError.from(thrown, `remove clone ${row.name}`);
      logger.warn("A clone has expired: {message}", { message });
      return false;
    }
    const volume = volumes.byId(row.volumeId)?.row.name;
    events.add({
      level: "info",
      kind: "clone.expired",
      ...(volume === undefined ? {} : { volume }),
      message: `clone ${row.name} as of ${formatTime(row.timeUs, 6)} has expired; ${
        formatSize(usedBytes)
      } of its own are gone`,
      details: { clone: row.name, seq: row.seq, usedBytes },
    });
    const removal = this.#remove(clone).finally(() => this.#removals.delete(removal));
    this.#removals.add(removal);
    return true;
  }

  /** Clones as NBD exports. */
  exports(): ExportEntry[] {
    return this.list().map(({ name, volume, time, expiresAt }) => ({
      name,
      description: `clone of ${volume} as of ${time}, ${
        expiresAt === undefined ? "never expires" : `expires ${expiresAt}`
      }`,
    }));
  }

  /** Opens a clone for a client; `undefined` when there is none of that name. */
  async open(name: string): Promise<Omit<OpenExport, "client"> | undefined> {
    const clone = this.#clones.get(name);
    if (clone === undefined) return undefined;
    const tried = `open clone ${name}`;
    if (clone.row.promoting !== undefined) this.#checkIdle(tried, clone);
    if (this.#isExpired(clone.row)) throw new VarveError("conflict", `${tried}: it has expired`);
    // Counted before anything is waited for, so that nobody takes it away meanwhile.
    clone.connections++;
    const release = () => {
      clone.connections--;
      this.#look();
    };
    try {
      const device = await this.#device(clone, tried);
      const { volume, time } = this.info(name);
      return { device, description: `${name}: clone of ${volume} as of ${time}`, close: release };
    } catch (thrown) {
      release();
      throw thrown;
    }
  }

  async #device({ row, scratch, error }: Clone, tried: string): Promise<BlockDevice> {
    if (scratch === undefined) throw error ?? new VarveError("conflict", `${tried}: it is not open yet`);
    const { volumes } = this.#parts;
    return new CloneDevice(await this.#view(volumes.byId(row.volumeId)?.volume, row.seq, tried), scratch);
  }

  /** Takes a clone for a promotion to a volume; nobody else uses it until `endPromotion`, nor after a crash before it. */
  beginPromotion(
    name: string,
    volume: string,
    caller: Caller,
  ): { row: CloneRow; device: Promise<BlockDevice> } {
    const tried = `promote clone ${name}`;
    const clone = this.#find(name);
    this.#checkIdle(tried, clone);
    if (clone.error !== undefined) throw clone.error;
    const { catalog, access } = this.#parts;
    const row = { ...clone.row, promoting: volume };
    catalog.transaction(() => {
      catalog.putClone(row);
      access.record(caller, "clone.promote", name, { volume });
    });
    clone.row = row;
    return { row, device: this.#device(clone, tried) };
  }

  /** Gives a clone back. */
  endPromotion(name: string): void {
    const clone = this.#find(name);
    const row = { ...clone.row, promoting: undefined };
    this.#parts.catalog.transaction(() => this.#parts.catalog.putClone(row));
    clone.row = row;
    this.#look();
  }

  /** Clones that a crash has kept from being promoted, with the name of the volume that is not finished. */
  unfinished(): { name: string; volume: string }[] {
    return [...this.#clones.values()].flatMap(({ row: { name, promoting } }) =>
      promoting === undefined ? [] : [{ name, volume: promoting }]
    );
  }

  /** Makes every clone durable and closes it. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#timer?.cancel();
    await Promise.all(this.#removals);
    for (const { row, scratch } of this.#clones.values()) {
      await scratch?.close().catch((thrown) => {
        const { message } = VarveError.from(thrown, "close");
        logger.error("Closing clone {clone}: {message}", { clone: row.name, message });
      });
    }
  }
}

/**
 * What the appliance knows apart from the recovery maps: volumes, marks, policies, jobs, tokens, audit.
 *
 * @module
 */
import type { DatabaseSync } from "node:sqlite";
import { VarveError } from "../base/errors.ts";
import { openDatabase, transaction } from "./database.ts";
import type { Disk } from "../disk/mod.ts";
import { CATALOG_MIGRATIONS } from "./schema.ts";

/** A volume as the catalogue keeps it. */
export interface VolumeRow {
  /** 32 hexadecimal digits. */
  readonly id: string;
  /** Unique name. */
  readonly name: string;
  /** Size in bytes. */
  readonly sizeBytes: number;
  /** Where the live bytes are. */
  readonly primaryPath: string;
  /** Whether Varve made that file and may delete it. */
  readonly primaryManaged: boolean;
  /** When it was created or adopted, in microseconds. */
  readonly createdUs: number;
  /** Retention policy, as JSON. */
  readonly policy: string;
}

/** A mark as the catalogue keeps it. */
export interface MarkRow {
  /** Name, unique within the volume. */
  readonly name: string;
  /** The moment it names. */
  readonly seq: number;
  /** Its time, in microseconds. */
  readonly timeUs: number;
  /** Whether retention may never drop it. */
  readonly pinned: boolean;
  /** What somebody wrote about it. */
  readonly note: string | undefined;
}

/** A writable disk of the past, as the catalogue keeps it. */
export interface CloneRow {
  /** 32 hexadecimal digits. */
  readonly id: string;
  /** Unique name. */
  readonly name: string;
  /** The volume whose past it is. */
  readonly volumeId: string;
  /** The moment. */
  readonly seq: number;
  /** Its time, in microseconds. */
  readonly timeUs: number;
  /** Size of the volume at that moment, in bytes. */
  readonly sizeBytes: number;
  /** When it was made, in microseconds. */
  readonly createdUs: number;
  /** When it goes by itself, in microseconds; `undefined` for never. */
  readonly expiresUs: number | undefined;
  /** Data of its own that it may have at most, in bytes. */
  readonly budgetBytes: number;
  /** Name of the volume that it is being made into. */
  readonly promoting: string | undefined;
}

/** A token as the catalogue keeps it. */
export interface TokenRow {
  /** Identity. */
  readonly id: string;
  /** Name. */
  readonly name: string;
  /** Scopes, as JSON. */
  readonly scopes: string;
  /** When it was made, in microseconds. */
  readonly createdUs: number;
}

/** A line of the audit log. */
export interface AuditRow {
  /** Position in the log. */
  readonly id: number;
  /** When, in microseconds. */
  readonly timeUs: number;
  /** Who. */
  readonly actor: string;
  /** What. */
  readonly action: string;
  /** On what. */
  readonly subject: string;
  /** Particulars, as JSON. */
  readonly details: string;
}

/** Something that happened, as the catalogue keeps it. */
export interface EventRow {
  /** Ascending in time. */
  readonly id: number;
  /** When, in microseconds. */
  readonly timeUs: number;
  /** How serious it is. */
  readonly level: string;
  /** What it is. */
  readonly kind: string;
  /** The volume that it is about. */
  readonly volume: string | undefined;
  /** For people. */
  readonly message: string;
  /** Particulars, as JSON. */
  readonly details: string;
}

/** The catalogue, `catalog.sqlite`. */
export class Catalog {
  readonly #database: DatabaseSync;

  /** Opens the catalogue at `place`, making it when it is missing. */
  constructor(place: string, disk?: Disk) {
    this.#database = openDatabase(place, {
      ...(disk === undefined ? {} : { disk }),
      migrations: CATALOG_MIGRATIONS,
      synchronous: "FULL",
    });
  }

  /** Whether SQLite finds its pages in order. */
  isSound(): boolean {
    try {
      return this.#database.prepare("PRAGMA quick_check(1)").get()?.["quick_check"] === "ok";
    } catch {
      return false;
    }
  }

  /** Runs `work` in one transaction. What storage has against it comes as a `VarveError`. */
  transaction<T>(work: () => T): T {
    try {
      return transaction(this.#database, work);
    } catch (thrown) {
      throw VarveError.from(thrown, "write to the catalogue");
    }
  }

  /** Every volume, by name. */
  volumes(): VolumeRow[] {
    return this.#database.prepare("SELECT * FROM volumes ORDER BY name").all().map((row) => ({
      id: String(row["id"]),
      name: String(row["name"]),
      sizeBytes: Number(row["size_bytes"]),
      primaryPath: String(row["primary_path"]),
      primaryManaged: row["primary_managed"] === 1,
      createdUs: Number(row["created_us"]),
      policy: String(row["policy"]),
    }));
  }

  /** Adds a volume. */
  addVolume(volume: VolumeRow): void {
    this.#database.prepare("INSERT INTO volumes VALUES (?, ?, ?, ?, ?, ?, ?)").run(
      volume.id,
      volume.name,
      volume.sizeBytes,
      volume.primaryPath,
      volume.primaryManaged ? 1 : 0,
      volume.createdUs,
      volume.policy,
    );
  }

  /** Replaces a volume's policy. */
  setPolicy(volumeId: string, policy: string): void {
    this.#database.prepare("UPDATE volumes SET policy = ? WHERE id = ?").run(policy, volumeId);
  }

  /** Replaces a volume's size. */
  setSize(volumeId: string, sizeBytes: number): void {
    this.#database.prepare("UPDATE volumes SET size_bytes = ? WHERE id = ?").run(sizeBytes, volumeId);
  }

  /** Forgets a volume and its marks. */
  removeVolume(volumeId: string): void {
    this.#database.prepare("DELETE FROM volumes WHERE id = ?").run(volumeId);
  }

  /** Marks of a volume, oldest first. */
  marks(volumeId: string): MarkRow[] {
    return this.#database.prepare("SELECT * FROM marks WHERE volume_id = ? ORDER BY seq, name").all(volumeId)
      .map(
        markOf,
      );
  }

  /** One mark. */
  mark(volumeId: string, name: string): MarkRow | undefined {
    const row = this.#database.prepare("SELECT * FROM marks WHERE volume_id = ? AND name = ?").get(
      volumeId,
      name,
    );
    return row === undefined ? undefined : markOf(row);
  }

  /** Adds or replaces a mark. */
  putMark(volumeId: string, mark: MarkRow): void {
    this.#database.prepare("INSERT OR REPLACE INTO marks VALUES (?, ?, ?, ?, ?, ?)").run(
      volumeId,
      mark.name,
      mark.seq,
      mark.timeUs,
      mark.pinned ? 1 : 0,
      mark.note ?? null,
    );
  }

  /** Takes a mark away. */
  removeMark(volumeId: string, name: string): void {
    this.#database.prepare("DELETE FROM marks WHERE volume_id = ? AND name = ?").run(volumeId, name);
  }

  /** Takes marks away, all or none. */
  removeMarks(volumeId: string, names: readonly string[]): void {
    this.transaction(() => {
      for (const name of names) this.removeMark(volumeId, name);
    });
  }

  /** Every clone, by name. */
  clones(): CloneRow[] {
    return this.#database.prepare("SELECT * FROM clones ORDER BY name").all().map((row) => ({
      id: String(row["id"]),
      name: String(row["name"]),
      volumeId: String(row["volume_id"]),
      seq: Number(row["seq"]),
      timeUs: Number(row["time_us"]),
      sizeBytes: Number(row["size_bytes"]),
      createdUs: Number(row["created_us"]),
      expiresUs: row["expires_us"] === null ? undefined : Number(row["expires_us"]),
      budgetBytes: Number(row["budget_bytes"]),
      promoting: row["promoting"] === null ? undefined : String(row["promoting"]),
    }));
  }

  /** Adds or replaces a clone. */
  putClone(clone: CloneRow): void {
    this.#database.prepare("INSERT OR REPLACE INTO clones VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)").run(
      clone.id,
      clone.name,
      clone.volumeId,
      clone.seq,
      clone.timeUs,
      clone.sizeBytes,
      clone.createdUs,
      clone.expiresUs ?? null,
      clone.budgetBytes,
      clone.promoting ?? null,
    );
  }

  /** Forgets a clone. */
  removeClone(id: string): void {
    this.#database.prepare("DELETE FROM clones WHERE id = ?").run(id);
  }

  /** Keeps the state of a job, as JSON. */
  putJob(id: string, createdUs: number, info: string): void {
    this.#database.prepare("INSERT INTO jobs VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET info = excluded.info")
      .run(
        id,
        createdUs,
        info,
      );
  }

  /** The newest jobs, as JSON, oldest of them first. */
  jobs(limit: number): string[] {
    return this.#database.prepare("SELECT info FROM jobs ORDER BY created_us DESC, rowid DESC LIMIT ?").all(
      limit,
    )
      .map((row) => String(row["info"])).reverse();
  }

  /** Forgets all jobs but the newest. */
  trimJobs(keep: number): void {
    this.#database.prepare(
      "DELETE FROM jobs WHERE rowid NOT IN (SELECT rowid FROM jobs ORDER BY created_us DESC, rowid DESC LIMIT ?)",
    ).run(keep);
  }

  /** Keeps what the newest scrub of a volume found, as JSON. */
  putScrub(volumeId: string, finishedUs: number, result: string): void {
    this.#database.prepare(
      "INSERT INTO scrubs VALUES (?, ?, ?) " +
        "ON CONFLICT DO UPDATE SET finished_us = excluded.finished_us, result = excluded.result",
    ).run(volumeId, finishedUs, result);
  }

  /** The last scrub of every volume that had one. */
  scrubs(): { volumeId: string; finishedUs: number; result: string }[] {
    return this.#database.prepare("SELECT * FROM scrubs").all().map((row) => ({
      volumeId: String(row["volume_id"]),
      finishedUs: Number(row["finished_us"]),
      result: String(row["result"]),
    }));
  }

  /** Adds a token; only the hash of its secret is kept. */
  addToken(token: TokenRow, secretSha256: string): void {
    this.#database.prepare("INSERT INTO tokens VALUES (?, ?, ?, ?, ?)").run(
      token.id,
      token.name,
      token.scopes,
      secretSha256,
      token.createdUs,
    );
  }

  /** Every token, oldest first. */
  tokens(): TokenRow[] {
    return this.#database.prepare("SELECT * FROM tokens ORDER BY created_us, id").all().map(tokenOf);
  }

  /** The token whose secret has this hash. */
  tokenBySecret(secretSha256: string): TokenRow | undefined {
    const row = this.#database.prepare("SELECT * FROM tokens WHERE secret_sha256 = ?").get(secretSha256);
    return row === undefined ? undefined : tokenOf(row);
  }

  /** Takes a token away; false when there is none. */
  removeToken(id: string): boolean {
    return this.#database.prepare("DELETE FROM tokens WHERE id = ?").run(id).changes > 0;
  }

  /** Adds a line to the audit log. */
  addAudit(line: Omit<AuditRow, "id">): void {
    this.#database.prepare(
      "INSERT INTO audit (time_us, actor, action, subject, details) VALUES (?, ?, ?, ?, ?)",
    ).run(line.timeUs, line.actor, line.action, line.subject, line.details);
  }

  /** The newest lines of the audit log, newest first. */
  audit(limit: number): AuditRow[] {
    return this.#database.prepare("SELECT * FROM audit ORDER BY id DESC LIMIT ?").all(limit).map((row) => ({
      id: Number(row["id"]),
      timeUs: Number(row["time_us"]),
      actor: String(row["actor"]),
      action: String(row["action"]),
      subject: String(row["subject"]),
      details: String(row["details"]),
    }));
  }

  /** Adds events, and forgets all but the newest `keep`. To be called within a transaction. */
  addEvents(events: readonly EventRow[], keep: number): void {
    const insert = this.#database.prepare("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?)");
    for (const event of events) {
      const { id, timeUs, level, kind, volume, message, details } = event;
      insert.run(id, timeUs, level, kind, volume ?? null, message, details);
    }
    this.#database.prepare("DELETE FROM events WHERE id <= (SELECT max(id) FROM events) - ?").run(keep);
  }

  /** Events behind `after`, oldest first, at most `limit`; without `after` the newest. */
  events(options: { limit: number; after?: number }): EventRow[] {
    const rows = options.after === undefined
      ? this.#database.prepare("SELECT * FROM events ORDER BY id DESC LIMIT ?").all(options.limit).reverse()
      : this.#database.prepare("SELECT * FROM events WHERE id > ? ORDER BY id LIMIT ?").all(
        options.after,
        options.limit,
      );
    return rows.map((row) => ({
      id: Number(row["id"]),
      timeUs: Number(row["time_us"]),
      level: String(row["level"]),
      kind: String(row["kind"]),
      volume: row["volume"] === null ? undefined : String(row["volume"]),
      message: String(row["message"]),
      details: String(row["details"]),
    }));
  }

  /** Closes the database. */
  close(): void {
    this.#database.close();
  }
}

function markOf(row: Record<string, unknown>): MarkRow {
  return {
    name: String(row["name"]),
    seq: Number(row["seq"]),
    timeUs: Number(row["time_us"]),
    pinned: row["pinned"] === 1,
    note: row["note"] === null ? undefined : String(row["note"]),
  };
}

function tokenOf(row: Record<string, unknown>): TokenRow {
  return {
    id: String(row["id"]),
    name: String(row["name"]),
    scopes: String(row["scopes"]),
    createdUs: Number(row["created_us"]),
  };
}

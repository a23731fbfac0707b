/** SQLite databases of the simulated disk. `docs/decisions/0009-simulation.md` says what stands for what. */
import fs from "node:fs";
import { DatabaseSync } from "node:sqlite";
import type { SeededRandom } from "../base/seeded_random.ts";

/** What the disk decides for its databases. */
export interface DatabaseHost {
  /** Called before anything that changes the database; throws when the power is off, or goes off now. */
  operate(what: string): void;
  /** The error that this COMMIT is to fail with, if any. */
  commitFault(): Error | undefined;
  /** Whether to make a checkpoint now. */
  wantsCheckpoint(): boolean;
}

/** A database on a scratch folder, which a power cut takes from those who have it open. */
export class SimulatedDatabase extends DatabaseSync {
  readonly scratchPath: string;
  readonly #host: DatabaseHost;
  readonly #onClose: () => void;
  #synchronous = "FULL";
  #open = true;

  constructor(
    scratchPath: string,
    readOnly: boolean,
    options: { host: DatabaseHost; onClose: () => void },
  ) {
    super(scratchPath, { readOnly });
    this.scratchPath = scratchPath;
    this.#host = options.host;
    this.#onClose = options.onClose;
    super.exec("PRAGMA wal_autocheckpoint = 0");
  }

  /** Whether every commit is durable when it returns. */
  get isFull(): boolean {
    return this.#synchronous === "FULL";
  }

  override exec(sql: string): void {
    this.#host.operate(`sql ${sql.slice(0, 24)}`);
    const found = /synchronous *= *(\w+)/i.exec(sql)?.[1];
    if (found !== undefined) this.#synchronous = found.toUpperCase();
    const ends = /^\s*COMMIT/i.test(sql);
    const fault = ends ? this.#host.commitFault() : undefined;
    if (fault !== undefined) {
      super.exec("ROLLBACK");
      throw fault;
    }
    super.exec(sql);
    if (ends && this.#host.wantsCheckpoint()) super.exec("PRAGMA wal_checkpoint(TRUNCATE)");
  }

  override close(): void {
    if (!this.#open) return;
    this.#host.operate("close database");
    this.#open = false;
    this.#onClose();
    super.close();
  }

  /**
   * Takes the handle away as the end of a process does. SQLite would make a checkpoint while closing, so the files are
   * set aside before and put back afterwards.
   */
  abandon(): void {
    if (!this.#open) return;
    this.#open = false;
    const parts = [this.scratchPath, `${this.scratchPath}-wal`];
    const aside = parts.map((part) => fs.existsSync(part) ? fs.readFileSync(part) : undefined);
    super.close();
    fs.rmSync(`${this.scratchPath}-shm`, { force: true });
    for (const [index, part] of parts.entries()) {
      const bytes = aside[index];
      if (bytes === undefined) fs.rmSync(part, { force: true });
      else fs.writeFileSync(part, bytes);
    }
  }
}

/** Leaves of a write-ahead log what a power cut does: SQLite recovers the commits before the cut. */
export function cutLog(scratchPath: string, random: SeededRandom): void {
  const place = `${scratchPath}-wal`;
  const sizeBytes = fs.statSync(place, { throwIfNoEntry: false })?.size ?? 0;
  if (sizeBytes === 0 || random.oneIn(3)) return;
  fs.truncateSync(place, random.oneIn(3) ? 0 : random.below(sizeBytes + 1));
}

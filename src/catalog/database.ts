/**
 * Opening SQLite databases: pragmas and migrations.
 *
 * @module
 */
import type { DatabaseSync } from "node:sqlite";
import { VarveError } from "../base/errors.ts";
import { pause, type Scheduler } from "../base/turns.ts";
import { type Disk, FileDisk } from "../disk/mod.ts";

/** What to do when an SQLite file of the data folder is gone or damaged. */
export const REBUILD_HINT =
  "Stop the appliance and run varve rebuild --data DIR: the segments hold all of it, so do not delete them.";

/** Options of {@linkcode openDatabase}. */
export interface OpenDatabaseOptions {
  /** Storage. Default: that of the machine. */
  readonly disk?: Disk;
  /** Open for reading alone; migrations are then not run. Default false. */
  readonly readOnly?: boolean;
  /**
   * Whether each commit survives power loss (`FULL`), or only as long as the machine has power (`NORMAL`): the recovery
   * maps can be made again from the journal, the catalogue is told of marks only once. Default `NORMAL`.
   */
  readonly synchronous?: "NORMAL" | "FULL";
  /** Statements that bring the schema from version N to N + 1. */
  readonly migrations: readonly string[];
}

/** How long a statement waits for another connection, in milliseconds. */
const BUSY_MS = 10_000;
/** Distance between two tries to fold the log in while somebody reads. */
const FOLD_RETRY_MS = 20;

/** Opens a database in WAL mode and brings its schema up to date. `place` may be `:memory:`. */
export function openDatabase(place: string, options: OpenDatabaseOptions): DatabaseSync {
  let database: DatabaseSync | undefined;
  try {
    database = (options.disk ?? new FileDisk()).openDatabase(place, { readOnly: options.readOnly ?? false });
    database.exec(`PRAGMA busy_timeout = ${BUSY_MS}`);
    if (!options.readOnly) {
      const synchronous = options.synchronous ?? "NORMAL";
      database.exec(
        `PRAGMA journal_mode = WAL; PRAGMA synchronous = ${synchronous}; PRAGMA foreign_keys = ON;`,
      );
      migrate(database, place, options.migrations);
    }
    return database;
  } catch (thrown) {
    database?.close();
    throw describeFailure(thrown, place);
  }
}

/** What SQLite says of a file that is no database, or is one no more. */
const DAMAGE = /file is not a database|malformed|unsupported file format/;

function describeFailure(thrown: unknown, place: string): VarveError {
  const found = VarveError.from(thrown, `open the database ${place}`);
  if (thrown instanceof VarveError || !DAMAGE.test(found.message)) return found;
  return new VarveError("damaged", found.message, { cause: thrown, hint: REBUILD_HINT });
}

function migrate(database: DatabaseSync, place: string, migrations: readonly string[]): void {
  const found = database.prepare("PRAGMA user_version").get()?.["user_version"];
  const version = typeof found === "number" ? found : 0;
  if (version > migrations.length) {
    throw new VarveError(
      "unsupported",
      `open the database ${place}: its schema is version ${version}, this Varve knows ${migrations.length}`,
      { hint: "Use the version of Varve that wrote it, or a newer one." },
    );
  }
  for (const [index, migration] of migrations.entries()) {
    if (index < version) continue;
    transaction(database, () => {
      database.exec(migration);
      database.exec(`PRAGMA user_version = ${index + 1}`);
    });
  }
}

/** Runs `work` in one transaction: all of it is kept, or nothing. */
export function transaction<T>(database: DatabaseSync, work: () => T): T {
  database.exec("BEGIN IMMEDIATE");
  try {
    const result = work();
    database.exec("COMMIT");
    return result;
  } catch (thrown) {
    // SQLite has rolled back by itself after some failures, such as a full disk.
    if (database.isTransaction) database.exec("ROLLBACK");
    throw thrown;
  }
}

/**
 * Folds the log of a database into its file and empties it; when this resolves every commit before it survives power
 * loss. While connections in other threads read, this thread has its turns. An abort of `signal` is thrown.
 */
export async function foldLog(
  database: DatabaseSync,
  options: { scheduler: Scheduler; signal: AbortSignal },
): Promise<void> {
  for (;;) {
    options.signal.throwIfAborted();
    database.exec("PRAGMA busy_timeout = 0");
    try {
      if (database.prepare("PRAGMA wal_checkpoint(TRUNCATE)").get()?.["busy"] === 0) return;
    } finally {
      database.exec(`PRAGMA busy_timeout = ${BUSY_MS}`);
    }
    await pause(options.scheduler, FOLD_RETRY_MS);
  }
}

/**
 * Opening SQLite databases: pragmas and migrations.
 *
 * @module
 */
import { DatabaseSync } from "node:sqlite";
import { VarveError } from "../base/errors.ts";

/** Options of {@linkcode openDatabase}. */
export interface OpenDatabaseOptions {
  /** Open for reading alone; migrations are then not run. Default false. */
  readonly readOnly?: boolean;
  /** Statements that bring the schema from version N to N + 1. */
  readonly migrations: readonly string[];
}

/** Opens a database in WAL mode and brings its schema up to date. `place` may be `:memory:`. */
export function openDatabase(place: string, options: OpenDatabaseOptions): DatabaseSync {
  let database: DatabaseSync;
  try {
    database = new DatabaseSync(place, { readOnly: options.readOnly ?? false });
    database.exec("PRAGMA busy_timeout = 10000");
    if (options.readOnly) return database;
    database.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON;");
  } catch (thrown) {
    throw VarveError.from(thrown, `open the catalogue ${place}`);
  }
  const found = database.prepare("PRAGMA user_version").get()?.["user_version"];
  const version = typeof found === "number" ? found : 0;
  if (version > options.migrations.length) {
    database.close();
    throw new VarveError(
      "unsupported",
      `open the catalogue ${place}: its schema is version ${version}, this Varve knows ${options.migrations.length}`,
      { hint: "Use the version of Varve that wrote it, or a newer one." },
    );
  }
  for (const [index, migration] of options.migrations.entries()) {
    if (index < version) continue;
    transaction(database, () => {
      database.exec(migration);
      database.exec(`PRAGMA user_version = ${index + 1}`);
    });
  }
  return database;
}

/** Runs `work` in one transaction: all of it is kept, or nothing. */
export function transaction<T>(database: DatabaseSync, work: () => T): T {
  database.exec("BEGIN IMMEDIATE");
  let result: T;
  try {
    result = work();
  } catch (thrown) {
    database.exec("ROLLBACK");
    throw thrown;
  }
  database.exec("COMMIT");
  return result;
}

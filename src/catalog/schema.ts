/**
 * Tables of `catalog.sqlite`: what the appliance knows apart from the recovery maps.
 *
 * @module
 */

/** Statements that bring the catalogue from version N to N + 1. */
export const CATALOG_MIGRATIONS: readonly string[] = [
  `
  CREATE TABLE volumes (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    size_bytes INTEGER NOT NULL,
    primary_path TEXT NOT NULL,
    primary_managed INTEGER NOT NULL,
    created_us INTEGER NOT NULL,
    policy TEXT NOT NULL
  ) STRICT;

  CREATE TABLE marks (
    volume_id TEXT NOT NULL REFERENCES volumes (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    seq INTEGER NOT NULL,
    time_us INTEGER NOT NULL,
    pinned INTEGER NOT NULL,
    note TEXT,
    PRIMARY KEY (volume_id, name)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX marks_by_seq ON marks (volume_id, seq);

  CREATE TABLE jobs (
    id TEXT PRIMARY KEY,
    created_us INTEGER NOT NULL,
    info TEXT NOT NULL
  ) STRICT;

  CREATE TABLE tokens (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    scopes TEXT NOT NULL,
    secret_sha256 TEXT NOT NULL UNIQUE,
    created_us INTEGER NOT NULL
  ) STRICT;

  CREATE TABLE audit (
    id INTEGER PRIMARY KEY,
    time_us INTEGER NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    subject TEXT NOT NULL,
    details TEXT NOT NULL
  ) STRICT;
  `,
  `
  -- The last finished scrub of each volume; result: what it found, as HTTP shows it, JSON.
  CREATE TABLE scrubs (
    volume_id TEXT PRIMARY KEY REFERENCES volumes (id) ON DELETE CASCADE,
    finished_us INTEGER NOT NULL,
    result TEXT NOT NULL
  ) STRICT, WITHOUT ROWID;
  `,
  `
  CREATE TABLE events (
    id INTEGER PRIMARY KEY,
    time_us INTEGER NOT NULL,
    level TEXT NOT NULL,
    kind TEXT NOT NULL,
    volume TEXT,
    message TEXT NOT NULL,
    details TEXT NOT NULL
  ) STRICT;
  `,
  `
  -- Writable disks of the past. expires_us: NULL for never; promoting: the volume that one is being made into. A rebuild
  -- takes volumes away and brings them back, so there is no reference to them.
  CREATE TABLE clones (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    volume_id TEXT NOT NULL,
    seq INTEGER NOT NULL,
    time_us INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL,
    created_us INTEGER NOT NULL,
    expires_us INTEGER,
    budget_bytes INTEGER NOT NULL,
    promoting TEXT
  ) STRICT;
  `,
];

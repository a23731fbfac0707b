/**
 * Tables of a volume's recovery map, `map.sqlite`. Everything in it can be made again from the segments.
 *
 * @module
 */

/** Statements that bring a map from version N to N + 1. */
export const MAP_MIGRATIONS: readonly string[] = [
  `
  -- Packed versions of the blocks of one 16 MiB region.
  --   kind 0: delta, the changes of sequences seq..last_seq, in order
  --   kind 1: keyframe, the whole region as of seq
  --   kind 2: baseline, content from before the first command
  -- since: entries in deltas since the last keyframe, this row included; -1 once a keyframe follows
  -- base: entries of that keyframe
  CREATE TABLE regions (
    id INTEGER PRIMARY KEY,
    region INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    last_seq INTEGER NOT NULL,
    entries INTEGER NOT NULL,
    since INTEGER NOT NULL,
    base INTEGER NOT NULL,
    packed BLOB NOT NULL
  ) STRICT;
  CREATE UNIQUE INDEX regions_by_place ON regions (region, kind, seq);

  -- Holes over whole regions: node n of a level stands for 16^level regions from n * 16^level on.
  CREATE TABLE wide_holes (
    level INTEGER NOT NULL,
    node INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    PRIMARY KEY (level, node, seq)
  ) STRICT, WITHOUT ROWID;

  -- Every sequence with its time and kind, packed.
  CREATE TABLE moments (
    first_seq INTEGER PRIMARY KEY,
    last_seq INTEGER NOT NULL,
    first_us INTEGER NOT NULL,
    last_us INTEGER NOT NULL,
    entries INTEGER NOT NULL,
    packed BLOB NOT NULL
  ) STRICT;
  CREATE INDEX moments_by_time ON moments (first_us);

  -- Single moments kept below the horizon (state.horizon_seq); until_us: when the next command changed the volume.
  CREATE TABLE kept (
    seq INTEGER PRIMARY KEY,
    time_us INTEGER NOT NULL,
    until_us INTEGER NOT NULL,
    kind INTEGER NOT NULL
  ) STRICT;

  -- Finished segments. compacted: written by compaction, so no start ever scans it.
  -- retired 1: replaced by compaction, waiting to be deleted.
  -- retired 2: part of a compaction that is not finished, as an old segment or a new one.
  CREATE TABLE segments (
    segment INTEGER PRIMARY KEY,
    first_seq INTEGER NOT NULL,
    last_seq INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    compacted INTEGER NOT NULL DEFAULT 0,
    retired INTEGER NOT NULL DEFAULT 0
  ) STRICT;

  CREATE TABLE state (
    name TEXT PRIMARY KEY,
    value INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;
  `,
  `
  -- Which chunks of an adopted disk the map has the first copy of; empty once it has all.
  CREATE TABLE baseline_pages (
    page INTEGER PRIMARY KEY,
    packed BLOB NOT NULL
  ) STRICT;
  `,
  `
  -- Bytes that a segment takes on storage; its size when compressing it was tried and left; NULL until it is tried.
  ALTER TABLE segments ADD COLUMN stored_bytes INTEGER;
  `,
  `
  -- Spans that the history does not know, as the journal's texts tell them; to_seq and to_us are NULL while one is open.
  CREATE TABLE gaps (
    from_seq INTEGER PRIMARY KEY,
    from_us INTEGER NOT NULL,
    to_seq INTEGER,
    to_us INTEGER
  ) STRICT;
  `,
  `
  -- Sizes of the volume, each from a sequence on; empty until the volume is opened by a Varve that knows of them.
  CREATE TABLE sizes (
    from_seq INTEGER PRIMARY KEY,
    size_bytes INTEGER NOT NULL
  ) STRICT;

  -- The newest clients that changed the volume, as the journal's texts tell them: JSON.
  CREATE TABLE clients (
    client INTEGER PRIMARY KEY,
    identity TEXT NOT NULL
  ) STRICT;
  `,
];

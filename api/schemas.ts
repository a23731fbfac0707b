/**
 * The Zod schemas of everything that crosses the API: they validate requests, give handlers their types and
 * make `/openapi.json`. That answers fit them is checked by the compiler against `src/engine.ts`.
 *
 * @module
 */
import { z } from "@hono/zod-openapi";
import { parseDuration } from "../src/base/units.ts";

/** The rule for names of volumes, marks and tokens. */
const NAME_PATTERN = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;
const NAME_RULE =
  "must be a name: letters, digits, `.`, `_`, `-`, beginning with a letter or digit, at most 64 characters";
const SIZE_RULE = "must be a size: a positive whole number of bytes";
const DURATION_RULE = "must be a duration such as 15m, 1h, 7d or 4w";
const TIME_RULE = "must be a time: now, RFC 3339, seq:N, mark:NAME, a time of day, or such as `10m ago`";
const PATH_RULE = "must be an absolute path of at most 4096 characters";

/** A strict object: unknown fields are refused by a message that lists the known ones. */
function strict<S extends z.core.$ZodShape>(shape: S): z.ZodObject<S, z.core.$strict> {
  const fields = Object.keys(shape).join(", ");
  return z.strictObject(shape, {
    error: (issue) =>
      issue.code === "unrecognized_keys"
        ? `is not a field here; accepted are: ${fields}`
        : `must be an object with the fields: ${fields}`,
  });
}

const name = (example: string) =>
  z.string({ error: NAME_RULE }).regex(NAME_PATTERN, NAME_RULE).openapi({ example });
const size = () => z.int({ error: SIZE_RULE }).positive(SIZE_RULE);
const flag = () => z.boolean({ error: "must be true or false" });
const note = () =>
  z.string({ error: "must be a text of at most 1000 characters" })
    .max(1000, "must be a text of at most 1000 characters");
const path = () => z.string({ error: PATH_RULE }).max(4096, PATH_RULE).regex(/^\/[^\0]*$/, PATH_RULE);
const time = () =>
  z.string({ error: TIME_RULE }).min(1, TIME_RULE).max(200, TIME_RULE).openapi({ example: "10m ago" });
const duration = () =>
  z.string({ error: DURATION_RULE }).max(40, DURATION_RULE).refine(isDuration, DURATION_RULE).openapi({
    example: "24h",
  });

function isDuration(text: string): boolean {
  try {
    parseDuration(text);
    return true;
  } catch {
    return false;
  }
}

function isFields(value: unknown): boolean {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

const bytes = () => z.int().nonnegative();
const instant = () => z.string().openapi({ format: "date-time", example: "2026-11-22T10:15:00.000000Z" });

// ---- Answers ----

/** A failure, as RFC 9457 has it; further members may stand beside these. */
export const ProblemSchema = z.looseObject({
  type: z.string(),
  title: z.string(),
  status: z.int(),
  detail: z.string(),
  code: z.string(),
  field: z.string().optional(),
  errors: z.array(z.object({ field: z.string(), message: z.string() })).optional(),
  hint: z.string().optional(),
}).openapi("Problem");

/** An exact moment. */
export const MomentSchema = z.object({ time: instant(), seq: z.int().nonnegative() }).openapi("Moment");

const GapSchema = z.object({ from: MomentSchema, to: MomentSchema.optional(), reason: z.string() })
  .openapi("Gap");

const WindowSchema = z.object({ from: MomentSchema, to: MomentSchema }).openapi("Window");

/** Why a point is shown. */
export const PointKindSchema = z.enum(["created", "mark", "flush", "tier"]);

/** A retained moment. */
export const PointSchema = MomentSchema.extend({
  kind: PointKindSchema,
  pinned: z.boolean(),
  name: z.string().optional(),
  note: z.string().optional(),
  tier: z.string().optional(),
}).openapi("Point");

/** A page of points. */
export const PointsSchema = z.object({
  points: z.array(PointSchema),
  nextCursor: z.string().optional().openapi({
    description: "Pass as `cursor` to go on; absent on the last page.",
  }),
  gaps: z.array(GapSchema).optional().openapi({
    description: "Spans in which the history could not be told; no moment inside one exists.",
  }),
}).openapi("Points");

/** A mark. */
export const MarkSchema = PointSchema.extend({ kind: z.literal("mark"), name: z.string() }).openapi("Mark");

/** Every mark. */
export const MarksSchema = z.object({ marks: z.array(MarkSchema) }).openapi("Marks");

/** A volume. */
export const VolumeSchema = z.object({
  id: z.string(),
  name: z.string(),
  sizeBytes: bytes(),
  state: z.enum(["ready", "baseline", "failed"]),
  error: z.string().optional(),
  primary: z.object({ path: z.string(), managed: z.boolean() }),
  createdAt: instant(),
  window: WindowSchema,
  gaps: z.array(GapSchema),
  baseline: z.object({ complete: z.boolean(), doneBytes: bytes(), totalBytes: bytes() }),
  historyBytes: bytes(),
  compression: z.object({ compressedSegments: z.int(), rawBytes: bytes(), storedBytes: bytes() }),
  counts: z.object({ marks: z.int(), segments: z.int(), connections: z.int() }),
  indexedSeq: z.int(),
  durableSeq: z.int(),
  scrub: z.object({
    finishedAt: instant(),
    checkedBytes: bytes(),
    damagedPlaces: z.int(),
    damagedPoints: z.int(),
  }).optional().openapi({ description: "What the last finished scrub found." }),
  capture: z.enum(["running", "full", "gap"]),
  refusedWrites: z.int().nonnegative(),
}).openapi("Volume");

/** Who changed a volume. */
export const ClientsSchema = z.object({
  clients: z.array(
    z.object({
      client: z.int().openapi({ description: "Number that records in the segments carry." }),
      peer: z.string().openapi({ example: "192.0.2.7:51034" }),
      pid: z.int().optional(),
      uid: z.int().optional(),
      gid: z.int().optional(),
      certificate: z.string().optional().openapi({ description: "Subject of the client's certificate." }),
      tls: z.boolean().optional(),
      openedAt: instant(),
      connected: z.boolean(),
    }).openapi("Client"),
  ),
}).openapi("Clients");

/** Every volume. */
export const VolumesSchema = z.object({ volumes: z.array(VolumeSchema) }).openapi("Volumes");

/** A clone. */
export const CloneSchema = MomentSchema.extend({
  id: z.string(),
  name: z.string(),
  volume: z.string(),
  sizeBytes: bytes(),
  state: z.enum(["ready", "promoting", "expired", "failed"]),
  error: z.string().optional(),
  createdAt: instant(),
  expiresAt: instant().optional().openapi({ description: "When it goes by itself; absent for never." }),
  budgetBytes: bytes(),
  usedBytes: bytes(),
  connections: z.int().nonnegative(),
}).openapi("Clone");

/** Every clone. */
export const ClonesSchema = z.object({ clones: z.array(CloneSchema) }).openapi("Clones");

const JobStateSchema = z.enum(["queued", "running", "succeeded", "failed", "cancelled"]);

const EventLevelSchema = z.enum(["info", "warning", "error"]);

/** What happened by itself, oldest first. */
export const EventsSchema = z.object({
  events: z.array(
    z.object({
      id: z.int(),
      time: instant(),
      level: EventLevelSchema,
      kind: z.string().openapi({ example: "history.thinned" }),
      volume: z.string().optional(),
      message: z.string(),
      details: z.record(z.string(), z.unknown()),
    }).openapi("Event"),
  ),
}).openapi("Events");

/** The appliance. */
export const StatusSchema = z.object({
  version: z.string(),
  startedAt: instant(),
  dataPath: z.string(),
  mountPath: z.string().optional(),
  mountError: z.string().optional(),
  nbd: z.array(z.string()),
  api: z.array(z.string()),
  storage: z.object({
    totalBytes: bytes(),
    freeBytes: bytes(),
    reserveBytes: bytes(),
    watermarkBytes: bytes(),
    state: z.enum(["ok", "low", "full"]),
  }),
  volumes: z.array(VolumeSchema),
  clones: z.array(CloneSchema),
  jobs: z.object({
    queued: z.int(),
    running: z.int(),
    succeeded: z.int(),
    failed: z.int(),
    cancelled: z.int(),
  }),
  events: z.array(z.object({ level: EventLevelSchema, kind: z.string(), count: z.int() })),
}).openapi("Status");

/** Long work. */
export const JobSchema = z.object({
  id: z.string(),
  kind: z.enum(["recovery", "prune", "scrub", "promote"]),
  volume: z.string(),
  state: JobStateSchema,
  progress: z.object({ doneBytes: bytes(), totalBytes: bytes() }),
  createdAt: instant(),
  endedAt: instant().optional(),
  result: z.record(z.string(), z.unknown()).optional(),
  error: z.object({ code: z.string(), detail: z.string(), hint: z.string().optional() }).optional(),
}).openapi("Job");

/** Every job. */
export const JobsSchema = z.object({ jobs: z.array(JobSchema) }).openapi("Jobs");

/** What a prune would do. */
export const PrunePreviewSchema = z.object({
  pointsLost: z.int(),
  momentsLost: z.int(),
  bytesFreed: bytes(),
  window: WindowSchema,
}).openapi("PrunePreview");

/** What a scrub found. */
export const ScrubSchema = z.object({
  startedAt: instant(),
  finishedAt: instant(),
  checkedBytes: bytes(),
  damagedPlaces: z.int().openapi({ description: "All of them, listed or not." }),
  places: z.array(z.object({
    segment: z.int().optional(),
    file: z.string().openapi({ example: "segments/000000000007.seg" }),
    offset: bytes().optional(),
    length: bytes(),
    seq: z.int().optional(),
    blocks: z.int().openapi({
      description: "Versions of blocks that kept moments see and that cannot be read.",
    }),
    harmless: z.boolean().openapi({ description: "No kept moment sees anything of it." }),
    problem: z.string(),
  })),
  damagedSeqs: z.array(z.object({ fromSeq: z.int(), toSeq: z.int() })).openapi({
    description: "Spans of moments that cannot be read in full, both ends included.",
  }),
  spansJoined: z.boolean().openapi({
    description: "Whether spans were too many to tell apart, so that they hold whole moments too.",
  }),
  damagedPoints: z.int().openapi({ description: "All of them, listed or not." }),
  points: z.array(PointSchema),
  newestDamaged: z.boolean(),
  hint: z.string().optional(),
}).openapi("Scrub");

const FileSchema = z.object({
  name: z.string(),
  path: z.string(),
  type: z.enum(["file", "directory", "symlink", "fifo", "socket", "block", "character"]),
  sizeBytes: bytes(),
  mode: z.string().openapi({ example: "0644" }),
  uid: z.int(),
  gid: z.int(),
  links: z.int(),
  inode: z.int(),
  modifiedAt: instant(),
  target: z.string().optional(),
}).openapi("File");

/** A directory or a file of the past. */
export const FileListingSchema = MomentSchema.extend({
  path: z.string(),
  file: FileSchema,
  entries: z.array(FileSchema).optional(),
}).openapi("FileListing");

const MomentRangeSchema = z.object({ from: MomentSchema, until: MomentSchema }).openapi("MomentRange");

/** Every version of one file. */
export const FileVersionsSchema = z.object({
  path: z.string(),
  versions: z.array(
    MomentRangeSchema.extend({
      file: FileSchema.optional().openapi({ description: "Absent while there was no such file." }),
      contentChanged: z.boolean().optional(),
    }).openapi("FileVersion"),
  ).openapi({ description: "Newest first." }),
  unreadable: z.array(MomentRangeSchema.extend({ reason: z.string() })),
  unproven: z.array(MomentRangeSchema).openapi({
    description: "Moments between which something short-lived may have been missed.",
  }),
  truncated: z.boolean().openapi({ description: "Whether there may be older versions." }),
}).openapi("FileVersions");

/** What a directory held before. */
export const DeletedFilesSchema = MomentSchema.extend({
  path: z.string(),
  files: z.array(z.object({ lastSeen: MomentSchema, file: FileSchema })),
  truncated: z.boolean(),
}).openapi("DeletedFiles");

/** Blocks written between two moments. */
export const BlockChangesSchema = z.object({
  from: MomentSchema,
  to: MomentSchema,
  changedBytes: bytes(),
  extents: z.array(z.object({ offset: bytes(), length: bytes() })),
  nextOffset: bytes().optional().openapi({
    description: "Pass as `offset` to go on; absent on the last page.",
  }),
}).openapi("BlockChanges");

/** Files that differ between two moments. */
export const FileChangesSchema = z.object({
  from: MomentSchema,
  to: MomentSchema,
  changes: z.array(
    z.object({
      kind: z.enum(["created", "deleted", "changed", "renamed"]),
      path: z.string(),
      previousPath: z.string().optional(),
      contentChanged: z.boolean(),
      before: FileSchema.optional(),
      after: FileSchema.optional(),
    }).openapi("FileChange"),
  ),
  unreadable: z.array(z.object({ path: z.string(), reason: z.string() })),
  truncated: z.boolean(),
}).openapi("FileChanges");

/** What a token allows. */
export const ScopeSchema = z.enum(["read", "operate", "admin"], {
  error: "must be one of: read, operate, admin",
});

/** A token without its secret. */
export const TokenSchema = z.object({
  id: z.string(),
  name: z.string(),
  scopes: z.array(ScopeSchema),
  createdAt: instant(),
}).openapi("Token");

/** A token with its secret, which is answered once. */
export const NewTokenSchema = TokenSchema.extend({ token: z.string() }).openapi("NewToken");

/** Every token. */
export const TokensSchema = z.object({ tokens: z.array(TokenSchema) }).openapi("Tokens");

/** The audit log, newest first. */
export const AuditSchema = z.object({
  entries: z.array(
    z.object({
      id: z.int(),
      time: instant(),
      actor: z.string(),
      action: z.string(),
      subject: z.string(),
      details: z.record(z.string(), z.unknown()),
    }).openapi("AuditEntry"),
  ),
}).openapi("Audit");

// ---- Requests ----

/** Body of `POST /v1/volumes`. */
export const NewVolumeSchema = strict({
  name: name("db"),
  sizeBytes: size().optional(),
  primary: strict({ path: path(), adopt: flag().optional() }).optional(),
}).refine((volume) => volume.sizeBytes !== undefined || volume.primary?.adopt === true, {
  path: ["sizeBytes"],
  error: `${SIZE_RULE}; it may be left out only when an existing primary is adopted`,
  when: ({ value }) => isFields(value), // So that it is told beside other faults.
}).openapi("NewVolume");

/** Body of `PATCH /v1/volumes/{volume}`. */
export const VolumeChangeSchema = strict({
  sizeBytes: size(),
  force: flag().optional().openapi({
    description: "Make it smaller: hosts lose what lies beyond the new end.",
  }),
}).openapi("VolumeChange");

/** Body of `POST …/marks`. */
export const NewMarkSchema = strict({
  name: name("before-upgrade"),
  note: note().optional(),
  pinned: flag().optional(),
}).openapi("NewMark");

/** Body of `PATCH …/marks/{name}`. */
export const MarkChangeSchema = strict({ note: note().optional(), pinned: flag().optional() })
  .refine((change) => change.note !== undefined || change.pinned !== undefined, {
    error: "must hold at least one of: note, pinned",
  }).openapi("MarkChange");

/** A retention policy, both ways. */
export const RetentionSchema = strict({
  continuous: duration(),
  tiers: z.array(strict({ every: duration(), for: duration() }), {
    error: 'must be a list of tiers such as {every: "1h", for: "7d"}',
  }).max(16, "must hold at most 16 tiers"),
  maxBytes: size().optional(),
  grace: duration().optional(),
  onFull: z.enum(["refuse", "passthrough"], { error: "must be one of: refuse, passthrough" }).optional(),
}).openapi("Retention");

/** Body of `POST …/scrub`, which may be left out. */
export const NewScrubSchema = strict({
  rateBytes: size().optional().openapi({
    description: "Bytes a second at most; left out: as fast as it goes.",
  }),
}).openapi("NewScrub");

/** Body of `POST …/recoveries`. */
export const NewRecoverySchema = strict({
  at: time(),
  target: path(),
  verify: flag().optional(),
  force: flag().optional(),
}).openapi("NewRecovery");

/** Body of `POST /v1/clones`. */
export const NewCloneSchema = strict({
  volume: z.string({ error: NAME_RULE }).openapi({ example: "db" }),
  at: time(),
  name: name("db-test"),
  budgetBytes: size().optional().openapi({
    description: "Data of its own that it may have; left out: 10 GiB, or what can be spared.",
  }),
  ttl: z.union([duration(), z.literal(false)], { error: `${DURATION_RULE}, or false for never` }).optional()
    .openapi({ description: "How long until it goes by itself; left out: 24h." }),
}).openapi("NewClone");

/** Body of `POST …/promote`. */
export const PromotionSchema = strict({ name: name("db2") }).openapi("Promotion");

/** The clone in the address. */
export const CloneParams = z.object({ name: z.string().openapi({ description: "Name of the clone." }) });

/** Body of `POST /v1/tokens`. `unix` is the name of those who come over the Unix socket. */
export const NewTokenRequestSchema = strict({
  name: name("backup").refine((given) => given !== "unix", "must not be `unix`"),
  scopes: z.array(ScopeSchema, { error: "must be a list of: read, operate, admin" })
    .min(1, "must name at least one of: read, operate, admin").max(3, "must name each scope at most once"),
}).openapi("NewTokenRequest");

/** The volume in the address. */
export const VolumeParams = z.object({ volume: z.string().openapi({ description: "Name of the volume." }) });

/** The volume and the mark in the address. */
export const MarkParams = VolumeParams.extend({
  name: z.string().openapi({ description: "Name of the mark." }),
});

/** The identity in the address. */
export const IdParams = z.object({ id: z.string() });

/** Query of `DELETE /v1/volumes/{volume}`. */
export const PurgeQuery = strict({
  purge: z.enum(["true", "false"], { error: "must be true or false" }).optional().openapi({
    description: "Delete the history and the managed primary too.",
  }),
});

const LIMIT_RULE = "must be a whole number from 1 to 10000";
const limit = () =>
  z.coerce.number({ error: LIMIT_RULE }).int(LIMIT_RULE).min(1, LIMIT_RULE).max(10_000, LIMIT_RULE)
    .optional();

/** Query of `GET …/points`. */
export const PointsQuery = strict({
  from: time().optional(),
  to: time().optional(),
  limit: limit(),
  cursor: z.string().optional(),
  kind: z.preprocess(
    (value) => typeof value === "string" ? value.split(",") : value,
    z.array(
      z.enum(PointKindSchema.options, { error: `must be one of: ${PointKindSchema.options.join(", ")}` }),
    ),
  ).optional().openapi({ param: { style: "form", explode: true } }),
});

/** Query of `GET /v1/audit`. */
export const AuditQuery = strict({ limit: limit() });

/** Query of `GET …/clients`. */
export const ClientsQuery = strict({ limit: limit() });

const AFTER_RULE = "must be the identity of an event: a whole number from 0 on";

/** Query of `GET /v1/events`. */
export const EventsQuery = strict({
  limit: limit(),
  after: z.coerce.number({ error: AFTER_RULE }).int(AFTER_RULE).min(0, AFTER_RULE).optional(),
});

/** Query of `GET …/resolve`. */
export const AtQuery = strict({ at: time() });

/** Query of `GET …/files`; the path is the root when it is left out. */
export const FilesQuery = strict({ at: time(), path: path().optional() });

/** Query of `GET …/files/content`. */
export const ContentQuery = strict({ at: time(), path: path() });

/** Query of `GET …/files/versions`. */
export const VersionsQuery = strict({
  path: path(),
  from: time().optional(),
  to: time().optional(),
  limit: limit(),
});

/** Query of `GET …/files/deleted`. */
export const DeletedQuery = strict({ at: time(), path: path().optional(), limit: limit() });

/** Query of `GET …/diff`. */
export const DiffQuery = strict({
  from: time(),
  to: time(),
  files: z.enum(["true", "false"], { error: "must be true or false" }).optional().openapi({
    description: "Files that differ instead of blocks that were written.",
  }),
  path: path().optional().openapi({ description: "With `files`: only what is there and below." }),
  offset: z.coerce.number().int().nonnegative().optional().openapi({
    description: "Without `files`: the `nextOffset` of the page before.",
  }),
  limit: limit(),
});

/**
 * What `varve serve` is told: flags beat the configuration file, which beats the defaults.
 *
 * @module
 */
import { z } from "zod";
import { parseListenAddress } from "../api/mod.ts";
import { VarveError } from "../src/base/errors.ts";
import { parseDuration } from "../src/base/units.ts";

/** Everything the composition root needs to know. */
export interface ServeConfig {
  /** The data folder. */
  data: string;
  /** Where to mount the tree; `false` for nowhere. */
  mount: string | false;
  /** Addresses for NBD, at least one. */
  nbd: string[];
  /** Addresses for the API, at least one. */
  api: string[];
  /** Bytes a second at which adopted disks are copied. */
  baselineRate: number;
  /** How old a volume's last scrub gets before it is scrubbed again, and how many bytes a second; `false` for never. */
  scrub: { every: string; rateBytes: number } | false;
  /** Bytes set aside on the data folder's file system; by its size where left out. */
  storage?: { reserveBytes?: number | undefined; watermarkBytes?: number | undefined } | undefined;
}

/** What a fresh machine starts with. */
export const DEFAULT_CONFIG: ServeConfig = {
  data: "/var/lib/varve",
  mount: "/varve",
  nbd: ["unix:/run/varve/nbd.sock"],
  api: ["unix:/run/varve/api.sock", "127.0.0.1:8460"],
  baselineRate: 128 * 1024 * 1024,
  scrub: { every: "7d", rateBytes: 64 * 1024 * 1024 },
};

const KEYS = [...Object.keys(DEFAULT_CONFIG), "storage"].join(", ");
const SIZE_RULE = "must be a whole number of bytes";
const STORAGE_RULE = "must be an object with reserveBytes, watermarkBytes or both";
const PATH_RULE = "must be an absolute path";
const RATE_RULE = "must be a number of bytes above 0";
const LISTEN_RULE = "must be unix:/path or HOST:PORT";

const DURATION_RULE = "must be a duration such as 7d";
const SCRUB_RULE = 'must be false, or such as {every: "7d", rateBytes: 67108864}';

const path = () => z.string({ error: PATH_RULE }).regex(/^\/[^\0]*$/, PATH_RULE);
const size = () => z.int({ error: SIZE_RULE }).min(0, SIZE_RULE).optional();
const listen = () =>
  z.array(z.string({ error: LISTEN_RULE }).refine(isListenAddress, LISTEN_RULE), {
    error: "must be a list of addresses, each unix:/path or HOST:PORT",
  }).min(1, "must hold at least one address");

const ConfigSchema = z.strictObject({
  data: path(),
  mount: z.union([path(), z.literal(false)], { error: `${PATH_RULE}, or false` }),
  nbd: listen(),
  api: listen(),
  baselineRate: z.int({ error: RATE_RULE }).positive(RATE_RULE),
  scrub: z.union([
    z.strictObject({
      every: z.string({ error: DURATION_RULE }).refine(isDuration, DURATION_RULE).default("7d"),
      rateBytes: z.int({ error: RATE_RULE }).positive(RATE_RULE).default(64 * 1024 * 1024),
    }, {
      error: (issue) =>
        issue.code === "unrecognized_keys"
          ? "is not a key of scrub; known are: every, rateBytes"
          : SCRUB_RULE,
    }),
    z.literal(false),
  ], { error: SCRUB_RULE }),
  storage: z.strictObject({ reserveBytes: size(), watermarkBytes: size() }, {
    error: (issue) =>
      issue.code === "unrecognized_keys" ? "is not a key of storage: " + STORAGE_RULE : STORAGE_RULE,
  }).optional(),
}, {
  error: (issue) =>
    issue.code === "unrecognized_keys" ? `is not a key; known are: ${KEYS}` : "must be an object",
});

/**
 * Puts flags, the text of a configuration file and the defaults together.
 *
 * @throws {VarveError} `invalid`, naming every fault at once.
 */
export function makeConfig(flags: Partial<ServeConfig>, file?: { path: string; text: string }): ServeConfig {
  const told = file === undefined ? {} : check(parse(file), ConfigSchema.partial(), file.path);
  return check({ ...DEFAULT_CONFIG, ...told, ...flags }, ConfigSchema, "options");
}

function parse(file: { path: string; text: string }): unknown {
  try {
    return JSON.parse(file.text);
  } catch (thrown) {
    const found = thrown instanceof Error ? thrown.message : String(thrown);
    throw new VarveError("invalid", `Reading ${file.path}: ${found}`, { cause: thrown });
  }
}

function check<S extends z.ZodType>(value: unknown, schema: S, source: string): z.infer<S> {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const faults = result.error.issues.flatMap((issue) => {
    const keys = issue.code === "unrecognized_keys" ? issue.keys : [];
    const fields = keys.length > 0 ? keys : [issue.path.join(".") || "the whole"];
    return fields.map((field) => `${field} ${issue.message}`);
  });
  throw new VarveError("invalid", `Reading ${source}: ${faults.join("; ")}`);
}

function isDuration(text: string): boolean {
  try {
    return parseDuration(text) > 0;
  } catch {
    return false;
  }
}

function isListenAddress(text: string): boolean {
  try {
    parseListenAddress(text);
    return true;
  } catch {
    return false;
  }
}

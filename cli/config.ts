/**
 * What `varve serve` is told: flags beat the configuration file, which beats the defaults.
 *
 * @module
 */
import { z } from "zod";
import { isLocal, parseListenAddress } from "../api/mod.ts";
import { VarveError } from "../src/base/errors.ts";
import { parseDuration } from "../src/base/units.ts";

/** Everything the composition root needs to know. */
export interface ServeConfig {
  /** The data folder. */
  data: string;
  /** Where to mount the tree; `false` for nowhere. */
  mount: string | false;
  /** Whether other users than the appliance's see the tree, as far as the guest's modes let them. */
  mountAllowOther: boolean;
  /** Addresses for NBD, or `stdio` for one client on standard input and output; none only when sockets were passed. */
  nbd: string[];
  /** How NBD is encrypted. */
  nbdTls: NbdTlsConfig;
  /** Whether NBD may listen beyond this machine without demanding TLS. */
  nbdPlainTcp: boolean;
  /** Clients of NBD served at the same time. */
  nbdMaxConnections: number;
  /** How long an NBD client may say nothing while nothing is under way for it; `false` for as long as it likes. */
  nbdIdleTimeout: string | false;
  /** Whether the host's kernel reads guests' disks that Varve has no reader for; a hostile disk then reaches it. */
  kernelReaders: boolean;
  /** Addresses for the API, at least one. */
  api: string[];
  /** Bytes a second at which adopted disks are copied. */
  baselineRate: number;
  /** How old a volume's last scrub gets before it is scrubbed again, and how many bytes a second; `false` for never. */
  scrub: { every: string; rateBytes: number } | false;
  /** Bytes set aside on the data folder's file system; by its size where left out. */
  storage?: { reserveBytes?: number | undefined; watermarkBytes?: number | undefined } | undefined;
}

/** How NBD is encrypted; files are PEM. */
export interface NbdTlsConfig {
  /** Whether clients must encrypt, may, or cannot. */
  mode: "require" | "allow" | "off";
  /** The server's certificate; needed unless `mode` is `off`, like `key`. */
  certificate?: string | undefined;
  /** Its private key. */
  key?: string | undefined;
  /** Authorities of clients' certificates, which are verified when shown. */
  clientCa?: string | undefined;
  /** Whether a client without a certificate is refused; needs `clientCa`. */
  requireClientCertificate?: boolean | undefined;
}

/** What flags say: `nbdTls` in parts. */
export type ServeFlags = Partial<Omit<ServeConfig, "nbdTls">> & { nbdTls?: Partial<NbdTlsConfig> };

/** What a fresh machine starts with. */
export const DEFAULT_CONFIG: ServeConfig = {
  data: "/var/lib/varve",
  mount: "/varve",
  mountAllowOther: false,
  nbd: ["unix:/run/varve/nbd.sock"],
  nbdTls: { mode: "off" },
  nbdPlainTcp: false,
  nbdMaxConnections: 256,
  nbdIdleTimeout: false,
  kernelReaders: false,
  api: ["unix:/run/varve/api.sock", "127.0.0.1:8460"],
  baselineRate: 128 * 1024 * 1024,
  scrub: { every: "7d", rateBytes: 64 * 1024 * 1024 },
};

const KEYS = [...Object.keys(DEFAULT_CONFIG), "storage"].join(", ");
const SIZE_RULE = "must be a whole number of bytes";
const STORAGE_RULE = "must be an object with reserveBytes, watermarkBytes or both";
const PATH_RULE = "must be an absolute path";
const RATE_RULE = "must be a number of bytes above 0";
const NBD_RULE = "must be unix:/path, HOST:PORT or stdio";
const TLS_RULE = 'must be such as {mode: "require", certificate: "/path.pem", key: "/path.pem"}';
const MODE_RULE = "must be require, allow or off";
const COUNT_RULE = "must be a number above 0";
const LISTEN_RULE = "must be unix:/path or HOST:PORT";

const DURATION_RULE = "must be a duration such as 7d";
const IDLE_RULE = `${DURATION_RULE}, or false`;
const SCRUB_RULE = 'must be false, or such as {every: "7d", rateBytes: 67108864}';

const path = () => z.string({ error: PATH_RULE }).regex(/^\/[^\0]*$/, PATH_RULE);
const size = () => z.int({ error: SIZE_RULE }).min(0, SIZE_RULE).optional();
const listen = () =>
  z.array(z.string({ error: LISTEN_RULE }).refine(isListenAddress, LISTEN_RULE), {
    error: "must be a list of addresses, each unix:/path or HOST:PORT",
  }).min(1, "must hold at least one address");

const nbd = () =>
  z.array(z.string({ error: NBD_RULE }).refine((text) => text === STDIO || isListenAddress(text), NBD_RULE), {
    error: "must be a list of addresses, each unix:/path, HOST:PORT or stdio",
  }).refine((all) => all.filter((one) => one === STDIO).length <= 1, "must hold stdio once at most");

const ConfigSchema = z.strictObject({
  data: path(),
  mount: z.union([path(), z.literal(false)], { error: `${PATH_RULE}, or false` }),
  mountAllowOther: z.boolean({ error: "must be true or false" }),
  nbd: nbd().min(1, "must hold at least one address"),
  nbdTls: z.strictObject({
    mode: z.enum(["require", "allow", "off"], { error: MODE_RULE }).default("off"),
    certificate: path().optional(),
    key: path().optional(),
    clientCa: path().optional(),
    requireClientCertificate: z.boolean({ error: "must be true or false" }).optional(),
  }, {
    error: (issue) =>
      issue.code === "unrecognized_keys"
        ? "is not a key of nbdTls; known are: mode, certificate, key, clientCa, requireClientCertificate"
        : TLS_RULE,
  }),
  nbdPlainTcp: z.boolean({ error: "must be true or false" }),
  nbdMaxConnections: z.int({ error: COUNT_RULE }).positive(COUNT_RULE),
  nbdIdleTimeout: z.union([z.string().refine(isDuration, IDLE_RULE), z.literal(false)], { error: IDLE_RULE }),
  kernelReaders: z.boolean({ error: "must be true or false" }),
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

/** The same when sockets were passed to this process: NBD need not listen anywhere else. */
const ActivatedSchema = ConfigSchema.extend({ nbd: nbd() });

/** The address of NBD that stands for standard input and output. */
export const STDIO = "stdio";

/**
 * Puts flags, the text of a configuration file and the defaults together. With `activated`, sockets were passed to this
 * process, and NBD listens at its default address only when told so.
 *
 * @throws {VarveError} `invalid`, naming every fault at once.
 */
export function makeConfig(
  flags: ServeFlags,
  file?: { path: string; text: string },
  activated = false,
): ServeConfig {
  const told = file === undefined ? {} : check(parse(file), ConfigSchema.partial(), file.path);
  const config = check(
    {
      ...DEFAULT_CONFIG,
      ...(activated ? { nbd: [] } : {}),
      ...told,
      ...flags,
      nbdTls: { ...DEFAULT_CONFIG.nbdTls, ...told.nbdTls, ...flags.nbdTls },
    },
    activated ? ActivatedSchema : ConfigSchema,
    "options",
  );
  checkTls(config.nbdTls);
  refusePlainTcp(config, config.nbd);
  return config;
}

function checkTls({ mode, certificate, key, clientCa, requireClientCertificate }: NbdTlsConfig): void {
  if (mode !== "off" && (certificate === undefined || key === undefined)) {
    throw new VarveError("invalid", `Reading options: nbdTls of mode ${mode} needs certificate and key`);
  }
  if (requireClientCertificate && clientCa === undefined) {
    throw new VarveError("invalid", "Reading options: nbdTls.requireClientCertificate needs clientCa");
  }
}

/** Throws `invalid` when NBD could be reached in plain text from another machine and nobody has asked for that. */
export function refusePlainTcp(
  { nbdTls, nbdPlainTcp }: Pick<ServeConfig, "nbdTls" | "nbdPlainTcp">,
  addresses: readonly string[],
): void {
  if (nbdPlainTcp || nbdTls.mode === "require") return;
  const open = addresses.find((text) => text !== STDIO && !isLocal(parseListenAddress(text)));
  if (open === undefined) return;
  throw new VarveError(
    "invalid",
    `Serve NBD at ${open}: whoever reaches it could read and write every volume`,
    {
      hint: "Demand TLS with --nbd-tls require, or say --nbd-plain-tcp if the network is trusted.",
    },
  );
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

/**
 * `varve retention get|set|preview|prune`
 *
 * @module
 */
import { type Command, InvalidArgumentError } from "commander";
import { VarveError } from "../src/base/errors.ts";
import { formatSize } from "../src/base/units.ts";
import type { JobInfo, PruneResult, RetentionPolicy, RetentionTier } from "../src/engine.ts";
import {
  choiceArgument,
  clientCommand,
  collect,
  type CommonOptions,
  durationArgument,
  group,
  print,
  sizeArgument,
  volumePath,
  withClient,
} from "./command.ts";
import { finishJob } from "./job.ts";
import { count, facts } from "./output.ts";
import type { Terminal } from "./terminal.ts";

const ON_FULL = ["refuse", "passthrough"] as const;

interface PolicyOptions extends CommonOptions {
  continuous?: string;
  tier?: RetentionTier[];
  maxBytes?: number;
  grace?: string;
  onFull?: string;
  file?: string;
}

/** Adds the commands. */
export function addRetention(program: Command, terminal: Terminal): void {
  const retention = group(program, "retention", "Show, set, preview and apply how long history is kept");

  clientCommand(retention, "get <volume>", {
    summary: "Show the policy in force",
    example: "retention get db",
  })
    .action((volume: string, options: CommonOptions) =>
      withClient(terminal, options, async (client) => {
        const policy = await client.request<RetentionPolicy>("GET", volumePath(volume, "retention"));
        print(terminal, options, policy, () => policyText(policy));
      })
    );

  const set = clientCommand(retention, "set <volume>", {
    summary: "Replace the policy",
    example: "retention set db --continuous 24h --tier 1h:7d --tier 1d:30d",
  });
  policyOptions(set).action((volume: string, options: PolicyOptions) =>
    withClient(terminal, options, async (client) => {
      const body = await readPolicy(options) ?? set.error("error: give --continuous or --file");
      const policy = await client.request<RetentionPolicy>("PUT", volumePath(volume, "retention"), { body });
      print(terminal, options, policy, () => policyText(policy));
    })
  );

  policyOptions(clientCommand(retention, "preview <volume>", {
    summary: "Show what a prune would drop, under the given policy or the one in force",
    example: "retention preview db --continuous 1h",
  })).action((volume: string, options: PolicyOptions) =>
    withClient(terminal, options, async (client) => {
      const body = await readPolicy(options);
      const path = volumePath(volume, "retention", "preview");
      const preview = await client.request<PruneResult>("POST", path, { body });
      print(terminal, options, preview, () => pruneText("Would drop", preview));
    })
  );

  clientCommand(retention, "prune <volume>", {
    summary: "Drop what the policy does not keep",
    example: "retention prune db",
  })
    .option("--no-wait", "print the job and leave it running")
    .action((volume: string, options: CommonOptions & { wait: boolean }) =>
      withClient(terminal, options, async (client) => {
        const started = await client.request<JobInfo>("POST", volumePath(volume, "prune"));
        if (!options.wait) {
          print(terminal, options, started, () => `Started job ${started.id}.\n`);
          return;
        }
        const job = await finishJob(client, started, terminal, options);
        print(terminal, options, job, () => pruneText("Dropped", job.result as unknown as PruneResult));
      })
    );
}

function policyOptions(command: Command): Command {
  return command
    .option("--continuous <duration>", "keep every single write of this latest span", durationArgument)
    .option(
      "--tier <every:for>",
      "keep a moment EVERY so often FOR so long; may be given again",
      collect(tierArgument),
    )
    .option("--max-bytes <size>", "budget for the history", sizeArgument)
    .option("--grace <duration>", "how long a dropped moment can still be taken back", durationArgument)
    .option(
      "--on-full <what>",
      "with no space for more history: refuse writes, or let them pass and leave a gap",
      choiceArgument(ON_FULL),
    )
    .option("--file <file>", "read the whole policy from a JSON file");
}

function tierArgument(text: string): RetentionTier {
  const [every, kept, ...rest] = text.split(":");
  if (every === undefined || kept === undefined || rest.length > 0) {
    throw new InvalidArgumentError("Write EVERY:FOR, for example 1h:7d.");
  }
  return { every: durationArgument(every), for: durationArgument(kept) };
}

/** The policy of the options, or nothing when none was given. */
async function readPolicy(options: PolicyOptions): Promise<unknown> {
  const { continuous, tier: tiers = [], maxBytes, grace, onFull, file } = options;
  if (file === undefined) {
    if (continuous === undefined) return undefined;
    return { continuous, tiers, maxBytes, grace, onFull };
  }
  try {
    return JSON.parse(await Deno.readTextFile(file));
  } catch (thrown) {
    if (!(thrown instanceof SyntaxError)) throw VarveError.from(thrown, `Reading the policy file ${file}`);
    throw new VarveError("invalid", `Reading the policy file ${file}: ${thrown.message}`);
  }
}

function policyText(policy: RetentionPolicy): string {
  return facts([
    ["continuous", policy.continuous],
    ...policy.tiers.map((tier): [string, string] => ["tier", `every ${tier.every} for ${tier.for}`]),
    ["budget", policy.maxBytes === undefined ? undefined : formatSize(policy.maxBytes)],
    ["grace", policy.grace],
    ["on full", policy.onFull],
  ]);
}

function pruneText(verb: string, result: PruneResult): string {
  const { from, to } = result.window;
  return `${verb} ${count(result.pointsLost, "point")} (${count(result.momentsLost, "moment")}), ` +
    `${formatSize(result.bytesFreed)} freed.\n` +
    facts([["window from", `${from.time} (seq:${from.seq})`], ["window to", `${to.time} (seq:${to.seq})`]]);
}

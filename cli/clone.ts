/**
 * `varve clone` and `varve clones list|show|delete|promote`
 *
 * @module
 */
import { type Command, InvalidArgumentError } from "commander";
import { formatSize } from "../src/base/units.ts";
import type { CloneInfo, JobInfo, PromoteResult, StatusInfo } from "../src/engine.ts";
import {
  clientCommand,
  type CommonOptions,
  durationArgument,
  group,
  print,
  sizeArgument,
  withClient,
} from "./command.ts";
import { finishJob } from "./job.ts";
import { facts, table } from "./output.ts";
import type { Terminal } from "./terminal.ts";

const UNIX = "unix:";

interface CloneOptions extends CommonOptions {
  at: string;
  budget?: number;
  ttl?: string | false;
}

/** Adds `varve clone`. */
export function addClone(program: Command, terminal: Terminal): void {
  clientCommand(program, "clone <volume> <name>", {
    summary: "Make a moment writable: a throw-away disk, an NBD export",
    example: "clone db db-test --at mark:before-upgrade --ttl 8h",
  })
    .requiredOption("--at <time>", "the moment")
    .option("--budget <size>", "data of its own that it may have (10G, or what can be spared)", sizeArgument)
    .option("--ttl <duration>", "how long until it goes by itself, or never (24h)", ttlArgument)
    .action((volume: string, name: string, options: CloneOptions) =>
      withClient(terminal, options, async (client) => {
        const { at, budget, ttl } = options;
        const body = { volume, at, name, budgetBytes: budget, ttl };
        const clone = await client.request<CloneInfo>("POST", "/v1/clones", { body });
        if (options.json) return print(terminal, options, clone, () => "");
        const { nbd } = await client.request<StatusInfo>("GET", "/v1/status");
        terminal.out(cloneText(clone) + connectText(name, nbd));
      })
    );
}

/** Adds `varve clones`. */
export function addClones(program: Command, terminal: Terminal): void {
  const clones = group(program, "clones", "List, show, delete and promote clones");

  clientCommand(clones, "list", { summary: "List the clones", example: "clones" }, { isDefault: true })
    .action((options: CommonOptions) =>
      withClient(terminal, options, async (client) => {
        const found = await client.request<{ clones: CloneInfo[] }>("GET", "/v1/clones");
        print(terminal, options, found, () => clonesTable(found.clones));
      })
    );

  clientCommand(clones, "show <name>", { summary: "Show one clone", example: "clones show db-test" })
    .action((name: string, options: CommonOptions) =>
      withClient(terminal, options, async (client) => {
        const clone = await client.request<CloneInfo>("GET", clonePath(name));
        if (options.json) return print(terminal, options, clone, () => "");
        const { nbd } = await client.request<StatusInfo>("GET", "/v1/status");
        terminal.out(cloneText(clone) + connectText(name, nbd));
      })
    );

  clientCommand(clones, "delete <name>", {
    summary: "Delete a clone and all that was written to it",
    example: "clones delete db-test",
  })
    .action((name: string, options: CommonOptions) =>
      withClient(terminal, options, async (client) => {
        await client.request("DELETE", clonePath(name));
        print(terminal, options, undefined, () => `Deleted clone ${name}.\n`);
      })
    );

  clientCommand(clones, "promote <name> <volume>", {
    summary: "Make a new volume with the present content of a clone",
    example: "clones promote db-test db2",
  })
    .option("--no-wait", "print the job and leave it running")
    .action((name: string, volume: string, options: CommonOptions & { wait: boolean }) =>
      withClient(terminal, options, async (client) => {
        const body = { name: volume };
        const started = await client.request<JobInfo>("POST", `${clonePath(name)}/promote`, { body });
        if (!options.wait) {
          return print(terminal, options, started, () => `Started job ${started.id}.\n`);
        }
        const job = await finishJob(client, started, terminal, options);
        print(terminal, options, job, () => promotionText(job.result as unknown as PromoteResult));
      })
    );
}

function ttlArgument(text: string): string | false {
  if (text === "never") return false;
  try {
    return durationArgument(text);
  } catch (thrown) {
    if (!(thrown instanceof InvalidArgumentError)) throw thrown;
    throw new InvalidArgumentError(`${thrown.message} Or: never.`);
  }
}

function clonePath(name: string): string {
  return `/v1/clones/${encodeURIComponent(name)}`;
}

function right(heading: string): { heading: string; align: "right" } {
  return { heading, align: "right" };
}

function clonesTable(clones: readonly CloneInfo[]): string {
  return table(
    ["NAME", "VOLUME", "AS OF", right("SIZE"), right("USED"), right("BUDGET"), "STATE", "EXPIRES"],
    clones.map((clone) => [
      clone.name,
      clone.volume,
      clone.time,
      formatSize(clone.sizeBytes),
      formatSize(clone.usedBytes),
      formatSize(clone.budgetBytes),
      clone.state,
      clone.expiresAt ?? "never",
    ]),
  );
}

function cloneText(clone: CloneInfo): string {
  return facts([
    ["name", clone.name],
    ["clone of", clone.volume],
    ["as of", `${clone.time} (seq:${clone.seq})`],
    ["size", formatSize(clone.sizeBytes)],
    ["state", clone.error === undefined ? clone.state : `${clone.state}: ${clone.error}`],
    ["written", `${formatSize(clone.usedBytes)} of at most ${formatSize(clone.budgetBytes)}`],
    ["created", clone.createdAt],
    ["expires", clone.expiresAt ?? "never"],
    ["connections", String(clone.connections)],
  ]);
}

/** How hosts on this machine reach an export; nothing when NBD has no Unix socket. */
function connectText(name: string, nbd: readonly string[]): string {
  const socket = nbd.find((address) => address.startsWith(UNIX))?.slice(UNIX.length);
  if (socket === undefined) return "";
  return `\nConnect to nbd+unix:///${encodeURIComponent(name)}?socket=${socket}\n`;
}

function promotionText({ clone, volume, sizeBytes, writtenBytes, durationMs }: PromoteResult): string {
  return `Made volume ${volume} of clone ${clone}\n` + facts([
    ["size", `${formatSize(sizeBytes)}, ${formatSize(writtenBytes)} written`],
    ["took", `${(durationMs / 1000).toFixed(1)} s`],
  ]);
}

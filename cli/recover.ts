/**
 * `varve recover`
 *
 * @module
 */
import type { Command } from "commander";
import { resolve } from "node:path";
import { formatSize } from "../src/base/units.ts";
import type { JobInfo, RecoveryResult } from "../src/engine.ts";
import { clientCommand, type CommonOptions, print, volumePath, withClient } from "./command.ts";
import { finishJob } from "./job.ts";
import { facts } from "./output.ts";
import type { Terminal } from "./terminal.ts";

interface RecoverOptions extends CommonOptions {
  at: string;
  to: string;
  verify?: true;
  force?: true;
  wait: boolean;
}

/** Adds the command. */
export function addRecover(program: Command, terminal: Terminal): void {
  clientCommand(program, "recover <volume>", {
    summary: "Copy a moment to a new disk",
    example: "recover db --at mark:before-upgrade --to /dev/sdc --verify",
  })
    .requiredOption("--at <time>", "the moment")
    .requiredOption("--to <target>", "a file or a block device")
    .option("--verify", "read the target back and compare hashes")
    .option("--force", "write although the target is in use or a file that is too small")
    .option("--no-wait", "print the job and leave it running")
    .action((volume: string, options: RecoverOptions) =>
      withClient(terminal, options, async (client) => {
        const { at, verify, force } = options;
        const body = { at, target: resolve(options.to), verify, force };
        const started = await client.request<JobInfo>("POST", volumePath(volume, "recoveries"), { body });
        if (!options.wait) {
          print(terminal, options, started, () => `Started job ${started.id}.\n`);
          return;
        }
        const job = await finishJob(client, started, terminal, options);
        print(terminal, options, job, () => recoveryText(volume, job.result as unknown as RecoveryResult));
      })
    );
}

function recoveryText(volume: string, result: RecoveryResult): string {
  const { sizeBytes, writtenBytes, durationMs } = result;
  return `Recovered ${volume} at ${result.time} (seq:${result.seq}) to ${result.target}\n` + facts([
    ["size", `${formatSize(sizeBytes)}, ${formatSize(writtenBytes)} written`],
    ...(result.sha256 === undefined ? [] : [["sha256", result.sha256] as const]),
    ["verified", result.verified ? "yes: read back, same hash" : "no"],
    ["took", `${(durationMs / 1000).toFixed(1)} s`],
  ]);
}
